"""A picture in, poses out: for people who have pictures rather than data sets."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue, call_source
from ..errors import ConfigError, DataError
from ..evaluation.predict import Predictor, cut_crops
from ..inputs.pictures import as_picture
from ..model.hintpose import Ensemble, as_hintpose
from ..model.hrnet import HRNet
from ..pose.geometry import corners, crop_matrix, pad, scale_of
from ..pose.oks import LOW, rescore
from ..pose.skeleton import COCO17, Skeleton
from ..weights.weights import load_model
from .duplicates import distinct, second_cues, told_apart

BATCH = 64  # people in memory at once, as many as `predict_people` takes
MARGIN = 0.1  # of a pose's extent, added on every side of it to make a box
SIZES = 5  # squares in which a first look seeks a person, each half as wide as the one before


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's pose, in picture pixels; all arrays float32.

    keypoints (K, 2) and scores (K,) after the last hop, the heights of the peaks as `calibrate`
    returns them; score: box score (1 where none is known) x mean of the heights above 0.2; box:
    (x, y, w, h), not padded; cue: as given or proposed, or None; hops: how many ran; by_hop
    (hops, K, 2): each one's keypoints.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    score: float
    box: np.ndarray
    cue: Cue | None
    hops: int
    by_hop: np.ndarray


class PoseEstimator:
    """Finds the poses of people in single pictures, exactly as `Predictor` does for data sets.

    model: a name or path for `load_model`, or a HintPose or HRNet, which is put into eval mode and
    used on its device. detector: takes a picture (H, W, 3) uint8 RGB, returns boxes (n, 4) x, y,
    w, h in picture pixels; if it has a method `detect` as `Detector` has, its scores count. source:
    takes both, and names the people in each box by cues, see `detectors`. flip, hops: as for
    `Predictor`; calls can give others. looks: how many rounds of quick prediction (one hop, no flip
    test) find a box for a cue that has none: the first tries squares of several sizes around the
    cue and keeps the best pose, each later one takes the box of the pose before. Two find most
    people; with 0 the box is the whole picture. precision: of the network, as for `evaluate`:
    "float32", "bf16" or "auto".
    """

    def __init__(self, model: HRNet | str | Path = "people-small",
                 detector: Callable | None = None, source: Callable | None = None, *,
                 flip: bool = True, hops: int | None = None,
                 looks: int = 0, skeleton: Skeleton = COCO17, precision: str = "float32"):
        model = load_model(model) if isinstance(model, (str, Path)) else model
        if not isinstance(model, HRNet | Ensemble):
            raise ConfigError("the model must be a HintPose or HRNet, or the name or path of one, "
                              f"not {model!r:.60}")
        if (joints := as_hintpose(model).spec.joints) != len(skeleton):
            raise ConfigError(f"the network has {joints} joints, skeleton= {len(skeleton)}: give "
                              "the skeleton that it was trained with")
        for name, given in (("detector", detector), ("source", source)):
            if isinstance(given, str):
                raise ConfigError(f"{name}={given!r}: give a Detector, a CueNetwork, or a function "
                                  "of your own")
        if type(looks) is not int or looks < 0:
            raise ConfigError(f"looks={looks!r}: give a whole number of at least 0")
        self.model, self.detector, self.source = as_hintpose(model).eval(), detector, source
        self.flip, self.hops, self.looks, self.skeleton = flip, hops, looks, skeleton
        self.precision = precision

    def __call__(self, picture, boxes=None, cues: list[Cue | None] | None = None, *,
                 flip: bool | None = None, hops: int | None = None,
                 apart: bool = False, scores=None) -> list[Pose]:
        """The pose in each box (n, 4), in their order; picture pixels throughout.

        picture: a path, a PIL image (both turned upright as their EXIF tag says), or uint8 RGB as
        an array (H, W, 3) or tensor (3, H, W). cues[i] says who is meant in boxes[i]. Without
        boxes: the detector's, or the whole picture as one; for each cue the smallest detected box
        around its middle, else, with a warning, the whole picture.
        Without cues, but with a source, there is a pose for every cue that the source finds in a
        box (without a cue where it finds none). A cue found in several boxes is used in one, and a
        pose is removed if its OKS to a better one exceeds 0.9.
        apart: the cues are of different people. The points of each are then negative points of the
        others. If two poses are still the same (OKS above 0.5), the one with the lower score is
        predicted once more, with the joints of the other one as negative points.
        scores (n,): of the boxes, such as a detector's; a pose's score is multiplied by its box's.
        DataError for unusable pictures, boxes and cues; ConfigError for cues it cannot take.
        """
        picture, spec = as_picture(picture), self.model.spec
        cues = None if cues is None else check_cues(cues, picture.shape[:2], spec.cue)
        given, proposing = boxes is not None, self.source and cues is None
        boxes, scores = self._boxes(boxes, scores, cues, picture)
        if proposing:
            rows, cues = self._propose(boxes, picture)
            boxes, scores = boxes[rows], scores[rows]
        if cues is not None and len(cues) != len(boxes):
            raise DataError(f"{len(boxes)} boxes, but {len(cues)} cues: give each box one cue")
        if cues is not None and not proposing:
            _check_inside(cues, boxes, spec.input_size)
        flip, hops = self.flip if flip is None else flip, self.hops if hops is None else hops

        def narrow(boxes: Tensor, cues: list[Cue] | None) -> Tensor:
            return boxes if given or not cues else self.narrowed(picture, boxes, cues)

        places = narrow(boxes, cues)
        if not apart or not cues or proposing:
            poses = self._predict(picture, places, cues, flip, hops, scores)
            return distinct(poses, self.skeleton) if proposing and poses else poses
        # The sigma, in picture pixels, of a point's Gaussian (it is cue_sigma in crop pixels):
        crops = pad(places, spec.input_size[0] / spec.input_size[1])
        reach = (spec.cue_sigma / scale_of(crop_matrix(crops, spec.input_size))).tolist()
        poses = self._predict(picture, places, told_apart(cues, reach), flip, hops, scores)
        again = second_cues(poses, reach, self.skeleton)
        rows, new = [*again], [*again.values()]
        found = self._predict(picture, narrow(boxes[rows], new), new, flip, hops, scores[rows])
        found = dict(zip(rows, found, strict=True))
        return [replace(found.get(i, pose), cue=cues[i]) for i, pose in enumerate(poses)]

    def _predict(self, picture: np.ndarray, boxes: Tensor, cues: list[Cue] | None, flip: bool,
             hops: int | None, scores: Tensor | None = None) -> list[Pose]:
        scores = torch.ones(len(boxes)) if scores is None else scores
        predictor = Predictor(self.model, hops, flip, self.skeleton, self.precision)
        poses = []
        for part in torch.arange(len(boxes)).split(BATCH) if len(boxes) else ():
            chosen = cues and [cues[i] for i in part]
            places, rows = boxes[part].unique(dim=0, return_inverse=True)  # several cues in one
            crops, matrices = cut_crops([picture] * len(places), places, self.model.spec)
            found = predictor.predict_crops(crops, matrices, chosen, rows)
            poses += _poses(found.keypoints, found.scores, boxes[part], chosen, scores[part],
                            self.model.spec.calibration)
        return poses

    def narrowed(self, picture: np.ndarray, boxes: Tensor, cues: list[Cue]) -> Tensor:
        """Boxes (n, 4) of cues in a picture (H, W, 3) uint8; those that are the whole of it are
        narrowed, look by look, to the pose found, unless the cue names nobody."""
        boxes, size = boxes.clone(), picture.shape[1::-1]
        whole = (boxes == torch.tensor([0, 0, *size])).all(1).tolist()
        rows = [i for i, wide in enumerate(whole) if wide and cues[i].middle() is not None]
        if not rows or self.looks < 1:
            return boxes
        tried = _squares([cues[i] for i in rows], max(size))
        for _ in range(self.looks):
            tries = tried.shape[1]
            poses = self._predict(picture, tried.flatten(0, 1),
                              [cues[i] for i in rows for _ in range(tries)], flip=False, hops=1)
            surest = [max(poses[i:i + tries], key=lambda pose: pose.scores.mean())
                      for i in range(0, len(poses), tries)]
            tried = torch.stack([_box_of(pose, size) for pose in surest])[:, None]
        boxes[rows] = tried[:, 0]
        return boxes

    def _propose(self, boxes: Tensor, picture: np.ndarray) -> tuple[list[int], list[Cue]]:
        """The people that the source finds in boxes (n, 4): each one's box (a row), and the cues.

        Equal cues mean one person, predicted once: in the box where the cue ranks first, or in the
        smallest of several such boxes.
        """
        named = call_source(self.source, picture, boxes)
        named, sizes = [cues or [None] for cues in named], boxes[:, 2:].prod(1).tolist()
        places = [(rank, sizes[i], i) for i, cues in enumerate(named) for rank in range(len(cues))]
        cues = check_cues(sum(named, []), picture.shape[:2], self.model.spec.cue)
        people = {}
        for place, cue in sorted(zip(places, cues, strict=True), key=lambda person: person[0]):
            people.setdefault(place if cue.kind == "none" else cue, (place, cue))
        people = sorted(people.values(), key=lambda person: (person[0][2], person[0][0]))
        return [i for (_, _, i), _ in people], [cue for _, cue in people]

    def _boxes(self, boxes, scores, cues: list[Cue] | None,
               picture: np.ndarray) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) and their scores (n,): given, the detector's, or the whole picture."""
        size = picture.shape[1::-1]
        if boxes is not None:
            boxes = check_boxes(boxes, size)
            return boxes, check_scores(scores, len(boxes))
        whole = torch.tensor([[0.0, 0.0, *size]])
        found, scores = whole[:0], torch.ones(0)
        if hasattr(self.detector, "detect"):
            detected = self.detector.detect(picture)
            found, scores = check_boxes(detected.boxes, size), torch.as_tensor(detected.scores)
        elif self.detector:
            found = check_boxes(self.detector(picture), size)
            scores = torch.ones(len(found))
        if cues is None:
            return (found, scores) if self.detector else (whole, torch.ones(1))
        # A person who was pointed at is there, however sure the detector is.
        return torch.cat([found[:0], *(_box_around(cue, i, found, whole, self.looks)
                                       for i, cue in enumerate(cues))]), torch.ones(len(cues))


