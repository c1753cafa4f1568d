"""Detections of people: COCO results with boxes, matched with the labelled people."""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..pose.geometry import iou
from .entries import LEAST_SIDE
from .people import PeopleFile
from .results import read_results
from .suspicions import readings

MATCH = .5  # box IoU from which a detection is a person's


@dataclass(frozen=True, eq=False)
class Detections:
    """D boxes (D, 4) float32 in pictures image_ids (D,) of a file, with scores (D,), the D entries
    of a result file, if they are from one, and person (D,), a row of the data set, or -1 for
    nobody."""

    people: PeopleFile
    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    entries: list[dict] | None
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def skeleton(self):
        return self.people.skeleton

    def read(self, i: int) -> np.ndarray:
        """The picture (H, W, 3) that box i lies in."""
        return self.people.picture(int(self.image_ids[i]))


def read_detections(persons, source: str | Path | list, counts: Counter) -> Detections:
    """The detections of a COCO result file or list that have a box with an area. What is left out
    is counted, and a suspicion that the boxes are of another convention becomes a warning.
    persons: `CocoPersons`, or `CocoPictures`, which have nobody."""
    found = read_results(persons, source, "bbox", counts)
    solid = [result for result in found if min(result[1][2:]) >= LEAST_SIDE]
    counts["results left out, their box has no area"] = len(found) - len(solid)
    image_ids = np.array([image for image, *_ in solid], np.int64)
    boxes = np.array([box for _, box, *_ in solid], np.float32).reshape(-1, 4)
    scores = np.array([score for *_, score, _ in solid], float)
    person = match_detections(persons, image_ids, boxes, scores)
    counts["detections that match nobody"] = unmatched = int((person < 0).sum())
    if len(boxes) >= 2 and len(boxes) - unmatched < 0.7 * len(persons):
        _warn_of_other_boxes(persons, image_ids, boxes, scores, len(boxes) - unmatched)
    counts["people missed, without a detection"] = len(persons) - len(boxes) + unmatched
    return Detections(persons, image_ids, boxes, scores, [entry for *_, entry in solid], person)


def match_detections(persons, image_ids: np.ndarray, boxes: np.ndarray, scores: np.ndarray
                     ) -> np.ndarray:
    """The person (row) of each detection (D,), -1 for none: by falling score, one to one."""
    person = np.full(len(boxes), -1)
    for image_id in np.intersect1d(image_ids, persons.image_ids):
        found = np.flatnonzero(image_ids == image_id)
        there = np.flatnonzero(persons.image_ids == image_id)
        overlap = iou(torch.from_numpy(boxes[found]), torch.as_tensor(persons.boxes[there])).numpy()
        for i in np.argsort(-scores[found], kind="stable"):
            best = overlap[i].argmax()
            if overlap[i, best] >= MATCH:
                person[found[i]] = there[best]
                overlap[:, best] = -1
    return person


def _warn_of_other_boxes(persons, image_ids: np.ndarray, boxes: np.ndarray, scores: np.ndarray,
                         matched: int) -> None:
    """Warns if hardly any detections match, or more would if read in another convention."""
    sizes = np.array([persons.pictures[image][1:] for image in image_ids.tolist()])
    matches = {name: int((match_detections(persons, image_ids, read.astype(np.float32), scores)
                          >= 0).sum()) for name, read in readings(boxes, sizes).items()}
    name, best = max(matches.items(), key=lambda item: item[1])
    said = f"only {matched} of {len(persons)} people have a detection"
    if best > matched + 0.3 * len(persons):
        warnings.warn(f"{said}. Suspicion: the boxes are {name}, not x, y, w, h; read so, {best} "
                      "people have one. Convert the file", stacklevel=5)
    elif matched < 0.1 * min(len(persons), len(boxes)):
        warnings.warn(f"{said}; perhaps they are of other pictures", stacklevel=5)
