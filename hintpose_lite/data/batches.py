"""From context crops to a training batch, on the device: augment, warp, targets, cues.

One affine matrix a person carries box noise, scale, rotation and flip at once, so picture,
keypoints, masks and cues cannot drift apart: they all go through that matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cues.training import CuePeople, draw_cues
from ..pose.geometry import apply, compose, crop_matrix, flip_matrix, invert, pad, warp
from ..pose.heatmaps import encode
from ..pose.skeleton import Skeleton
from ..settings import settle
from .crops import MASK_STRIDE, Crops


@dataclass(frozen=True)
class Augment:
    """How crops are varied in training (HRNet's recipe where it has one).

    rotation: degrees, standard deviation, clipped at twice that, applied with `rotate`;
    scale: standard deviation about 1, clipped at itself; flip: probability; half_body: probability
    of showing only the upper or lower body where more than 8 joints are labelled; shift: of the
    box's centre, in fractions of its size, standard deviation; shared: probability that a person
    with a partner (IoU of at least 0.1) is shown in the box of both; light: strength of brightness,
    contrast and saturation changes; cue_height: of cue maps, which have 1 in use: from lower ones a
    network learns to trust a cue in use more (RESULTS.md). The last four are ours, and so is that
    half_body takes the extent of the joints as box, or the whole body for fewer than three joints.
    """

    rotation: float = 45.0
    rotate: float = 0.6
    scale: float = 0.35
    flip: float = 0.5
    half_body: float = 0.3
    shift: float = 0.03
    shared: float = 0.5
    light: float = 0.3
    cue_height: float = 1.0

    def __post_init__(self):
        settle(self)


@dataclass(frozen=True)
class Batch:
    """images (N, 3, H, W) normalised; cues (N, 1, H, W) or None; targets (N, K, h, w);
    weights (N, K), 1 for labelled joints; points (N, K, 2) in crop pixels."""

    images: Tensor
    cues: Tensor | None
    targets: Tensor
    weights: Tensor
    points: Tensor


CACHED = 2**20  # values of the windows that a CPU makes at a time, so that its cache holds them


def normalise(images: Tensor, mean, std) -> Tensor:
    """Float images (N, 3, H, W) in [0, 255] to zero mean and unit deviation, per channel."""
    mean, std = (images.new_tensor(value).view(3, 1, 1) * 255 for value in (mean, std))
    return (images - mean).div_(std)


def make_batch(crops: Crops, rows: Tensor, kinds: Tensor, spec, augment: Augment,
               skeleton: Skeleton, generator: torch.Generator) -> Batch:
    """The training batch of people `rows` (N,), augmented at random.

    kinds: (N,) of the cues, as `CueMix.draw` gives them. spec: of the model (input size, codec,
    sigmas, mean, std, whether it takes a cue). The generator lives on the crops' device; the same
    generator state gives the same batch.
    """
    matrices, flipped = draw_matrices(crops, rows, spec.input_size, augment, skeleton, generator)
    order = torch.tensor(skeleton.mirror, device=rows.device)

    def oriented(keypoints: Tensor) -> Tensor:  # left and right trade places in a mirrored crop
        return torch.where(flipped[:, None, None], keypoints[:, order], keypoints)

    keypoints = oriented(crops.keypoints[rows])
    images = draw_pictures(crops, rows, matrices, spec, augment.light, generator)
    points = apply(matrices, keypoints[..., :2])
    reach = 3 * spec.target_sigma * 4  # a joint whose Gaussian misses the crop cannot be asked for
    near = (points > -reach) & (points < points.new_tensor(spec.input_size) + reach)
    weights = ((keypoints[..., 2] > 0) & near.all(-1)).float()
    targets = encode(points, spec.input_size, spec.target_sigma, spec.codec, heights=weights)
    cues = None
    if spec.cue:
        half = crops.matrices.new_tensor([[1 / MASK_STRIDE, 0, 0.5 / MASK_STRIDE - 0.5],
                                          [0, 1 / MASK_STRIDE, 0.5 / MASK_STRIDE - 0.5]])
        people = CuePeople(keypoints, oriented(crops.partners[rows]), crops.boxes[rows],
                           crops.areas[rows], crops.masks[rows][:, None].float(),
                           compose(half, crops.matrices[rows]), crops.sigmas)
        cues = augment.cue_height * draw_cues(people, kinds, matrices, spec.input_size,
                                              spec.cue_sigma, generator)
    return Batch(images, cues, targets, weights, points)


def draw_pictures(crops: Crops, rows: Tensor, matrices: Tensor, spec, light: float,
                  generator: torch.Generator) -> Tensor:
    """Normalised crops (N, 3, H, W) of people `rows` (N,) through picture-to-crop matrices
    (N, 2, 3), in a light that varies by up to `light`."""
    to_crop = compose(matrices, invert(crops.matrices[rows]))
    factors = 1 + light * (2 * torch.rand(len(rows), 3, generator=generator,
                                          device=rows.device) - 1)
    few = max(1, CACHED // crops.windows[0].numel()) if rows.device.type == "cpu" else len(rows)
    images = to_crop.new_empty(len(rows), 3, *spec.input_size[::-1])
    for i in range(0, len(rows), few):
        part = slice(i, i + few)
        windows = crops.windows.index_select(0, crops.window_of[rows[part]])
        some = warp(windows.float(), to_crop[part], spec.input_size)
        some = _relight(some, factors[part]) if light else some
        images[part] = normalise(some, spec.mean, spec.std)
    return images


def draw_matrices(crops: Crops, rows: Tensor, size: tuple[int, int], augment: Augment,
                  skeleton: Skeleton, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random picture-to-crop matrices (N, 2, 3) of people, and which of them are flipped (N,)."""
    count, device = len(rows), rows.device

    def coin(probability: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) < probability

    def normal(limit: float, *shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, device=device).clamp(-limit, limit)

    together = coin(augment.shared) & (crops.overlap[rows] >= 0.1)
    boxes = torch.where(together[:, None], crops.shared[rows], crops.boxes[rows])
    half = _half_body(crops.keypoints[rows], boxes, skeleton, generator)
    boxes = torch.where((coin(augment.half_body) & ~together)[:, None], half, boxes)
    shift = normal(2, 2) * augment.shift * boxes[:, 2:]
    boxes = pad(torch.cat([boxes[:, :2] + shift, boxes[:, 2:]], -1), size[0] / size[1])
    grow = 1 + normal(1, 1) * augment.scale
    boxes = torch.cat([boxes[:, :2] + boxes[:, 2:] * (1 - grow) / 2, boxes[:, 2:] * grow], -1)
    rotation = normal(2) * augment.rotation * coin(augment.rotate)
    matrices = crop_matrix(boxes, size, rotation)
    flipped = coin(augment.flip)
    mirrored = compose(flip_matrix(size[0], matrices), matrices)
    return torch.where(flipped[:, None, None], mirrored, matrices), flipped


def _half_body(keypoints: Tensor, boxes: Tensor, skeleton: Skeleton,
               generator: torch.Generator) -> Tensor:
    """Boxes (N, 4) about the labelled joints of the upper (70 %) or lower body, where a person has
    more than 8 labelled joints and at least 3 in that half; the given box elsewhere."""
    upper = torch.zeros(len(skeleton), dtype=torch.bool, device=boxes.device)
    upper[list(skeleton.upper)] = True
    labelled = keypoints[..., 2] > 0
    take_upper = torch.rand(len(boxes), 1, generator=generator, device=boxes.device) < 0.7
    half = labelled & torch.where(take_upper, upper, ~upper)
    low = torch.where(half[..., None], keypoints[..., :2], torch.inf).amin(1)
    high = torch.where(half[..., None], keypoints[..., :2], -torch.inf).amax(1)
    size = (high - low) * 1.5 / 1.25 + 1  # HRNet grows the joints' extent by 1.5 in all
    usable = ((labelled.sum(1) > 8) & (half.sum(1) >= 3))[:, None] & bool(skeleton.upper)
    return torch.where(usable, torch.cat([(low + high - size) / 2, size], -1), boxes)


def _relight(images: Tensor, factors: Tensor) -> Tensor:
    """Saturation, contrast and brightness of float images (N, 3, H, W) in [0, 255], times factors
    (N, 3): three changes of colours that are one affine map together."""
    saturation, contrast, brightness = factors[..., None, None].unbind(1)
    grey = torch.full((3, 3), 1 / 3, device=images.device)
    turn = grey + saturation * (torch.eye(3, device=images.device) - grey)
    level = images.mean((1, 2, 3))[:, None, None].expand(-1, 3, 1)
    colours = torch.baddbmm(brightness * (1 - contrast) * level, brightness * contrast * turn,
                            images.flatten(2))
    return colours.clamp_(0, 255).view_as(images)
