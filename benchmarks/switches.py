"""Studies the choices that the report leaves open, one at a time, and hops at equal cost.

    python benchmarks/switches.py --out runs/switches
    python benchmarks/switches.py --out runs/switches --set steps=1500 --seeds 0 1

Every row is preset crowd-quick with cue and three hops, and one setting changed. Rows that begin
with "hops from the start" are to be compared with the plain one of these. Prints Markdown; finished
runs are kept. "equal compute" takes as many steps with one hop as cost the same as the default's.
Their ratio is measured here after the other rows, with both kinds of step in turn.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from hintpose_lite.cli import config_of
from hintpose_lite.crowd.folder import crowd_scenes
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.runs.study import study
from hintpose_lite.training.loop import Trainer

SWITCHES = {
    "default": {},
    "one hop, equal steps": {"hops": 1},
    "hops from the start": {"hops_after": 0.0},
    "hops from the start, statistics frozen after 0.6": {"hops_after": 0.0, "freeze_after": 0.6},
    "hops from the start, loss on the last only": {"hops_after": 0.0,
                                                   "hop_weights": (0.0, 0.0, 1.0)},
    "statistics frozen after 0.6": {"freeze_after": 0.6},
    "hop dropout 0.5": {"hop_dropout": 0.5},
    "gradient through the feedback": {"detach": False},
    "cue at the stem": {"cue_level": "stem"},
    "cue sigma 2": {"cue_sigma": 2.0},
    "cue sigma 8": {"cue_sigma": 8.0},
    "cue amplitude 4": {"cue_amplitude": 4.0},
}


def cost_of_hops(config: TrainConfig, rounds: int = 12) -> list[float]:
    """Seconds of a step with one, two and three hops over those of a network without recurrence
    (medians, in turn)."""
    people = crowd_scenes(50, config.scene_size, 1)
    steady = config.override({"hop_dropout": 0.0, "hops_after": 0.0})
    trainers = [Trainer(steady.override({"hops": hops}), people, "cpu") for hops in (1, 2, 3)]
    seconds = [[], [], []]
    for _ in range(rounds):
        for taken, trainer in zip(seconds, trainers, strict=True):
            start = time.perf_counter()
            trainer.run_step()
            taken.append(time.perf_counter() - start)
    medians = [statistics.median(taken[2:]) for taken in seconds]
    return [median / medians[0] for median in medians]


def mean_cost(config: TrainConfig, costs: list[float]) -> float:
    """The average cost of a config's steps, from `cost_of_hops`."""
    one, two, three = costs
    dropped = config.hop_dropout / 2  # a step that drops hops runs one or two of three
    late = dropped * (one + two) + (1 - config.hop_dropout) * three
    return config.hops_after + (1 - config.hops_after) * late


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--out", required=True)
    options.add_argument("--preset", default="crowd-quick")
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--jobs", type=int)
    options.add_argument("--init")
    options.add_argument("--set", action="append", default=[])
    options = options.parse_args()
    config = config_of(options)
    torch.set_num_threads(1)
    study(config, options.out, options.seeds, jobs=options.jobs, variants=SWITCHES)
    stored = Path(options.out) / "cost_of_hops.json"  # measured once, so that a study can go on
    if not stored.exists():
        stored.write_text(json.dumps([round(cost, 2) for cost in cost_of_hops(config)]))
    costs = json.loads(stored.read_text())
    longer = {"hops": 1, "steps": round(config.steps * mean_cost(config, costs))}
    print(f"python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}; "
          f"{config.steps} steps of {config.batch}, seeds {options.seeds}; a step with three hops "
          f"costs {costs[2]:.2f} times one with one, {config.steps} of the default as much as "
          f"{longer['steps']} with one\n")
    print(study(config, options.out, options.seeds, jobs=options.jobs,
                variants=SWITCHES | {"one hop, equal compute": longer}))


if __name__ == "__main__":
    main()