def check_boxes(boxes, size: tuple[int, int], name: str = "box") -> Tensor:
    try:
        boxes = np.array(boxes.numpy(force=True) if isinstance(boxes, Tensor) else boxes, "f4")
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes are numbers, (n, 4) of x, y, w, h: {error}") from error
    if boxes.shape != (0,) and boxes.shape[1:] != (4,):
        raise DataError(f"boxes have the shape (n, 4) of x, y, w, h, not {boxes.shape}")
    for i, (x, y, w, h) in enumerate(boxes.reshape(-1, 4).tolist()):
        problem = ("is not finite" if not np.isfinite([x, y, w, h]).all() else
                   "has no area: w and h must be above 0" if min(w, h) <= 0 else
                   "lies within one pixel: x, y, w, h are pixels" if max(x + w, y + h) <= 1 else
                   f"lies outside the picture of {size[0]} x {size[1]} pixels"
                   if x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0 else None)
        if problem:
            raise DataError(f"{name} {i} (x {x:g}, y {y:g}, w {w:g}, h {h:g}) {problem}")
        seen = [min(start + side, end) - max(start, 0) for start, side, end in
                zip((x, y), (w, h), size, strict=True)]
        if seen[0] * seen[1] < 0.5 * w * h:
            warnings.warn(f"{name} {i} (x {x:g}, y {y:g}, w {w:g}, h {h:g}) lies outside the "
                          "picture for the most part; are its last numbers the lower right corner?",
                          stacklevel=3)
    return torch.from_numpy(boxes.reshape(-1, 4))


