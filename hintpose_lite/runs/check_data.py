"""`hintpose check-data`: reads annotations and all their pictures once, and names what is odd."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..data.coco import CocoPersons
from ..data.paste import holds_joints
from ..errors import DataError, RunError
from ..files import write_whole

FIRST = 3  # examples of each kind


def check_data(persons: CocoPersons, fix: str | Path | None = None, overwrite: bool = False) -> int:
    """Prints everything that is odd, with counts and the first three of each kind. Returns the exit
    status: 0 if nothing was found, 1 otherwise.

    fix: a new file for the people who can be used, in COCO's format, with every repair made.
    """
    if fix is not None and Path(fix).exists() and not overwrite:
        raise DataError(f"{fix} exists already: choose another name, or add --overwrite")
    print(persons.summary())
    bad = bad_pictures(persons, quick=False)
    found = defaultdict(list)
    for entry in persons.skipped:
        found[f"skipped {entry.what}s: {entry.reason}"].append(entry.where)
    for reason, place in (*bad, *odd_people(persons)):
        found[reason].append(place)
    for reason, places in found.items():
        print(f"{len(places)} x {reason}: {'; '.join(places[:FIRST])}"
              + (" ..." if len(places) > FIRST else ""))
    if not found and not persons.odd:
        print("nothing odd was found")
    if fix is not None:
        usable = repaired(persons, {name for _, name in bad})
        write_whole(fix, lambda name: name.write_text(json.dumps(usable)))
        print(f"{fix}: the people who can be used, as the file was read, for training; crowd "
              "regions and people without joints are not in it, so COCO's AP on it differs")
    return int(bool(found) or persons.odd)


def bad_pictures(persons: CocoPersons, quick: bool) -> list[tuple[str, str]]:
    """(reason, file) of the pictures that cannot be used. quick: only whether each can be opened,
    has its size and is not cut off."""
    rows = {int(image): row for row, image in enumerate(persons.image_ids)}
    found = []
    for image, row in tqdm(rows.items(), "pictures", disable=len(rows) < 500):
        name = persons.pictures[image][0]
        try:
            if quick:
                _open(persons.images / name, persons.pictures[image][1:])
            else:
                persons.read(row)
        except (DataError, OSError, ValueError) as error:
            reason = str(error).replace(str(persons.images / name), "picture")
            found.append((reason, name))
    return found


def _open(path: Path, size: tuple[int, int]) -> None:
    """Raises ValueError or OSError for a picture that cannot be opened or has another size than
    (width, height) or (height, width), and for a JPEG that is cut."""
    with Image.open(path) as picture:
        kind = picture.format
        if sorted(picture.size) != sorted(size):
            raise ValueError(f"picture: has size {picture.size}, its annotations are for {size}")
    if kind == "JPEG":
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            if b"\xff\xd9" not in file.read():
                raise ValueError("picture: cut off before its end")


def refuse_bad_pictures(persons: CocoPersons) -> None:
    """Raises RunError with the number of pictures that fail the quick check, and the first 20."""
    if found := bad_pictures(persons, quick=True):
        names = ", ".join(f"{name} ({reason})" for reason, name in found[:20])
        raise RunError(f"{len(found)} pictures of {persons.annotations} cannot be used: {names}; "
                       "mend them, go on without them (--skip-bad), or write a file without them "
                       "(`hintpose check-data --fix`)")


def odd_people(persons: CocoPersons) -> list[tuple[str, str]]:
    """(reason, place) of people who are annotated twice, or whose mask is damaged or elsewhere."""
    found, seen = [], {}
    for row in range(len(persons)):
        person = persons[row]
        place = f"annotation {person.annotation_id}"
        key = (person.image_id, person.keypoints.tobytes())
        if key in seen:
            found.append(("a person annotated twice", f"{place} and {seen[key]}"))
        seen.setdefault(key, person.annotation_id)
        try:
            mask = person.mask()
        except DataError:
            found.append(("a damaged segmentation", place))
            continue
        if mask is not None:
            x, y, w, h = np.round(person.box).astype(int)
            if not mask[max(y, 0):y + h + 1, max(x, 0):x + w + 1].any():
                found.append(("a segmentation outside its box", place))
            elif not holds_joints(mask.view(np.uint8), person.keypoints):
                found.append(("a segmentation that holds few of the visible joints; is it another "
                              "person's?", place))
    return found


def repaired(persons: CocoPersons, without: set[str] = frozenset()) -> dict:
    """A data set as COCO's content, as it was read; without the pictures of these names."""
    kept = {image for image, (name, *_) in persons.pictures.items() if name not in without}
    people = []
    for person in persons:
        if person.image_id in kept:
            segmentation = person.segmentation
            if isinstance(segmentation, list):
                segmentation = [list(points) for points in segmentation]
            people.append({
                "id": person.annotation_id, "image_id": person.image_id, "category_id": 1,
                "iscrowd": 0, "bbox": person.box.tolist(), "area": person.area,
                "keypoints": person.keypoints.ravel().tolist(),
                "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
                "segmentation": segmentation or []})
            people[-1]["keypoints"][2::3] = [int(v) for v in person.keypoints[:, 2]]
    images = [{"id": image, "file_name": name, "width": width, "height": height}
              for image, (name, width, height) in persons.pictures.items() if image in kept]
    return {"info": {"description": persons.description}, "images": images, "annotations": people,
            "categories": [{"id": 1, "name": "person",
                            "keypoints": list(persons.skeleton.names)}]}
