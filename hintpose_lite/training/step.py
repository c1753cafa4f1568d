"""One step of training: its batch, the loss, the learning rate, and the `Trainer` that runs it.

The batch and the learning rate of step t depend on (seed, t) only, and with several processes on
their number. So a run that is stopped and started again, with as many processes, gives the same
weights as one that never stopped (bit for bit on a CPU).
"""

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.batches import Batch, make_batch
from ..data.coco import CocoPersons
from ..data.crops import PersonCrops, load, places_of_steps
from ..errors import ConfigError
from ..model.device import autocast
from ..model.hintpose import HintPose, norms
from ..pose.geometry import constant
from ..weights.weights import initialise
from .config import TrainConfig
from .processes import ProcessGroup

ONE_PROCESS = ProcessGroup()


def heatmap_loss(outputs: Tensor, batch: Batch, hop_weights: Tensor) -> Tensor:
    """HRNet's loss, 0.5 x mean squared error of the heatmaps, averaged over the hops.

    outputs: (T, N, K, h, w); hop_weights: (T,), scaled to sum 1. Returns a scalar. As in HRNet, an
    unlabelled joint has no error, but counts in the mean.
    """
    outputs = outputs.float()
    errors = F.mse_loss(outputs, batch.targets.expand_as(outputs), reduction="none").mean((3, 4))
    errors = (errors * batch.weights).mean((1, 2))
    return 0.5 * (errors * hop_weights).sum() / hop_weights.sum()


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate at a step: linear warm-up, then cosine decay to 0 or tenfold drops."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr * 0.1 ** sum(step >= config.steps * part for part in config.drops)


def _generator(seed: int, purpose: str, index: int, device="cpu") -> torch.Generator:
    """A generator for one purpose and step; no two of them share their random numbers."""
    words = np.random.SeedSequence([seed, *purpose.encode(), index]).generate_state(2)
    return torch.Generator(device).manual_seed(int(words[0]) << 32 | int(words[1]))


class Trainer:
    """A model, its optimiser and the number of steps done; `run_step` runs the next one."""

    def __init__(self, config: TrainConfig, people: CocoPersons, device: str | torch.device,
                 initial: bool = True, group: ProcessGroup = ONE_PROCESS):
        """initial: whether to read the weights of config.init; a run that goes on does not."""
        self.config, self.people, self.device = config, people, torch.device(device)
        self.crops = PersonCrops(people, config.spec, config.augment, config.cues, config.seed)
        self.group = group
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
            torch.manual_seed(config.seed)
            self.model = HintPose.from_spec(config.spec)
        if initial:
            with group.first_alone():  # it may download them; the others find them in the cache
                initialise(self.model, config.init, say=print if group.is_first else lambda _: None)
        if config.batch_norm == "synchronised":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.model.checkpoint_hops = config.checkpoint_hops
        self.model.to(self.device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(_parameter_groups(self.model, config), fused=True)
        self.step, self.seconds, self.batches = 0, 0.0, None
        self.frozen_from = round(config.freeze_after * config.steps)
        self.autocast = autocast(config.precision, self.device)
        self.eager = group.wrap(self.model, self.device,
                               unused=config.hop_dropout + config.hops_after > 0)
        self.forward = self.eager
        if config.compile:  # each number of hops is compiled once more for frozen batch norms
            torch._dynamo.config.recompile_limit = max(8, 2 * config.spec.hops)
            self.forward = torch.compile(self.eager)
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # sizes stay the same
        self.ready()

    def ready(self) -> None:
        """Puts the model into training mode; from `freeze_after` on, batch norms into eval mode."""
        self.model.train()
        if self.step >= self.frozen_from:
            for module in norms(self.model):
                module.eval()

    def run_step(self) -> Tensor:
        """Runs one step. The loss is returned on the device, so that the host need not wait."""
        config, spec = self.config, self.config.spec
        if self.batches is None:
            places = places_of_steps(len(self.people), config.batch, config.seed, self.step,
                                     config.steps, person_weights(config, self.people))
            self.batches = load(self.crops, map(self.group.share, places), self.device)
        if self.step == self.frozen_from:
            self.ready()
        hops = draw_hops(config, self.step)
        purpose = f"batch of {self.group.rank}"
        batch = make_batch(next(self.batches), spec, config.augment, self.people.skeleton,
                           _generator(config.seed, purpose, self.step, self.device),
                           config.cues.jitter)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["factor"]
        weights = (config.hop_weights + config.hop_weights[-1:] * hops)[:hops]
        loss = heatmap_loss(self._outputs(batch, hops), batch, constant(weights, self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def _outputs(self, batch: Batch, hops: int) -> Tensor:
        """The model's heatmaps. If compiled code fails, says so and continues in eager mode."""
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with self.autocast:
            try:
                return self.forward(images, batch.cues, hops)
            except Exception as error:
                if self.forward is self.eager or isinstance(error, torch.OutOfMemoryError):
                    raise
                print(f"torch.compile does not work here ({type(error).__name__}: "
                      f"{str(error).splitlines()[0]:.80}): going on without it")
                self.forward = self.eager
                return self.forward(images, batch.cues, hops)

    def state(self) -> dict:
        """Everything that is needed to go on from this step."""
        return {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict) -> None:
        """Continues from what `state` returned."""
        self.step, self.seconds, self.batches = state["step"], state["seconds"], None
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ready()


def person_weights(config: TrainConfig, people: CocoPersons) -> np.ndarray | None:
    """How often each person is drawn (N,), by the source of their picture and whether they are
    contested; None if all are drawn equally often. Raises ConfigError for unknown sources."""
    if not config.sources and config.contested == 1:
        return None
    weights = np.where(people.contested, config.contested, 1.0)
    sources = np.array([people.sources[image] for image in people.image_ids.tolist()], str)
    for word in config.sources.split():
        name, _, factor = word.partition("=")
        chosen = np.char.startswith(sources, name)
        if not chosen.any():
            raise ConfigError(f"sources={config.sources!r}: no picture has the source "
                              f"{name!r}; there are {', '.join(sorted({*sources}))}")
        weights[chosen] *= float(factor)
    if not weights.any():
        raise ConfigError(f"sources={config.sources!r} leaves nobody to be drawn")
    return weights


def draw_hops(config: TrainConfig, step: int) -> int:
    """How many hops a step runs: one before `hops_after`, then all, or with probability
    `hop_dropout` fewer, which trains the network to be accurate after each hop."""
    draw = torch.rand(2, generator=_generator(config.seed, "hops", step)).tolist()
    if step < config.hops_after * config.steps:
        return 1
    if draw[0] >= config.hop_dropout or config.spec.hops == 1:
        return config.spec.hops
    return 1 + int(draw[1] * (config.spec.hops - 1))


def _parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Groups with their own weight decay and learning rate. Biases and batch norms, which have one
    dimension, get no decay. The rate is multiplied by `backbone_lr` for the backbone, and for the
    final layer if the initial weights are those of a pose network."""
    fresh = ["input_refinement", "recurrent_refinement"]
    if config.init in ("none", "imagenet"):
        fresh.append("final_layer")
    groups = []
    for backbone, decays in product((True, False), repeat=2):
        parameters = [p for name, p in model.named_parameters()
                      if decays == (p.ndim > 1) and backbone != name.startswith(tuple(fresh))]
        groups.append({"params": parameters, "factor": config.backbone_lr if backbone else 1.0,
                       "weight_decay": config.weight_decay if decays else 0.0})
    return groups
