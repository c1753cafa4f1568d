"""Training: one frozen configuration, the loss, one loop, checkpoints that resume exactly.

The batch of step t is a function of (seed, t) alone, and so is the learning rate. A run that is
stopped and started again therefore takes the very steps it would have taken (bit for bit on a CPU).
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from .config import TrainConfig
from .data.batches import Batch, make_batch
from .data.coco import CocoPersons
from .data.crops import Crops, build_crops
from .errors import ConfigError, RunError
from .evaluation import evaluate
from .nets.hintpose import HintPose
from .nets.weights import initialise, save_model
from .runs import read_metrics
from .sources import open_data

RESTART = ("Make room on the disk and start the same command again: the run goes on from its last "
           "checkpoint")


def heatmap_loss(outputs: Tensor, batch: Batch, hop_weights: Tensor) -> Tensor:
    """HRNet's loss, 0.5 x mean squared error of the labelled joints' heatmaps, for every hop.

    outputs (T, N, K, h, w); hop_weights (T,) are scaled to sum 1. Returns a scalar. Unlabelled
    joints count as zero error, in the mean too, as HRNet has it.
    """
    outputs = outputs.float()
    errors = F.mse_loss(outputs, batch.targets.expand_as(outputs), reduction="none").mean((3, 4))
    errors = (errors * batch.weights).mean((1, 2))
    return 0.5 * (errors * hop_weights).sum() / hop_weights.sum()


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of a step: linear warm-up, then a cosine to zero or steps of x0.1."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr * 0.1 ** sum(step >= config.steps * part for part in config.drops)


def rows_of_step(config: TrainConfig, step: int, people: int) -> Tensor:
    """Who is in the batch of a step: every epoch is a new permutation of all people."""
    place = torch.arange(step * config.batch, (step + 1) * config.batch)
    epochs = place // people
    orders = {epoch: torch.randperm(people, generator=_generator(config.seed, "order", epoch))
              for epoch in epochs.unique().tolist()}
    return torch.stack([orders[e][p] for e, p in zip(epochs.tolist(), (place % people).tolist(),
                                                     strict=True)])


def _generator(seed: int, purpose: str, index: int, device="cpu") -> torch.Generator:
    """Random numbers of their own for every purpose, and for every epoch or step of it."""
    words = np.random.SeedSequence([seed, *purpose.encode(), index]).generate_state(2)
    return torch.Generator(device).manual_seed(int(words[0]) << 32 | int(words[1]))


class Trainer:
    """A model, its optimiser and where it stands; `run_step` takes it one step on."""

    def __init__(self, config: TrainConfig, crops: Crops, skeleton, device: str,
                 initial: bool = True):
        """initial: read the weights that config.init names; not for a run that is continued."""
        self.config, self.skeleton, self.device = config, skeleton, torch.device(device)
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
            torch.manual_seed(config.seed)
            self.model = HintPose.from_spec(config.spec)
        if initial:
            initialise(self.model, config.init)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.crops = crops.to(self.device)
        self.optimiser = torch.optim.AdamW(_parameter_groups(self.model, config.weight_decay),
                                           lr=config.lr, fused=True)
        self.step, self.seconds = 0, 0.0
        self.autocast = autocast(config.precision, self.device)

    def run_step(self) -> Tensor:
        """One step; the loss stays on the device, so that nobody waits for it."""
        config, spec = self.config, self.config.spec
        plan = _generator(config.seed, "plan", self.step)  # on the CPU, so that no GPU is asked
        hops, kinds = draw_hops(config, plan), config.cues.draw(config.batch, plan)
        rows = rows_of_step(config, self.step, len(self.crops)).to(self.device)
        batch = make_batch(self.crops, rows, kinds, spec, config.augment, self.skeleton,
                           _generator(config.seed, "batch", self.step, self.device))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        with self.autocast:
            images = batch.images.contiguous(memory_format=torch.channels_last)
            outputs = self.model(images, batch.cues, hops)
        weights = (config.hop_weights + config.hop_weights[-1:] * hops)[:hops]
        weights = torch.tensor(weights, device=self.device)
        loss = heatmap_loss(outputs, batch, weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def state(self) -> dict:
        """All that is needed to go on from here."""
        return {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict) -> None:
        """Goes on from a state."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])


