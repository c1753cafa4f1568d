"""Evaluates the shipped weights: the cued network and its twin, with every cue and every hop.

    python benchmarks/shipped.py                              # the shipped weights
    python benchmarks/shipped.py MODEL TWIN --images 400      # other weights

Scenes are drawn with a seed that neither training nor validation uses. Prints Markdown; all figures
are in per cent, and come from the stored (half-precision) files. Boxes are ground truth, not a
detector's; both networks get the same boxes, decoder and flip test.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch

from hintpose_lite.crowd.folder import GENERATOR, make_crowd
from hintpose_lite.cues.evaluation import person_cue
from hintpose_lite.data.coco import STRATA
from hintpose_lite.evaluation.evaluate import CUES, displacement_curve, evaluate, evaluated_people
from hintpose_lite.evaluation.judge import judge
from hintpose_lite.evaluation.report import compare
from hintpose_lite.photos.cue_network import CueNetwork
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import union
from hintpose_lite.weights.weights import load_model

SEED = 2_000_000
LABELS = [*STRATA][1:]  # a shared box has some overlap


def print_aims(shared: dict, at_once: dict, own: dict) -> None:
    """Prints aims and results, from reports by name and the figures of `both_at_once`."""
    joint, wrong, mask = (shared[f"cue {cue}"].strata for cue in ("joint", "wrong", "mask"))
    rows = [(f"shared boxes, joint cue: right person, overlap {label}", aim,
             joint[label]["accuracy"]) for label, aim in zip(LABELS, (97, 90, 75), strict=True)]
    rows += [(f"shared boxes: wrong cue followed, overlap {label}", 90,
              wrong[label]["swap_rate"]) for label in LABELS[:2]]
    rows += [(f"{boxes} boxes, joint cue: AP above the twin's, overlap >= .3", aim,
              reports["cue joint"].groups["overlap >= .3"]["ap"]
              - reports["twin, no cue"].groups["overlap >= .3"]["ap"])
             for boxes, reports, aim in (("shared", shared, 25), ("own", own, 3))]
    both = [at_once[label] for label in LABELS]
    rows += [("own boxes, no cue: AP above the twin's", "within 1",
              own["cue none"].ap - own["twin, no cue"].ap),
             ("shared boxes: AP of the cue network's peaks as cues / of true joint cues", 90,
              shared["cue network"].ap / shared["cue joint"].ap),
             ("shared boxes: mask above joint cue in AP, overlap [.5, 1]", "more than 0",
              mask[LABELS[2]]["ap"] - joint[LABELS[2]]["ap"])]
    rows += [(f"two joints at once, two people: both of a pair found, overlap {label}", aim,
              sum(x["both"] * x["pairs"] for x in both[part]) / sum(x["pairs"] for x in both[part]))
             for label, aim, part in ((LABELS[0], 95, slice(1)), (LABELS[1], 90, slice(1, 2)),
                                      ("[.1, .5)", 90, slice(2)))]
    print("## Aims\n\n| | aimed at | reached |\n|---|---:|---:|")
    for name, aim, value in rows:
        print(f"| {name} | {aim} | {100 * value:.1f} |")
    print()


def both_at_once(model, persons, source: str) -> dict:
    """Figures per stratum if both cues of a pair are given at once, for different people."""
    estimator, boxes = PoseEstimator(model), torch.as_tensor(persons.boxes)
    rows = [row for row in evaluated_people(persons, "shared", "joint")
            if persons.partner[persons.partner[row]] == row]
    points, scores = torch.zeros(len(persons), 17, 2), torch.zeros(len(persons))
    for row in rows:
        pair = [row, int(persons.partner[row])]
        if pair[0] < pair[1]:
            box = union(boxes[pair[:1]], boxes[pair[1:]])
            poses = estimator(persons.read(row), torch.cat([box, box]),
                              [person_cue(persons, person, source) for person in pair], apart=True)
            points[pair] = torch.tensor(np.stack([pose.keypoints for pose in poses]))
            scores[pair] = torch.tensor([pose.score for pose in poses])
    verdict, overlap = judge(persons, np.array(rows), points[rows], scores[rows]), persons.overlap
    return {label: verdict.figures((low <= overlap[rows]) & (overlap[rows] < high))
            for label, (low, high) in STRATA.items()}


def print_pairs(found: dict[str, dict]) -> None:
    """Prints how often both people are found, of people who are each other's partners."""
    print("## Both people of a pair, shared boxes\n")
    print("| | " + " | ".join(LABELS) + " |\n|---|" + "---:|" * len(LABELS))
    for name, by_stratum in found.items():
        cells = [by_stratum[label] for label in LABELS]
        print(f"| {name} | " + " | ".join(f"{100 * cell['both']:.1f} of {cell['pairs']}"
                                           for cell in cells) + " |")
    print()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default="crowd-tiny")
    options.add_argument("twin", nargs="?", default="crowd-tiny-nocue")
    options.add_argument("--images", type=int, default=400)
    options = options.parse_args()
    model, twin = load_model(options.model), load_model(options.twin)
    with tempfile.TemporaryDirectory() as folder:
        persons = make_crowd(Path(folder) / "scenes", options.images, seed=SEED)
        print(f"{options.images} scenes of {GENERATOR}, seed {SEED}; python "
              f"{platform.python_version()}, torch {torch.__version__}, {platform.machine()}, "
              f"{torch.get_num_threads()} threads\n")
        for protocol in ("shared", "own"):
            reports = {"twin, no cue": evaluate(twin, persons, protocol=protocol)}
            for cue in CUES:
                reports[f"cue {cue}"] = evaluate(model, persons, protocol=protocol, cue=cue)
            reports["cue network"] = evaluate(model, persons, protocol=protocol,
                                              cue=CueNetwork("crowd-cues"))
            print(f"## {protocol} boxes\n\n{compare(reports)}\n")
            print(f"Twin:\n\n{reports['twin, no cue'].table()}\n")
            print(f"Cue joint:\n\n{reports['cue joint'].table()}\n")
            print(f"Cue wrong:\n\n{reports['cue wrong'].table()}\n")
            if protocol == "shared":
                shared, at_once = reports, {cue: both_at_once(model, persons, cue)
                                            for cue in ("joint", "interior", "centroid")}
                print_pairs({name: report.strata for name, report in reports.items()}
                            | {f"two cues at once, {cue}": at_once[cue] for cue in at_once})
                counts = reports["cue network"].counts
                print(f"Cue network: {counts or 'somebody named in every box'}\n")
        print_aims(shared, at_once["joint"], reports)
        print("## The joint cue moved by radius x sqrt(area), shared boxes\n")
        print("| radius | AP | right | other |\n|---:|---:|---:|---:|")
        for row in displacement_curve(model, persons, protocol="shared"):
            print(f"| {row['radius']:g} | {100 * row['ap']:.1f} | {100 * row['accuracy']:.1f} "
                  f"| {100 * row['swap_rate']:.1f} |")
        print("\n## More hops than in training, shared boxes, cue joint\n")
        print("| hops | AP | right |\n|---:|---:|---:|")
        for row in evaluate(model, persons, protocol="shared", hops=5).per_hop:
            print(f"| {row['hop']} | {100 * row['ap']:.1f} | {100 * row['accuracy']:.1f} |")


if __name__ == "__main__":
    main()
