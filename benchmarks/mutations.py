"""Damaged annotation files: is every one used, skipped and counted, or refused with an explanation?

    python benchmarks/mutations.py [--loud 20000] [--silent 2000] [--seed 0]

A loud mutation damages one value of the file at random: another type, a missing key, a number out
of range. It must be read, be counted as skipped or repaired, or raise a HintPoseError. A silent one
leaves a valid file that means something else: units, conventions of boxes, swapped axes, duplicated
ids, other categories. It must be noticed: by an error, an entry that is skipped or repaired, or a
remark. Prints both counts, and the first 20 loud mutations that ended otherwise.
"""

import argparse
import copy
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import HintPoseError

ODD = (None, True, -1, 0, 1e400, float("nan"), -5.5, 10**400, "", "x", "7", [], [1], {}, [[]],
       [None], {"counts": "??", "size": [1, 1]}, 2**63, 1e-300, "\ud800")


def loud(content: dict, random: np.random.Generator) -> str:
    """Damages one value at a random depth, in place; returns the path to it."""
    node, path = content, []
    while True:
        keys = [*node] if isinstance(node, dict) else [*range(len(node))]
        key = keys[random.integers(len(keys))]
        path.append(str(key))
        child = node[key]
        deeper = isinstance(child, dict | list) and len(child) and random.random() < 0.85
        if deeper:
            node = child
            continue
        if random.random() < 0.25 and isinstance(node, dict | list):
            del node[key]
        else:
            node[key] = copy.deepcopy(ODD[random.integers(len(ODD))])
        return "/".join(path)


def people(content: dict):
    return content["annotations"]


def sizes(content: dict) -> dict:
    return {picture["id"]: (picture["width"], picture["height"]) for picture in content["images"]}


def change_boxes(change):
    def mutation(content, random):
        for person in people(content):
            person["bbox"] = change(*person["bbox"], *sizes(content)[person["image_id"]])
    return mutation


def change_joints(change):
    def mutation(content, random):
        for person in people(content):
            w, h = sizes(content)[person["image_id"]]
            points = np.reshape(person["keypoints"], (-1, 3)).astype(float)
            points[:, :2] = change(points[:, :2], w, h) * (points[:, 2:] > 0)
            person["keypoints"] = points.ravel().tolist()
    return mutation


def same_ids(content, random):
    for person in people(content):
        person["id"] = people(content)[0]["id"]


def same_pictures(content, random):
    for picture in content["images"]:
        picture["id"] = content["images"][0]["id"]


def everybody_twice(content, random):
    people(content).extend([{**person, "id": 100_000 + person["id"]} for person in people(content)])


def other_category(content, random):
    for person in people(content)[::2]:
        person["category_id"] = 77


def placeholder_areas(content, random):
    for person in people(content):
        person["area"] = float(random.choice([1.0, 1e6]))


def no_areas(content, random):
    for person in people(content):
        person["area"] = 0


def absent_at_0(content, random):
    for person in people(content):
        person["keypoints"][-6:] = [0, 0, 2, 0, 0, 2]


def other_pictures(content, random):
    for picture in content["images"]:
        picture["file_name"] = "old/" + picture["file_name"]


def turned_sizes(content, random):
    for picture in content["images"]:
        picture["width"], picture["height"] = picture["width"] // 2, picture["height"] * 2


def shuffled_people(content, random):
    ids = [person["image_id"] for person in people(content)]
    for person, image in zip(people(content), random.permutation(ids).tolist(), strict=True):
        person["image_id"] = image


def shuffled_boxes(content, random):
    boxes = [person["bbox"] for person in people(content)]
    order = random.permutation(len(boxes))
    for person, i in zip(people(content), order, strict=True):
        person["bbox"] = boxes[i]


def numbers_as_text(content, random):
    for picture in content["images"]:
        picture["id"] = str(picture["id"])