def draw_hops(config: TrainConfig, generator: torch.Generator) -> int:
    """How many hops a step runs: all, or with `hop_dropout` any smaller number.

    Fewer hops make a step cheaper and teach the network to be good after each of them."""
    draw = torch.rand(2, generator=generator).tolist()
    if draw[0] >= config.hop_dropout or config.spec.hops == 1:
        return config.spec.hops
    return 1 + int(draw[1] * (config.spec.hops - 1))


def autocast(precision: str, device: torch.device):
    """The arithmetic of a step: bf16 where it is fast ("auto": CUDA, and CPUs with AVX512-BF16)."""
    # torch tells what a CPU can do through a private name only, which may go away.
    ask_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    fast = device.type == "cuda" or (device.type == "cpu" and ask_cpu())
    if precision == "bf16" or (precision == "auto" and fast):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weights decay; biases and batch norms, which have one dimension, do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay},
            {"params": rest, "weight_decay": 0.0}]


# --- a run --------------------------------------------------------------------------------------

def train(config: TrainConfig, out: str | Path, data=None, val=None, *, device: str | None = None,
          progress: bool = True, position: int = 0) -> Path:
    """Trains into the run folder `out` and returns it; a run of the same config is continued.

    data, val: (annotations, images) or CocoPersons; without them crowd scenes are made under
    `data/`. position: line of the progress bar, where several runs share a screen. The folder
    holds config.json, metrics.jsonl, last.pt (to go on from) and model.safetensors (to use).
    Raises RunError where `out` is something else or the loss is not finite, ConfigError and
    DataError for unusable settings and data.
    """
    persons, held_out = open_data(config, data, val)
    out = open_folder(Path(out), {"config": config.to_dict(), "people": len(persons),
                                  "data": digest(persons)})
    if is_complete(out, config):
        return out
    if config.spec.joints != len(persons.skeleton):
        raise ConfigError(f"joints={config.spec.joints}, but the data set's skeleton has "
                          f"{len(persons.skeleton)}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _alone(out):
        (out / "stop").unlink(missing_ok=True)  # it was meant for an earlier start
        crops = build_crops(persons, config.window, progress=progress, masks=config.spec.cue)
        started = (out / "last.pt").exists()
        trainer = Trainer(config, crops, persons.skeleton, device, initial=not started)
        if started:
            _continue(trainer, out / "last.pt")
            trim_metrics(out, trainer.step)
        for record in _loop(trainer, out, held_out, progress, position):
            _note(out, record)
    return out


@contextmanager
def _alone(out: Path):
    """Holds the run folder; the system lets go of it when the process ends, however it ends."""
    try:
        with FileLock(out / "lock", timeout=0):
            yield
    except Timeout:
        raise RunError(f"another process is training in {out}: follow it with `hintpose watch "
                       f"{out}`, end it with --stop, or train into another folder") from None


def _note(out: Path, record: dict) -> None:
    """Adds a line to metrics.jsonl."""
    try:
        with open(out / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {out}/metrics.jsonl: {error}. {RESTART}") from error


def _continue(trainer: Trainer, path: Path) -> None:
    """Loads a run's checkpoint into the trainer."""
    try:
        trainer.load(torch.load(path, map_location=trainer.device, weights_only=True))
    except Exception as error:  # unpickling a damaged file raises nearly anything
        raise RunError(f"{path} cannot be continued from ({type(error).__name__}): it is damaged "
                       "or no checkpoint of this run. Put a copy of it back, or train into "
                       "another folder, perhaps with --init and the model.safetensors beside it"
                       ) from error


def _loop(trainer: Trainer, out: Path, held_out: CocoPersons, progress: bool,
          position: int) -> Iterator[dict]:
    """Runs the remaining steps; yields what is to be written down."""
    config, losses, start = trainer.config, [], time.time() - trainer.seconds
    if _misses_validation(out, config, trainer.step):  # killed between a checkpoint and that
        yield {"step": trainer.step, **validate(trainer.model, held_out)}
    with tqdm(total=config.steps, initial=trainer.step, desc=str(out), unit="step",
              disable=not progress, mininterval=1, position=position) as bar:
        while trainer.step < config.steps:
            losses.append(trainer.run_step())
            bar.update()
            due, stopped = trainer.step == config.steps, (out / "stop").exists()
            if due or stopped or trainer.step % config.checkpoint_every == 0:
                loss = _finite_mean(losses, trainer.step, out)
                trainer.seconds = time.time() - start
                _save(trainer, out)
                yield {"step": trainer.step, "loss": loss, "seconds": trainer.seconds,
                       "lr": learning_rate(config, trainer.step - 1)}
                losses = []
                bar.set_postfix(loss=f"{loss:.2e}")
            if due or trainer.step % config.validate_every == 0:
                yield {"step": trainer.step, **validate(trainer.model, held_out)}
            if stopped:
                (out / "stop").unlink()
                return


def validate(model: HintPose, persons: CocoPersons, people: int = 300) -> dict:
    """Person AP and identity accuracy in shared boxes, of the first people of a data set."""
    model.eval()
    try:
        report = evaluate(model, persons, protocol="shared", cue="joint", flip=False,
                          rows=range(min(people, len(persons))))
    finally:
        model.train()
    return {"ap": report.ap, "identity": report.identity["accuracy"]}


def _finite_mean(losses: list[Tensor], step: int, out: Path) -> float:
    """The mean of losses; the only place where the loop waits for the device."""
    values = torch.stack(losses)
    if not values.isfinite().all():
        first = step - len(losses) + 1 + int((~values.isfinite()).nonzero()[0])
        kept = (f"{out}/last.pt still holds an earlier step" if (out / "last.pt").exists()
                else "there is no checkpoint yet")
        raise RunError(f"the loss is not finite at step {first}; {kept}. Try a lower lr, a longer "
                       "warmup, or precision=float32, in a new run folder")
    return values.mean().item()


def _save(trainer: Trainer, out: Path) -> None:
    """Checkpoint and weights, each under a temporary name first."""
    try:
        torch.save(trainer.state(), out / "last.pt.tmp")
        os.replace(out / "last.pt.tmp", out / "last.pt")
        save_model(trainer.model, out / "model.safetensors", overwrite=True)
    except (OSError, RuntimeError) as error:
        raise RunError(f"cannot write the checkpoint of step {trainer.step} to {out}: {error}. "
                       f"{RESTART}") from error


def open_folder(out: Path, wanted: dict) -> Path:
    """Makes a run folder with `wanted` as its config.json, or checks that it is such a one."""
    file = out / "config.json"
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}): train into another folder") from error
        different = _differences(found, wanted)
        if different:
            raise RunError(f"{out} holds a run with other settings: {'; '.join(different)}. Train "
                           "into another folder, or use those settings to go on with it")
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is no run folder: nothing there is overwritten, so give "
                       "the name of a new or empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json.tmp").write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        os.replace(out / "config.json.tmp", file)
    except OSError as error:
        raise RunError(f"cannot write to the run folder {out}: {error}") from error
    return out


