"""From a person of a file to a crop: everything that happens before the device.

`crop` is the one function that cuts a crop from a picture; training, evaluation, the estimator and
the labs all use it. `PersonCrops` decodes a person's picture, draws how the crop is varied and the
kind of its cue, and cuts it. `load` feeds the steps of a training from it.
"""

import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..cues.training import JOINT_KINDS, KINDS, MASK_KINDS, CueMix, inside
from ..pose.geometry import PADDING
from ..settings import settle
from .coco import CocoPersons

CACHED = 512 * 2**20  # bytes of decoded pictures that are kept
AHEAD = 4  # batches that each worker prepares in advance


def crop(picture: np.ndarray, matrix, size: tuple[int, int]) -> np.ndarray:
    """The crop (h, w[, 3]) of a picture (H, W[, 3]) that a matrix (2, 3) takes to size = (w, h).

    matrix: from picture to crop, as for `geometry.apply`. The picture is sampled bilinearly, and is
    black outside. Where it shrinks by two or more, whole blocks of its pixels are averaged first,
    so that nothing aliases.
    """
    (a, b, left), (c, d, top) = np.asarray(matrix, float).tolist()
    squeeze = a * d - b * c  # square crop pixels for each of the picture's
    if not 1e-30 < abs(squeeze) < 1e30:  # of a box far too large or small: nothing to see
        return np.zeros((*size[::-1], *picture.shape[2:]), picture.dtype)
    back = np.array([[d, -b, b * top - d * left], [-c, a, c * left - a * top]]) / squeeze
    width, height = size
    places = back[:, :2] @ [[-1, width, -1, width], [-1, -1, height, height]] + back[:, 2:]
    limits = np.array(picture.shape[1::-1])
    low = np.clip(places.min(1) - 2, 0, limits - 1).astype(int)
    high = np.clip(places.max(1) + 3, low + 1, limits).astype(int)
    part = picture[low[1]:high[1], low[0]:high[0]]
    factor = int(min(abs(squeeze) ** -0.5, *part.shape[:2]))
    back[:, 2] -= low
    if factor >= 2:
        rest = [-length % factor for length in part.shape[:2]]
        part = cv2.copyMakeBorder(part, 0, rest[0], 0, rest[1], cv2.BORDER_CONSTANT)
        part = cv2.resize(part, (part.shape[1] // factor, part.shape[0] // factor),
                          interpolation=cv2.INTER_AREA)
        back /= factor
        back[:, 2] -= (factor - 1) / (2 * factor)  # block i has its centre at factor (i + 0.5) - .5
    return cv2.warpAffine(part, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def as_tensor(crops: list[np.ndarray]) -> Tensor:
    """Crops (h, w, 3) as one tensor (N, 3, h, w)."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Augment:
    """How crops are varied in training (HRNet's recipe where it has one).

    rotation: degrees, standard deviation, clipped at twice that, applied with `rotate`;
    scale: standard deviation about 1, clipped at itself; flip: probability; half_body: probability
    of showing only the upper or lower body where more than 8 joints are labelled; shift: of the
    box's centre, in fractions of its size, standard deviation; shared: probability that a person
    with a partner (IoU of at least 0.1) is shown in the box of both; light: strength of brightness,
    contrast and saturation changes; cue_height: of cue maps, which have 1 in use: from lower ones a
    network learns to trust a cue in use more (RESULTS.md). The last four are ours, and so is that
    half_body takes the extent of the joints as box, or the whole body for fewer than three joints.
    """

    rotation: float = 45.0
    rotate: float = 0.6
    scale: float = 0.35
    flip: float = 0.5
    half_body: float = 0.3
    shift: float = 0.03
    shared: float = 0.5
    light: float = 0.3
    cue_height: float = 1.0

    def __post_init__(self):
        settle(self)


@dataclass(frozen=True)
class Items:
    """A batch of N people's crops, as the loader gives it.

    crops (N, 3, H, W) uint8; masks (N, 1, H, W) uint8, 255 where the person is visible, all 0 where
    the cue needs no mask. In crop pixels, left and right exchanged where the crop is mirrored:
    keypoints and neighbours (the partner's keypoints, v = 0 where there is none) (N, K, 3), areas
    (N,). boxes (N, 4) in picture pixels; matrices (N, 2, 3) from picture to crop. lights (N, 3):
    factors of saturation, contrast and brightness. kinds (N,) of the cues, on the CPU.
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
        """The same batch on a device; `kinds` stay on the CPU, where they are used."""
        return Items(**{field.name: value if field.name == "kinds" else
                        value.to(device, non_blocking=True) for field in fields(self)
                        for value in [getattr(self, field.name)]})

    def pin_memory(self) -> "Items":
        """The same batch in memory that a GPU can copy from by itself."""
        return Items(**{field.name: getattr(self, field.name).pin_memory()
                        for field in fields(self)})


class PersonCrops(Dataset):
    """Everybody of a data set as training crops: item (epoch, row) is the person `row`.

    All that is random of it is a function of (seed, epoch, row). spec: of the network (input size,
    whether it takes a cue). Decoded pictures are kept as long as they take no more than `cached`
    bytes; the picture that was not wanted for the longest time goes first.
    """

    def __init__(self, persons: CocoPersons, spec, augment: Augment, cues: CueMix = CueMix(),  # noqa: B008
                 seed: int = 0, cached: int = CACHED):
        self.persons, self.spec, self.augment, self.cues = persons, spec, augment, cues
        self.seed, self.cached = seed, cached
        self.mirror = list(persons.skeleton.mirror)
        self.pictures: OrderedDict[int, np.ndarray] = OrderedDict()
        self.used = 0  # bytes of these pictures

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, place: tuple[int, int]) -> dict[str, np.ndarray]:
        return self.item(*place)

    def __getitems__(self, places: list[tuple[int, int]]) -> Items:
        return stack([self.item(*place) for place in places])

    def item(self, epoch: int, row: int, kind: str | None = None) -> dict[str, np.ndarray]:
        """One person's part of each field of `Items`. kind: of the cue, else it is drawn."""
        persons, size = self.persons, self.spec.input_size
        random = np.random.default_rng([self.seed, epoch, row])
        number = self.cues.draw(random) if kind is None else KINDS.index(kind)
        lights = 1 + self.augment.light * random.uniform(-1, 1, 3)
        matrix, flipped = self.draw_matrix(row, random)
        partner = persons.partner[row]
        keypoints = self._moved(row, matrix, flipped)
        neighbours = self._moved(partner, matrix, flipped) * (partner >= 0)
        number, mask = self._cue(row, number, keypoints, matrix)
        return {"crops": crop(self.picture(row), matrix, size).transpose(2, 0, 1),
                "masks": mask[None], "keypoints": keypoints, "neighbours": neighbours,
                "areas": persons.areas[row] * abs(np.linalg.det(matrix[:, :2])),
                "boxes": persons.boxes[row], "matrices": matrix, "lights": lights, "kinds": number}

    def picture(self, row: int) -> np.ndarray:
        """The picture (H, W, 3) uint8 of a person."""
        image = int(self.persons.image_ids[row])
        if image not in self.pictures:
            self.pictures[image] = self.persons.read(row)
            self.used += self.pictures[image].nbytes
            while self.used > self.cached and len(self.pictures) > 1:
                self.used -= self.pictures.popitem(last=False)[1].nbytes
        self.pictures.move_to_end(image)
        return self.pictures[image]

    def draw_matrix(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """A random matrix (2, 3) from a person's picture to the crop, and whether it mirrors. Of a
        crop that nothing is drawn for, it is `crop_matrix` of the padded box."""
        augment, (width, height) = self.augment, self.spec.input_size
        x, y, w, h = map(float, self.draw_box(row, random))
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

    def draw_box(self, row: int, random: np.random.Generator) -> np.ndarray:
        """The box (4,) in which a person is shown: the own one, the one shared with the partner, or
        that of half the body."""
        persons, augment, box = self.persons, self.augment, self.persons.boxes[row]
        together, half, upper = random.random(3) < (augment.shared, augment.half_body, 0.7)
        if together and persons.overlap[row] >= 0.1 and persons.partner[row] >= 0:
            other = persons.boxes[persons.partner[row]]
            low = np.minimum(box[:2], other[:2])
            return np.append(low, np.maximum(box[:2] + box[2:], other[:2] + other[2:]) - low)
        half = half_body(persons.keypoints[row], persons.skeleton, upper) if half else None
        return box if half is None else half

    def _moved(self, row: int, matrix: np.ndarray, flipped: bool) -> np.ndarray:
        """A person's keypoints (K, 3) in the crop; left and right change places in a mirror."""
        keypoints = self.persons.keypoints[row][self.mirror if flipped else slice(None)]
        return np.append(keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2], keypoints[:, 2:], 1)

    def _cue(self, row: int, kind: int, keypoints: np.ndarray, matrix: np.ndarray
             ) -> tuple[int, np.ndarray]:
        """A kind of cue that the crop can show, if need be another one than was drawn; and the
        person's mask (H, W) uint8, black where that kind needs none."""
        size = self.spec.input_size
        nothing = np.zeros(size[::-1], np.uint8)
        if not self.spec.cue:
            return kind, nothing
        visible = inside(keypoints, size).any()
        if kind not in MASK_KINDS and (visible or kind not in JOINT_KINDS):
            return kind, nothing
        mask = self.persons[row].mask()
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


def places_of_steps(people: int, batch: int, seed: int, start: int, steps: int
                    ) -> Iterator[list[tuple[int, int]]]:
    """(epoch, row) of everybody in the batch of each step, from step `start` on.

    Every epoch is a new permutation of all people; a batch may reach into the next one.
    """
    drawn = order = None
    for step in range(start, steps):
        places = []
        for place in range(step * batch, (step + 1) * batch):
            epoch, at = divmod(place, people)
            if epoch != drawn:
                drawn = epoch
                order = np.random.default_rng([seed, epoch]).permutation(people)
            places.append((epoch, int(order[at])))
        yield places


def load(crops: Dataset, batches: Iterable[list[tuple[int, int]]], device: torch.device,
         processes: int = 1) -> Iterator:
    """The batch of each list of places, on the device.

    For a GPU, workers prepare them in advance; `processes` trainings share the machine's cores.
    """
    workers = 0
    if device.type == "cuda":
        workers = max(2, min(8, (os.cpu_count() or 2) // processes - 1))
    loader = DataLoader(crops, batch_sampler=batches, collate_fn=_same, num_workers=workers,
                        pin_memory=workers > 0, prefetch_factor=AHEAD if workers else None,
                        worker_init_fn=_alone, generator=torch.Generator())
    return (items.to(device) for items in loader)


def _same(items):
    """The data set stacks its items by itself."""
    return items


def _alone(_worker: int) -> None:
    """Gives a worker one thread, since there are as many workers as cores, and its share of the
    memory for pictures."""
    info = torch.utils.data.get_worker_info()
    info.dataset.cached //= info.num_workers
    cv2.setNumThreads(1)
