"""Predicts what a training run costs, from one measured rate and numbers of multiplications."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure

from ..model.hintpose import HintPose, Spec
from ..photos.draw import BLUE, ORANGE
from ..runs.presets import TrainConfig
from .hop_lab import conv_costs
from .widgets import Lab, Still

UNITS = dict(year=31_557_600, month=2_629_800, day=86_400, hour=3600, minute=60, second=1)


def cost(people: int, epochs: float, batch: int, rate: float) -> tuple[int, float]:
    """The steps, and the seconds at `rate` steps per second."""
    steps = max(1, round(people * epochs / batch))
    return steps, steps / rate


@lru_cache
def multiplications(spec: Spec) -> int:
    """The multiplications of all convolutions for one crop; only shapes are computed."""
    with torch.device("meta"):
        model = HintPose.from_spec(spec)
    return sum(part["macs"] for part in conv_costs(model, spec.input_size, spec.hops).values())


def price(config: TrainConfig, people: int, known: TrainConfig, rate: float) -> tuple[int, float]:
    """The `cost` of a config with epochs, from a run with the config `known`: its steps per second.
    Time is assumed to grow with multiplications."""
    work, done = (run.batch * multiplications(run.spec) for run in (config, known))
    return cost(people, config.epochs, config.batch, rate * done / work)


def duration(seconds: float) -> str:
    """A duration in words, in the largest unit that fits at least once."""
    name, size = next((unit for unit in UNITS.items() if seconds >= unit[1]), ("second", 1))
    return f"{seconds / size:.3g} {name}s"


def cost_figure(config: TrainConfig, people: int, *measured) -> Figure:
    """How long a config takes, and how long with single changes. measured: the last arguments of
    `price`. get_label() is the alt text."""
    changes = {"as planned": {}, "no cue": {"cue": False}, "one hop": {"hops": 1},
               "twice the batch": {"batch": 2 * config.batch}, "20 epochs": {"epochs": 20.0}}
    runs = [price(config.override(new), people, *measured)[1] for new in changes.values()]
    texts = [f"{duration(value)} (× {value / runs[0]:.2g})" for value in runs]
    figure = Figure(figsize=(7.2, 2.8), layout="compressed")
    axis = figure.add_subplot()
    for row, (value, text) in enumerate(zip(runs, texts, strict=True)):
        axis.plot([runs[0], value], [row, row], "D-" if row else "o-", markevery=[1], lw=3,
                  markersize=8, color=np.divide(ORANGE if row else BLUE, 255))
        axis.annotate(text, (max(runs), row), (10, 0), textcoords="offset points", va="center")
    axis.set(xscale="log", xlabel="time (logarithmic)", ylim=(len(runs) - 0.5, -0.5),
             yticks=range(len(runs)), yticklabels=changes)
    marks = {f"{count} {name}{'s' if count > 1 else ''}": count * size
             for name, size in UNITS.items() for count in (1, 5)}
    axis.set_xticks([*marks.values()], marks)
    axis.set_xticks([], minor=True)
    axis.set_xlim(min(runs) / 2, max(runs) * 12)
    figure.set_label("; ".join(map(": ".join, zip(changes, texts, strict=True))))
    return figure


class CostLab(Lab):
    """The cost of a run with the chosen settings, `config`. measured: as for `cost_figure`."""

    def __init__(self, *measured):
        self.measured, self.still, self.config = measured, Still(), None
        look = dict(style={"description_width": "7em"}, layout=widgets.Layout(width="26em"))
        networks = widgets.Dropdown(options=["sample", "w32-256x192", "w48-384x288"],
                                    value="w32-256x192", **look)
        super().__init__([self.still], {"network": networks} | {
            name: widgets.SelectionSlider(options=options, value=start, **look)
            for name, start, options in (
                ("people", 150_000, [500, 5000, 50_000, 150_000]), ("hops", 3, range(1, 6)),
                ("epochs", 210, [5, 20, 50, 100, 210]), ("batch", 128, [8, 16, 32, 64, 128, 256]),
                ("cue", True, [False, True]), ("times as fast", 1, [1, 10, 100, 1000, 10_000]))})

    def render(self, network: str, people: int, **changes) -> str:
        """Shows the duration of the run and of its changes, and returns the cost in words."""
        known, rate = self.measured
        measured = known, rate * changes.pop("times as fast")
        self.config = TrainConfig.preset(network, **changes)
        steps, seconds = price(self.config, people, *measured)
        self.still.put(cost_figure(self.config, people, *measured))
        return f"{steps:,} steps, {duration(seconds)}"
