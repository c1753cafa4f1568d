"""The raw content of COCO files: what is read as it is, repaired and counted, or refused."""

import gc
import gzip
import json
import math
import re
import zlib
from array import array
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..pose.skeleton import Skeleton

LEAST_SIDE = 1e-3  # pixels; a box with a shorter side counts as empty


@contextmanager
def uncollected():
    """Stops garbage collection, which would walk the lists of a large file again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_annotations(path: Path, lists=("images", "annotations", "categories")) -> dict:
    """The content of a COCO annotation file, perhaps gzipped; its polygons become arrays. Raises
    DataError if it is not readable, not JSON, or lacks one of its lists."""
    content = read_json(path, "the annotations", _compact)
    missing = [key for key in lists
               if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise DataError(f"{path} is not a COCO annotation file (no list {', '.join(missing)}); "
                        "give the ground truth, not a result file")
    return content


def has_annotations(path: str | Path) -> bool:
    """Whether a COCO file lists annotations; image_info_test-dev2017.json does not."""
    def outermost(entry: dict) -> dict | None:  # nothing else needs memory
        return entry if "images" in entry or "annotations" in entry else None
    content = read_json(Path(path), "the annotations", outermost)
    return not isinstance(content, dict) or bool(content.get("annotations"))


def load_results(source: str | Path | list) -> tuple[str, object]:
    """Returns a name of COCO results for messages, and the content of their file (or the list)."""
    if isinstance(source, list):
        return "the results", source
    return str(source), read_json(Path(source), "COCO results")


def read_json(path: Path, what: str, hook=None):
    """The content of a JSON file, perhaps gzipped; DataError says what the file is instead."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {what} {path}: {error}") from error
    try:
        return json.loads(content, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} ({len(content)} bytes) is not whole JSON: {error}; "
                        f"{_kind_of(content)}") from error


def stand_in(start: bytes) -> str | None:
    """Says what a file with these first bytes is instead, and what to do; None if not known."""
    start = start.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page or XML: download or export the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer and not the file: fetch it with `git lfs pull`"
    return None


def _kind_of(content: bytes) -> str:
    """What a file that is not JSON may be, and what to do about it."""
    if (known := stand_in(content[:200])) is not None:
        return known
    lines = content.split(b"\n", 2)
    with suppress(ValueError, RecursionError):
        if len(lines) > 1 and all(isinstance(json.loads(line), dict) for line in lines[:2]):
            return "it is JSON lines, an entry per line: put them into a list, or export COCO JSON"
    return "if it was cut off, copy or download it again"


def _compact(entry: dict) -> dict:
    """Turns polygons that are numbers into arrays, which take a quarter of the memory of lists."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        with suppress(TypeError, OverflowError):
            entry["segmentation"] = [array("d", points) for points in polygons]
    return entry


def person_category(categories: list, annotations: list, skeleton: Skeleton, path: Path,
                    name: str | None = None) -> tuple[int, str | None]:
    """The id of the person category, and a remark if it is not as expected (else None).

    name: the category to take. Otherwise, of those whose annotations have keypoints (of all, if no
    annotation has any), the one called "person", in any spelling, or else the only one. Its names
    of keypoints must be the skeleton's, apart from case, spaces, "-" and "_"; further names at the
    end are ignored. Raises DataError.
    """
    known = [entry for entry in categories if integer(entry, "id") is not None]
    wanted = plain(name or "person")
    people = [entry for entry in known if plain(entry.get("name")) == wanted]
    remark = None
    names = {plain(entry.get("name")) for entry in known}
    listed = [entry["keypoints"] for entry in known if isinstance(entry.get("keypoints"), list)]
    if (name is None and len(names & {*map(plain, skeleton.names)}) > len(skeleton) // 2
            and max(map(len, listed), default=0) < 2):
        raise DataError(f"{path}: every joint is a category of its own ({few(sorted(names))}); "
                        "export one category, person, whose keypoints are the joints")
    if name is None:
        used = {integer(a, "category_id") for a in annotations
                if isinstance(a, dict) and a.get("keypoints")}
        posed = [entry for entry in known if integer(entry, "id") in used]
        people = [entry for entry in people if entry in posed] or posed or people or known
        if len(people) == 1 and plain(people[0].get("name")) != wanted:
            remark = f"the people's category is {people[0].get('name')!r}"
    if len(people) != 1:
        raise DataError(f"{path}: it is not clear which category is the people's, among "
                        f"{few(entry.get('name') for entry in known)}: name it with --category, or "
                        "category=")
    names = people[0].get("keypoints") or []
    ours = [plain(entry) for entry in skeleton.names]
    theirs = [plain(entry) for entry in names] if isinstance(names, list) else []
    if theirs and theirs[:len(ours)] != ours:
        raise DataError(f"{path} has the {len(theirs)} keypoints {few(names)}, but the skeleton "
                        f"has the {len(ours)} {few(skeleton.names)}: name theirs with --skeleton "
                        "FILE (or skeleton=), see the README")
    if len(theirs) > len(ours):
        remark = f"{len(theirs) - len(ours)} extra keypoint names are ignored: " + few(
            names[len(ours):])
    return integer(people[0], "id"), remark


def plain(name) -> str:
    """A name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", str(name)).casefold()