def is_complete(out: Path, config: TrainConfig) -> bool:
    """Whether the run took all its steps and left its weights."""
    steps = [record["step"] for record in read_metrics(out) if "ap" in record]
    return config.steps in steps and (out / "model.safetensors").exists()


def _misses_validation(out: Path, config: TrainConfig, step: int) -> bool:
    due = step == config.steps or (step > 0 and step % config.validate_every == 0)
    return due and not any(r["step"] == step and "ap" in r for r in read_metrics(out))


def digest(persons: CocoPersons) -> str:
    """Of a data set's annotation file: SHA-256."""
    return hashlib.sha256(persons.annotations.read_bytes()).hexdigest()


def _differences(found, wanted, name: str = "") -> list[str]:
    """Lines "name: there x, here y" for all that differs between two nested dictionaries."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        inner = [(key, f"{name}.{key}".strip(".")) for key in sorted(set(found) | set(wanted))]
        return [line for key, path in inner
                for line in _differences(found.get(key), wanted.get(key), path)]
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


def trim_metrics(out: Path, step: int) -> None:
    """Drops records of steps after the checkpoint, which will be taken again."""
    kept = [json.dumps(record) + "\n" for record in read_metrics(out) if record["step"] <= step]
    try:
        (out / "metrics.tmp").write_text("".join(kept), encoding="utf-8")
        os.replace(out / "metrics.tmp", out / "metrics.jsonl")
    except OSError as error:
        raise RunError(f"cannot write {out}/metrics.jsonl: {error}. {RESTART}") from error
