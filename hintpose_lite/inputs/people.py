"""COCO-format keypoint files, entry by entry. None is dropped silently:

* Labelled people have a usable picture and box, at least one joint with v > 0, and an area.
* Other people with a usable box count for overlaps only, also if their keypoints are unusable.
* Crowd regions and annotations of other categories are counted.
* Unusable entries are listed in `skipped` with the reason.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..pose.skeleton import COCO17, Skeleton
from . import entries
from .entries import box_problem, integer, number, numbers, read_keypoints
from .masks import decode_mask
from .names import find_pictures, what_lies_in
from .pictures import picture_size, read_picture

MISSING = "picture file is missing"
AREA_OF_BOX = 0.53  # of a person's box, on average over COCO's people (crowdpose-api has the same)


@dataclass(frozen=True)
class Skipped:
    """An entry that cannot be used: "image" or "annotation", its place in the file, the reason."""

    what: str
    where: str
    reason: str


class PeopleFile:
    """What a COCO-format keypoint file holds.

    pictures:    image id -> (file_name, width, height) of the usable pictures; sources: image id ->
                 the text under "source" in the picture's entry, or "".
    category:    the id of the people's category; description: the file's own, or "".
    counts:      how many people are "unlabelled", "crowd", or of an "other category".
    repaired:    how many values were read otherwise than they are written, by reason.
    remarks:     on the file as a whole, such as a suspicion.
    """

    def __init__(self, annotations: str | Path, images: str | Path, skeleton: Skeleton):
        self.annotations, self.images, self.skeleton = Path(annotations), Path(images), skeleton
        self.pictures: dict[int, tuple[str, int, int]] = {}
        self.sources: dict[int, str] = {}
        self.skipped: list[Skipped] = []
        self.counts, self.repaired, self.remarks, self.description = Counter(), Counter(), [], ""

    def read_people(self, check_pictures: bool, category: str | None,
                    without: Collection[str] = (), labelled: bool = True
                    ) -> list[tuple[dict, float]]:
        """The entry of each person with a usable box, by ascending id, and the area, which is NaN
        for people without labels. Raises DataError if there is nobody, or nobody with labels where
        these are needed (`labelled`)."""
        content, skeleton = entries.read_annotations(self.annotations), self.skeleton
        if isinstance(about := content.get("info"), dict):
            self.description = str(about.get("description", ""))
        self.category, remark = entries.person_category(
            content["categories"], content["annotations"], skeleton, self.annotations, category)
        self.remarks += [remark] if remark else []
        known = {integer(entry, "id") for entry in content["categories"]} - {None}
        self.read_pictures(content, check_pictures, without)
        posed = [entries.is_crowd(entry) for entry in content["annotations"]
                 if isinstance(entry, dict) and isinstance(entry.get("keypoints"), list)
                 and any(entry["keypoints"][2::3])]
        self.crowds_are_people = sum(posed) > max(1, len(posed) // 2)  # some tools mark all masks
        people: dict[int, tuple[dict, float]] = {}  # by annotation id
        for row, entry in enumerate(content["annotations"]):
            self._note("annotation", row, entry, self._add_person(entry, people, known))
        joints = [entry["keypoints"] for entry, area in people.values() if area > 0]
        if not (joints if labelled else people):
            wanted = f"person with {len(skeleton)} keypoints" if labelled else "box of a person"
            raise DataError("\n".join([
                f"no usable {wanted}: {self._reason(content) if labelled else ''}{len(joints)} "
                f"labelled people in {len(self.pictures)} pictures of {self.annotations}",
                *self.findings()]))
        if joints and not any(2 in own[2::3] for own in joints):
            self.remarks.append("suspicion: no joint has v = 2, visible; some tools write v = 1, "
                                "hidden, for all")
        return [people[identity] for identity in sorted(people)]

    def read_pictures(self, content: dict, check: bool, without: Collection[str] = ()) -> None:
        """Fills `pictures`. check: look for the files."""
        names = [entry["file_name"] for entry in content["images"]
                 if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)]
        files = find_pictures(self.images, names) if check else None
        for row, entry in enumerate(content["images"]):
            self._note("image", row, entry, self._add_picture(entry, files, without))
        if twice := len(self.pictures) - len({name for name, *_ in self.pictures.values()}):
            self.remarks.append(f"suspicion: {twice} pictures are listed under another id as well; "
                                "if names have lost their folders, joints may be on wrong pictures")

    @property
    def odd(self) -> bool:
        """Whether the summary says something that a user should read."""
        return bool(self.skipped or self.repaired or self.remarks)

    def picture(self, image_id: int) -> np.ndarray:
        """The picture of an id: see `read_picture`."""
        name, *size = self.pictures[image_id]
        return read_picture(self.images / name, tuple(size))

    def findings(self) -> list[str]:
        """A line each for remarks, and for what was counted, repaired and skipped."""
        reasons = Counter((entry.what, entry.reason) for entry in self.skipped)
        return [*(f"  {remark}" for remark in self.remarks),
                *(f"  {kind}: {count}" for kind, count in sorted(self.counts.items())),
                *(f"  repaired: {count} {what}" for what, count in sorted(self.repaired.items())),
                *(f"  skipped {what}s: {count} ({reason})" for (what, reason), count
                  in reasons.most_common())]

    def _reason(self, content: dict) -> str:
        """Why a file may hold nobody, in a sentence; "" if that is not known."""
        people = [entry for entry in content["annotations"] if isinstance(entry, dict)]
        posed = [entry["keypoints"] for entry in people if entry.get("keypoints")]
        if people and not posed:
            return "no annotation here has keypoints (COCO's person_keypoints_*.json has). "
        if posed and all(isinstance(joints, list) and any(joints) and not any(joints[2::3])
                         for joints in posed):
            return ("joints have places, but v = 0 (unlabelled) everywhere; export them with v = 2 "
                    "for visible and 1 for hidden joints. ")
        missing = [entry.where for entry in self.skipped if entry.reason == MISSING]
        return (f"pictures are missing: the first, {missing[0]}, was looked for in {self.images}, "
                f"which holds {what_lies_in(self.images)}. " if missing else "")

    def _note(self, what: str, row: int, entry: dict, problem: str | None) -> None:
        if problem:
            names = [f"{key} {entry[key]}" for key in ("id", "image_id", "file_name")
                     if isinstance(entry, dict) and key in entry]
            self.skipped.append(Skipped(what, ", ".join([f"{what}s[{row}]", *names]), problem))

    def _add_picture(self, entry: dict, files: dict[str, str] | None,
                     without: Collection[str]) -> str | None:
        """Keeps an image entry, or returns the reason why it cannot be used."""
        if (identity := integer(entry, "id")) is None:
            return "no integer id"
        name, sides = entry.get("file_name"), (integer(entry, "width"), integer(entry, "height"))
        if identity in self.pictures:
            other = self.pictures[identity][0]
            if name in (other, None) or files is not None and files.get(name) == other:
                return "duplicate id (the first is used)"
            raise DataError(f"{self.annotations}: two pictures have the id {identity}, {other} and "
                            f"{name}, so it is unclear which one the annotations belong to. If two "
                            "exports were joined, renumber the pictures of one")
        sized = all(side and side > 0 for side in sides)
        if not isinstance(name, str) or not sized and files is None:
            return "no file_name, or no positive integer width and height"
        if files is not None and name not in files:
            return MISSING
        if files is not None and files[name] != name:
            self.repaired["pictures found under a slightly other name or folder"] += 1
            name = files[name]
        if name in without:
            return "the picture cannot be read"
        if not sized:
            try:
                sides = picture_size(self.images / name)
            except Exception:  # on damaged files Pillow raises nearly anything
                return "no width and height, and the picture cannot be read"
            self.repaired["sizes taken from the picture, the file having none"] += 1
        elif any(type(entry.get(key)) is not int for key in ("id", "width", "height")):
            self.repaired["whole numbers written as text or with a point"] += 1
        self.pictures[identity] = (name, *sides)
        self.sources[identity] = str(entry.get("source", ""))
        return None

    def _add_person(self, entry: dict, people: dict, known: set) -> str | None:
        """Counts or keeps an annotation; returns what is wrong with it, or None."""
        if (identity := integer(entry, "id")) is None:
            return "no integer id"
        if (category := integer(entry, "category_id")) not in known:
            return "category_id names no category"
        if category != self.category:
            self.counts["other category"] += 1
            return None
        picture = self.pictures.get(integer(entry, "image_id"))
        if identity in people:
            return "duplicate id (the first is used)"
        if picture is None:
            return "image_id names no usable image"
        crowd = entries.is_crowd(entry)
        if crowd and not self.crowds_are_people:
            self.counts["crowd"] += 1
            return None
        keypoints, problem = entry.get("keypoints"), None
        if keypoints not in (None, [], ""):
            keypoints, problem = read_keypoints(keypoints, len(self.skeleton), self.repaired)
        labelled = not problem and keypoints and any(keypoints[2::3])
        given = entry.get("bbox")
        box = self._box(keypoints) if labelled and not given else numbers(given, 4)
        wrong = box_problem(box, *picture[1:])
        if crowd and (wrong or not labelled):
            self.counts["crowd"] += 1
            return None
        if wrong:
            return problem or wrong
        if crowd:
            self.repaired["people with joints, most of whom are marked as crowds"] += 1
        entry = {**entry, "id": identity, "bbox": box, "image_id": integer(entry, "image_id")}
        people[identity] = (entry, np.nan)
        if labelled:
            people[identity] = ({**entry, "keypoints": keypoints}, self._area(entry, *picture[1:]))
        elif not problem:
            self.counts["unlabelled"] += 1
        return problem

    def _box(self, keypoints: list) -> list[float]:
        """The box of labelled joints, a tenth of its longer side wider on each side."""
        xy = np.reshape(keypoints, (-1, 3))[np.array(keypoints[2::3]) > 0, :2]
        more = 0.1 * np.ptp(xy, axis=0).max()
        self.repaired["boxes taken around the joints, the file having none"] += 1
        return [*(xy.min(0) - more).tolist(), *(np.ptp(xy, axis=0) + 2 * more).tolist()]

    def _area(self, entry: dict, width: int, height: int) -> float:
        """The area in square pixels, from the entry, else from its mask, else from its box."""
        if (area := number(entry.get("area"))) is not None and area > 0:
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


class CocoPictures(PeopleFile):
    """The pictures of a COCO file without annotations of people, such as
    image_info_test-dev2017.json. Raises DataError if no picture is usable."""

    category = 1  # the person, in COCO's results

    def __init__(self, annotations: str | Path, images: str | Path, skeleton: Skeleton = COCO17):
        super().__init__(annotations, images, skeleton)
        self.read_pictures(entries.read_annotations(self.annotations, ["images"]), check=True)
        self.image_ids, self.boxes = np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
        if not self.pictures:
            raise DataError("\n".join([f"no usable picture in {annotations}", *self.findings()]))

    def __len__(self) -> int:
        return 0  # people
