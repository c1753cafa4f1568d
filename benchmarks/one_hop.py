"""Three hops beside networks that were trained with one hop throughout.

    python benchmarks/one_hop.py                 # how many steps with one hop cost as much
    hintpose train --preset crowd-tiny --set hops=1 --out runs/one-hop-steps
    hintpose train --preset crowd-tiny --set hops=1 --set steps=... --out runs/one-hop-compute
    python benchmarks/one_hop.py runs/one-hop-steps/model.safetensors \
        runs/one-hop-compute/model.safetensors

The two had as many steps as the shipped network, and as much compute (which may be left out). With
`hops_after=1` instead of `hops=1` the network is the same, and so are its pictures and cues; up to
the step where the shipped one gets its hops, the two trainings are one. The same held-out scenes,
boxes, cues (a joint) and flip test as in `shipped.py`. Prints Markdown, in per cent.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import torch
from shipped import LABELS, SEED
from switches import cost_of_hops, mean_cost

from hintpose_lite.crowd.folder import GENERATOR, make_crowd
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.evaluation.report import Report, percent
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.weights.weights import load_model

HARD = "overlap >= .3"
COLUMNS = ["shared AP", f"AP, {HARD}", "right", *(f"right {label}" for label in LABELS), "own AP",
           f"own AP, {HARD}"]


def row(name: str, shared: Report, own: Report) -> str:
    """A line of the table, of the last hop."""
    values = [shared.ap, shared.groups[HARD]["ap"], shared.identity["accuracy"],
              *(shared.strata[label]["accuracy"] for label in LABELS),
              own.ap, own.groups[HARD]["ap"]]
    return f"| {name} | {' | '.join(map(percent, values))} |"


def print_cost(config: TrainConfig) -> None:
    """What the steps of a config cost, counted in steps of a network with one hop."""
    torch.set_num_threads(1)
    costs = cost_of_hops(config)
    steps = config.steps * mean_cost(config, costs)
    print(f"python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}; "
          f"steps with two and three hops cost {costs[1]:.2f} and {costs[2]:.2f} times one with "
          f"one hop; {config.steps} steps cost as much as {steps:.0f} with one hop")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("steps", nargs="?",
                         help="a network trained with one hop, for as many steps")
    options.add_argument("compute", nargs="?",
                         help="one trained with one hop, with as much compute")
    options.add_argument("--model", default="crowd-tiny")
    options.add_argument("--images", type=int, default=400)
    options = options.parse_args()
    if not options.steps:
        return print_cost(TrainConfig.preset("crowd-tiny"))
    rivals = [(f"one hop, equal {what}", load_model(path), 1) for what, path in (
        ("steps", options.steps), ("compute", options.compute)) if path]
    model = load_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        persons = make_crowd(Path(folder) / "scenes", options.images, seed=SEED)
        print(f"{options.images} scenes of {GENERATOR}, seed {SEED}; python "
              f"{platform.python_version()}, torch {torch.__version__}, {platform.machine()}\n")
        print(f"| trained with | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
        for name, net, hops in (*rivals, *((f"up to three hops, asked with {hops}", model, hops)
                                           for hops in (1, 2, 3))):
            shared, own = (evaluate(net, persons, protocol=protocol, cue="joint", hops=hops)
                           for protocol in ("shared", "own"))
            print(row(name, shared, own), flush=True)


if __name__ == "__main__":
    main()
