"""Boxes and cues for pictures without annotations: from detectors, or from result files.

A cue source is a callable `source(picture, boxes) -> list[list[Cue]]`. It takes a picture (H, W, 3)
uint8 RGB and boxes (n, 4) x, y, w, h in picture pixels. For each box it returns the cues of the
people in the box, best first, or an empty list. `Detector.cues` and `Detections` are cue sources.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_convert

from ..cues.cue import Cue
from ..errors import CheckpointError, ConfigError, DataError, FetchError
from ..inputs import entries
from ..inputs.masks import box_of_mask, decode_mask
from ..inputs.pictures import as_picture
from ..pose.geometry import corners, iou
from ..pose.skeleton import COCO17
from ..weights.fetch import fetch

NETWORKS = {"masks": "maskrcnn_resnet50_fpn_v2", "keypoints": "keypointrcnn_resnet50_fpn"}
PERSON = 1  # the label in both networks, as in COCO
PEAK = 2.0  # a joint of the keypoint network is known above this logit, as when Detectron draws
KNOWN = 0.2  # a joint of a result file is known above this score, as in HRNet's rescoring


@dataclass(frozen=True, eq=False)
class Detections:
    """The people found in one picture, best first, with either masks or keypoints. A cue source."""

    boxes: np.ndarray  # (n, 4) float32 x, y, w, h in picture pixels
    scores: np.ndarray  # (n,) float32
    masks: np.ndarray | None = None  # (n, H, W) bool, visible pixels
    keypoints: np.ndarray | None = None  # (n, K, 3) float32 x, y, and 1 for known joints, else 0

    def __call__(self, picture, boxes) -> list[list[Cue]]:
        """`Cue.mask` or `Cue.pose` of the people in each of boxes (m, 4), highest box IoU first.

        By our own rule, people are in a box if it contains at least half of their mask's pixels or
        known joints; or any of these, with a box IoU of at least .3. The picture is not used.
        """
        boxes = torch.from_numpy(np.array(boxes, "f4").reshape(-1, 4))
        overlap = iou(boxes, torch.from_numpy(self.boxes)).numpy()
        share = self._share(corners(boxes).numpy())
        inside = (share >= 0.5) | (share > 0) & (overlap >= 0.3)
        cues = {i: Cue.pose(self.keypoints[i]) if self.masks is None else Cue.mask(self.masks[i])
                for i in np.flatnonzero(inside.any(0))}  # one per person, for all boxes
        return [[cues[i] for i in np.argsort(-row, kind="stable") if there[i]]
                for row, there in zip(overlap, inside, strict=True)]

    def _share(self, edges: np.ndarray) -> np.ndarray:
        """The share of each person that lies in boxes (m, 4) x0, y0, x1, y1: (m, n) in [0, 1]."""
        if self.masks is None:
            points, known = self.keypoints[..., :2], self.keypoints[..., 2] > 0
            low, high = edges[:, None, None, :2], edges[:, None, None, 2:]
            number = (((low <= points) & (points <= high)).all(-1) & known).sum(-1)
            return number / known.sum(-1).clip(1)
        pixels = np.concatenate([np.ceil(edges[:, :2]), np.floor(edges[:, 2:]) + 1], 1)
        number = [self.masks[:, y0:y1, x0:x1].sum((1, 2))
                  for x0, y0, x1, y1 in pixels.clip(0, 1 << 30).astype(int)]
        return np.reshape(number, (len(edges), len(self.masks))) / self.masks.sum((1, 2)).clip(1)


class Detector:
    """People in pictures by torchvision's Mask R-CNN ("masks") or Keypoint R-CNN ("keypoints").

    In `PoseEstimator(model, detector, detector.cues)` one pass gives both boxes and cues; it takes
    seconds on a CPU. weights: the name of published weights, which are downloaded once into torch's
    cache folder; the path of a state dict; or None for random weights. They are loaded for the
    first picture, with FetchError or CheckpointError if that fails. score: the least score of a
    person.
    """

    def __init__(self, kind: str = "masks", weights: str | Path | None = "DEFAULT",
                 score: float = 0.5, device: str | torch.device = "cpu"):
        if kind not in NETWORKS or not 0 <= score <= 1:
            raise ConfigError(f"kind={kind!r} must be one of {', '.join(NETWORKS)}, and "
                              f"score={score!r} lie in 0 to 1")
        self.kind, self.weights, self.score, self.device = kind, weights, score, device
        self._network, self._last = None, None

    def __call__(self, picture) -> np.ndarray:
        """Boxes (n, 4) of the people in a picture (all that `as_picture` takes), best first."""
        return self.detect(picture).boxes.copy()

    def cues(self, picture, boxes) -> list[list[Cue]]:
        """The cue source: see `Detections`."""
        return self.detect(picture)(picture, boxes)

    def detect(self, picture) -> Detections:
        """All people found in a picture; the detections of the latest picture are kept."""
        picture = as_picture(picture)
        if self._last is None or not np.array_equal(self._last[0], picture):
            picture = picture.copy()  # the caller may change it later
            self._last = picture, self._find(picture)
        return self._last[1]

    @torch.inference_mode()
    def _find(self, picture: np.ndarray) -> Detections:
        if self._network is None:
            self._network = _build(self.kind, self.weights, self.score).eval().to(self.device)
        image = torch.from_numpy(picture).to(self.device).permute(2, 0, 1) / 255
        found = self._network([image])[0]  # objects of all kinds, best first
        people = (found["labels"] == PERSON) & (found["scores"] >= self.score)
        found = {name: value[people].cpu() for name, value in found.items()}
        # The networks learned COCO's coordinates, so boxes and joints need no shift.
        people = box_convert(found["boxes"], "xyxy", "xywh").numpy(), found["scores"].numpy()
        if self.kind == "masks":
            return Detections(*people, masks=(found["masks"][:, 0] > 0.5).numpy())
        found["keypoints"][..., 2] = found["keypoints_scores"] > PEAK
        return Detections(*people, keypoints=found["keypoints"].numpy())


def _build(kind: str, weights: str | Path | None, score: float) -> torch.nn.Module:
    from torchvision.models import get_model, get_model_weights
    published = get_model_weights(NETWORKS[kind])
    settings = {"weights_backbone": None, "box_score_thresh": score, "progress": False}
    if weights in published.__members__:
        url, cache = published[weights].url, Path(torch.hub.get_dir()) / "checkpoints"
        try:  # torchvision uses a file in its cache; `fetch` can resume, its own download cannot
            fetch(url, cache / Path(url).name, Path(url).stem.rsplit("-", 1)[1])
        except FetchError as error:
            raise FetchError(f"{error}. Or do without: give boxes and cues yourself") from error
        return get_model(NETWORKS[kind], weights=published[weights], **settings)
    network = get_model(NETWORKS[kind], weights=None, **settings)
    try:
        if weights is not None:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(f"weights {str(weights)!r} are none of {[*published.__members__]}, "
                              f"nor a state dict for {NETWORKS[kind]}: {error!s:.200}") from error
    if kind == "keypoints" and Path(weights or "").name == Path(published.COCO_V1.url).name:
        for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.eps = 0.0  # torchvision does so for this file, and for no other
    return network


class ResultFile:
    """The people that another model found, from a COCO result file.

    results: a file, or a list of entries with image_id, score, and keypoints (a joint is known if
    its third number is above 0.2) or an RLE segmentation. The default bbox is the extent of the
    known joints, or of the mask. Raises DataError for an entry that cannot be used. score: the
    least score of a person. image_ids: of all pictures, ascending. left_out: the number of people
    with a lower score or a box without area; others: of results of other categories than 1, the
    person, which are not read.
    """

    def __init__(self, results: str | Path | list, score: float = -math.inf):
        self._name, found = entries.load_results(results)
        self._people: dict[int, list[dict]] = {}
        self.file_names: dict[int, str] = {}  # of the pictures, where the entries have them
        self.others = 0
        for i, entry in enumerate(found if isinstance(found, list) else [None]):
            image = entries.integer(entry, "image_id")
            if image is not None and "category_id" in entry and entries.integer(
                    entry, "category_id") != PERSON:
                self.others += 1
                continue
            read = None if image is None else _read(entry)
            if read is None:
                raise DataError(f"{self._name}, entry {i} (image_id {image}): COCO results are a "
                                "list of entries with an integer image_id, a score, and 51 numbers "
                                "as keypoints, or an RLE segmentation and a bbox; convert the file")
            if isinstance(name := entry.get("file_name"), str):
                self.file_names[image] = name.replace("\\", "/").rsplit("/", 1)[-1]
            if min(read["bbox"][2:]) > 0 and read["score"] >= score:
                self._people.setdefault(image, []).append(read)
        self.left_out = len(found) - self.others - sum(map(len, self._people.values()))
        if self.others and not self._people:
            raise DataError(f"{self._name}: none of its {self.others} results is of a person "
                            f"(category {PERSON}); give those of people")
        self.image_ids = sorted(self._people)

    def of(self, image_id: int) -> Detections:
        """The people of one picture, best first; empty if the file has none."""
        found = sorted(self._people.get(image_id, []), key=lambda entry: -entry["score"])
        boxes = np.array([entry["bbox"] for entry in found], "f4").reshape(-1, 4)
        scores = np.array([entry["score"] for entry in found], "f4")
        if all(entry.get("keypoints") is not None for entry in found):
            points = np.array([e["keypoints"] for e in found], "f4").reshape(-1, len(COCO17), 3)
            points[..., 2] = points[..., 2] > KNOWN
            return Detections(boxes, scores, keypoints=points)
        try:
            masks = [entry["segmentation"] for entry in found]
            masks = np.stack([decode_mask(mask, *mask["size"][::-1]) for mask in masks])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self._name}, image_id {image_id}: a mask is missing or damaged "
                            f"({error}); repair or remove its entry") from error
        return Detections(boxes, scores, masks)


def _read(entry: dict) -> dict | None:
    """A result with its numbers as numbers, and a box; None if it is not usable."""
    mask, points = entry.get("segmentation"), None
    if entry.get("keypoints") is not None:
        points = entries.numbers(entry["keypoints"], 3 * len(COCO17))
    elif not isinstance(mask, dict):
        return None
    if "bbox" in entry:
        box = entries.numbers(entry["bbox"], 4)
    else:
        box = box_of_mask(mask) if points is None else _extent(points)
    score = entries.number(entry.get("score"))
    if box is None or score is None or points is None and entry.get("keypoints") is not None:
        return None
    return {"bbox": box, "score": score, "keypoints": points, "segmentation": mask}


def _extent(points: list[float]) -> list[float]:
    """The box around the known joints of a result; without area if none is known."""
    table = np.reshape(points, (-1, 3))
    known = table[table[:, 2] > KNOWN, :2]
    return [*known.min(0), *np.ptp(known, axis=0)] if len(known) else [0, 0, 0, 0]
