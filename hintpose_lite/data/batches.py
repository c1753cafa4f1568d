"""From crops to a training batch, on the device, without making the host wait for a GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cues.training import draw_cues
from ..pose.geometry import constant
from ..pose.heatmaps import encode
from ..pose.skeleton import Skeleton
from .crops import Augment, Items


@dataclass(frozen=True)
class Batch:
    """images (N, 3, H, W) normalised; cues (N, 1, H, W) or None; targets (N, K, h, w); weights
    (N, K), 1 for labelled joints in or near the crop, else 0; points (N, K, 2) in crop pixels."""

    images: Tensor
    cues: Tensor | None
    targets: Tensor
    weights: Tensor
    points: Tensor


def normalise(images: Tensor, mean: tuple, std: tuple) -> Tensor:
    """Images (N, 3, H, W) in [0, 255] as (image / 255 - mean) / std of each channel, float32."""
    # In whole rows of pixels and channels this is several times faster.
    copy = images.to(torch.float32, copy=True, memory_format=torch.channels_last)
    rows = copy.permute(0, 2, 3, 1).flatten(2)
    mean, std = (constant(values * images.shape[3], images.device) * 255 for values in (mean, std))
    return rows.sub_(mean).div_(std).unflatten(2, (-1, 3)).permute(0, 3, 1, 2)


def make_batch(items: Items, spec, augment: Augment, skeleton: Skeleton,
               generator: torch.Generator, jitter: float = 1.0) -> Batch:
    """The training batch of N people whose crops lie on the device. spec: of the model. generator:
    on the same device, for the cues; the same state gives the same batch. jitter: as in `CueMix`.
    """
    images = relight(items.crops, items.lights) if augment.light else items.crops
    points, v = items.keypoints.split((2, 1), -1)
    reach = 3 * spec.target_sigma * 4  # a joint whose Gaussian misses the crop has no target
    limit = constant(tuple(side + reach for side in spec.input_size), points.device)
    weights = ((v[..., 0] > 0) & ((points > -reach) & (points < limit)).all(-1)).float()
    targets = encode(points, spec.input_size, spec.target_sigma, spec.codec, heights=weights)
    cues = None
    if spec.cue:
        cues = augment.cue_height * draw_cues(
            items, items.kinds, constant(skeleton.sigmas, points.device), spec.input_size,
            spec.cue_sigma, generator, jitter)
    return Batch(normalise(images, spec.mean, spec.std), cues, targets, weights, points)


def relight(images: Tensor, factors: Tensor) -> Tensor:
    """Saturation, contrast and brightness of images (N, 3, H, W) in [0, 255], times factors
    (N, 3): three changes of colours that are one affine map together. Returns float32."""
    images = images.float()
    saturation, contrast, brightness = factors[..., None, None].unbind(1)
    grey = torch.full((3, 3), 1 / 3, device=images.device)
    turn = grey + saturation * (torch.eye(3, device=images.device) - grey)
    level = images.mean((1, 2, 3))[:, None, None].expand(-1, 3, 1)
    colours = torch.baddbmm(brightness * (1 - contrast) * level, brightness * contrast * turn,
                            images.flatten(2))
    return colours.clamp_(0, 255).view_as(images)