def check_scores(scores, count: int) -> Tensor:
    """Scores (n,) of n boxes; ones if None. Raises DataError for others."""
    scores = torch.ones(count) if scores is None else torch.as_tensor(scores).float()
    if scores.shape != (count,) or not scores.isfinite().all():
        raise DataError(f"{count} boxes, but scores of the shape {tuple(scores.shape)}: give one "
                        "finite number per box")
    return scores


def check_cues(cues, shape: tuple[int, int], takes_cues: bool) -> list[Cue]:
    if not isinstance(cues, Sequence) or not all(isinstance(cue, Cue | None) for cue in cues):
        raise DataError(f"cues is a list with one Cue (or None) per person, not {cues!r:.80}")
    cues = [cue or Cue.none() for cue in cues]
    if not takes_cues and any(cue.kind != "none" for cue in cues):
        raise ConfigError("this network takes no cues: call it without, or load another")
    for i, cue in enumerate(cues):
        if cue.kind == "mask" and cue.array.shape != shape:
            raise DataError(f"cue {i}: its mask (h, w) is {cue.array.shape}, the picture {shape}")
        if cue.kind == "box":
            check_boxes([cue.xywh], shape[::-1], f"cue {i}: box")
        if cue.kind == "points":  # of a previous pose some may lie beyond the edge, clicks may not
            outside = ((cue.xy < -0.5) | (cue.xy > np.array(shape[::-1]) - 0.5)).any(1)
            lost = outside.any() and outside[cue.labels > 0].all()
            if lost or outside[cue.labels < 0].any():
                raise DataError(f"cue {i}: point {cue.xy[outside][0].tolist()} lies outside the "
                                f"picture of {shape[1]} x {shape[0]} pixels")
    return cues


