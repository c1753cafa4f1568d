"""A training run seen from outside, through its folder: how far it is, and how to end it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from .errors import RunError

WIDTHS = {"step": 9, "of": 9, "loss": 10, "lr": 10, "AP %": 7, "right %": 9, "steps/s": 9,
          "remaining": 11}
HEADER = "".join(name.rjust(width) for name, width in WIDTHS.items())


@dataclass(frozen=True)
class Status:
    """Where a run of `steps` steps stands; None for what its folder does not tell yet.

    step: of the last entry; loss: mean since the entry before; lr: of that step; ap, identity: of
    the last validation, in [0, 1], at step `validated`; rate: steps a second, validation included;
    remaining: seconds at that rate.
    """

    step: int
    steps: int
    loss: float | None = None
    lr: float | None = None
    ap: float | None = None
    identity: float | None = None
    validated: int | None = None
    rate: float | None = None

    @property
    def remaining(self) -> float | None:
        return (self.steps - self.step) / self.rate if self.rate else None

    @property
    def complete(self) -> bool:
        """Every step is done and the last validation too."""
        return self.validated == self.step == self.steps

    def row(self) -> str:
        """One line under HEADER."""
        left = None if self.remaining is None else timedelta(seconds=round(self.remaining))
        cells = [(self.step, "{:,}"), (self.steps, "{:,}"), (self.loss, "{:.2e}"),
                 (self.lr, "{:.2e}"), (self.ap, "{:.1%}"), (self.identity, "{:.1%}"),
                 (self.rate, "{:.2f}"), (left, "{!s}")]
        texts = ["–" if value is None else form.format(value).rstrip("%") for value, form in cells]
        return "".join(text.rjust(width) for text, width in zip(texts, WIDTHS.values()))


def status(folder: str | Path) -> Status:
    """Where a run stands now. Raises RunError as `history` does."""
    return history(folder)[-1]


def history(folder: str | Path) -> list[Status]:
    """The status after each step that has an entry in metrics.jsonl; at step 0 if none has.

    A last line that is still being written is left out. Raises RunError if the folder is no run or
    its files are damaged.
    """
    folder = Path(folder)
    try:
        steps = int(json.loads((folder / "config.json").read_bytes())["config"]["steps"])
    except OSError as error:
        raise RunError(f"{folder} is no run: it has no readable config.json ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}/config.json is damaged, or of no run ({error!r})") from error
    now, found = Status(0, steps), {}
    for record in read_metrics(folder):
        if "seconds" in record:
            rate = record["step"] / record["seconds"] if record["seconds"] else None
            now = replace(now, loss=record["loss"], lr=record["lr"], rate=rate)
        else:
            now = replace(now, ap=record["ap"], identity=record["identity"],
                          validated=record["step"])
        now = found[record["step"]] = replace(now, step=record["step"])
    return [*found.values()] or [now]


def read_metrics(folder: Path) -> list[dict]:
    """The entries of a run's metrics.jsonl; none if nothing is written yet. Raises RunError."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:  # what follows the last line's end is unfinished
            record = json.loads(line)
            names = ("loss", "seconds", "lr") if "loss" in record else ("ap", "identity")
            records.append({name: record[name] for name in ("step", *names)})
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}, line {number} is damaged ({error!r}): remove it") from error
    return records


def watch(folder: str | Path, stop: bool = False, interval: float = 2.0,
          say: Callable[[str], None] = print) -> None:
    """Says how a run goes, a line for each entry, until it is complete, stopped, or Ctrl-C.

    stop: tell the run to save and end after its present step, and return. interval: seconds between
    two looks into the folder. Raises RunError if the folder is no run.
    """
    now, flag, shown, told = status(folder), Path(folder) / "stop", set(), False
    if stop and now.complete:
        return say(f"{folder} is complete, there is nothing to stop")
    if stop:
        flag.touch()
        return say(f"{folder} will save and end after its present step (the file {flag} tells it "
                   "to); the command that started it continues it")
    say(HEADER)
    try:
        while True:
            told, was_told = flag.exists(), told
            rows = [row.row() for row in history(folder)]
            for row in dict.fromkeys(row for row in rows if row not in shown):
                say(row)
            shown.update(rows)
            if status(folder).complete:
                return say(f"complete; the weights are in {Path(folder) / 'model.safetensors'}")
            if was_told and not told:
                return say("stopped; the command that started the run continues it")
            time.sleep(interval)
    except KeyboardInterrupt:
        say("no longer watched; the run itself goes on")
