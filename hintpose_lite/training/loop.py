"""A training run: one loop over the steps, validation, checkpoints that resume exactly."""

import gc
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.coco import CocoPersons
from ..errors import RunError
from ..evaluation.evaluate import evaluate
from ..files import write_whole
from ..model.device import choose_device
from ..weights.weights import save_model
from . import folder as run_folder
from .config import TrainConfig
from .processes import ProcessGroup, process_group
from .step import Trainer, learning_rate

VALIDATED = 500  # people of each validation
HOST_MEMORY = re.compile("allocate memory|not enough memory|shared memory|DataLoader worker .* (is "
                         "killed|exited unexpectedly)")  # in what torch raises
STOP_CHECK_EVERY = 20  # steps between checks whether to stop, where several processes train


@contextmanager
def termination() -> Iterator[threading.Event]:
    """An event that is set by SIGTERM (in a main thread), which then does not end the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def train(config: TrainConfig, out: str | Path, people: CocoPersons, held_out: CocoPersons, *,
          device: str | torch.device | None = None, progress: bool = True, position: int = 0,
          before: Callable[[Trainer, Path], None] | None = None) -> Path:
    """Trains into the run folder `out` (see `folder`) and returns it; a run of the same config is
    continued. Under torchrun all processes train this one run together. SIGTERM ends a run like the
    file `stop`: it saves after the current step (with several processes, at most 20 steps later).

    people are trained on, held_out are for validation. position: the line of the progress bar,
    where several runs share a screen. before: called with the trainer and `out` before the first
    step of a new run. Raises RunError if `out` is not a run folder, another process trains there,
    memory runs out, or the loss is not finite; other HintPoseErrors for settings, data and init.
    """
    out, place = Path(out), choose_device(device)
    with process_group(place) as group:
        progress = progress and group.is_first
        with group.first_alone():  # which makes the folder
            config = config.resolve(len(people), len(people.skeleton), group.size, place.type)
            run_folder.open_folder(out, {"config": config.to_dict(), "people": len(people),
                                         "data": people.sha256})
        if run_folder.is_validated(out, config.steps) and (out / "model.safetensors").exists():
            return out
        with run_folder.locked(out) if group.is_first else nullcontext():
            group.wait()
            if group.is_first:
                (out / "stop").unlink(missing_ok=True)  # it was meant for an earlier start
            _run(config, people, held_out, out, place, group, progress, position, before)
    return out


def _run(config: TrainConfig, people: CocoPersons, held_out: CocoPersons, out: Path,
         device: torch.device, group: ProcessGroup, progress: bool, position: int, before) -> None:
    """Builds a trainer and runs its remaining steps."""
    started = (out / "last.pt").exists()
    if not started and (out / "model.safetensors").exists():
        raise RunError(f"{out} has weights, but no last.pt to resume from: restore it, or train in "
                       f"another folder, perhaps with --init {out / 'model.safetensors'}")
    try:
        trainer = Trainer(config, people, device, not started, group)
        trainer.model.trained_on = people.description
        if started:
            _resume(trainer, out / "last.pt")
            if group.is_first:  # the last start may have ended between writing the two files
                with run_folder.writing(f"the weights of step {trainer.step} to {out}"):
                    save_model(trainer.model, out / "model.safetensors", overwrite=True)
        elif before is not None:
            before(trainer, out)
        if group.is_first:
            run_folder.trim_metrics(out, trainer.step)
        return _loop(trainer, out, held_out, progress, position)
    except torch.OutOfMemoryError:
        trainer = None  # the traceback, which also holds tensors, goes with this block
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not HOST_MEMORY.search(str(error)):
            raise
        own = ("a smaller batch helps, since network and data share this memory"
               if device.type == "cpu" else f"a smaller batch would not help: it lies on {device}")
        raise RunError(f"the machine's main memory does not suffice for the data ({error!s:.200}); "
                       f"{own}. Close other programs, start fewer processes, or give more memory "
                       "(a container needs shared memory, too: docker run --shm-size=8g)"
                       ) from error
    share = replace(config, batch=config.batch // group.size, batch_norm="local")  # of one process
    fitting = group.size * fitting_batch(share, people, device)
    advice = (f"{fitting} fits: start again in a new folder with --set batch={fitting} "
              f"--set lr={config.lr * fitting / config.batch:.2g}" if fitting else
              "Not even one person fits: take a smaller network or input size")
    raise RunError(f"a batch of {config.batch} does not fit into the memory of {device}. {advice}")


def fitting_batch(config: TrainConfig, people: CocoPersons, device) -> int:
    """The largest of batch/2, batch/4, ... whose steps fit into memory, or 0."""
    batch = config.batch
    while batch := batch // 2:
        gc.collect()
        torch.cuda.empty_cache()
        smaller = replace(config, batch=batch, init="none", compile=False, hops_after=0.0,
                          hop_dropout=0.0)
        try:
            trainer = Trainer(smaller, people, device)
            for _ in range(2):  # the optimiser takes its memory after the first
                trainer.run_step()
            return batch
        except torch.OutOfMemoryError:
            trainer = None
    return 0


def _resume(trainer: Trainer, path: Path) -> None:
    try:
        trainer.load(torch.load(path, map_location="cpu", weights_only=True))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # unpickling a damaged file raises nearly anything
        raise RunError(f"cannot resume from {path} ({type(error).__name__}): it is damaged, or "
                       "of another run. Restore a copy of it, or train into another folder, "
                       "perhaps with --init and the model.safetensors beside it") from error


def _loop(trainer: Trainer, out: Path, held_out: CocoPersons, progress: bool,
          position: int) -> None:
    """Runs the remaining steps."""
    config, group, losses, stopped = trainer.config, trainer.group, [], False
    start = time.time() - trainer.seconds
    to_file = not sys.stderr.isatty() and "ipykernel" not in sys.modules  # such as train.log
    with (termination() as terminated,
          tqdm(total=config.steps, initial=trainer.step, desc=str(out), unit="step",
               disable=not progress, mininterval=60 if to_file else 1, position=position) as bar):
        while True:
            last = trainer.step == config.steps
            due = last or (trainer.step > 0 and trainer.step % config.validate_every == 0)
            if due and not run_folder.is_validated(out, trainer.step):
                result = validate(trainer, held_out, out)
                if group.is_first:
                    run_folder.append_metrics(out, result)
            if last or stopped:
                break
            losses.append(trainer.run_step())
            bar.update()
            if group.size == 1 or trainer.step % STOP_CHECK_EVERY == 0:
                stopped = group.broadcast(
                    terminated.is_set() or (out / "stop").exists(), trainer.device)
            if (stopped or trainer.step == config.steps
                    or trainer.step % config.checkpoint_every == 0):
                loss = float(group.mean(_finite_mean(losses, trainer.step, out)))
                trainer.seconds = time.time() - start
                if not torch.stack([p.isfinite().all() for p in trainer.model.parameters()]).all():
                    raise _not_finite("weights are", trainer.step, out)
                if group.is_first:  # after a kill between the two, the next start removes the entry
                    run_folder.append_metrics(out, {
                        "step": trainer.step, "loss": loss, "seconds": trainer.seconds,
                        "lr": learning_rate(config, trainer.step - 1)})
                    _save(trainer, out)
                losses = []
                bar.set_postfix(loss=f"{loss:.2e}")
    if stopped and group.is_first:
        (out / "stop").unlink(missing_ok=True)
        print(f"{out}: stopped after step {trainer.step}; the same command continues the run")


def validate(trainer: Trainer, persons: CocoPersons, out: Path, people: int = VALIDATED) -> dict:
    """Validates on a fixed random part of the people, and keeps the best weights so far.

    The entry has person AP and identity accuracy in shared boxes with a joint as the cue ("ap",
    "identity"), and person AP in own boxes with and without it ("own_ap", "own_ap_no_cue"). None
    where nobody shares a box. Only the first process evaluates.
    """
    result = {"step": trainer.step}
    if trainer.group.is_first:
        rows = np.random.default_rng(0).permutation(len(persons))[:people]
        model = trainer.model.eval()
        shared, own, none = (
            evaluate(model, persons, protocol=protocol, cue=cue, flip=False, rows=rows)
            for protocol, cue in (("shared", "joint"), ("own", "joint"), ("own", "none")))
        trainer.ready()
        result |= {"ap": shared.ap, "identity": shared.identity["accuracy"], "own_ap": own.ap,
                   "own_ap_no_cue": none.ap}
        earlier = [record.get("own_ap", -1) for record in run_folder.read_metrics(out)]
        if own.ap > max(earlier, default=-1):
            save_model(model, out / "best.safetensors", overwrite=True)
    trainer.group.wait()
    return result


def _finite_mean(losses: list[Tensor], step: int, out: Path) -> Tensor:
    """The mean of the losses; only here does the loop wait for the device."""
    values = torch.stack(losses)
    if not values.isfinite().all():
        first = step - len(losses) + 1 + int((~values.isfinite()).nonzero()[0])
        raise _not_finite("loss is", first, out)
    return values.mean()


def _not_finite(what: str, step: int, out: Path) -> RunError:
    return RunError(f"the {what} not finite at step {step}; {out}/last.pt, if it is there, still "
                    "holds an earlier step. Try a lower lr, a longer warmup, or "
                    "precision=float32, in a new run folder")


def _save(trainer: Trainer, out: Path) -> None:
    with run_folder.writing(f"the checkpoint of step {trainer.step} to {out}"):
        write_whole(out / "last.pt", lambda name: torch.save(trainer.state(), name))
        save_model(trainer.model, out / "model.safetensors", overwrite=True)
