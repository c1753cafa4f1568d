"""How well a network finds the person who is meant in photographs.

    python benchmarks/photographs.py VAL                                # people-small
    python benchmarks/photographs.py VAL --model M --twin T --no-flip   # other networks
    python benchmarks/photographs.py VAL --rivals THREE ONE             # trained with hops or one

VAL is a folder with people.json and images/; if they are there, also peers.json, poses of published
networks for the same people, and detections_AP_H_56.json, person detections. Otherwise boxes are
ground truth. Every table says how many people it counts. Figures are per cent with 95 % intervals
from 1,000 bootstrap samples of the pictures. The script prints Markdown.
"""

import argparse
import json
import platform
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.evaluation import nearest_cue, person_cue
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import displacement_curve, evaluate, evaluated_people
from hintpose_lite.evaluation.judge import Verdicts, average_precision, judge
from hintpose_lite.evaluation.predict import Predictor
from hintpose_lite.evaluation.report import coco_table
from hintpose_lite.photos.cue_network import CueNetwork
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import center, union
from hintpose_lite.pose.oks import rescore
from hintpose_lite.weights.weights import load_model

CUES = ("joint", "any-joint", "interior", "centroid", "points", "box", "mask", "pose")
CONTROLS = ("none", "centre")
DETECTIONS = "detections_AP_H_56.json"
SAMPLES = 1000


def boxes_of(persons: CocoPersons, rows: np.ndarray, protocol: str) -> torch.Tensor:
    """The boxes (n, 4) of people `rows`: their own, or the union with the partner's."""
    boxes = torch.as_tensor(persons.boxes)
    if protocol == "own":
        return boxes[rows]
    return union(boxes[rows], boxes[persons.partner[rows]])


def verdicts_of(model, persons: CocoPersons, protocol: str, cues: str | dict, flip: bool,
                hops: int | None = None) -> tuple[np.ndarray, Verdicts]:
    """Rows (n,) of the people of a protocol, and what was found of them.

    cues: a kind of cue, or {row: Cue}.
    """
    kind = cues if isinstance(cues, str) else "joint"
    rows = evaluated_people(persons, protocol, kind)
    boxes = boxes_of(persons, rows, protocol)
    if isinstance(cues, str):
        given = [person_cue(persons, int(row), cues, middle=middle.tolist())
                 for row, middle in zip(rows, center(boxes), strict=True)]
    else:
        given = [cues.get(int(row), Cue.none()) for row in rows]
    given = given if model.spec.cue else None
    found = Predictor(model, hops, flip).predict_people(persons, rows, boxes, given)
    scores = rescore(torch.ones(len(rows)), found.scores[-1])
    return rows, judge(persons, rows, found.keypoints[-1], scores)


def peaks(persons: CocoPersons, network: CueNetwork, protocol: str) -> dict[int, Cue]:
    """The cue of each person from a cue network: of the peaks that it finds in the box, the one
    that is nearest to the person."""
    rows = evaluated_people(persons, protocol, "joint")
    return {int(row): nearest_cue(persons, int(row), network, box, Counter())
            for row, box in zip(rows, boxes_of(persons, rows, protocol), strict=True)}


def peer_verdicts(persons: CocoPersons, protocol: str, poses: list[dict]
                  ) -> tuple[np.ndarray, Verdicts]:
    """As `verdicts_of`, for the stored poses of a published network."""
    rows = evaluated_people(persons, protocol, "joint")
    of = {pose["annotation_id"]: pose for pose in poses}
    chosen = [of[int(identity)] for identity in persons.annotation_ids[rows]]
    points = torch.tensor([pose["keypoints"] for pose in chosen]).view(len(rows), -1, 2)
    scores = rescore(torch.ones(len(rows)), torch.tensor([pose["scores"] for pose in chosen]))
    return rows, judge(persons, rows, points, scores)


def ap(found: Verdicts, some: np.ndarray) -> float:
    """Person AP of the people at these places, who may be there several times."""
    return average_precision(found.oks[some], found.scores[some], len(some))


def accuracy(found: Verdicts, some: np.ndarray) -> float:
    """The share of them for whom the right person was found."""
    outcome = found.outcome[some]
    counted = np.isin(outcome, ("meant", "other", "neither")).sum()
    return (outcome == "meant").sum() / max(counted, 1)


