"""Boxes and affine maps between pictures and crops, batched, on any device.

Conventions, used everywhere in the package:

* (x, y) order, x to the right and y down, in picture pixels; a box is (x, y, w, h).
* Integer coordinates are pixel *centres* (as cv2 and HRNet have it): a picture of width W covers
  x = -0.5 to W - 0.5.
* An affine map is a (2, 3) matrix M: a point p goes to M[:, :2] @ p + M[:, 2]. Maps are multiplied
  number by number, not with @, which autocast would round by up to 12 pixels.
"""

import functools

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

PADDING = 1.25  # HRNet pads every box by this factor before it is cropped


@functools.cache
def constant(values: tuple, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers as a tensor that is made once for each device, since copying them in every step would
    make the processor wait for the GPU. Do not write to it."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def corners(boxes: Tensor) -> Tensor:
    """(N, 4) boxes as (x0, y0, x1, y1)."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of a (N, 4) with every box of b (M, 4): (N, M)."""
    return torch.nan_to_num(box_iou(corners(a), corners(b)))


def union(a: Tensor, b: Tensor) -> Tensor:
    """The smallest boxes (N, 4) that cover both a (N, 4) and b (N, 4), pair by pair."""
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(corners(a)[..., 2:], corners(b)[..., 2:])
    return torch.cat([low, high - low], dim=-1)


def center(boxes: Tensor) -> Tensor:
    """(N, 2) centres of (N, 4) boxes."""
    return boxes[..., :2] + boxes[..., 2:] / 2


def pad(boxes: Tensor, aspect: float = 3 / 4, padding: float = PADDING) -> Tensor:
    """Boxes (N, 4) grown about their centres to width / height = aspect, then by `padding`."""
    middle = center(boxes)
    width = torch.maximum(boxes[..., 2], boxes[..., 3] * aspect) * padding
    size = torch.stack([width, width / aspect], dim=-1)
    return torch.cat([middle - size / 2, size], dim=-1)


def crop_matrix(boxes: Tensor, size: tuple[int, int], rotation: Tensor | None = None) -> Tensor:
    """Maps (N, 2, 3) that take boxes (N, 4) of a picture onto a crop of size = (width, height).

    As in HRNet, the box's centre lands on (width / 2, height / 2) and its width on `width` pixels,
    for every codec; the box should have the crop's aspect (see `pad`).
    rotation: (N,) degrees; positive turns the picture's content clockwise on the screen.
    """
    width, height = size
    scale = width / boxes[..., 2]
    angle = torch.zeros_like(scale) if rotation is None else torch.deg2rad(rotation)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    target = constant((width / 2, height / 2), boxes.device, boxes.dtype)
    return torch.cat([linear, (target - _turn(linear, center(boxes)))[..., None]], dim=-1)


def _turn(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (..., 2) through the linear part of maps (..., 2, 2 or 3): (..., 2)."""
    return matrix[..., 0] * points[..., 0:1] + matrix[..., 1] * points[..., 1:2]


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (N, P, 2) or (P, 2) through maps (N, 2, 3): (N, P, 2)."""
    matrix = matrix[..., None, :, :]
    return _turn(matrix, points) + matrix[..., 2]


def invert(matrix: Tensor) -> Tensor:
    """Maps (N, 2, 3) that undo `matrix`; it must not squash the plane onto a line."""
    (a, b), (c, d) = matrix[..., 0, :2].unbind(-1), matrix[..., 1, :2].unbind(-1)
    linear = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    linear = linear / (a * d - b * c)[..., None, None]
    return torch.cat([linear, -_turn(linear, matrix[..., 2])[..., None]], dim=-1)


def scale_of(matrix: Tensor) -> Tensor:
    """(N,) target pixels per source pixel of maps (N, 2, 3)."""
    (a, b), (c, d) = matrix[..., 0, :2].unbind(-1), matrix[..., 1, :2].unbind(-1)
    return (a * d - b * c).abs().sqrt()


def pixel_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """Centres of all pixels of a picture of size = (width, height): (height * width, 2)."""
    y, x = (torch.arange(n, device=like.device, dtype=like.dtype) for n in reversed(size))
    return torch.cartesian_prod(y, x).flip(-1)


def crop(picture: np.ndarray, matrix, size: tuple[int, int]) -> np.ndarray:
    """The crop (h, w[, 3]) of a picture (H, W[, 3]) that a matrix (2, 3) takes to size = (w, h).

    The picture is sampled bilinearly, and is black outside. Where it shrinks by two or more, whole
    blocks of its pixels are averaged first, so that nothing aliases.
    """
    (a, b, left), (c, d, top) = np.asarray(matrix, float).tolist()
    squeeze = a * d - b * c  # square crop pixels for each of the picture's
    if not 1e-30 < abs(squeeze) < 1e30:  # of a box far too large or small: nothing to see
        return np.zeros((*size[::-1], *picture.shape[2:]), picture.dtype)
    back = np.array([[d, -b, b * top - d * left], [-c, a, c * left - a * top]]) / squeeze
    width, height = size
    places = back[:, :2] @ [[-1, width, -1, width], [-1, -1, height, height]] + back[:, 2:]
    limits = np.array(picture.shape[1::-1])
    low = np.clip(places.min(1) - 2, 0, limits - 1).astype(int)
    high = np.clip(places.max(1) + 3, low + 1, limits).astype(int)
    part = picture[low[1]:high[1], low[0]:high[0]]
    factor = int(min(abs(squeeze) ** -0.5, *part.shape[:2]))
    back[:, 2] -= low
    if factor >= 2:
        rest = [-length % factor for length in part.shape[:2]]
        part = cv2.copyMakeBorder(part, 0, rest[0], 0, rest[1], cv2.BORDER_CONSTANT)
        part = cv2.resize(part, (part.shape[1] // factor, part.shape[0] // factor),
                          interpolation=cv2.INTER_AREA)
        back /= factor
        back[:, 2] -= (factor - 1) / (2 * factor)  # block i has its centre at factor (i + 0.5) - .5
    return cv2.warpAffine(part, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
