"""Shows training runs: their curves, the poses that their newest weights find, and both live.

Everything is read from the run folders, so any process can show a run at any time.
"""

import io
import math
import time
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
from IPython.display import Image as Shown
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from ..data.coco import CocoPersons
from ..photos.draw import BLUE, GREEN, ORANGE, PURPLE
from ..runs.watch import Status, status
from ..training.folder import is_running, read_metrics
from ..weights.weights import load_model
from .figures import cue_figure
from .widgets import encoded

STYLES = (("o-", BLUE), ("s--", ORANGE), ("^:", GREEN), ("D-.", PURPLE))
# Key in metrics.jsonl, label, what its values are multiplied by.
PANELS = (("loss", "loss", 1), ("lr", "learning rate", 1), ("ap", "person AP (per cent)", 100),
          ("identity", "right person (per cent)", 100))


def curves(*folders: str | Path) -> Figure:
    """Loss (mean since the entry before), learning rate, and validation (shared boxes) over the
    steps of one or more runs: a Figure whose get_label() is its alt text.

    Up to four runs differ in colour, marker and line style; the legend has their folders' names.
    Raises RunError if a folder holds no run.
    """
    figure, said = Figure(figsize=(7.2, 4.8), layout="compressed"), []
    axes = figure.subplots(2, 2, sharex=True)
    for folder, (style, ink) in zip(map(Path, folders), cycle(STYLES)):
        now, records = status(folder), read_metrics(folder)
        for axis, (key, label, factor) in zip(axes.flat, PANELS, strict=True):
            points = [(record["step"], factor * record[key]) for record in records
                      if record.get(key) is not None]
            axis.plot(*np.reshape(points, (-1, 2)).T, style, color=np.divide(ink, 255),
                      markersize=4, label=folder.name)
            axis.set_ylabel(label)
        said.append(f"{folder.name}: {summary(now)}")
    axes[0, 0].set_yscale("log")
    axes[0, 1].set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set(xlabel="step", ylim=(-3, 103))
    axes[0, 0].set_xlim(0, max(status(folder).steps for folder in folders) * 1.03)
    if len(folders) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=len(folders))
    figure.set_label("Four charts over steps: loss on a logarithmic scale, learning rate, person "
                     f"AP, share of right persons. {'; '.join(said)}.")
    return figure


def summary(now: Status) -> str:
    """The status of a run in words: step, loss, and the results of the last validation."""
    figures = ((now.loss, "loss {:.2e}"), (now.ap, "AP {:.0%}"), (now.identity, "right {:.0%}"))
    found = [form.format(value) for value, form in figures if value is not None]
    return ", ".join([f"step {now.step:,} of {now.steps:,}", *found])


def sample(folder: str | Path, persons: CocoPersons, row: int) -> Figure:
    """The poses that the newest weights of a run find in the box that a person shares with the
    partner, as in `cue_figure`, or a Figure that says that there are no weights yet."""
    weights = Path(folder) / "model.safetensors"
    if weights.exists():
        return cue_figure(load_model(weights), persons, row)
    said = "There are no weights yet: they are written with the first checkpoint."
    figure = Figure(figsize=(7.2, 0.6), label=said)
    figure.text(0.5, 0.5, said, ha="center", va="center")
    return figure


def follow(folder: str | Path, every: float = 2.0, limit: float | None = None, *,
           persons: CocoPersons | None = None, row: int | None = None) -> Status:
    """Shows a run in a notebook, in a picture that is kept up to date: its status, its curves, and
    with `persons` the `sample` of person `row` (default: the first with a partner).

    Reads the folder every `every` seconds until the run ends or is stopped, or for `limit` seconds,
    and returns the last status. Ctrl-C (the stop button) ends only this function, not the run; call
    it again to go on. Raises RunError if the folder holds no run.
    """
    if persons is not None and row is None:
        row = int(np.argmax(persons.partner >= 0))
    handle = drawn = None
    end = time.monotonic() + (math.inf if limit is None else limit)
    try:
        while True:
            running, now = is_running(folder), status(folder)  # in this order, so no entry is lost
            if drawn != (running, now):
                drawn, said = (running, now), _headline(now, running)
                figures = [curves(folder)]
                figures[0].suptitle(said, fontsize=11)
                if persons is not None:
                    figures.append(sample(folder, persons, row))
                alt = f"{said}. {' '.join(figure.get_label() for figure in figures)}"
                picture = Shown(_page(figures), alt=alt)
                if handle:
                    handle.update(picture)
                else:
                    handle = display(picture, display_id=True)
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


def _page(figures: list[Figure]) -> bytes:
    """Figures below each other, centred on white, as a PNG file with few colours to save bytes."""
    pictures = [Image.open(io.BytesIO(encoded(figure, "PNG"))) for figure in figures]
    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    page, top, file = Image.new("RGB", size, "white"), 0, io.BytesIO()
    for picture in pictures:
        page.paste(picture, ((size[0] - picture.width) // 2, top))
        top += picture.height
    page.quantize(method=Image.Quantize.FASTOCTREE).save(file, "PNG")  # keeps rare colours
    return file.getvalue()