def interval(images: np.ndarray, figure: Callable[[np.ndarray], float]) -> str:
    """The 95 % interval of a figure of people in these pictures (n,), in per cent, as text: the
    pictures are drawn with replacement."""
    draw, values = np.random.default_rng(0), []
    of_picture = [np.flatnonzero(images == image) for image in np.unique(images)]
    for _ in range(SAMPLES):
        chosen = draw.integers(len(of_picture), size=len(of_picture))
        values.append(100 * figure(np.concatenate([of_picture[i] for i in chosen])))
    low, high = np.percentile(values, (2.5, 97.5))
    return f"[{low:.1f}, {high:.1f}]"


def ahead(persons: CocoPersons, rows: np.ndarray, one: Verdicts, other: Verdicts) -> str:
    """A row of the table of differences: how much more AP one has than the other, among all people
    and among the contested ones."""
    cells = []
    for places in (np.arange(len(rows)), np.flatnonzero(persons.contested[rows])):
        def more(some, places=places):
            return ap(one, places[some]) - ap(other, places[some])
        if not len(places):
            cells.append("–")
            continue
        everybody = np.arange(len(places))
        cells.append(f"{100 * more(everybody):+.1f} "
                     f"{interval(persons.image_ids[rows[places]], more)}")
    return " | ".join(cells)


def line(persons: CocoPersons, name: str, rows: np.ndarray, found: Verdicts) -> str:
    """A row of a table: AP and right person with their intervals, contested AP, overlaps."""
    figures, cells = found.figures(), [name]
    for key, figure in (("ap", ap), ("accuracy", accuracy)):
        cells.append(f"{100 * figures[key]:.1f} "
                     f"{interval(persons.image_ids[rows], partial(figure, found))}")
    both = figures["both"]
    cells.append("–" if both is None else f"{100 * both:.1f} of {figures['pairs']}")
    contested = persons.contested[rows]
    cells.append(f"{100 * (found.figures(contested)['ap'] or 0):.1f}")
    overlap = persons.overlap[rows]
    for some in ((overlap >= 0.1) & (overlap < 0.3), overlap >= 0.3):
        part = found.figures(some)["accuracy"]
        cells.append("–" if part is None else f"{100 * part:.1f}")
    return "| " + " | ".join(cells) + " |"


def print_table(title: str, rows: np.ndarray, lines: list[str]) -> None:
    print(f"## {title}, {len(rows)} people\n\n| | AP | right person | both of a pair | "
          "AP, contested | right, overlap .1 to .3 | right, from .3 |\n|---|" + "---:|" * 6)
    print(*lines, "", sep="\n", flush=True)


def clicks(model, persons: CocoPersons, rows: np.ndarray | None = None, looks: int = 2,
           flip: bool = True) -> tuple[np.ndarray, Verdicts]:
    """People `rows` (None: everybody), each named by one joint, without a box."""
    rows = np.arange(len(persons)) if rows is None else rows
    estimator, poses = PoseEstimator(model, looks=looks, flip=flip), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no box
        for row in rows.tolist():
            poses += estimator(persons.read(row), cues=[person_cue(persons, row, "joint")])
    points = torch.tensor(np.stack([pose.keypoints for pose in poses]))
    return rows, judge(persons, rows, points, torch.tensor([pose.score for pose in poses]))


def both_at_once(model, persons: CocoPersons) -> tuple[np.ndarray, Verdicts]:
    """Pairs in shared boxes, both cues of a pair given at once, for different people."""
    estimator = PoseEstimator(model)
    rows = [row for row in evaluated_people(persons, "shared", "joint")
            if persons.partner[persons.partner[row]] == row]
    points, scores = torch.zeros(len(persons), 17, 2), torch.zeros(len(persons))
    for pair in [[row, int(persons.partner[row])] for row in rows if row < persons.partner[row]]:
        box = boxes_of(persons, np.array(pair), "shared")
        cues = [person_cue(persons, row, "joint") for row in pair]
        poses = estimator(persons.read(pair[0]), box, cues, apart=True)
        points[pair] = torch.tensor(np.stack([pose.keypoints for pose in poses]))
        scores[pair] = torch.tensor([pose.score for pose in poses])
    return np.array(rows), judge(persons, np.array(rows), points[rows], scores[rows])


