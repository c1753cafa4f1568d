"""The labelled people of a COCO-format keypoint file: their arrays, records and pictures."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from operator import index
from pathlib import Path

import numpy as np

from ..inputs.entries import uncollected
from ..inputs.masks import usable_mask
from ..inputs.people import PeopleFile
from ..inputs.suspicions import suspicions
from ..pose.skeleton import COCO17, Skeleton

# Overlap strata, low <= overlap < high; an overlap of 1 belongs to the last.
STRATA = {"[0, .1)": (0, .1), "[.1, .3)": (.1, .3), "[.3, .5)": (.3, .5), "[.5, 1]": (.5, 2)}


@dataclass(frozen=True, eq=False)
class Person:
    """One person in the pixels of a picture of image_size = (width, height).

    box:          (4,) float32: x, y, w, h.
    keypoints:    (K, 3) float32: x, y, v, with v 0 (unlabelled), 1 (hidden) or 2 (visible).
    area:         square pixels.
    segmentation: polygons (arrays x, y, x, y, ...), RLE, a mask (height, width) bool, or None.
    """

    image_size: tuple[int, int]
    box: np.ndarray
    keypoints: np.ndarray
    area: float
    segmentation: list | dict | np.ndarray | None

    def mask(self) -> np.ndarray | None:
        """The visible pixels (height, width) bool; None if there is no mask. Raises DataError if it
        is damaged."""
        if isinstance(self.segmentation, np.ndarray):
            return self.segmentation
        return usable_mask(self.segmentation, self.image_size, self)

    def union(self, other: "Person") -> np.ndarray:
        """The smallest box (4,) around both people."""
        low = np.minimum(self.box[:2], other.box[:2])
        high = np.maximum(self.box[:2] + self.box[2:], other.box[:2] + other.box[2:])
        return np.append(low, high - low)

    def overlap(self, other: "Person") -> float:
        """The IoU of the two boxes."""
        both = (self.box[2:] + other.box[2:] - self.union(other)[2:]).clip(0).prod()
        return float(both / (self.box[2:].prod() + other.box[2:].prod() - both))


@dataclass(frozen=True, eq=False)
class PersonRecord(Person):
    """A person of an annotation file; path: of the picture."""

    image_id: int
    annotation_id: int
    path: Path

    def __str__(self) -> str:
        return f"annotation {self.annotation_id} of image {self.image_id}"


class CocoPersons(PeopleFile):
    """The labelled people of a COCO-format keypoint file, by ascending annotation id.

    annotations: the JSON file; images: the folder that its file_name entries are relative to;
    check_pictures: whether to skip people whose picture is missing; category: the people's, where
    it is not clear (`entries.person_category`); without: names of pictures to leave out. Raises
    DataError if the file is not COCO-format, names two pictures by one id, or holds no labelled
    person of that skeleton. Besides what `PeopleFile` lists, there are

    boxes:          (N, 4) float32: x, y, w, h of the N people.
    keypoints:      (N, K, 3) float32: x, y, v.
    areas:          (N,) float64, square pixels.
    image_ids, annotation_ids: (N,) int64.
    overlap:        (N,) float64: the largest box IoU with any other non-crowd person.
    partner:        (N,) int64: row of the labelled person with that IoU (ties go to the lower
                    annotation id); -1 if nobody overlaps, or if that one is unlabelled.
    has_mask:       (N,) bool: the entry has a segmentation, damaged or not.
    contested:      (N,) bool: one other labelled person has at least 3 labelled joints in the box.
    """

    @uncollected()
    def __init__(self, annotations: str | Path, images: str | Path, skeleton: Skeleton = COCO17,
                 check_pictures: bool = True, category: str | None = None,
                 without: Collection[str] = ()):
        super().__init__(annotations, images, skeleton)
        people = self.read_people(check_pictures, category, without)
        areas = np.array([area for _, area in people], float)
        rows = np.flatnonzero(areas > 0)
        chosen = [people[row][0] for row in rows]
        boxes = np.array([entry["bbox"] for entry, _ in people], float)
        image_ids = np.array([entry["image_id"] for entry, _ in people], np.int64)
        keypoints = np.zeros((len(people), len(skeleton), 3))
        keypoints[rows] = np.reshape([entry["keypoints"] for entry in chosen],
                                     (-1, *keypoints.shape[1:]))
        overlap, partner, contested = _relations(image_ids, boxes, keypoints, areas > 0)
        row_of = np.full(len(people) + 1, -1)  # the last entry serves partner -1
        row_of[rows] = np.arange(len(rows))
        self.boxes, self.keypoints = boxes[rows].astype("f4"), keypoints[rows].astype("f4")
        self.areas, self.image_ids = areas[rows], image_ids[rows]
        self.annotation_ids = np.array([entry["id"] for entry in chosen], np.int64)
        self.overlap, self.contested = overlap[rows], contested[rows]
        self.partner = row_of[partner[rows]]
        self._segmentations = [entry.get("segmentation") or None for entry in chosen]
        self.has_mask = np.array([mask is not None for mask in self._segmentations], bool)
        self.remarks += suspicions(self)

    @cached_property
    def sha256(self) -> str:
        """SHA-256, in hex, of the people and their pictures' names, which binds a run to them."""
        digest = hashlib.sha256(json.dumps(sorted(self.pictures.items())).encode())
        for values in (self.annotation_ids, self.image_ids, self.boxes, self.keypoints, self.areas):
            digest.update(np.ascontiguousarray(values))
        digest.update(json.dumps(self._segmentations, default=list).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, i: int) -> PersonRecord:
        i = index(i)
        image_id = int(self.image_ids[i])
        name, *size = self.pictures[image_id]
        return PersonRecord(tuple(size), self.boxes[i].copy(), self.keypoints[i].copy(),
                            float(self.areas[i]), self._segmentations[i], image_id,
                            int(self.annotation_ids[i]), self.images / name)

    def read(self, i: int) -> np.ndarray:
        """The picture of person i: see `read_picture`."""
        return self.picture(int(self.image_ids[i]))

    def summary(self) -> str:
        """Returns lines of text: what the file holds, and what was skipped and why."""
        by_overlap = (f"{label}: {int(((low <= self.overlap) & (self.overlap < high)).sum())}"
                      for label, (low, high) in STRATA.items())
        v = self.keypoints[..., 2]
        return "\n".join([
            f"{len(self)} labelled people in {len(self.pictures)} pictures of {self.annotations}",
            f"  joints: {(v == 2).mean():.0%} visible, {(v == 1).mean():.0%} hidden, the rest "
            "without a label",
            f"  contested: {self.contested.sum()}; by overlap: {', '.join(by_overlap)}",
            *self.findings()])


