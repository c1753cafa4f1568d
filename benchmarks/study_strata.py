"""A finished study by overlap of the boxes: means over the seeds, in per cent. Prints Markdown.

    python benchmarks/study_strata.py runs/study --seeds 0 1 2
"""

import argparse
import statistics
from pathlib import Path

from hintpose_lite.report import Report

ROWS = {"joint cue: AP": ("shared", "ap"), "joint cue: other person": ("shared", "swap_rate"),
        "centroid cue: AP": ("shared-centroid", "ap"),
        "centroid cue: other person": ("shared-centroid", "swap_rate"),
        "wrong cue followed": ("wrong", "swap_rate"), "own boxes: AP": ("own", "ap")}
LABELS = ("[.1, .3)", "[.3, .5)", "[.5, 1]")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("study", type=Path)
    options.add_argument("--variants", nargs="+", default=["cue", "both"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = options.parse_args()
    columns = [(variant, label) for variant in options.variants for label in LABELS]
    print("| per cent | " + " | ".join(f"+{name} {label}" for name, label in columns) + " |")
    print("|---|" + "---:|" * len(columns))
    spreads = []
    for title, (question, figure) in ROWS.items():
        line = []
        for variant, label in columns:
            values = [100 * Report.from_json(options.study / f"{variant}-{seed}"
                                             / f"report-{question}.json").strata[label][figure]
                      for seed in options.seeds]
            line.append(f"{statistics.mean(values):.1f}")
            spreads.append(statistics.stdev(values) if len(values) > 1 else 0.0)
        print(f"| {title} | {' | '.join(line)} |")
    print(f"\nThe largest standard deviation over the seeds is {max(spreads):.1f}.")


if __name__ == "__main__":
    main()
