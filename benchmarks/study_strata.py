"""Prints a finished study by overlap of the boxes: means over the seeds, in per cent, as Markdown.

    python benchmarks/study_strata.py runs/study --seeds 0 1 2
"""

import argparse
import statistics
from pathlib import Path

from shipped import LABELS

from hintpose_lite.evaluation.report import Report, markdown

ROWS = {"joint cue: AP": ("shared", "ap"), "joint cue: other person": ("shared", "swap_rate"),
        "centroid cue: AP": ("shared-centroid", "ap"),
        "centroid cue: other person": ("shared-centroid", "swap_rate"),
        "wrong cue followed": ("wrong", "swap_rate"), "own boxes: AP": ("own", "ap")}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("study", type=Path)
    options.add_argument("--variants", nargs="+", default=["cue", "both"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = options.parse_args()
    names, questions = options.variants, {question for question, _ in ROWS.values()}
    reports = {(name, seed, question): Report.from_json(
        options.study / f"{name}-{seed}" / f"report-{question}.json")
        for name in names for seed in options.seeds for question in questions}
    lines, spreads = [], [0.0]
    for title, (question, figure) in ROWS.items():
        cells = [[100 * reports[name, seed, question].strata[label][figure]
                  for seed in options.seeds] for name in names for label in LABELS]
        lines.append([title, *(f"{statistics.mean(values):.1f}" for values in cells)])
        spreads += [statistics.stdev(values) for values in cells if len(values) > 1]
    heads = [f"+{name} {label}" for name in names for label in LABELS]
    print("\n".join(markdown(["per cent", *heads], lines)))
    print(f"\nThe largest standard deviation over the seeds is {max(spreads):.1f}.")


if __name__ == "__main__":
    main()