def _relations(images: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray,
               labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlap, partner (row or -1) and contested of people ordered by annotation id, for all
    pictures with the same number of people at once: by picture, person, other person, joint, xy."""
    overlap, partner = np.zeros(len(images)), np.full(len(images), -1)
    contested = np.zeros(len(images), bool)
    order = np.argsort(images, kind="stable")
    _, starts, sizes = np.unique(images[order], return_index=True, return_counts=True)
    for size in np.unique(sizes[sizes > 1]):
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        low, extent = boxes[rows][:, :, None, :2], boxes[rows][:, :, None, 2:]
        high, area, self_pair = low + extent, extent.prod(-1), np.eye(size, dtype=bool)
        shared = np.minimum(high, high.swapaxes(1, 2)) - np.maximum(low, low.swapaxes(1, 2))
        common = shared.clip(min=0).prod(-1)
        whole = area + area.swapaxes(1, 2) - common
        at_least = common + np.finfo(float).tiny  # keeps IoU <= 1 against rounding, and 0 / 0 out
        iou = np.where(self_pair, 0, common / np.maximum(whole, at_least))
        overlap[rows] = best = iou.max(-1)
        match = (iou == best[..., None]) & (iou > 0) & labelled[rows][:, None]
        first = np.take_along_axis(rows, match.argmax(-1), axis=1)
        partner[rows] = np.where(match.any(-1), first, -1)
        xy, v = keypoints[rows][:, None, ..., :2], keypoints[rows][:, None, ..., 2]
        inside = ((xy >= low[..., None, :]) & (xy <= high[..., None, :])).all(-1) & (v > 0)
        contested[rows] = ((inside.sum(-1) >= 3) & ~self_pair).any(-1)
    return overlap, partner, contested
