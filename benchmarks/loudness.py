"""How a network performs if cues have another amplitude than in training.

    python benchmarks/loudness.py                       # the shipped network
    python benchmarks/loudness.py MODEL --learned 1.0   # another, which learned at that amplitude
    python benchmarks/loudness.py people-small --val VAL   # people.json and images/ of photographs

Evaluates people in shared boxes and in their own with several values of `cue_amplitude`, on two
sets of scenes that `shipped.py` does not use, or on photographs. Prints Markdown, in per cent; no
flip test.
"""

import argparse
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from shipped import LABELS

from hintpose_lite.crowd.folder import GENERATOR, make_crowd
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.weights.weights import load_model

SEEDS = 3_000_000, 4_000_000
CUES = "joint", "interior", "centroid", "mask", "points", "pose"
FACTORS = 0.7, 1.0, 1.3, 1.6, 2.0, 3.0


def right(reports: list, labels: list[str]) -> float:
    """The share of people in these strata, in per cent, who were found when they were meant."""
    cells = [report.strata[label] for report in reports for label in labels]
    return 100 * sum(cell["meant"] for cell in cells) / sum(cell["counted"] for cell in cells)


def ap(reports: list) -> float:
    """The mean AP of the sets in per cent."""
    return 100 * sum(report.ap for report in reports) / len(reports)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default="crowd-tiny")
    options.add_argument("--learned", type=float, default=1.0)
    options.add_argument("--images", type=int, default=400)
    options.add_argument("--val", type=Path)
    options = options.parse_args()
    model = load_model(options.model)
    columns = ["AP", "right", *(f"right {label}" for label in LABELS), "own AP",
               *(f"right, {cue}" for cue in CUES[1:])]
    with tempfile.TemporaryDirectory() as folder:
        if options.val:
            sets = [CocoPersons(options.val / "people.json", options.val / "images")]
            what = f"{len(sets[0])} people in {len(sets[0].pictures)} pictures"
        else:
            sets = [make_crowd(Path(folder) / str(seed), options.images, seed) for seed in SEEDS]
            what = f"{options.images} scenes of {GENERATOR} each, seeds {SEEDS}"
        print(f"{what}; python {platform.python_version()}, torch {torch.__version__}, "
              f"{platform.machine()}\n")
        print(f"| times | {' | '.join(columns)} |\n|---:|{'---:|' * len(columns)}")
        for factor in FACTORS:
            model.spec = replace(model.spec, cue_amplitude=options.learned * factor)

            def ask(cue: str, protocol: str = "shared") -> list:
                return [evaluate(model, people, protocol=protocol, cue=cue, flip=False)
                        for people in sets]

            joint, own = ask("joint"), ask("joint", "own")
            values = [ap(joint), right(joint, LABELS), *(right(joint, [label]) for label in LABELS),
                      ap(own), *(right(ask(cue), LABELS) for cue in CUES[1:])]
            print(f"| {factor:g} | " + " | ".join(f"{value:.1f}" for value in values) + " |",
                  flush=True)


if __name__ == "__main__":
    main()
