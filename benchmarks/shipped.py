"""What the shipped weights do: the cued network beside its twin, every cue, every hop.

    python benchmarks/shipped.py                              # the shipped weights
    python benchmarks/shipped.py MODEL TWIN --images 400      # other weights

Scenes are drawn with a seed that neither training nor validation uses. Prints Markdown; all figures
are per cent, and come from the stored (half-precision) files. Boxes are ground truth, so there is
no detector; both networks get the same boxes, decoder and flip test.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import torch

from hintpose_lite.data.crowd import GENERATOR, make_crowd
from hintpose_lite.evaluation import CUES, displacement_curve, evaluate
from hintpose_lite.nets.weights import load_model
from hintpose_lite.proposals import CueNetwork
from hintpose_lite.report import compare

SEED = 2_000_000


def print_aims(shared, wrong, gain: float, own: dict) -> None:
    """What was aimed at beside what was reached."""
    three, twin = (own[name].groups["overlap >= .3"]["ap"]
                   for name in ("cue joint", "twin, no cue"))
    rows = [(f"shared boxes, joint cue: right person, overlap {label}", aim,
             shared.strata[label]["accuracy"])
            for label, aim in (("[.1, .3)", 97), ("[.3, .5)", 90), ("[.5, 1]", 75))]
    rows += [(f"shared boxes: wrong cue followed, overlap {label}", 90,
              wrong.strata[label]["swap_rate"]) for label in ("[.1, .3)", "[.3, .5)")]
    rows += [("shared boxes: AP above the twin's, overlap >= .3", 25, gain),
             ("own boxes, joint cue: AP above the twin's, overlap >= .3", 3, three - twin),
             ("own boxes, no cue: AP above the twin's", "within 1",
              own["cue none"].ap - own["twin, no cue"].ap),
             ("shared boxes: third hop above the first, of this one network", "1",
              shared.per_hop[2]["ap"] - shared.per_hop[0]["ap"])]
    print("## Aims\n\n| | aimed at | reached |\n|---|---:|---:|")
    for name, aim, value in rows:
        print(f"| {name} | {aim} | {100 * value:.1f} |")
    print()


def print_pairs(reports: dict) -> None:
    """Two cues, two people: of people who are each other's partners, how often both are found."""
    strata = list(reports["cue joint"].strata)[1:]
    print("## Both people of a pair, shared boxes\n")
    print("| | " + " | ".join(f"{name}" for name in strata) + " |\n|---|" + "---:|" * len(strata))
    for name, report in reports.items():
        cells = [report.strata[stratum] for stratum in strata]
        print(f"| {name} | " + " | ".join(f"{100 * cell['both']:.1f} of {cell['pairs']}"
                                           for cell in cells) + " |")
    print(f"\nCue network: {reports['cue network'].counts or 'somebody named in every box'}\n")


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
            reports["cue network"] = evaluate(model, persons, protocol=protocol, cue=CueNetwork())
            print(f"## {protocol} boxes\n\n{compare(reports)}\n")
            print(f"Twin:\n\n{reports['twin, no cue'].table()}\n")
            print(f"Cue joint:\n\n{reports['cue joint'].table()}\n")
            print(f"Cue wrong:\n\n{reports['cue wrong'].table()}\n")
            if protocol == "shared":
                print_pairs(reports)
                shared, wrong = reports["cue joint"], reports["cue wrong"]
                gain = shared.groups["overlap >= .3"]["ap"] - reports[
                    "twin, no cue"].groups["overlap >= .3"]["ap"]
            else:
                print_aims(shared, wrong, gain, reports)
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
