"""From a person of a file to a crop, and to the batches of a training: everything that happens
before the device. Crops are cut with `geometry.crop`, as in evaluation, estimator and labs."""

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..cues.training import JOINT_KINDS, KINDS, MASK_KINDS, CueMix, inside
from ..pose.geometry import PADDING, crop
from ..settings import ABOVE_0, BELOW_1, settle
from .coco import CocoPersons, Person
from .paste import Paster, Recent

CACHED = 512 * 2**20  # bytes of decoded pictures that are kept; half as many of cut-outs
AHEAD = 4  # batches that each worker prepares in advance


@dataclass(frozen=True)
class Augment:
    """How crops are varied in training. shift, shared, light, cue_height and paste are ours, and so
    is the half-body box, which is centred on the joints' extent; all else is HRNet's recipe."""

    rotation: float = 45.0
    # Degrees; standard deviation, clipped at twice that.
    rotate: float = 0.6
    # The probability of a rotation.
    scale: float = 0.35
    # Standard deviation of the size about 1, clipped at one deviation.
    flip: float = 0.5
    # The probability of a mirrored crop.
    half_body: float = 0.3
    # The probability that only half of the body is shown, if more than 8 joints are labelled.
    shift: float = 0.03
    # Of the box's centre, in fractions of its size; standard deviation.
    shared: float = 0.5
    # The probability that two people whose boxes overlap (IoU of at least 0.1) share a crop.
    light: float = 0.3
    # The largest change of brightness, contrast and saturation.
    cue_height: float = 1.0
    # The height of cue maps; at inference it is 1. Lower ones teach a network to trust a cue more.
    paste: float = 0.0
    # The probability that a second person is pasted into the picture of a person with a mask.

    def __post_init__(self):
        settle(self, limits={
            **dict.fromkeys(("rotate", "flip", "half_body", "shared", "light", "paste"),
                            (0, 1)),
            **dict.fromkeys(("rotation", "shift"), (0, math.inf)),
            "scale": (0, BELOW_1), "cue_height": (ABOVE_0, math.inf)})


class Items(NamedTuple):
    """A batch of N people's crops, as the loader gives it.

    crops (N, 3, H, W) uint8; masks (N, 1, H, W) uint8, 255 where the person is visible, all 0 where
    the cue needs no mask. keypoints, neighbours (of the partner, v = 0 where there is none; both
    (N, K, 3)) and areas (N,) in crop pixels, with left and right exchanged where the crop is
    mirrored. boxes (N, 4) in picture pixels; matrices (N, 2, 3) from picture to crop. lights
    (N, 3): saturation, contrast, brightness. kinds (N,): of cues, on the CPU, where they are used.
    """

    crops: Tensor
    masks: Tensor
    keypoints: Tensor
    neighbours: Tensor
    areas: Tensor
    boxes: Tensor
    matrices: Tensor
    lights: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> "Items":
        """The same batch on a device, but for `kinds`."""
        return Items(**{name: value if name == "kinds" else value.to(device, non_blocking=True)
                        for name, value in self._asdict().items()})