def _check_inside(cues: list[Cue], boxes: Tensor, size: tuple[int, int]) -> None:
    """Raises DataError if nothing of a cue lies in its crop: no positive point, no pixel."""
    crops = corners(pad(boxes, size[0] / size[1])).numpy()
    for i, (cue, crop) in enumerate(zip(cues, crops, strict=True)):
        own = cue.xy[cue.labels > 0] if cue.kind == "points" else np.zeros((0, 2))
        if cue.kind == "mask":
            own = np.argwhere(cue.array > 0)[:, ::-1]
        elif cue.kind == "box":  # of all its points, the one nearest to the crop's middle
            end = cue.xywh[:2] + cue.xywh[2:]
            own = np.clip((crop[:2] + crop[2:]) / 2, cue.xywh[:2], end)[None]
        if len(own) and not ((own >= crop[:2]) & (own <= crop[2:])).all(1).any():
            raise DataError(f"cue {i}: its {cue.kind} at {own[0].tolist()} lies outside its box "
                            f"{boxes[i].tolist()}, context included: move one of them")


def smallest_around(cue: Cue, boxes: Tensor) -> Tensor:
    """The smallest of boxes (n, 4) around a cue's middle: (1, 4), or (0, 4) where none lies so."""
    middle = cue.middle()
    if middle is None:
        return boxes[:0]
    place = torch.tensor(middle, dtype=torch.float32) - boxes[:, :2]
    boxes = boxes[((place >= 0) & (place <= boxes[:, 2:])).all(1)]
    return boxes[boxes[:, 2:].prod(1).argsort(stable=True)[:1]]


def _box_around(cue: Cue, i: int, found: Tensor, whole: Tensor, looks: int) -> Tensor:
    """The smallest of the found boxes (n, 4) around a cue's middle, else the whole picture."""
    box = smallest_around(cue, found)
    if len(box):
        return box
    answer = (f"one is looked for in the whole picture, {looks} times" if looks else
              "the whole picture is taken as its box, which looks=2 would narrow")
    warnings.warn(f"cue {i} has no box, and no detected one lies around it: {answer}",
                  stacklevel=5)  # points at the caller of the estimator
    return whole


def _squares(cues: list[Cue], width: float) -> Tensor:
    """Boxes (n, SIZES, 4) about the middles of n cues, the first of each of that width."""
    widths = width / 2.0 ** np.arange(SIZES)
    return torch.tensor([[(x - side / 2, y - side / 2, side, side) for side in widths]
                         for x, y in (cue.middle() for cue in cues)]).float()


def _box_of(pose: Pose, limits: tuple[int, int]) -> Tensor:
    """A box (4,) around a pose's sure joints (the best four, if fewer are) and its cue in a picture
    of that size (w, h); no side below an eighth of the last box's, since joints may all coincide.
    """
    sure = pose.scores >= min(LOW, np.sort(pose.scores)[-4:][0])
    points = np.vstack([pose.keypoints[sure], pose.cue.middle()]).clip(0, limits)
    low, extent = points.min(0), np.ptp(points, axis=0)
    size = np.maximum((1 + 2 * MARGIN) * extent, pose.box[2:] / 8)
    return torch.tensor([*(low + (extent - size) / 2), *size]).float()


def _poses(keypoints: Tensor, heights: Tensor, boxes: Tensor, cues: list[Cue] | None,
           box_scores: Tensor, calibration: tuple[float, float]) -> list[Pose]:
    """Poses from keypoints (T, n, K, 2) and heights (T, n, K) in boxes (n, 4) with scores (n,)."""
    finite = keypoints.isfinite().all(-1).all(-1).all(0) & heights.isfinite().all(-1).all(0)
    if not finite.all():
        raise DataError(f"the pose in the box {boxes[~finite][0].tolist()} is not finite: the box "
                        "is far too large or small, or the network's weights are damaged")
    totals, scores = rescore(box_scores, heights[-1]), calibrate(heights[-1], calibration)
    return [Pose(keypoints[-1, i].numpy(), scores[i].numpy(), float(totals[i]),
                 boxes[i].numpy(), cues[i] if cues else None, len(keypoints),
                 keypoints[:, i].numpy().copy()) for i in range(len(boxes))]


def calibrate(heights: Tensor, calibration: tuple[float, float]) -> Tensor:
    """Heights of peaks as probabilities that a joint is right (within two OKS sigmas):
    sigmoid(slope x logit(height) + offset), after Platt ("Probabilistic outputs for support vector
    machines", 1999), fitted by `benchmarks/calibrate.py` on people that were not trained on."""
    slope, offset = calibration
    if (slope, offset) == (1.0, 0.0):
        return heights
    return torch.sigmoid(slope * heights.logit(eps=1e-4) + offset)
