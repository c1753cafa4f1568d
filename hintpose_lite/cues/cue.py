"""The instance cue: one channel that says which person of the crop is meant.

A `Cue` is what a user gives (picture pixels); `render_cues` turns cues into maps for the network.
Their values lie in [-1, 1]: a Gaussian of height 1 on each point that belongs to the person, minus
one on each point that does not; boxes and masks are filled softly; no cue is all zeros. Where
Gaussians of one sign overlap the larger counts. The report has a single Gaussian; negatives, boxes,
masks and poses are our extension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import DataError
from ..pose.geometry import apply, corners, crop, invert, pixel_grid, scale_of
from ..pose.heatmaps import gaussians


@dataclass(frozen=True, eq=False)
class Cue:
    """Whom to look at, in picture pixels, made by the class methods below. kind: "none"; "points",
    a click or a pose's joints, xy (P, 2) with labels (P,) of +1 or -1; "box", xywh (4,); "mask",
    array (h, w) in [0, 1], as large as the picture."""

    kind: str
    xy: np.ndarray | None = None
    labels: np.ndarray | None = None
    xywh: np.ndarray | None = None
    array: np.ndarray | None = None

    @classmethod
    def none(cls) -> "Cue":
        """No hint: the network has to guess."""
        return cls("none")

    @classmethod
    def point(cls, x, y: float | None = None) -> "Cue":
        """One point on the person, such as a click: two numbers, or a pair of them."""
        return cls.points([x if y is None else (x, y)])

    @classmethod
    def points(cls, xy, labels=None) -> "Cue":
        """Points (P, 2); labels (P,) above 0 for the person meant (the default), else another's."""
        xy = _numbers(xy, "cue points")
        if xy.shape == (2,):
            xy = xy[None]
        if xy.shape != (0,) and xy.shape[1:] != (2,):
            raise DataError(f"cue points are (P, 2), x and y of each, not {xy.shape}")
        labels = np.ones(len(xy)) if labels is None else _numbers(labels, "cue labels").ravel()
        if len(xy) == 0 or len(labels) != len(xy):
            raise DataError(f"{len(xy)} cue points but {len(labels)} labels: give at least one "
                            "point, and one label (+1 or -1) per point")
        return cls("points", xy=xy, labels=np.where(labels > 0, 1, -1).astype(np.float32))

    @classmethod
    def box(cls, xywh) -> "Cue":
        """The person's box (x, y, w, h)."""
        xywh = _numbers(xywh, "the cue's box").ravel()
        if xywh.shape != (4,) or min(xywh[2:]) <= 0:
            raise DataError("a cue's box is (x, y, w, h) with w and h above 0, "
                            f"not {xywh.tolist()}")
        return cls("box", xywh=xywh)

    @classmethod
    def mask(cls, array) -> "Cue":
        """The visible mask (h, w), booleans or numbers in [0, 1], as large as the picture."""
        array = _numbers(array, "the cue's mask").clip(0, 1)
        if array.ndim != 2 or not array.any():
            raise DataError(f"a cue's mask is (h, w) with some pixels set; this one has shape "
                            f"{array.shape} and {np.count_nonzero(array)} pixels set")
        return cls("mask", array=array)

    def middle(self) -> np.ndarray | None:
        """The mean place (2,) of what belongs to the person, picture pixels; None without any."""
        if self.kind == "mask":
            y, x = self.array.nonzero()
            return np.average([x, y], axis=1, weights=self.array[y, x])  # a soft mask may be wide
        if self.kind == "box":
            return self.xywh[:2] + (self.xywh[2:] - 1) / 2
        own = self.xy[self.labels > 0] if self.kind == "points" else ()
        return own.mean(0) if len(own) else None

    @classmethod
    def pose(cls, keypoints) -> "Cue":
        """A previous pose (K, 2), or (K, 3) whose third column is above 0 for known joints."""
        keypoints = _numbers(keypoints, "the cue's pose")
        if keypoints.ndim != 2 or keypoints.shape[1] not in (2, 3):
            raise DataError(f"a cue's pose is (K, 2) or (K, 3), not {keypoints.shape}")
        known = keypoints[:, 2] > 0 if keypoints.shape[1] == 3 else slice(None)
        return cls.points(keypoints[known, :2])


def _numbers(values, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float32).copy()  # a cue does not change
    except (ValueError, TypeError, RuntimeError) as error:  # the last: a tensor with a gradient
        raise DataError(f"{what}: {error}; give numbers, as many in each row") from error
    if not np.isfinite(array).all():
        raise DataError(f"{what}: a value is not a finite number")
    return array


def call_source(source: Callable, picture: np.ndarray, boxes: Tensor) -> list[list]:
    """The cues that a source returns for boxes (n, 4) of a picture (H, W, 3) uint8: n lists, whose
    content is for the caller to check. Raises DataError for anything else."""
    named = source(picture, boxes.numpy().copy())
    if (not isinstance(named, list | tuple) or len(named) != len(boxes)
            or not all(isinstance(own, list) for own in named)):
        raise DataError(f"the cue source must return one list of cues for each of {len(boxes)} "
                        f"boxes, empty where it finds nobody, not {named!r:.80}")
    return named


def point_maps(points: Tensor, labels: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Maps (N, 1, H, W) of points (N, P, 2) in crop pixels, differentiable in them; labels (N, P):
    +1, -1, or 0 for unused. size = (W, H); sigma in crop pixels."""
    peaks = gaussians(points, size, sigma, labels)
    return peaks.amax(1, keepdim=True).clamp(min=0) + peaks.amin(1, keepdim=True).clamp(max=0)


def box_maps(boxes: Tensor, matrices: Tensor, size: tuple[int, int], softness: float) -> Tensor:
    """Maps (N, 1, H, W) of filled boxes (N, 4) in picture pixels, with edges `softness` crop pixels
    wide, for turned crops too: what counts is how deep in the box a crop pixel lies."""
    places = apply(invert(matrices), pixel_grid(size, matrices))
    low, high = corners(boxes)[:, None].split(2, dim=-1)
    depth = torch.cat([places - low, high - places], -1) * scale_of(matrices)[:, None, None]
    return torch.sigmoid(depth / softness).prod(-1).view(-1, 1, size[1], size[0])


def render_cues(cues: list[Cue], matrices: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Cue maps (N, 1, H, W) in [-1, 1] of N cues, with matrices (N, 2, 3) from picture to crop.
    size: (W, H) of the crop; sigma: of a point's Gaussian, in crop pixels."""
    rows = [torch.from_numpy(np.column_stack([cue.xy, cue.labels])) if cue.kind == "points" else
            torch.zeros(1, 3) for cue in cues]  # x, y, label; 0 where there is no point
    table = pad_sequence(rows, batch_first=True).to(matrices.device)
    maps = point_maps(apply(matrices, table[..., :2]), table[..., 2], size, sigma)
    boxes = [i for i, cue in enumerate(cues) if cue.kind == "box"]
    if boxes:
        values = matrices.new_tensor(np.stack([cues[i].xywh for i in boxes]))
        maps[boxes] = box_maps(values, matrices[boxes], size, sigma / 4)
    masks = [i for i, cue in enumerate(cues) if cue.kind == "mask"]
    if masks:  # they have the sizes of their pictures, so they are cut one by one
        places = matrices.cpu()
        cut = [crop(cues[i].array, places[i], size) for i in masks]
        maps[masks, 0] = torch.from_numpy(np.stack(cut)).to(maps)
    return maps
