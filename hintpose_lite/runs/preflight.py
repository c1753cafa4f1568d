"""Estimates the cost of a training run from a few of its own steps, before it starts."""

import copy
import math
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch

from ..errors import RunError
from ..evaluation.evaluate import evaluated_people
from ..training.step import Trainer
from .check_data import refuse_bad_pictures

STEPS = 6  # measured steps
LONG = 1000  # steps; shorter runs begin without an estimate


@dataclass(frozen=True)
class Estimate:
    """What a run will take; validation is not counted."""

    seconds: float  # per step
    steps: int  # in all
    epoch: float  # steps per epoch
    memory: int | None  # bytes at the peak, on the device; None: not known
    disk: int  # bytes

    def __str__(self) -> str:
        whole, epoch = (timedelta(seconds=round(self.seconds * steps))
                        for steps in (self.steps, self.epoch))
        memory = "" if self.memory is None else f"; memory {self.memory / 2**30:.1f} GiB"
        return (f"estimate from {STEPS} steps: {1 / self.seconds:.2f} steps per second, {epoch} "
                f"for each of {self.steps / self.epoch:.1f} epochs, {whole} in all{memory}; disk "
                f"{self.disk / 2**20:.0f} MiB")


def announce(trainer: Trainer, out: Path) -> None:
    """Prints, before the first step, whom a run can paste and how long it will take. Raises
    RunError if the disk has too little room, or if pictures cannot be used."""
    if trainer.group.is_first:
        refuse_bad_pictures(trainer.people)
    if trainer.group.is_first and not len(evaluated_people(trainer.people, "shared", "joint")):
        print(f"{out}: no two of the training people share a box, so the validation in shared "
              "boxes may count nobody either; own boxes are validated as well",
              flush=True)
    if trainer.group.is_first and trainer.crops.paster and len(trainer.crops.paster.rows):
        print(f"{out}: {trainer.crops.paster.summary()}", flush=True)
    if trainer.config.steps >= LONG and trainer.group.size == 1:
        estimate = preflight(trainer)
        require_space(estimate, out)
        print(f"{out}: {estimate}", flush=True)


def preflight(trainer: Trainer) -> Estimate:
    """Measures a few steps, and then restores the state of the trainer.

    If a run starts with a single hop and adds more later, steps of both parts are measured."""
    before, config = copy.deepcopy(trainer.state()), trainer.config
    further = min(math.ceil(config.hops_after * config.steps), config.steps - STEPS - 1)
    seconds = sum(share * _seconds(trainer, first) for first, share in (
        (0, config.hops_after), (further, 1 - config.hops_after)) if share)
    weights = sum(x.nbytes for x in trainer.model.state_dict().values())
    moments = sum(x.nbytes for of_one in trainer.optimiser.state_dict()["state"].values()
                  for x in of_one.values())
    trainer.load(before)
    return Estimate(seconds, config.steps, len(trainer.people) / config.batch,
                    _memory(trainer.device), 2 * (2 * weights + moments))  # old and new files


def _seconds(trainer: Trainer, first: int) -> float:
    """Mean seconds per step, measured from step `first` on."""
    trainer.step, trainer.batches = first, None
    trainer.run_step().item()  # not measured: compiles, tunes, reserves memory
    start = time.perf_counter()
    for _ in range(STEPS):
        loss = trainer.run_step()
    loss.item()  # waits for the device
    return (time.perf_counter() - start) / STEPS


def require_space(estimate: Estimate, folder: Path) -> None:
    """Raises RunError if the disk has no room for what a run writes."""
    free = shutil.disk_usage(folder).free
    if free < estimate.disk:
        raise RunError(f"{folder}: the run writes {estimate.disk / 2**20:.0f} MiB, but only "
                       f"{free / 2**20:.0f} MiB are free there; make room, or train elsewhere")


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # missing on Windows
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # bytes on macOS, kilobytes on Linux
