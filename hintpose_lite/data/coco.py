"""COCO-format keypoint files as checked person records.

Every entry of a file goes to one of four places, and none is dropped silently:

* `CocoPersons` lists the labelled people: they have a usable picture and box, at least one joint
  with v > 0, and an area.
* Other people with a usable box count for `overlap` only.
* Crowd regions and annotations of other categories are counted.
* Unusable entries are listed in `CocoPersons.skipped` with the reason. A person who is skipped
  because of keypoints is still in the picture, so their box counts for `overlap`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from operator import index
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..inputs import entries
from ..inputs.names import find_pictures, what_lies_in
from ..inputs.suspicions import suspicions
from ..pose.skeleton import COCO17, Skeleton
from .pictures import decode_mask, read_picture

MISSING = "picture file is missing"
AREA_OF_BOX = 0.53  # of a person's box, on average over COCO's people (crowdpose-api has the same)
# Overlap strata, low <= overlap < high; an overlap of 1 belongs to the last.
STRATA = {"[0, .1)": (0, .1), "[.1, .3)": (.1, .3), "[.3, .5)": (.3, .5), "[.5, 1]": (.5, 2)}


@dataclass(frozen=True)
class Skipped:
    """An entry that cannot be used: "image" or "annotation", its place in the file, the reason."""

    what: str
    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class PersonRecord:
    """One labelled person, in picture pixels.

    image_size:   (width, height).
    box:          (4,) float32: x, y, w, h.
    keypoints:    (K, 3) float32: x, y, v, with v 0 (unlabelled), 1 (hidden) or 2 (visible).
    area:         square pixels, from the annotation.
    segmentation: polygons (arrays x, y, x, y, ...), RLE, or None.
    """

    image_id: int
    annotation_id: int
    path: Path
    image_size: tuple[int, int]
    box: np.ndarray
    keypoints: np.ndarray
    area: float
    segmentation: list | dict | None

    def mask(self) -> np.ndarray | None:
        """The visible pixels (height, width) bool; None if the file has no mask. Raises DataError
        if the mask is damaged."""
        try:
            return decode_mask(self.segmentation, *self.image_size)
        except (ValueError, TypeError) as error:
            raise DataError(f"annotation {self.annotation_id} of image {self.image_id}: damaged "
                            f"segmentation ({error}); repair or remove it") from error


class CocoPersons:
    """The labelled people of a COCO-format keypoint file, by ascending annotation id.

    Arguments: the JSON file; the folder that its file_name entries are relative to; the skeleton;
    check_pictures, whether to look for the pictures and skip people whose picture is missing;
    the name of the people's category, where it is not clear (`entries.person_category`); and the
    names of pictures to leave out.
    Raises DataError if the file is not COCO-format, names two pictures by one id, or holds no
    labelled person of that skeleton.

    boxes:          (N, 4) float32: x, y, w, h of the N people.
    keypoints:      (N, K, 3) float32: x, y, v.
    areas:          (N,) float64, square pixels.
    image_ids, annotation_ids: (N,) int64.
    overlap:        (N,) float64: the largest box IoU with any other non-crowd person.
    partner:        (N,) int64: row of the labelled person with that IoU (ties go to the lower
                    annotation id); -1 if nobody overlaps, or only an unlabelled person does.
    has_mask:       (N,) bool: the file has a segmentation of the person.
    contested:      (N,) bool: one other labelled person has at least 3 labelled joints in the box.
    pictures:       image id -> (file_name, width, height) of the usable pictures.
    sources:        image id -> "source" of the picture's entry, or "".
    category:       the id of the people's category.
    description:    the file's own description, or "".
    counts:         how many people are "unlabelled", "crowd", or of an "other category".
    repaired:       how many values were read otherwise than they are written, by reason.
    remarks:        on the file as a whole, such as a suspicion.
    """

    @entries.uncollected()
    def __init__(self, annotations: str | Path, images: str | Path, skeleton: Skeleton = COCO17,
                 check_pictures: bool = True, category: str | None = None,
                 without: Collection[str] = ()):
        self.annotations, self.images, self.skeleton = Path(annotations), Path(images), skeleton
        self.skipped: list[Skipped] = []
        self.counts: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self.pictures: dict[int, tuple[str, int, int]] = {}
        self.sources: dict[int, str] = {}
        content = entries.read_annotations(self.annotations)
        about = content.get("info")
        self.description = str(about.get("description", "")) if isinstance(about, dict) else ""
        self.category, remark = entries.person_category(
            content["categories"], content["annotations"], skeleton, self.annotations, category)
        self.remarks = [remark] if remark else []
        known = {entries.integer(entry, "id") for entry in content["categories"]} - {None}
        names = [entry["file_name"] for entry in content["images"]
                 if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)]
        files = find_pictures(self.images, names) if check_pictures else None
        for row, entry in enumerate(content["images"]):
            self._note("image", row, entry, self._add_picture(entry, files, without))
        people: dict[int, tuple[dict, float]] = {}  # annotation id -> entry, area or NaN
        for row, entry in enumerate(content["annotations"]):
            self._note("annotation", row, entry, self._add_person(entry, people, known))
        self._fill([people[identity] for identity in sorted(people)])
        if not len(self):
            raise DataError(f"no usable person with {len(skeleton)} keypoints: "
                            f"{self._reason(content)}{self.summary()}")
        self.remarks += suspicions(self)

    def _reason(self, content: dict) -> str:
        """Why a file may hold nobody, in a sentence; "" if that is not known."""
        people = [entry for entry in content["annotations"] if isinstance(entry, dict)]
        posed = [entry for entry in people if entry.get("keypoints")]
        if people and not posed:
            return "no annotation here has keypoints (COCO's person_keypoints_*.json has). "
        if posed and all(isinstance(entry["keypoints"], list) and not any(
                entry["keypoints"][2::3]) and any(entry["keypoints"]) for entry in posed):
            return ("joints have places, but v = 0 (unlabelled) everywhere; export them with v = 2 "
                    "for visible and 1 for hidden joints. ")
        missing = [entry.where for entry in self.skipped if entry.reason == MISSING]
        if missing:
            return (f"pictures are missing: the first, {missing[0]}, was looked for in "
                    f"{self.images}, which holds {what_lies_in(self.images)}. ")
        return ""

    def _note(self, what: str, row: int, entry: dict, problem: str | None) -> None:
        if problem:
            known = entry if isinstance(entry, dict) else {}
            names = [f"{key} {known[key]}" for key in ("id", "image_id", "file_name")
                     if key in known]
            self.skipped.append(Skipped(what, ", ".join([f"{what}s[{row}]", *names]), problem))

    def _add_picture(self, entry: dict, files: dict[str, str] | None,
                     without: Collection[str]) -> str | None:
        """Keeps an image entry, or returns the reason why it cannot be used."""
        if (identity := entries.integer(entry, "id")) is None:
            return "no integer id"
        name, sides = entry.get("file_name"), (entries.integer(entry, "width"),
                                               entries.integer(entry, "height"))
        if identity in self.pictures:
            other = self.pictures[identity][0]
            if name in (other, None) or files is not None and files.get(name) == other:
                return "duplicate id (the first is used)"
            raise DataError(f"{self.annotations}: two pictures have the id {identity}, {other} and "
                            f"{name}, so it is not known whose the annotations are. If two exports "
                            "were put together, number one of them anew")
        if not isinstance(name, str) or not all(side and side > 0 for side in sides):
            return "no file_name, or no positive integer width and height"
        if files is not None and name not in files:
            return MISSING
        if files is not None and files[name] != name:
            self.repaired["pictures found under a slightly other name or folder"] += 1
            name = files[name]
        if name in without:
            return "the picture cannot be read"
        if any(type(entry.get(key)) is not int for key in ("id", "width", "height")):
            self.repaired["whole numbers written as text or with a point"] += 1
        self.pictures[identity] = (name, *sides)
        self.sources[identity] = str(entry.get("source", ""))
        return None

    def _add_person(self, entry: dict, people: dict, known: set) -> str | None:
        """Counts or keeps an annotation; returns what is wrong with it, or None."""
        if (identity := entries.integer(entry, "id")) is None:
            return "no integer id"
        if (category := entries.integer(entry, "category_id")) not in known:
            return "category_id names no category"
        if category != self.category:
            self.counts["other category"] += 1
            return None
        picture = self.pictures.get(entries.integer(entry, "image_id"))
        if identity in people:
            return "duplicate id (the first is used)"
        if picture is None:
            return "image_id names no usable image"
        if entry.get("iscrowd"):
            self.counts["crowd"] += 1
            return None
        box = entries.numbers(entry.get("bbox"), 4)
        if problem := entries.box_problem(box, *picture[1:]):
            return problem
        entry = {**entry, "id": identity, "bbox": box,
                 "image_id": entries.integer(entry, "image_id")}
        people[identity] = (entry, np.nan)
        keypoints, problem = entry.get("keypoints"), None
        if keypoints not in (None, [], ""):
            keypoints, problem = entries.read_keypoints(keypoints, len(self.skeleton),
                                                        self.repaired)
        if problem:
            return problem
        if not keypoints or not any(keypoints[2::3]):
            self.counts["unlabelled"] += 1
            return None
        people[identity] = ({**entry, "keypoints": keypoints}, self._area(entry, *picture[1:]))
        return None

    def _area(self, entry: dict, width: int, height: int) -> float:
        """The area in square pixels, from the entry, else from its mask, else from its box."""
        if (area := entries.number(entry.get("area"))) is not None and area > 0:
            return float(area)
        try:
            mask = decode_mask(entry.get("segmentation"), width, height)
        except (ValueError, TypeError):
            mask = None
        if mask is not None and mask.any():
            self.repaired["areas taken from the mask, the file having none"] += 1
            return float(mask.sum())
        self.repaired[f"areas taken as {AREA_OF_BOX} of the box, the file having none"] += 1
        return float(AREA_OF_BOX * entry["bbox"][2] * entry["bbox"][3])

    def _fill(self, people: list[tuple[dict, float]]) -> None:
        areas = np.array([area for _, area in people], float)
        rows = np.flatnonzero(areas > 0)
        chosen = [people[row][0] for row in rows]
        boxes = np.array([entry["bbox"] for entry, _ in people], float).reshape(-1, 4)
        images = np.array([entry["image_id"] for entry, _ in people], np.int64)
        joints = np.array([entry["keypoints"] for entry in chosen], float)
        keypoints = np.zeros((len(people), len(self.skeleton), 3))
        keypoints[rows] = joints.reshape(-1, *keypoints.shape[1:])
        overlap, partner, contested = _relations(images, boxes, keypoints, areas > 0)
        row_of = np.full(len(people) + 1, -1)  # the last entry serves partner -1
        row_of[rows] = np.arange(len(rows))
        self.boxes, self.keypoints = boxes[rows].astype("f4"), keypoints[rows].astype("f4")
        self.areas, self.image_ids = areas[rows], images[rows]
        self.annotation_ids = np.array([entry["id"] for entry in chosen], np.int64)
        self.overlap, self.partner, self.contested = (
            overlap[rows], row_of[partner[rows]], contested[rows])
        self._segmentations = [entry.get("segmentation") or None for entry in chosen]
        self.has_mask = np.array([mask is not None for mask in self._segmentations], bool)

    @property
    def odd(self) -> bool:
        """Whether the summary says something that a user should read."""
        return bool(self.skipped or self.repaired or self.remarks)

    @cached_property
    def sha256(self) -> str:
        """SHA-256, in hex, of the people and their pictures' names, which binds a run to them. The
        layout of the annotation file does not matter."""
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
        return PersonRecord(image_id, int(self.annotation_ids[i]), self.images / name, tuple(size),
                            self.boxes[i].copy(), self.keypoints[i].copy(), float(self.areas[i]),
                            self._segmentations[i])

    def read(self, i: int) -> np.ndarray:
        """The picture of person i: see `read_picture`."""
        person = self[i]
        return read_picture(person.path, person.image_size)

    def summary(self) -> str:
        """Returns lines of text: what the file holds, and what was skipped and why."""
        by_overlap = (f"{label}: {int(((low <= self.overlap) & (self.overlap < high)).sum())}"
                      for label, (low, high) in STRATA.items())
        reasons = Counter((entry.what, entry.reason) for entry in self.skipped)
        v = self.keypoints[..., 2]
        shown, hidden = ((v == value).sum() / max(v.size, 1) for value in (2, 1))
        return "\n".join([
            f"{len(self)} labelled people in {len(self.pictures)} pictures of {self.annotations}",
            f"  joints: {shown:.0%} visible, {hidden:.0%} hidden, the rest without a label",
            f"  contested: {self.contested.sum()}; by overlap: {', '.join(by_overlap)}",
            *(f"  {remark}" for remark in self.remarks),
            *(f"  {kind}: {count}" for kind, count in sorted(self.counts.items())),
            *(f"  repaired: {count} {what}" for what, count in sorted(self.repaired.items())),
            *(f"  skipped {what}s: {count} ({reason})" for (what, reason), count
              in reasons.most_common())])


def _relations(images: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray,
               labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlap, partner (row or -1) and contested of people ordered by annotation id.

    All pictures with the same number of people are computed at once; the axes are picture, person,
    other person, joint, xy.
    """
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
