"""One step of training: who is in it, the loss, the learning rate, and the `Trainer` that takes it.

The batch of step t is a function of (seed, t) alone, and so is the learning rate. A run that is
stopped and started again therefore takes the very steps it would have taken (bit for bit on a CPU).
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
from ..model.device import autocast
from ..model.hintpose import HintPose, norms
from ..pose.geometry import constant
from ..weights.weights import initialise
from .config import TrainConfig
from .processes import Crew

ALONE = Crew()


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


def _generator(seed: int, purpose: str, index: int, device="cpu") -> torch.Generator:
    """Random numbers of their own for every purpose, and for every epoch or step of it."""
    words = np.random.SeedSequence([seed, *purpose.encode(), index]).generate_state(2)
    return torch.Generator(device).manual_seed(int(words[0]) << 32 | int(words[1]))


class Trainer:
    """A model, its optimiser and where it stands; `run_step` takes it one step on."""

    def __init__(self, config: TrainConfig, people: CocoPersons, device: str | torch.device,
                 initial: bool = True, crew: Crew = ALONE):
        """initial: read the weights that config.init names; not for a run that is continued."""
        self.config, self.people, self.device = config, people, torch.device(device)
        self.crops = PersonCrops(people, config.spec, config.augment, config.cues, config.seed)
        self.crew = crew
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
            torch.manual_seed(config.seed)
            self.model = HintPose.from_spec(config.spec)
        if initial:
            initialise(self.model, config.init, say=print if crew.leads else lambda _: None)
        if config.batch_norm == "synchronised":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.model.checkpoint_hops = config.checkpoint_hops
        self.model.to(self.device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(_parameter_groups(self.model, config), fused=True)
        self.step, self.seconds, self.batches = 0, 0.0, None
        self.frozen_from = round(config.freeze_after * config.steps)
        self.autocast = autocast(config.precision, self.device)
        self.eager = crew.wrap(self.model, self.device,
                               unused=config.hop_dropout + config.hops_after > 0)
        self.forward = self.eager
        if config.compile:  # each number of hops is compiled once more for frozen batch norms
            torch._dynamo.config.recompile_limit = max(8, 2 * config.spec.hops)
            self.forward = torch.compile(self.eager)
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # sizes stay the same
        self.ready()

    def ready(self) -> None:
        """Puts the model into training mode, batch norms only before `freeze_after`."""
        self.model.train()
        if self.step >= self.frozen_from:
            for module in norms(self.model):
                module.eval()

    def run_step(self) -> Tensor:
        """One step; the loss stays on the device, so that nobody waits for it."""
        config, spec = self.config, self.config.spec
        if self.batches is None:
            places = places_of_steps(len(self.people), config.batch, config.seed, self.step,
                                     config.steps)
            self.batches = load(self.crops, map(self.crew.share, places), self.device,
                                self.crew.size)
        if self.step == self.frozen_from:
            self.ready()
        hops = draw_hops(config, self.step)
        purpose = f"batch of {self.crew.rank}"
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
        """The model's heatmaps; without compilation, said aloud, where that does not work."""
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
        """All that is needed to go on from here."""
        return {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict) -> None:
        """Goes on from a state."""
        self.step, self.seconds, self.batches = state["step"], state["seconds"], None
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ready()


def draw_hops(config: TrainConfig, step: int) -> int:
    """How many hops a step runs: one before `hops_after`, then all, or by `hop_dropout` any fewer.

    Fewer hops make a step cheaper and teach the network to be good after each of them."""
    draw = torch.rand(2, generator=_generator(config.seed, "hops", step)).tolist()
    if step < config.hops_after * config.steps:
        return 1
    if draw[0] >= config.hop_dropout or config.spec.hops == 1:
        return config.spec.hops
    return 1 + int(draw[1] * (config.spec.hops - 1))


def _parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Weights decay; biases and batch norms, which have one dimension, do not. The backbone learns
    at its own rate, HintPose's additions and the final layer at the full one."""
    groups = []
    for backbone, decays in product((True, False), repeat=2):
        parameters = [p for name, p in model.named_parameters()
                      if decays == (p.ndim > 1) and backbone != name.startswith(
                          ("input_refinement", "recurrent_refinement", "final_layer"))]
        groups.append({"params": parameters, "factor": config.backbone_lr if backbone else 1.0,
                       "weight_decay": config.weight_decay if decays else 0.0})
    return groups
