"""COCO result files: the poses or boxes of people that a network has found."""

from collections import Counter
from pathlib import Path, PurePath

from ..errors import DataError
from .entries import integer, load_results, number, numbers, plain
from .masks import box_of_mask
from .people import PeopleFile


def read_results(people: PeopleFile, source: str | Path | list, key: str,
                 counts: Counter | None = None) -> list[tuple[int, list, float, dict]]:
    """Image id, value (4 or 3K numbers), score and whole entry of each COCO result of a person.

    source: a file, or a list of entries with image_id, score and `key`, which is "keypoints", or
    "bbox", by default that of keypoints or RLE mask. counts: where entries of other categories and
    of unknown pictures are counted; without it, these raise DataError, as broken ones always do.
    """
    name, found = load_results(source)
    if not isinstance(found, list):
        raise DataError(f"{name} holds a {type(found).__name__}, not a list of COCO results")
    results = []
    for i, entry in enumerate(found):
        image = integer(entry, "image_id")
        where = f"{name}, entry {i} (image_id {image})"
        value = None if image is None else _value(entry, key, 3 * len(people.skeleton))
        score = None if value is None else number(entry.get("score"))
        if score is None:
            known = entry if not isinstance(entry, dict) else {
                word: entry[word] for word in entry if word != "segmentation"}
            raise DataError(f"{where}: an integer image_id, finite numbers as {key}, and a score "
                            f"are needed, not {known!r:.120}; repair or remove it")
        odd = ""
        if integer(entry, "category_id") not in (None, people.category):
            odd = "of another category"
        elif image not in people.pictures:
            odd = "on a picture that the data set lacks"
        elif named := entry.get("file_name"):
            _check_name(people.pictures[image][0], named, image, where)
        if odd and counts is None:
            raise DataError(f"{where} is {odd}; score results on their own annotations")
        if odd:
            counts[f"results left out, {odd}"] += 1
        else:
            results.append((image, value, score, entry))
    if found and not results and counts is not None:
        raise DataError(f"{name}: all {len(found)} results are left out "
                        f"({', '.join(key for key in counts if key.startswith('results left'))}); "
                        f"the people's category here is {people.category}. Take the results that "
                        "belong to these annotations")
    return results


def _value(entry: dict, key: str, size: int) -> list[float] | None:
    """An entry's keypoints (`size` numbers) or bbox; None if the entry has none."""
    keypoints = numbers(entry.get("keypoints"), size)
    if key == "keypoints":
        return keypoints
    if "bbox" in entry:
        return numbers(entry["bbox"], 4)
    if keypoints is None:
        return box_of_mask(entry.get("segmentation"))
    x, y = keypoints[0::3], keypoints[1::3]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _check_name(ours: str, theirs: str, image: int, where: str) -> None:
    """Raises DataError if a result names another picture than its image_id does."""
    one, other = (PurePath(str(name).replace("\\", "/")).name for name in (ours, theirs))
    if plain(one) != plain(other):
        raise DataError(f"{where} is of {theirs}, but the annotations call picture {image} {one}: "
                        "the numbers of the two files do not agree. Predict again with --boxes and "
                        "these annotations, or number one of them anew")
