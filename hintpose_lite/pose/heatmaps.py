"""Keypoints to heatmaps and back: one Gaussian renderer, three codecs, one mirror.

A *codec* says how crop pixels and heatmap pixels relate and how a peak is refined:

  "quarter"  heatmap x = crop x / stride; argmax plus a quarter pixel toward the higher neighbour
             (HRNet's decoder).
  "dark"     the same relation; a second-order Taylor step on the logarithm of the smoothed heatmap
             (DARK, Zhang et al., CVPR 2020), which is exact for a Gaussian peak.
  "udp"      heatmap x = crop x (w - 1) / (W - 1), so that mirroring is exact (UDP, Huang et al.,
             CVPR 2020); refined like "dark".

Targets are not rounded to whole pixels, as HRNet's are: a decoder of sub-pixel peaks would have to
undo that error. Everything is batched torch on any device.
"""

import torch
from torch import Tensor

from ..errors import ConfigError
from .geometry import constant
from .skeleton import Skeleton

CODECS = ("quarter", "dark", "udp")


def gaussians(points: Tensor, size: tuple[int, int], sigma: float,
              heights: Tensor | None = None) -> Tensor:
    """Gaussians (..., height, width) centred on points (..., 2) of a map of size = (width, height),
    with peaks of these heights (...), by default 1. Differentiable in the points; a point outside
    gives the tail that reaches inside. Each map is the product of a row and a column."""
    x, y = (torch.arange(length, device=points.device, dtype=points.dtype) for length in size)
    row = torch.exp(-((x - points[..., 0:1]) ** 2) / (2 * sigma**2))
    if heights is not None:
        row = row * heights[..., None]
    column = torch.exp(-((y - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return column.unsqueeze(-1) * row.unsqueeze(-2)


def _ratio(input_size: tuple[int, int], heatmap_size: tuple[int, int], codec: str,
           device: torch.device) -> Tensor:
    """Heatmap pixels per crop pixel in x and y: (2,)."""
    if codec not in CODECS:
        raise ConfigError(f"unknown codec {codec!r}: choose one of {', '.join(CODECS)}")
    edge = int(codec == "udp")
    return constant(tuple((small - edge) / (large - edge) for small, large
                          in zip(heatmap_size, input_size)), device)


def encode(points: Tensor, input_size: tuple[int, int], sigma: float, codec: str = "quarter",
           stride: int = 4, heights: Tensor | None = None) -> Tensor:
    """Target heatmaps (N, K, H / stride, W / stride) of keypoints (N, K, 2) in crop pixels.

    input_size: (W, H) of the crop; sigma: in heatmap pixels; heights: (N, K) of the peaks, or 1.
    """
    size = (input_size[0] // stride, input_size[1] // stride)
    return gaussians(points * _ratio(input_size, size, codec, points.device), size, sigma, heights)


def decode(heatmaps: Tensor, input_size: tuple[int, int], codec: str = "quarter",
           sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in crop pixels and their scores (N, K) from heatmaps (N, K, h, w).

    A score is the height of the peak; sigma (heatmap pixels) is the target's, for the smoothing in
    "dark" and "udp". A map without a positive value gives (0, 0) and its maximum, as in HRNet.
    """
    height, width = heatmaps.shape[-2:]
    ratio = _ratio(input_size, (width, height), codec, heatmaps.device)
    heatmaps = heatmaps.float()
    scores, flat = heatmaps.flatten(-2).max(-1)
    peak = torch.stack([flat % width, flat // width], dim=-1)
    refine = _quarter_step if codec == "quarter" else _taylor_step
    points = (peak + refine(heatmaps, peak, sigma)) / ratio
    return torch.where(scores.unsqueeze(-1) > 0, points, torch.zeros_like(points)), scores


def _at(maps: Tensor, peak: Tensor, dx: int, dy: int) -> Tensor:
    """Value (N, K) of each map (N, K, h, w) at its peak (N, K, 2) shifted by (dx, dy), clamped."""
    height, width = maps.shape[-2:]
    x = (peak[..., 0] + dx).clamp(0, width - 1)
    y = (peak[..., 1] + dy).clamp(0, height - 1)
    return maps.flatten(-2).gather(-1, (y * width + x).unsqueeze(-1)).squeeze(-1)


def _inside(maps: Tensor, peak: Tensor, margin: int) -> Tensor:
    """Where a peak may be refined: HRNet's rule 1 < p < size - margin, in x and y."""
    limit = constant((maps.shape[-1] - margin, maps.shape[-2] - margin), peak.device)
    return ((peak > 1) & (peak < limit)).all(-1, keepdim=True)


def _quarter_step(maps: Tensor, peak: Tensor, _sigma: float) -> Tensor:
    slope = torch.stack([_at(maps, peak, 1, 0) - _at(maps, peak, -1, 0),
                         _at(maps, peak, 0, 1) - _at(maps, peak, 0, -1)], dim=-1)
    return slope.sign() * 0.25 * _inside(maps, peak, 1)


def _taylor_step(maps: Tensor, peak: Tensor, sigma: float) -> Tensor:
    """One Newton step on the log-heatmap. Derivatives reach two pixels far, which steadies them."""
    log = _smooth(maps, sigma).clamp(min=1e-10).log()
    center = _at(log, peak, 0, 0)
    dx = (_at(log, peak, 1, 0) - _at(log, peak, -1, 0)) / 2
    dy = (_at(log, peak, 0, 1) - _at(log, peak, 0, -1)) / 2
    dxx = (_at(log, peak, 2, 0) - 2 * center + _at(log, peak, -2, 0)) / 4
    dyy = (_at(log, peak, 0, 2) - 2 * center + _at(log, peak, 0, -2)) / 4
    dxy = (_at(log, peak, 1, 1) - _at(log, peak, 1, -1)
           - _at(log, peak, -1, 1) + _at(log, peak, -1, -1)) / 4
    determinant = dxx * dyy - dxy**2
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / determinant.unsqueeze(-1)
    # A saddle or a plateau sends the step anywhere: the peak pixel is the better answer there.
    usable = (determinant > 1e-12).unsqueeze(-1) & (step.abs() <= 2).all(-1, keepdim=True)
    return torch.where(usable & _inside(maps, peak, 2), step, torch.zeros_like(step))


def _smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with the target's own sigma, as in DARK: takes out small false peaks."""
    radius = round(2.5 * sigma)

    def band(length: int) -> Tensor:  # a convolution as a matrix, many times faster than conv2d
        apart = torch.arange(length, device=maps.device, dtype=maps.dtype)
        apart = (apart - apart[:, None]).abs()
        return torch.exp(-apart**2 / (2 * sigma**2)) * (apart <= radius)

    total = band(2 * radius + 1)[radius].sum()
    with torch.autocast(maps.device.type, enabled=False):  # its rounding would move the peaks
        return band(maps.shape[-2]) @ maps @ band(maps.shape[-1]) / total**2


def mirror(heatmaps: Tensor, skeleton: Skeleton, codec: str = "quarter") -> Tensor:
    """Heatmaps (..., K, h, w) of a mirrored crop, turned back to the original crop.

    Left and right keypoints trade places. With x / stride, the mirrors of crop and heatmap differ
    by 3/4 of a heatmap pixel; moving one pixel right, as HRNet does, leaves a quarter. With "udp"
    they are the same.
    """
    order = constant(skeleton.mirror, heatmaps.device, torch.long)
    back = heatmaps.flip(-1).index_select(-3, order)
    return back if codec == "udp" else torch.cat([back[..., :1], back[..., :-1]], dim=-1)
