"""A second person, cut out of another picture and pasted beside, behind or over the first: pairs in
any number, with known masks and hidden joints (Ghiasi et al., "Simple Copy-Paste", CVPR 2021, did
it for detection). Sizes and overlaps are our choice."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch.utils.data import get_worker_info

from ..cues.evaluation import covered
from ..pose.geometry import crop
from ..pose.skeleton import Skeleton
from .coco import CocoPersons, Person

SCALES = (0.7, 1.35)  # of the pasted person's size, against the first person's
OVERLAPS = (0.12, 0.75)  # box IoU of the two
VISIBLE = 0.3  # least visible share of each mask; largest share of a pasted box off the picture
LARGEST = 2.0  # cut-outs are not enlarged by more than this
MARGIN = 3  # pixels of background around a cut-out, and its least distance from the edge
SIDE, JOINTS = 32, 8  # the least sides of a cut-out in pixels, and its least labelled joints
POOL = 1000  # cut-outs that one epoch pastes again and again, so that they can be kept in memory
TRIES = 4  # cut-outs that are tried for a person before none is pasted


class Recent:
    """A least-recently-used cache of up to `limit` bytes, for values that are expensive to make."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self.values: OrderedDict = OrderedDict()

    def get(self, key, make: Callable):
        """The value of a key, made if it is not there; None, or an object with `nbytes`."""
        if key not in self.values:
            self.values[key] = value = make()
            self.used += getattr(value, "nbytes", 0)
            info = get_worker_info()  # workers of a loader share the memory
            limit = self.limit // (info.num_workers if info else 1)
            while self.used > limit and len(self.values) > 1:
                self.used -= getattr(self.values.popitem(last=False)[1], "nbytes", 0)
        self.values.move_to_end(key)
        return self.values[key]


@dataclass(frozen=True, eq=False)
class CutOut:
    """A whole person on a piece of their picture (h, w, 3) uint8, with the mask (h, w) uint8, 0 or
    255, and keypoints (K, 3) in the piece's pixels."""

    picture: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.picture.nbytes + self.mask.nbytes


def candidates(persons: CocoPersons) -> np.ndarray:
    """Rows of the people who can be cut out: with a mask, enough labelled joints, and a box that is
    large enough and does not touch the edge of the picture."""
    boxes, labelled = persons.boxes, (persons.keypoints[..., 2] > 0).sum(1)
    sizes = np.array([persons.pictures[image][1:] for image in persons.image_ids.tolist()])
    inside = (boxes[:, :2] >= MARGIN) & (boxes[:, :2] + boxes[:, 2:] <= sizes - MARGIN)
    return np.flatnonzero(persons.has_mask & inside.all(1) & (boxes[:, 2:] >= SIDE).all(1)
                          & (labelled >= min(JOINTS, len(persons.skeleton))))


def holds_joints(mask: np.ndarray, keypoints: np.ndarray) -> bool:
    """Whether a mask (H, W) uint8 can be the person's: at least three quarters of the visible
    keypoints (K, 3) lie in it, give or take three pixels."""
    near = covered(keypoints[:, :2], cv2.dilate(mask, np.ones((7, 7), np.uint8)))
    shown = keypoints[:, 2] == 2
    return bool(near[shown].sum() >= 0.75 * shown.sum())


def cut_out(picture: np.ndarray, person: Person) -> CutOut | None:
    """Cuts a person out of a picture (H, W, 3). None if the mask is not that of one whole person:
    it does not hold the joints, or it has several large parts."""
    mask = person.mask()
    if mask is None or not mask.any():
        return None
    low = np.maximum(np.floor(person.box[:2]).astype(int) - MARGIN, 0)
    high = np.ceil(person.box[:2] + person.box[2:]).astype(int) + MARGIN
    part = tuple(slice(*ends) for ends in zip(low[::-1], high[::-1], strict=True))
    piece = mask[part].astype(np.uint8)
    keypoints = person.keypoints.copy()
    keypoints[:, :2] -= low
    _, _, parts, _ = cv2.connectedComponentsWithStats(piece)
    if (not holds_joints(piece, keypoints) or not piece.any()
            or parts[1:, cv2.CC_STAT_AREA].max() < 0.85 * piece.sum()):
        return None
    return CutOut(picture[part].copy(), piece * 255, keypoints)


