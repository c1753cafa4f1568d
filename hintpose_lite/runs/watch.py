"""Starts, follows and stops a training run from another process, through its folder."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from ..errors import RunError
from ..training.folder import LOG, is_running, read_metrics

WIDTHS = {"step": 9, "of": 9, "loss": 10, "lr": 10, "AP %": 7, "right %": 9, "steps/s": 9,
          "remaining": 11}
HEADER = "".join(name.rjust(width) for name, width in WIDTHS.items())


@dataclass(frozen=True)
class Status:
    """The progress of a run, read from its folder; None if the folder does not say yet."""

    step: int  # of the last entry
    steps: int  # of the whole run
    loss: float | None = None  # mean since the entry before
    lr: float | None = None  # of the last entry
    ap: float | None = None  # of the last validation, 0 to 1
    identity: float | None = None  # share of right people in the last validation, 0 to 1
    validated: int | None = None  # step of the last validation
    rate: float | None = None  # steps per second, validation included

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the present rate."""
        return (self.steps - self.step) / self.rate if self.rate else None

    @property
    def complete(self) -> bool:
        """True if every step and the last validation are done."""
        return self.validated == self.step == self.steps

    def row(self) -> str:
        """One line of the table under HEADER."""
        left = None if self.remaining is None else str(timedelta(seconds=round(self.remaining)))
        cells = [(self.step, ","), (self.steps, ","), (self.loss, ".2e"), (self.lr, ".2e"),
                 (self.ap, ".1%"), (self.identity, ".1%"), (self.rate, ".2f"), (left, "")]
        texts = ["–" if value is None else f"{value:{form}}".rstrip("%") for value, form in cells]
        return "".join(map(str.rjust, texts, WIDTHS.values()))


def status(folder: str | Path) -> Status:
    """The latest status of a run. Raises RunError as `history` does."""
    return history(folder)[-1]


def history(folder: str | Path) -> list[Status]:
    """The status after each step that has an entry in metrics.jsonl, or at step 0 if none has.

    An unfinished last line is ignored. Raises RunError if the folder holds no run or its files are
    damaged.
    """
    try:
        about = json.loads(Path(folder, "config.json").read_bytes())
        steps = int(about["config"]["steps"])
    except OSError as error:
        said = last_words(folder)
        raise RunError(f"{folder} is no run: it has no readable config.json ({error})"
                       + (f"; its {LOG} ends with: {said}" if said else "")) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}/config.json is damaged, or of no run ({error!r})") from error
    if "held_out" in about:
        raise RunError(f"{folder} holds a study: name the folder of one of its runs in it")
    now, found = Status(0, steps), {}
    for record in read_metrics(Path(folder)):
        if "seconds" in record:
            rate = record["step"] / record["seconds"] if record["seconds"] else None
            now = replace(now, loss=record["loss"], lr=record["lr"], rate=rate)
        else:
            now = replace(now, ap=record["ap"], identity=record["identity"],
                          validated=record["step"])
        now = found[record["step"]] = replace(now, step=record["step"])
    return [*found.values()] or [now]


def last_words(folder: str | Path) -> str:
    """The last line of a run's train.log, or the last of its errors there; "" if there is none."""
    try:
        text = Path(folder, LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [part.strip() for line in text.splitlines() for part in line.split("\r")]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def launch(out: str | Path, preset: str = "crowd-quick", *, data=None, val=None,
           changes: dict | None = None, processes: int = 1, patience: float = 60) -> Path:
    """Starts or continues a training run in a process of its own, which goes on after this process
    ends. Returns the run folder, for `watch`. The run's output is appended to train.log there.

    data, val: (annotations, images); changes: settings by name;
    processes: number of training processes (torchrun, one GPU each). patience: seconds to wait for
    the start. Raises RunError if the run ends at once (with the end of its output), or if a process
    is training in the folder already.
    """
    out = Path(out)
    if is_running(out):
        raise RunError(f"a process is training in {out} already: watch it, or stop it first")
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command += ["hintpose_lite", "train", "--preset", preset, "--out", out]
    for name, value in (("--data", data), ("--val", val)):
        command += [name, *value] if value else []
    for key, value in (changes or {}).items():
        command += ["--set", f"{key}={value}"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / LOG, "ab") as log:
            process = subprocess.Popen(map(str, command), stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        raise RunError(f"the run in {out} could not be started: {error}") from error
    end = time.monotonic() + patience
    while time.monotonic() < end and process.poll() is None and not is_running(out):
        time.sleep(0.2)
    if process.poll():
        lines = (out / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        ending = [line for line in lines if line.startswith("error: ")][-1:] or lines[-5:]
        raise RunError("\n".join([f"the run in {out} ended at once (code {process.returncode}):",
                                  *ending]))
    return out


def watch(folder: str | Path, stop: bool = False, interval: float = 2.0,
          say: Callable[[str], None] = print) -> None:
    """Prints one line per entry until a run is complete, its process has ended, or Ctrl-C.

    stop: makes the run save and end after its present step, and returns. interval: seconds between
    two readings of the folder. Raises RunError if the folder holds no run.
    """
    flag, shown = Path(folder, "stop"), set()
    stopping = False
    if stop:
        if status(folder).complete:
            return say(f"{folder} is complete, there is nothing to stop")
        if not is_running(folder):
            return say(f"no process trains in {folder}, there is nothing to stop")
        flag.touch()
        return say(f"{folder} will save and end after its present step, since the file {flag} "
                   "exists now; the command that started the run continues it")
    try:
        while True:
            was_stopping, stopping = stopping, flag.exists()
            running = is_running(folder)
            entries = history(folder)  # read after `running`, so that no last entry is missed
            for row in (HEADER, *(entry.row() for entry in entries)):
                if row not in shown:
                    say(row)
                    shown.add(row)
            if entries[-1].complete:
                return say(f"complete; the weights are in {Path(folder) / 'model.safetensors'}")
            if was_stopping and not stopping:
                return say("stopped; the command that started the run continues it")
            if not running:
                said = last_words(folder)
                return say("no process trains here: the run was stopped, or its process ended; "
                           "the command that started it continues it"
                           + (f". Its {LOG} ends with: {said}" if said else ""))
            said = "" if entries[-1].step else last_words(folder)  # before the first entry
            if said and said not in shown:
                say(said)
                shown.add(said)
            time.sleep(interval)
    except KeyboardInterrupt:
        say("watching has ended; the run itself goes on")