def few(names) -> str:
    """The first names of many, for messages."""
    names = [*map(str, names)]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def integer(entry: dict, key: str) -> int | None:
    """The integer under that key, also if it is written as 2.0 or "2"; None if there is none."""
    value = number(entry.get(key)) if isinstance(entry, dict) else None
    return int(value) if value is not None and value == int(value) and abs(value) < 2**63 else None


def number(value) -> int | float | None:
    """A finite number, also of numpy or written as text; None for anything else, and for bool."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        with suppress(ValueError):
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
    good = type(value) in (int, float) and -1e300 < value < 1e300
    return value if good else None


def is_crowd(entry: dict) -> bool:
    """Whether an annotation is a crowd region; "0", "false" and nothing mean that it is not."""
    return str(entry.get("iscrowd") or 0).strip().lower() not in ("0", "0.0", "false", "")


def numbers(values, count: int) -> list | None:
    """`count` numbers within 1e9 as a list, also from a tuple, array or text entries; else None."""
    if isinstance(values, np.ndarray):
        values = values.ravel()
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != count:
        return None
    if not isinstance(values, list) or not {int, float}.issuperset(map(type, values)):
        values = [number(value) for value in values]
    # min and max may overlook a NaN, but the sum does not
    good = None not in values and min(values) > -1e9 and max(values) < 1e9
    return values if good and math.isfinite(sum(values)) else None


def box_problem(box: list, width: int, height: int) -> str | None:
    """Says what is wrong with a box (x, y, w, h) in a picture of that size; None if it is fine."""
    if box is None:
        return "bbox is not four finite numbers"
    x, y, w, h = box
    if min(w, h) < LEAST_SIDE:
        return "bbox has no width or no height"
    inside = x < width and y < height and x + w > 0 and y + h > 0
    return None if inside else "bbox lies outside the picture"


def read_keypoints(keypoints, joints: int, repaired: Counter) -> tuple[list | None, str | None]:
    """The flat list x, y, v, x, y, v, ... of a person, and what is wrong with it (None: nothing).
    Joints may be lists of their own. Those with v below 0, with v = 0 and no place (null or NaN),
    and at (0, 0), where labelling tools put unknown ones, are taken as unlabelled, and counted."""
    if isinstance(keypoints, list) and all(isinstance(joint, list) for joint in keypoints):
        keypoints = [value for joint in keypoints for value in joint]
    if not isinstance(keypoints, list) or len(keypoints) != 3 * joints:
        return None, (f"keypoints are not {3 * joints} numbers, as the skeleton's {joints} "
                      "joints need; for other joints, there is --skeleton")
    values = [*keypoints]
    for i in range(0, len(values), 3):
        x, y, v = values[i:i + 3]
        if v in (0, None, "0") and (number(x) is None or number(y) is None):
            values[i:i + 3] = [0, 0, 0]
            repaired["joints without a place and with v = 0, taken as unlabelled"] += 1
        elif v not in (0, 1, 2) and (number(v) or 0) < 0:
            values[i:i + 3] = [0, 0, 0]
            repaired["joints with v below 0, taken as unlabelled"] += 1
        elif x == 0 and y == 0 and v in (1, 2):
            values[i + 2] = 0
            repaired["joints at 0, 0 with v above 0, taken as unlabelled"] += 1
    values = numbers(values, 3 * joints)
    if values is None:
        return None, "keypoints are not finite numbers"
    good = {0, 1, 2}.issuperset(values[2::3])
    return values, None if good else "a keypoint's v is not 0, 1 or 2"