SILENT = {
    "boxes as x0, y0, x1, y1": change_boxes(lambda x, y, w, h, *_: [x, y, x + w, y + h]),
    "boxes as centre and size": change_boxes(lambda x, y, w, h, *_: [x + w / 2, y + h / 2, w, h]),
    "boxes as fractions": change_boxes(lambda x, y, w, h, W, H: [x / W, y / H, w / W, h / H]),
    "boxes in per cent": change_boxes(
        lambda x, y, w, h, W, H: [100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H]),
    "boxes as y, x, h, w": change_boxes(lambda x, y, w, h, *_: [y, x, h, w]),
    "boxes of a picture twice as large": change_boxes(
        lambda x, y, w, h, *_: [2 * x, 2 * y, 2 * w, 2 * h]),
    "joints as y, x": change_joints(lambda xy, *_: xy[:, ::-1]),
    "joints as fractions": change_joints(lambda xy, w, h: xy / (w, h)),
    "joints of a picture twice as large": change_joints(lambda xy, *_: 2 * xy),
    "joints of a mirrored picture": change_joints(lambda xy, w, h: (w - 1, 0) + xy * (-1, 1)),
    "one id for all people": same_ids, "one id for all pictures": same_pictures,
    "everybody twice": everybody_twice, "an unknown category": other_category,
    "placeholder areas": placeholder_areas, "areas of 0": no_areas,
    "absent joints at 0, 0": absent_at_0, "another folder in the names": other_pictures,
    "sizes of other pictures": turned_sizes, "boxes of other people": shuffled_boxes,
    "ids as text": numbers_as_text}


def opened(content: dict, folder: Path):
    """The people of a content, or the error of the family."""
    path = folder / "mutated.json"
    path.write_text(json.dumps(content))
    try:
        return CocoPersons(path, folder / "images")
    except HintPoseError as error:
        return error


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--loud", type=int, default=20_000)
    options.add_argument("--silent", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    random, ends, bad = np.random.default_rng(options.seed), Counter(), []
    with tempfile.TemporaryDirectory() as name:
        scenes = make_crowd(Path(name) / "scenes", 8, seed=0, size=128)
        folder, text = scenes.annotations.parent, scenes.annotations.read_text()
        before = len(scenes)
        for _ in range(options.loud):
            content = json.loads(text)
            place = loud(content, random)
            try:
                people_or_error = opened(content, folder)
            except Exception as error:  # that is what is looked for
                bad.append(f"{place}: {type(error).__name__}: {error!s:.90}")
                continue
            if isinstance(people_or_error, HintPoseError):
                ends["refused"] += 1
            elif people_or_error.odd or people_or_error.counts != scenes.counts:
                ends["skipped, repaired or counted"] += 1
            else:
                entries = content.get("annotations", [])
                whole = len(people_or_error) == before or len(entries) < len(
                    json.loads(text)["annotations"])  # an entry that is not there cannot be told
                ends["used" if whole else "lost"] += 1
                if not whole:
                    bad.append(f"{place}: people are lost without a remark")
        print(f"{options.loud} loud mutations, seed {options.seed}: {dict(ends)}, "
              f"{len(bad)} unexplained ends")
        print(*bad[:20], sep="\n")
        told, asked = Counter(), Counter()
        kinds = [*SILENT]
        for i in range(options.silent):
            kind, content = kinds[i % len(kinds)], json.loads(text)
            some = random.permutation(len(content["images"]))[:random.integers(3, 9)]
            keep = {content["images"][j]["id"] for j in some}
            content["images"] = [p for p in content["images"] if p["id"] in keep]
            content["annotations"] = [p for p in people(content) if p["image_id"] in keep]
            SILENT[kind](content, random)
            found = opened(content, folder)
            asked[kind] += 1
            told[kind] += isinstance(found, HintPoseError) or found.odd
        print(f"{options.silent} silent mutations: {sum(told.values())} noticed "
              f"({sum(told.values()) / options.silent:.1%})\n")
        print("| mutation | noticed, per cent |\n|---|---:|")
        for kind in kinds:
            print(f"| {kind} | {100 * told[kind] / asked[kind]:.0f} |")


if __name__ == "__main__":
    main()
