"""Draws the README's picture: one box, two people, and the same network with a cue on each.

    python benchmarks/picture.py assets/one_box_two_people.png

The scene is held out (seed of benchmarks/shipped.py). `--row` is the first person. The default is
the first pair with an overlap of at least .3 and at least 12 labelled joints each, in which each
person is found with the cue on that person. So the picture is a chosen success; the tables count
the failures.
"""

import argparse
import tempfile
from pathlib import Path

from shipped import SEED

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.labs.figures import cue_figure
from hintpose_lite.weights.weights import load_model


def first_pair(model, persons, margin: float) -> int:
    """The first row whose person and partner are both found, with a person AP above `margin`."""
    for row in range(len(persons)):
        partner = int(persons.partner[row])
        if partner < 0 or persons.overlap[row] < 0.3 or persons.partner[partner] != row:
            continue
        if ((persons.keypoints[[row, partner], :, 2] > 0).sum(1) < 12).any():
            continue
        report = evaluate(model, persons, protocol="shared", rows=[row, partner])
        if report.people == 2 and report.identity["meant"] == 2 and report.ap > margin:
            return row
    raise SystemExit("no such pair in these scenes: try a smaller --margin")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options.add_argument("--model", default="crowd-tiny")
    options.add_argument("--twin", default="crowd-tiny-nocue")
    options.add_argument("--row", type=int)
    options.add_argument("--margin", type=float, default=0.5)
    options = options.parse_args()
    model = load_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        persons = make_crowd(Path(folder) / "scenes", 60, seed=SEED)
        row = options.row
        row = first_pair(model, persons, options.margin) if row is None else row
        figure = cue_figure(model, persons, row, load_model(options.twin))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.out, dpi=110)
        print(f"row {row}: {figure.get_label()}")


if __name__ == "__main__":
    main()
