"""Stores what chapter 5 shows of a finished study: a row of figures per run, and its losses.

    python benchmarks/store_study.py runs/study notebooks/stored/study.json --seeds 0 1 2
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from hintpose_lite.evaluation.report import Report
from hintpose_lite.files import write_whole
from hintpose_lite.runs.study import COLUMNS, QUESTIONS, VARIANTS, figures_of
from hintpose_lite.training.folder import read_metrics


def main():
    options = argparse.ArgumentParser()
    options.add_argument("study", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = options.parse_args()
    rows, curves = {}, {}
    for name in VARIANTS:
        for seed in options.seeds:
            run = options.study / f"{name.strip('+')}-{seed}"
            reports = {question: Report.from_json(run / f"report-{question}.json")
                       for question in QUESTIONS}
            rows.setdefault(name, {})[str(seed)] = figures_of(reports)
            curves.setdefault(name, {})[str(seed)] = [
                [record["step"], float(f"{record['loss']:.3g}")] for record in read_metrics(run)
                if "loss" in record]
    seeds = " ".join(map(str, options.seeds))
    config = json.loads((options.study / "config.json").read_text())["config"]
    stored = {
        "command": f"hintpose study --preset crowd-quick --seeds {seeds} --out {options.study}",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, "
                    f"{platform.machine()}",
        "steps": config["steps"], "batch": config["batch"], "seeds": options.seeds,
        "columns": [title for title, *_ in COLUMNS], "rows": rows, "curves": curves}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, lambda name: name.write_text(json.dumps(stored, indent=1) + "\n"))


if __name__ == "__main__":
    main()
