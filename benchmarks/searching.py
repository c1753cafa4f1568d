"""What is found without being given: the box of a click, and everybody in a box.

    python benchmarks/searching.py VAL                      # people-small
    python benchmarks/searching.py VAL --model MODEL

VAL is a folder with people.json and images/, as `split.py` makes it. One table for clicks on a
joint without a box, by the number of looks and how they are made; one for cue networks whose peaks
name the people of a shared box. No flip test. Prints Markdown, AP and "right" in per cent.
"""

import argparse
import platform
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from photographs import clicks

from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import evaluate, evaluated_people
from hintpose_lite.photos import estimator
from hintpose_lite.photos.cue_network import CueNetwork
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import union
from hintpose_lite.pose.oks import oks

CLICKS, PAIRS = 260, 60
LOOKS = {"two looks": (2, {}), "three looks": (3, {}),
         "two looks, six squares": (2, {"SIZES": 6}),
         "two looks, margin .15": (2, {"MARGIN": 0.15})}
SOURCES = {"no source": None, "crowd-cues": ("crowd-cues", 0.3),
           "people-cues": ("people-cues", 0.3), "people-cues, low=.2": ("people-cues", 0.2)}


def everybody(model, persons: CocoPersons, rows: list[int], source) -> tuple[int, int]:
    """How many poses one hop gives in the boxes shared by people `rows` and their partners, and how
    many of these people are found (OKS from .5)."""
    finder, boxes = PoseEstimator(model, source=source, flip=False, hops=1), persons.boxes
    count = found = 0
    for row in rows:
        pair = [row, int(persons.partner[row])]
        box = union(*(torch.as_tensor(boxes[[i]]) for i in pair))
        poses = torch.tensor(np.stack([p.keypoints for p in finder(persons.read(row), box)]))
        count += len(poses)
        for i in pair:
            truth, area = torch.tensor(persons.keypoints[i]), torch.tensor(persons.areas[i]).float()
            found += int((oks(poses, truth, area, persons.skeleton.sigmas) >= 0.5).any())
    return count, found


def main():
    options = argparse.ArgumentParser()
    options.add_argument("val", type=Path)
    options.add_argument("--model", default="people-small")
    options = options.parse_args()
    persons = CocoPersons(options.val / "people.json", options.val / "images")
    model = PoseEstimator(options.model).model
    rows = np.random.default_rng(0).permutation(len(persons))[:CLICKS]
    print(f"{options.model}, no flip test; python {platform.python_version()}, torch "
          f"{torch.__version__}, {platform.machine()}\n\n| {len(rows)} people | AP | right |\n"
          "|---|---:|---:|")
    own = evaluate(model, persons, rows=rows, flip=False)
    print(f"| own boxes | {100 * own.ap:.1f} | {100 * own.identity['accuracy']:.1f} |")
    for name, (looks, constants) in LOOKS.items():
        with patch.dict(vars(estimator), constants):
            figures = clicks(model, persons, rows, looks, flip=False)[1].figures()
        print(f"| click, {name} | {100 * figures['ap']:.1f} | {100 * figures['accuracy']:.1f} |",
              flush=True)
    rows = [row for row in evaluated_people(persons, "shared", "joint").tolist()
            if persons.partner[persons.partner[row]] == row and row < persons.partner[row]][:PAIRS]
    print(f"\n| {len(rows)} shared boxes | poses | of {2 * len(rows)} people found |\n"
          "|---|---:|---:|")
    for name, given in SOURCES.items():
        source = given and CueNetwork(given[0], low=given[1])
        print(f"| {name} | {' | '.join(map(str, everybody(model, persons, rows, source)))} |",
              flush=True)


if __name__ == "__main__":
    main()