@dataclass(frozen=True, eq=False)
class Pasted:
    """A person pasted into a picture, and the two people who are then in it.

    matrix (2, 3): from the cut-out to the picture. first, second: the person of the picture and the
    pasted one, with visible boxes, masks and areas (hidden joints have v = 1). in_front: of the
    pasted one. soft: sigma of the edges in crop pixels. tone: how far, from 0 to 1, the pasted
    one's brightness is drawn towards that of the crop.
    """

    cut: CutOut
    matrix: np.ndarray
    first: Person
    second: Person
    in_front: bool
    soft: float
    tone: float

    def draw(self, canvas: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Draws the pasted person on a crop (h, w, 3) of the picture that `matrix` (2, 3) cuts."""
        size = canvas.shape[1::-1]
        place = matrix[:, :2] @ self.matrix
        place[:, 2] += matrix[:, 2]
        own = crop(self.cut.mask, place, size)
        if own.max() < 128:
            return canvas
        frame = crop(np.full(self.first.image_size[::-1], 255, np.uint8), matrix, size)
        alpha = cv2.multiply(cv2.GaussianBlur(own, (0, 0), self.soft), frame, scale=1 / 255)
        if not self.in_front:
            hidden = crop(self.first.mask().view(np.uint8) * 255, matrix, size)
            hidden = cv2.GaussianBlur(hidden, (0, 0), self.soft)
            alpha = cv2.multiply(alpha, cv2.bitwise_not(hidden), scale=1 / 255)
        person = crop(self.cut.picture, place, size)
        shift = self.tone * (np.mean(cv2.mean(canvas)[:3]) - np.mean(cv2.mean(person, own)[:3]))
        person = cv2.add(person, (shift,) * 3, dtype=cv2.CV_8U)
        alpha = cv2.merge([alpha] * 3)
        return cv2.add(cv2.multiply(person, alpha, scale=1 / 255),
                       cv2.multiply(canvas, cv2.bitwise_not(alpha), scale=1 / 255))


def paste(person: Person, cut: CutOut, skeleton: Skeleton, random: np.random.Generator
          ) -> Pasted | None:
    """Pastes a cut-out near a person with a mask, mirrored half of the time and in front half of
    the time. None if it fits nowhere, or one of the two would hardly be visible."""
    mask = person.mask()
    scale = relative_size(person.keypoints, cut.keypoints, skeleton)
    scale *= np.exp(random.uniform(*np.log(SCALES)))
    mirrored, in_front = (random.random(2) < 0.5).tolist()
    x0, y0, *size = cv2.boundingRect(cut.mask)
    width, size = size[0] - 1, np.array(size) * scale
    place = draw_place(person.box, size, person.image_size, random)
    if place is None or not 0.05 < scale <= LARGEST:
        return None
    matrix = np.array([[scale, 0, place[0] - scale * x0], [0, scale, place[1] - scale * y0]])
    keypoints = cut.keypoints.copy()
    if mirrored:
        matrix[0] = -scale, 0, place[0] + scale * (x0 + width)
        keypoints = keypoints[list(skeleton.mirror)]
    keypoints[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    low = np.maximum(np.floor(place).astype(int) - 1, 0)  # only this part of the picture is warped
    high = np.minimum(np.ceil(place + size).astype(int) + 1, person.image_size)
    near = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
    part = cv2.warpAffine(cut.mask, near, (high - low).tolist())
    whole = np.zeros(person.image_size[::-1], np.uint8)
    whole[low[1]:high[1], low[0]:high[0]] = part > 127
    mask = mask.view(np.uint8)
    first = _visible(person.keypoints, person.area, mask, whole if in_front else None)
    second = first and _visible(keypoints, float(cv2.countNonZero(whole)), whole,
                                None if in_front else mask)
    if second is None:
        return None
    return Pasted(cut, matrix, first, second, in_front, random.uniform(0.5, 1.0),
                  random.uniform(0.1, 0.5))


def relative_size(first: np.ndarray, second: np.ndarray, skeleton: Skeleton) -> float:
    """How much larger the first person is than the second, by keypoints (K, 3): the median ratio of
    limbs labelled in both, or that of the joints' extents for fewer than 3 such limbs."""
    a, b = np.array(skeleton.limbs, int).reshape(-1, 2).T
    both = (first[:, 2] > 0) & (second[:, 2] > 0)
    lengths = [np.hypot(*(person[a, :2] - person[b, :2]).T) for person in (first, second)]
    known = both[a] & both[b] & (lengths[1] > 1)
    if known.sum() >= 3:
        return float(np.median(lengths[0][known] / lengths[1][known]))
    extents = [np.ptp(person[person[:, 2] > 0, :2], axis=0).max() for person in (first, second)]
    return float(extents[0] / max(extents[1], 1.0))


def draw_place(box: np.ndarray, size: np.ndarray, limits: tuple[int, int],
               random: np.random.Generator, tries: int = 24) -> np.ndarray | None:
    """The upper left corner (2,) of a box of size (w, h), its IoU with `box` in `OVERLAPS`; or
    None. Most pairs stand on the same ground. limits: (width, height) of the picture."""
    x, y, w, h = box
    dx, ground, anywhere = random.uniform(-1, 1, (3, tries))
    left = x + (w - size[0]) / 2 + dx * (w + size[0]) / 2
    top = np.where(random.random(tries) < 0.7, y + h * (1 + 0.15 * ground) - size[1],
                   y + (h - size[1]) / 2 + 0.8 * anywhere * h)
    low, high = np.stack([left, top]), np.stack([left + size[0], top + size[1]])
    seen = (np.minimum(high.T, limits) - np.maximum(low.T, 0)).clip(0).prod(1)
    shared = (np.minimum(high.T, (x + w, y + h)) - np.maximum(low.T, (x, y))).clip(0).prod(1)
    iou = shared / (w * h + size.prod() - shared)
    fits = (iou >= OVERLAPS[0]) & (iou <= OVERLAPS[1]) & (seen >= (1 - VISIBLE) * size.prod())
    return low.T[fits.argmax()] if fits.any() else None


def _visible(keypoints: np.ndarray, area: float, mask: np.ndarray, over: np.ndarray | None
             ) -> Person | None:
    """A person with the mask (H, W) uint8, 0 or 1, behind the pixels `over`, of the same kind, or
    None; returns None if the person is hardly visible."""
    shown, joints = mask, keypoints.copy()
    if over is not None:
        shown = cv2.subtract(mask, over)
        joints[covered(joints[:, :2], over) & (joints[:, 2] > 0), 2] = 1
    off = (joints[:, :2] < 0).any(1) | (joints[:, :2] > np.array(mask.shape[::-1]) - 1).any(1)
    joints[off] = 0
    share = cv2.countNonZero(shown) / max(cv2.countNonZero(mask), 1)
    if share < VISIBLE or (joints[:, 2] > 0).sum() < 3:
        return None
    return Person(mask.shape[::-1], np.array(cv2.boundingRect(shown), np.float32),
                  joints.astype(np.float32), area * share, shown.view(bool))


class Paster:
    """Pastes people of a data set into its other pictures; what it keeps takes `limit` bytes.
    `read(row)` gives a person's picture. A paste depends on seed, epoch, row and generator."""

    def __init__(self, persons: CocoPersons, read: Callable[[int], np.ndarray], seed: int,
                 limit: int):
        self.persons, self.read, self.seed = persons, read, seed
        self.rows, self.kept = candidates(persons), Recent(limit)
        self.pool: tuple[int, np.ndarray] = (-1, self.rows)

    def summary(self) -> str:
        """Who can be pasted, in a sentence."""
        masked = int(self.persons.has_mask.sum())
        if not len(self.rows):
            return (f"nobody can be pasted: {masked} of {len(self.persons)} people have a mask, "
                    "and none of these is whole and large enough. The run goes on without pasting; "
                    "add segmentations, or turn pasting off with --set paste=0")
        return (f"of {len(self.persons)} people, {masked} with a mask can get a second person, and "
                f"{len(self.rows)} can be cut out for that, if their masks hold their joints")

    def draw(self, row: int, epoch: int, random: np.random.Generator) -> Pasted | None:
        """A pasted person for the picture of person `row`; None if that person has no mask, or
        another person's, or if no cut-out fits."""
        person = self.persons[row]
        mask = person.mask() if len(self.rows) else None
        if mask is None or not mask.any() or not holds_joints(mask.view(np.uint8),
                                                              person.keypoints):
            return None
        if self.pool[0] != epoch:
            chosen = np.random.default_rng([self.seed, epoch, len(self.rows)])
            self.pool = epoch, chosen.permutation(self.rows)[:POOL]
        person = replace(person, segmentation=mask)  # decoded once
        for other in random.choice(self.pool[1], TRIES):
            if self.persons.image_ids[other] == self.persons.image_ids[row]:
                continue
            cut = self.kept.get(int(other), lambda row=other: cut_out(
                self.read(row), self.persons[row]))
            if cut and (pasted := paste(person, cut, self.persons.skeleton, random)):
                return pasted
        return None