class PersonCrops(Dataset):
    """Everybody of a data set as training crops: item (epoch, row, turn) is the person `row`.

    Whatever is random about it depends on (seed, epoch, row, turn) only. spec: of the network
    (input size, whether it takes a cue). cached: bytes of decoded pictures that are kept.
    """

    def __init__(self, persons: CocoPersons, spec, augment: Augment, cues: CueMix = CueMix(),  # noqa: B008
                 seed: int = 0, cached: int = CACHED):
        self.persons, self.spec, self.augment, self.cues = persons, spec, augment, cues
        self.seed, self.pictures = seed, Recent(cached)
        self.mirror = list(persons.skeleton.mirror)
        self.paster = Paster(persons, self.picture, seed, cached // 2) if augment.paste else None
        if self.paster and not len(self.paster.rows):
            warnings.warn(self.paster.summary(), stacklevel=2)

    def __getitem__(self, place: tuple[int, ...]) -> dict[str, np.ndarray]:
        return self.item(*place)

    def item(self, epoch: int, row: int, turn: int = 0, *, kind: str | None = None
             ) -> dict[str, np.ndarray]:
        """One person's part of each field of `Items`. turn: how often the person has come up in
        this epoch before. kind: of the cue, else it is drawn."""
        size, random = self.spec.input_size, np.random.default_rng([self.seed, epoch, row, turn])
        number = self.cues.draw(random) if kind is None else KINDS.index(kind)
        lights = 1 + self.augment.light * random.uniform(-1, 1, 3)
        pasted, partner = None, self.persons.partner[row]
        if self.augment.paste and random.random() < self.augment.paste:
            pasted = self.paster.draw(row, epoch, random)
        if pasted is None:
            person, other = self.persons[row], self.persons[partner] if partner >= 0 else None
        elif random.random() < 0.5:
            person, other = pasted.first, pasted.second
        else:
            person, other = pasted.second, pasted.first
        matrix, flipped = self.draw_matrix(person, other, random)
        keypoints = self._moved(person.keypoints, matrix, flipped)
        neighbours = np.zeros_like(keypoints)
        if other is not None:
            neighbours = self._moved(other.keypoints, matrix, flipped)
        number, mask = self._cue(person, number, keypoints, matrix)
        shown = crop(self.picture(row), matrix, size)
        if pasted is not None:
            shown = pasted.draw(shown, matrix)
        return {"crops": shown.transpose(2, 0, 1), "masks": mask[None], "keypoints": keypoints,
                "neighbours": neighbours, "boxes": person.box, "matrices": matrix,
                "areas": person.area * abs(np.linalg.det(matrix[:, :2])), "lights": lights,
                "kinds": number}

    def picture(self, row: int) -> np.ndarray:
        """The picture (H, W, 3) uint8 of a person."""
        return self.pictures.get(int(self.persons.image_ids[row]), lambda: self.persons.read(row))

    def draw_matrix(self, person: Person, other: Person | None, random: np.random.Generator
                    ) -> tuple[np.ndarray, bool]:
        """A random matrix (2, 3) from a person's picture to the crop, and whether it mirrors.
        Without any variation it is `crop_matrix` of the padded box."""
        augment, (width, height) = self.augment, self.spec.input_size
        x, y, w, h = map(float, self.draw_box(person, other, random))
        draws = random.standard_normal(4).clip((-2, -2, -1, -2), (2, 2, 1, 2))
        dx, dy, grow, turn = (draws * (augment.shift, augment.shift, augment.scale,
                                       math.radians(augment.rotation))).tolist()
        turned, flipped = (random.random(2) < (augment.rotate, augment.flip)).tolist()
        x, y = x + (0.5 + dx) * w, y + (0.5 + dy) * h
        scale = width / (max(w, h * width / height) * PADDING * (1 + grow))
        turn = turn if turned else 0.0
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        matrix = np.array([[cos, -sin, width / 2 - cos * x + sin * y],
                           [sin, cos, height / 2 - sin * x - cos * y]], np.float32)
        if flipped:
            matrix[0] = (0, 0, width - 1) - matrix[0]
        return matrix, flipped

    def draw_box(self, person: Person, other: Person | None, random: np.random.Generator
                 ) -> np.ndarray:
        """The box (4,) in which a person is shown: their own one, the one shared with the other
        person, or that of half the body."""
        augment = self.augment
        together, half, upper = random.random(3) < (augment.shared, augment.half_body, 0.7)
        if together and other is not None and person.overlap(other) >= 0.1:
            return person.union(other)
        half = half_body(person.keypoints, self.persons.skeleton, upper) if half else None
        return person.box if half is None else half

    def _moved(self, keypoints: np.ndarray, matrix: np.ndarray, flipped: bool) -> np.ndarray:
        """Keypoints (K, 3) in the crop; left and right change places in a mirror."""
        keypoints = keypoints[self.mirror if flipped else slice(None)]
        return np.append(keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2], keypoints[:, 2:], 1)

    def _cue(self, person: Person, kind: int, keypoints: np.ndarray, matrix: np.ndarray
             ) -> tuple[int, np.ndarray]:
        """The kind of cue, or another one if the crop cannot show it; and the person's mask (H, W)
        uint8, black where that kind needs none."""
        size = self.spec.input_size
        nothing = np.zeros(size[::-1], np.uint8)
        if not self.spec.cue:
            return kind, nothing
        visible = inside(keypoints, size).any()
        if kind not in MASK_KINDS and (visible or kind not in JOINT_KINDS):
            return kind, nothing
        mask = person.mask()
        mask = nothing if mask is None else crop(mask.astype(np.uint8) * 255, matrix, size)
        if mask.max() > 127:
            return kind if kind in MASK_KINDS else KINDS.index("interior"), mask
        return KINDS.index("joint" if visible else "none"), nothing


