"""Curves of trainings: of runs, read from their folders, and of a loop in a notebook, live.

A run can be shown from any process at any time, since all that is shown lies in its folder.
"""

import math
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure

from ..data.batches import Batch
from ..photos.draw import BLUE, GREEN, ORANGE, PURPLE
from ..runs.watch import Status, status
from ..training.folder import is_running, read_metrics
from ..training.step import heatmap_loss
from .widgets import Moving, encoded

STYLES = (("o-", BLUE), ("s--", ORANGE), ("^:", GREEN), ("D-.", PURPLE))
# Key in metrics.jsonl, label, what its values are multiplied by.
PANELS = (("loss", "loss (thousandths)", 1000), ("lr", "learning rate (thousandths)", 1000),
          ("ap", "person AP (per cent)", 100), ("identity", "right person (per cent)", 100))
ALT = ("Four charts over steps: loss on a logarithmic scale, learning rate, person AP, share of "
       "right persons with a dashed line at one half")


def curves(*folders: str | Path) -> Figure:
    """Loss (mean since the entry before), learning rate, and validation (shared boxes) over the
    steps of one or more runs: a Figure whose get_label() is its alt text.

    Up to four runs differ in colour, marker and line style; the legend has their folders' names.
    Raises RunError if a folder holds no run.
    """
    now = {Path(folder): status(folder) for folder in folders}
    figure = chart({folder.name: read_metrics(folder) for folder in now},
                   max(seen.steps for seen in now.values()))
    said = "; ".join(f"{folder.name}: {summary(seen)}" for folder, seen in now.items())
    figure.set_label(f"{ALT}. {said}.")
    return figure


def chart(runs: dict[str, list[dict]], steps: int) -> Figure:
    """The entries of runs, by name, as curves over so many steps."""
    figure = Figure(figsize=(7.2, 4.8), layout="compressed")
    axes = figure.subplots(2, 2, sharex=True)
    for (name, records), (style, ink) in zip(runs.items(), cycle(STYLES)):
        for axis, (key, label, factor) in zip(axes.flat, PANELS, strict=True):
            points = [(record["step"], factor * record[key]) for record in records
                      if record.get(key) is not None]
            axis.plot(*np.reshape(points, (-1, 2)).T, style, color=np.divide(ink, 255),
                      markersize=4, label=name)
            axis.set_ylabel(label)
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set(major_formatter="{x:.3g}", minor_formatter="{x:.3g}")
    axes[0, 1].set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set(xlabel="step", ylim=(-3, 103))
    axes[1, 1].axhline(50, color="0.4", ls="--", lw=1)
    axes[1, 1].text(steps, 47, "by chance: one half", ha="right", va="top", fontsize=8)
    axes[0, 0].set_xlim(0, steps * 1.03)
    if len(runs) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=len(runs))
    return figure


class Shown:
    """A figure in a notebook that is kept up to date."""

    def __init__(self):
        self.handle = None

    def put(self, figure: Figure) -> None:
        """Shows a figure, whose get_label() is its alt text, in place of the one before."""
        picture = Image(encoded(figure, "PNG"), alt=figure.get_label())
        if self.handle:
            self.handle.update(picture)
        else:
            self.handle = display(picture, display_id=True)


class Live(Shown):
    """The curves of a training in this process; each `add` is an entry as in metrics.jsonl."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps, self.records = steps, []

    def add(self, **record) -> None:
        """Adds an entry (step; loss, lr, ap, identity) and draws the curves again."""
        self.records.append(record)
        figure = chart({"": self.records}, self.steps)
        figure.set_label(f"{ALT}, after {record['step']} of {self.steps} steps. The share of right "
                         f"persons is {record['identity']:.0%}, AP is {record['ap']:.0%}.")
        self.put(figure)


def fit(net, batches: Iterable[Batch], rate: Callable[[int], float], every: int,
        look: Callable[[int, list[float]], object]) -> list[float]:
    """The training loop of chapter 05. Returns the loss of each step.

    rate: the learning rate of a step. look: called after every so many steps, with their number
    and the losses until then.
    """
    optimiser, losses = torch.optim.AdamW(net.parameters(), weight_decay=0.0), []
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        outputs = net(batch.images, batch.cues)
        loss = heatmap_loss(outputs, batch, torch.ones(len(outputs)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % every == 0:
            look(step + 1, losses)
    return losses


def paired_gain(better, worse, t: float = 4.303) -> tuple[float, float]:
    """The mean gain of runs over others with the same seeds, arrays (S,), and how far its 95 per
    cent interval reaches to either side. t: Student's, by default for three seeds."""
    gains = np.subtract(better, worse)
    return gains.mean(), t * gains.std(ddof=1) / len(gains) ** 0.5


def summary(now: Status) -> str:
    """The status of a run in words: step, loss, and the results of the last validation."""
    figures = ((now.loss, "loss {:.2e}"), (now.ap, "AP {:.0%}"), (now.identity, "right {:.0%}"))
    found = [form.format(value) for value, form in figures if value is not None]
    return ", ".join([f"step {now.step:,} of {now.steps:,}", *found])


def follow(folder: str | Path, every: float = 1.0, limit: float | None = None) -> Status:
    """Shows a run in a notebook, in a picture that is kept up to date: its status and its curves.

    Reads the folder every `every` seconds until the run ends or is stopped, or for `limit` seconds,
    and returns the last status. Ctrl-C (the stop button) ends only this function, not the run; call
    it again to go on. Raises RunError if the folder holds no run.
    """
    picture, drawn = Shown(), None
    end = time.monotonic() + (math.inf if limit is None else limit)
    try:
        with Moving(f"following {Path(folder).name}"):
            while True:
                running, now = is_running(folder), status(folder)  # in this order
                if drawn != (running, now):
                    drawn, said, figure = (running, now), _headline(now, running), curves(folder)
                    figure.suptitle(said, fontsize=11)
                    figure.set_label(f"{said}. {figure.get_label()}")
                    picture.put(figure)
                if not running or time.monotonic() >= end:
                    return now
                time.sleep(every)
    except KeyboardInterrupt:
        print("No longer followed; the run itself goes on.")
        return status(folder)


def _headline(now: Status, running: bool) -> str:
    left = f"{timedelta(seconds=round(now.remaining))} remaining" if now.rate else "begins"
    state = left if running else "complete" if now.complete else "not running"
    return f"{summary(now)}; {state}"

