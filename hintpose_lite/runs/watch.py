"""A training run from outside, through its folder: starting it, how far it is, ending it."""

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
        left = None if self.remaining is None else str(timedelta(seconds=round(self.remaining)))
        cells = [(self.step, ","), (self.steps, ","), (self.loss, ".2e"), (self.lr, ".2e"),
                 (self.ap, ".1%"), (self.identity, ".1%"), (self.rate, ".2f"), (left, "")]
        texts = ["–" if value is None else f"{value:{form}}".rstrip("%") for value, form in cells]
        return "".join(map(str.rjust, texts, WIDTHS.values()))


def status(folder: str | Path) -> Status:
    """Where a run stands now. Raises RunError as `history` does."""
    return history(folder)[-1]


def history(folder: str | Path) -> list[Status]:
    """The status after each step that has an entry in metrics.jsonl; at step 0 if none has.

    An unfinished last line is left out. RunError if the folder is no run or its files are damaged.
    """
    try:
        about = json.loads(Path(folder, "config.json").read_bytes())
        steps = int(about["config"]["steps"])
    except OSError as error:
        raise RunError(f"{folder} is no run: it has no readable config.json ({error})") from error
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


def launch(out: str | Path, preset: str = "crowd-quick", *, data=None, val=None, cache=None,
           changes: dict | None = None, processes: int = 1, patience: float = 60) -> Path:
    """Starts, or continues, a training run in a process of its own, which goes on when this one
    ends; returns the run folder, for `watch`. What the run says goes to train.log there.

    data, val: (annotations, images); cache: folder of a crop cache; changes: settings by name;
    processes: how many train together (torchrun, one GPU each). patience: seconds to wait for it to
    begin. Raises RunError if it ends at once, with its last words, or runs already.
    """
    out = Path(out)
    if is_running(out):
        raise RunError(f"a process is training in {out} already: watch it, or stop it first")
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command += ["hintpose_lite", "train", "--preset", preset, "--out", out]
    for name, value in (("--data", data), ("--val", val), ("--cache", cache and [cache])):
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
        words = [line for line in lines if line.startswith("error: ")][-1:] or lines[-5:]
        raise RunError("\n".join([f"the run in {out} ended at once (code {process.returncode}):",
                                  *words]))
    return out


def watch(folder: str | Path, stop: bool = False, interval: float = 2.0,
          say: Callable[[str], None] = print) -> None:
    """Says how a run goes, a line an entry, until it is complete, its process has ended, or Ctrl-C.

    stop: tell the run to save and end after its present step, and return. interval: seconds between
    two looks into the folder. Raises RunError if the folder is no run.
    """
    flag, shown, told = Path(folder, "stop"), set(), False
    if stop:
        if status(folder).complete:
            return say(f"{folder} is complete, there is nothing to stop")
        if not is_running(folder):
            return say(f"nobody is training in {folder}, there is nothing to stop")
        flag.touch()
        return say(f"{folder} will save and end after its present step (the file {flag} tells it "
                   "to); the command that started it continues it")
    try:
        while True:
            told, was_told, running = flag.exists(), told, is_running(folder)
            entries = history(folder)  # after the look at the process, so that none is missed
            for row in (HEADER, *(entry.row() for entry in entries)):
                if row not in shown:
                    say(row)
                    shown.add(row)
            if entries[-1].complete:
                return say(f"complete; the weights are in {Path(folder) / 'model.safetensors'}")
            if was_told and not told:
                return say("stopped; the command that started the run continues it")
            if not running:
                return say("nobody is training here: the run was stopped, or its process ended; "
                           "the command that started it continues it")
            time.sleep(interval)
    except KeyboardInterrupt:
        say("no longer watched; the run itself goes on")
