"""The cue network finds the people in a box, and gives a cue for each of them.

The report only mentions a simple network, trained for that purpose, as one source of cues; all of
this is our choice. It is a small HRNet with one heatmap, on which every person of the crop is a
peak of height 1 at the middle of the visible mask.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ..crowd.folder import DESCRIPTION
from ..cues.cue import Cue
from ..cues.evaluation import person_cue
from ..data.batches import normalise, relight
from ..data.coco import CocoPersons
from ..data.crops import Augment, PersonCrops, load, places_of_steps
from ..errors import ConfigError, RunError
from ..evaluation.predict import Predictor, cut_crops, prepare
from ..model.device import autocast
from ..model.hintpose import HintPose, Spec
from ..model.hrnet import STRIDE
from ..pose.geometry import apply, constant, invert
from ..pose.heatmaps import encode
from ..pose.skeleton import Skeleton
from ..training.config import TrainConfig
from ..training.step import learning_rate
from ..weights.weights import load_model, save_model

SPEC = Spec(width=16, stem=16, modules=(1, 1, 1), blocks=1, joints=1, cue=False, hops=1,
            input_size=(96, 128), codec="quarter", target_sigma=1.5)
MIDDLE = Skeleton(names=("middle",), swaps=(), limbs=(), sigmas=(0.1,))


def network_for(model) -> str:
    """The name of the shipped cue network for a pose network: trained on drawings, or on photos."""
    return "crowd-cues" if model.trained_on == DESCRIPTION else "people-cues"


def people_maps(points: Tensor, shown: Tensor, spec: Spec) -> Tensor:
    """Targets (N, 1, h, w): a Gaussian per person; where two overlap, the larger value counts.

    points (N, P, 2): the middles of the people of each crop, in crop pixels; shown (N, P): which
    of them exist. A person whose middle lies outside the crop has no peak.
    """
    last = constant(tuple(side - 1 for side in spec.input_size), points.device)
    inside = ((points >= 0) & (points <= last)).all(-1)
    heights = (inside & shown).to(points.dtype)
    maps = encode(points, spec.input_size, spec.target_sigma, spec.codec, heights=heights)
    return maps.amax(1, keepdim=True)


def find_peaks(maps: Tensor, low: float, most: int = 8) -> tuple[Tensor, Tensor]:
    """The highest local maxima of maps (N, 1, h, w) that reach `low`, which must be above 0.

    Returns points (N, most, 2) in heatmap pixels, refined to the mean place of the 3x3 pixels about
    each peak, and heights (N, most), falling, then 0. No peak is within two pixels of a higher one.
    """
    maps = maps.clamp(min=0)
    height, width = maps.shape[-2:]
    tops = (maps == F.max_pool2d(maps, 5, 1, 2)) & (maps >= low)
    ranks = tops * torch.arange(height * width, 0.0, -1, device=maps.device).view(height, width)
    tops &= ranks == F.max_pool2d(ranks, 5, 1, 2)  # of equal neighbours the first
    heights, flat = (maps * tops).flatten(1).topk(min(most, height * width), dim=1)
    shift = torch.arange(-1.0, 2, device=maps.device)
    kernels = torch.stack([torch.ones(3, 3, device=maps.device), shift.expand(3, 3),
                           shift[:, None].expand(3, 3)])
    mass, x, y = F.conv2d(maps, kernels[:, None], padding=1).flatten(2).gather(
        2, flat[:, None].expand(-1, 3, -1)).unbind(1)
    middle = torch.stack([flat % width, flat // width], -1)
    return middle + torch.stack([x, y], -1) / mass.clamp(min=1e-6)[..., None], heights


class CueNetwork:
    """A cue network as a cue source: `PoseEstimator(source=CueNetwork())`.

    model: what `train_cuenet` made, or a path or a shipped name, which is loaded to `device`:
    "people-cues" for photographs, "crowd-cues" for drawn people.
    low: the height from which a peak is a person; most: people per box. Raises ConfigError
    for another kind of network.
    """

    def __init__(self, model: HintPose | str | Path = "people-cues", *, low: float = 0.3,
                 most: int = 8, device: str | torch.device = "cpu"):
        model = load_model(model, device) if isinstance(model, (str, Path)) else model
        if model.spec.joints != 1 or model.spec.cue:
            raise ConfigError(f"a cue network has one heatmap and takes no cue; this one has "
                              f"{model.spec.joints}: make one with `hintpose cuenet`")
        if not 0 < low < 1 or most < 1:
            raise ConfigError(f"low={low} must lie between 0 and 1, and most={most} be at least 1")
        self.model, self.low, self.most = model.eval(), low, most

    def __call__(self, picture: np.ndarray, boxes: np.ndarray) -> list[list[Cue]]:
        """A point on each person in boxes (n, 4) of a picture (H, W, 3) uint8, the surest first."""
        if not len(boxes):
            return []
        boxes = torch.as_tensor(boxes, dtype=torch.float32)
        spec = self.model.spec
        crops, matrices = cut_crops([picture] * len(boxes), boxes, spec)
        images, _ = prepare(spec, crops, matrices, None)
        maps = Predictor(self.model, skeleton=MIDDLE).heatmaps(images, None)[-1].cpu()
        points, heights = find_peaks(maps, self.low, self.most)
        points = apply(invert(matrices), points * STRIDE)
        edge = torch.tensor(picture.shape[1::-1], dtype=torch.float32) - 1
        points = points.clamp(torch.zeros(2), edge)
        return [[Cue.point(*point) for point in own[known > 0].tolist()]
                for own, known in zip(points, heights, strict=True)]


AUGMENT = Augment(rotate=0.0, scale=0.25, half_body=0.0, shift=0.08, shared=0.6, light=0.2)
WHOLE = 0.25  # how often the box is the whole picture
SHOWN = 100  # steps between two reports of the loss, which wait for the device


def train_cuenet(persons: CocoPersons, out: str | Path, *, steps: int = 4000, batch: int = 32,
                 lr: float = 4e-3, sigma: float = 1.5, seed: int = 0, init: str | Path = "none",
                 device: str | torch.device = "cpu", progress: bool = True,
                 overwrite: bool = False) -> Path:
    """Trains a cue network on all people of a data set, and writes it to the file `out`.

    Each crop is a person's box, the box shared with the partner, or the whole picture, and the
    target has a peak for everybody in it. init: a pose network, by name or path, whose architecture
    and layers are taken, apart from the final one and HintPose's additions; "none": a small network
    with random weights. sigma: of a peak, in heatmap pixels; where it is hard to tell where people
    have their middles, narrow peaks stay too low to be found. Training takes minutes on one core,
    so there are no checkpoints. The same arguments give the same file on a CPU. Raises RunError if
    the loss is not finite, WriteError if `out` cannot be written, and CheckpointError if it exists
    (and not `overwrite`) or does not end in .safetensors.
    """
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
        torch.manual_seed(seed)
        model = first_network(init, sigma)
    spec = model.spec
    config = TrainConfig(spec=spec, augment=AUGMENT, steps=steps, batch=batch, lr=lr, seed=seed)
    model.trained_on = persons.description
    probe = Path(out).with_name(f".{Path(out).name}") if overwrite else out
    save_model(model, probe, overwrite=overwrite).unlink()  # fails before the work, not after it
    model.to(device, memory_format=torch.channels_last).train()
    crops = Company(persons, config)
    places = places_of_steps(len(persons), batch, seed, 0, steps)
    batches = load(crops, places, torch.device(device))
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    with tqdm(range(steps), str(out), unit="step", disable=not progress, mininterval=1) as bar:
        for step, items in zip(bar, batches, strict=True):
            points, shown = items.keypoints.split((2, 1), -1)
            targets = people_maps(points, shown[..., 0] > 0, spec)
            images = normalise(relight(items.crops, items.lights), spec.mean, spec.std)
            optimiser.param_groups[0]["lr"] = learning_rate(config, step)
            with autocast(config.precision, images.device):
                found = model(images.contiguous(memory_format=torch.channels_last))[-1]
            loss = F.mse_loss(found.float(), targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if step % SHOWN == SHOWN - 1 or step == steps - 1:
                if not math.isfinite(value := loss.item()):  # it will not become finite again
                    raise RunError(f"the loss is no longer finite at step {step + 1}: take a lower "
                                   "lr")
                bar.set_postfix(loss=f"{value:.2e}")
    return save_model(model, out, half=True, overwrite=overwrite)


def first_network(init: str | Path, sigma: float = 1.5) -> HintPose:
    """A fresh cue network, with the layers of the pose network `init` if that is not "none"."""
    if init == "none":
        return HintPose.from_spec(replace(SPEC, target_sigma=sigma))
    trained = load_model(init)
    model = HintPose.from_spec(replace(
        trained.spec, joints=1, cue=False, hops=1, codec=SPEC.codec,
        target_sigma=sigma, calibration=SPEC.calibration))
    kept = {name: value for name, value in trained.state_dict().items() if not name.startswith(
        ("final_layer", "input_refinement", "recurrent_refinement"))}
    model.load_state_dict(kept, strict=False)
    return model


class Company(PersonCrops):
    """Crops whose `keypoints` are the middles (P, 3) of all people of the picture, with v = 0 where
    there are fewer than P."""

    def __init__(self, persons: CocoPersons, config: TrainConfig):
        super().__init__(persons, config.spec, config.augment, seed=config.seed)
        middles = np.array([(*person_cue(persons, row, "centroid").xy[0], 1)
                            for row in range(len(persons))], np.float32)
        self.middles = pad_sequence([torch.from_numpy(middles[persons.image_ids == image])
                                     for image in persons.image_ids], batch_first=True).numpy()

    def draw_box(self, person, other, random: np.random.Generator) -> np.ndarray:
        """As for `PersonCrops`, or the whole picture."""
        if random.random() < WHOLE:
            return np.array([0, 0, *person.image_size])
        return super().draw_box(person, other, random)

    def item(self, epoch: int, row: int, turn: int = 0, **settings) -> dict[str, np.ndarray]:
        item, middles = super().item(epoch, row, turn, **settings), self.middles[row].copy()
        matrix = item["matrices"]
        middles[:, :2] = middles[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        return item | {"keypoints": middles}
