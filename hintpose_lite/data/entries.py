"""The raw content of a COCO annotation file, and the checks of its entries."""

import gc
import json
import math
from array import array
from contextlib import contextmanager, suppress
from pathlib import Path

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


def read_annotations(path: Path) -> dict:
    """Reads a COCO annotation file; its polygons become arrays. Raises DataError if the file is
    not readable, not JSON, or lacks one of its three lists."""
    try:
        content = json.loads(path.read_bytes(), object_hook=_compact)
    except OSError as error:
        raise DataError(f"cannot read the annotations {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} ({path.stat().st_size} bytes) is not whole JSON: {error}; "
                        "if it was cut off, copy or download it again") from error
    missing = [key for key in ("images", "annotations", "categories")
               if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise DataError(f"{path} is not a COCO annotation file (no list {', '.join(missing)}); "
                        "give the ground truth, not a result file")
    return content


def load_results(source: str | Path | list) -> tuple[str, object]:
    """Returns a name of COCO results for messages, and the content of their file (or the list)."""
    if isinstance(source, list):
        return "the results", source
    try:
        return str(source), json.loads(Path(source).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read COCO results from {source}: {error}") from error


def _compact(entry: dict) -> dict:
    """Turns polygons into arrays, which take a quarter of the memory of lists. Anything that is
    not a list of numbers stays as it is."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        with suppress(TypeError, OverflowError):
            entry["segmentation"] = [array("d", points) for points in polygons]
    return entry


def person_category(categories: list, skeleton: Skeleton, path: Path) -> int:
    """The id of the category "person", or of the only one; its keypoint names must be ours."""
    categories = [entry for entry in categories if integer(entry, "id") is not None]
    people = [entry for entry in categories if entry.get("name") == "person"] or categories
    if len(people) != 1:
        raise DataError(f'{path}: categories must have one named "person", not '
                        f"{[entry.get('name') for entry in people]}")
    names = people[0].get("keypoints")
    if names and names != list(skeleton.names):
        raise DataError(f"{path} has the keypoints {names}, but the skeleton has "
                        f"{list(skeleton.names)}; pass a Skeleton with the file's names")
    return people[0]["id"]


def integer(entry: dict, key: str) -> int | None:
    """The integer under that key; None if there is none (True and 1.0 are not integers here)."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if type(value) is int and abs(value) < 2**63 else None


def finite(values: list, count: int) -> bool:
    """Whether `values` is a list of `count` finite numbers. Text and booleans are not numbers."""
    return (isinstance(values, list) and len(values) == count
            and {int, float}.issuperset(map(type, values))
            and min(values) > -1e9 and max(values) < 1e9  # min and max may overlook a NaN,
            and math.isfinite(sum(values)))               # but the sum does not


def box_problem(box: list, width: int, height: int) -> str | None:
    """Says what is wrong with a box (x, y, w, h) in a picture of that size; None if it is fine."""
    if not finite(box, 4):
        return "bbox is not four finite numbers"
    x, y, w, h = box
    if min(w, h) < LEAST_SIDE:
        return "bbox has no width or no height"
    inside = x < width and y < height and x + w > 0 and y + h > 0
    return None if inside else "bbox lies outside the picture"


def keypoint_problem(keypoints: list, joints: int) -> str | None:
    """Says what is wrong with a flat list x, y, v, x, y, v, ...; None if it is fine."""
    if not isinstance(keypoints, list) or len(keypoints) != 3 * joints:
        return f"keypoints are not {3 * joints} numbers, as the skeleton's {joints} joints need"
    if not finite(keypoints, 3 * joints):
        return "keypoints are not finite numbers"
    return None if {0, 1, 2}.issuperset(keypoints[2::3]) else "a keypoint's v is not 0, 1 or 2"