def half_body(keypoints: np.ndarray, skeleton, upper: bool) -> np.ndarray | None:
    """The box (4,) about the labelled joints of the upper or lower body, of keypoints (K, 3); None
    unless more than 8 joints are labelled, and 3 of that half."""
    labelled = keypoints[:, 2] > 0
    chosen = labelled & (np.isin(np.arange(len(skeleton)), skeleton.upper) == upper)
    if labelled.sum() <= 8 or chosen.sum() < 3 or not skeleton.upper:
        return None
    points = keypoints[chosen, :2].astype(float)
    size = np.ptp(points, 0) * 1.5 / 1.25 + 1  # HRNet grows the joints' extent by 1.5 in all
    return np.concatenate([(points.min(0) + points.max(0) - size) / 2, size])


def stack(items: list[dict[str, np.ndarray]]) -> Items:
    """Single people's items as a batch."""
    fields = {name: np.stack([item[name] for item in items]) for name in items[0]}
    return Items(**{name: torch.from_numpy(array.astype(np.float32) if array.dtype == float else
                                           array) for name, array in fields.items()})


def places_of_steps(people: int, batch: int, seed: int, start: int, steps: int,
                    weights: np.ndarray | None = None) -> Iterator[list[tuple[int, int, int]]]:
    """(epoch, row, turn) of everybody in the batch of each step, from step `start` on.

    Every epoch is a new permutation of all people; a batch may reach into the next one. With
    weights (people,), a person comes up in proportion to their weight: several times in an epoch
    (`turn` counts them from 0), or not in every one. An epoch stays as long.
    """
    shares = np.ones(people) if weights is None else people * weights / weights.sum()
    ends = np.append(0, shares.cumsum())
    ends[-1] = people
    drawn = order = turns = None
    for step in range(start, steps):
        places = []
        for place in range(step * batch, (step + 1) * batch):
            epoch, at = divmod(place, people)
            if epoch != drawn:
                drawn = epoch
                random = np.random.default_rng([seed, epoch])
                marks, shift = random.permutation(people), 0 if weights is None else random.random()
                order = np.searchsorted(ends, marks + shift, side="right") - 1
                turns = marks - np.ceil(ends[order] - shift)
            places.append((epoch, int(order[at]), int(turns[at])))
        yield places


def load(crops: Dataset, batches: Iterable[list[tuple[int, ...]]], device: torch.device
         ) -> Iterator:
    """The batch of each list of places, on the device. For a GPU, workers prepare them in advance;
    the processes that torchrun starts on this machine share its cores."""
    workers = 0
    if device.type == "cuda":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        workers = max(2, min(8, (os.cpu_count() or 2) // processes - 1))
    loader = DataLoader(crops, batch_sampler=batches, collate_fn=stack, num_workers=workers,
                        pin_memory=workers > 0, prefetch_factor=AHEAD if workers else None,
                        worker_init_fn=_alone, generator=torch.Generator())
    return (items.to(device) for items in loader)


def _alone(_worker: int) -> None:
    """A worker does without OpenCV's threads: there is one worker per core, and another number
    than 0 ends a forked process whose parent has used them."""
    cv2.setNumThreads(0)