def main():
    options = argparse.ArgumentParser()
    options.add_argument("val", type=Path)
    options.add_argument("--model", default="people-small")
    options.add_argument("--twin", help="the cueless network it is compared with")
    options.add_argument("--rivals", nargs=2, metavar=("THREE", "ONE"),
                         help="networks whose training differs in its hops only")
    options.add_argument("--networks", nargs="*", default=[], help="cue networks to compare")
    options.add_argument("--no-flip", action="store_true")
    options = options.parse_args()
    persons = CocoPersons(options.val / "people.json", options.val / "images")
    model, flip = load_model(options.model), not options.no_flip
    stored = options.val / "peers.json"
    peers = json.loads(stored.read_text()) if stored.exists() else {}
    print(f"{len(persons)} people in {len(persons.pictures)} held-out pictures of val2017; "
          f"{options.model}, {'flip test' if flip else 'no flip test'}; python "
          f"{platform.python_version()}, torch {torch.__version__}, {platform.machine()}\n")
    differences = []
    for protocol in ("own", "shared"):
        found_with = {}
        lines = [line(persons, name, *peer_verdicts(persons, protocol, poses[protocol]))
                 for name, poses in peers.items()]
        if options.twin:
            rows, found_with["the twin"] = verdicts_of(load_model(options.twin), persons, protocol,
                                                       "none", flip)
            lines.append(line(persons, "twin, no cue", rows, found_with["the twin"]))
        for cue in (*CUES, *CONTROLS, *(["wrong"] if protocol == "shared" else [])):
            rows, found_with[cue] = verdicts_of(model, persons, protocol, cue, flip)
            lines.append(line(persons, f"cue {cue}", rows, found_with[cue]))
        rows, found_with["one hop"] = verdicts_of(model, persons, protocol, "joint", flip, hops=1)
        lines.append(line(persons, "cue joint, one hop", rows, found_with["one hop"]))
        for one, other in (("joint", "none"), ("joint", "the twin"), ("mask", "none"),
                           ("mask", "the twin"), ("joint", "one hop")):
            if other in found_with:
                differences.append(f"| {protocol} boxes: {one} and {other} | " + ahead(
                    persons, rows, found_with[one], found_with[other]) + " |")
        if options.rivals:
            three, one = (verdicts_of(load_model(name), persons, protocol, "joint", flip, hops)[1]
                          for name, hops in zip(options.rivals, (3, 1), strict=True))
            differences.append(f"| {protocol} boxes: trained with three hops, and with one | "
                               f"{ahead(persons, rows, three, one)} |")
        for name in options.networks:
            given = peaks(persons, CueNetwork(name), protocol)
            lines.append(line(persons, f"peak of {name}",
                              *verdicts_of(model, persons, protocol, given, flip)))
        for name, poses in peers.items():
            given = {row: Cue.pose(np.reshape(pose["keypoints"], (-1, 2))) for pose in
                     poses[protocol] for row in np.flatnonzero(
                         persons.annotation_ids == pose["annotation_id"]).tolist()}
            lines.append(line(persons, f"cue: pose of {name}",
                              *verdicts_of(model, persons, protocol, given, flip)))
        rows = evaluated_people(persons, protocol, "joint")
        print_table(f"{protocol} boxes", rows, lines)
    followed = found_with["wrong"].figures()["swap_rate"]
    print(f"Wrong cue followed in shared boxes: {100 * followed:.1f}\n\n"
          "## How much more AP the first has\n\n| | all | contested |\n|---|---:|---:|")
    print(*differences, "", sep="\n", flush=True)
    for title, look in (("Two clicks at once on the two people of a shared box", both_at_once),
                        ("A click without a box", clicks)):
        rows, found = look(model, persons)
        print_table(title, rows, [line(persons, "joint", rows, found)])
    if (options.val / DETECTIONS).exists():
        print("## Detected boxes (56.4 AP), COCO's figures on whole pictures\n")
        asked = [(options.model, model, cue) for cue in ("none", "box", "joint")]
        if options.twin:
            asked.insert(0, (options.twin, load_model(options.twin), "none"))
        for name, network, cue in asked:
            report = evaluate(network, persons, protocol="detected", cue=cue, flip=flip,
                              detections=options.val / DETECTIONS)
            note = " (cues from the labels: not comparable with published AP)" * (cue == "joint")
            print(f"{name}, cue {cue}{note}:\n\n{coco_table(report.picture_ap)}\n", flush=True)
    print("## The joint cue moved by radius x sqrt(area), shared boxes\n\n"
          "| radius | people | AP | right |\n|---:|---:|---:|---:|")
    for row in displacement_curve(model, persons, protocol="shared", flip=flip):
        print(f"| {row['radius']:g} | {row['people']} | {100 * row['ap']:.1f} "
              f"| {100 * row['accuracy']:.1f} |")


if __name__ == "__main__":
    main()
