"""Compares three hops with networks that were trained with one hop only.

    python benchmarks/one_hop.py                 # number of steps that cost as much
    hintpose train --preset crowd-tiny --set hops=1 --out runs/one-hop-steps
    hintpose train --preset crowd-tiny --set hops=1 --set steps=... --out runs/one-hop-compute
    python benchmarks/one_hop.py runs/one-hop-steps/model.safetensors \
        runs/one-hop-compute/model.safetensors

The first network had as many steps as the shipped one, the second (optional) as much compute. With
`hops_after=1` instead of `hops=1` the network, its pictures and its cues are those of the shipped
network, and both training runs are equal until the shipped one gets its hops. Scenes, boxes, cues
(a joint) and flip test are those of `shipped.py`. Prints Markdown, in per cent.
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
    """A row of the table, with the figures of the last hop."""
    values = [shared.ap, shared.groups[HARD]["ap"], shared.identity["accuracy"],
              *(shared.strata[label]["accuracy"] for label in LABELS),
              own.ap, own.groups[HARD]["ap"]]
    return f"| {name} | {' | '.join(map(percent, values))} |"


def print_cost(config: TrainConfig) -> None:
    """Prints the cost of a config's steps, as a number of steps with one hop."""
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
