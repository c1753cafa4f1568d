"""The imperfect cues of training: which kinds are drawn how often, and how each one is drawn."""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..pose.geometry import constant, pixel_grid
from ..settings import settle
from .cue import box_maps, point_maps

# In the order in which they are numbered; the first words of `cues.evaluation.CUES`.
KINDS = ("joint", "any-joint", "interior", "centroid", "mask", "points", "box", "pose", "none")
MASK_KINDS = tuple(map(KINDS.index, ("interior", "centroid", "mask")))
JOINT_KINDS = tuple(map(KINDS.index, ("joint", "any-joint", "points", "pose")))


@dataclass(frozen=True)
class CueMix:
    """How often each kind of cue is drawn in training, as weights that need not sum to 1.

    joint:     a visible joint, moved by its own OKS scale.
    any_joint: any labelled joint, moved by up to a tenth of sqrt(area) in x and in y. This is the
               report's recipe; the amount is ours.
    interior, centroid: a random pixel of the visible mask, or the one nearest to its centroid.
    points:    up to three points on the person and up to two negative ones on the partner.
    box, mask: the person's box, the visible mask itself.
    pose:      all joints, moved as for `joint`; some are left out.
    jitter:    scales all these displacements, 0 for exact joints. It is not a weight.
    """

    joint: float = 0.30
    any_joint: float = 0.12
    interior: float = 0.15
    centroid: float = 0.10
    mask: float = 0.08
    points: float = 0.10
    box: float = 0.04
    pose: float = 0.06
    none: float = 0.05
    jitter: float = 1.0

    def __post_init__(self):
        settle(self, limits={"jitter": (0, inf)})
        if min(self.weights) < 0 or not any(self.weights):
            raise ConfigError(f"cues={self.weights}: give numbers of at least 0, one above 0")

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each of the `KINDS`."""
        return tuple(getattr(self, kind.replace("-", "_")) for kind in KINDS)

    def draw(self, random: np.random.Generator) -> int:
        """Draws the kind of a cue, as its place in `KINDS`."""
        weights = np.cumsum(self.weights)
        return int(np.searchsorted(weights, random.random() * weights[-1], side="right"))


def inside(keypoints, size: tuple[int, int]):
    """Which keypoints (..., K, 3), a tensor or array, are labelled and lie in a crop of size =
    (w, h): (..., K)."""
    x, y, v = keypoints[..., 0], keypoints[..., 1], keypoints[..., 2]
    return (v > 0) & (x >= 0) & (y >= 0) & (x <= size[0] - 1) & (y <= size[1] - 1)


def oks_jitter(points: Tensor, areas: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, K, 2) moved in any direction, so that each one's OKS term becomes s ~ U(0.5, 1):
    exp(-d^2 / (2 area (2 sigma)^2)) = s, solved for the distance d. areas (N,), sigmas (K,)."""
    s = 0.5 + 0.5 * _uniform(points[..., 0], generator)
    distance = (-2 * areas[:, None] * (2 * sigmas) ** 2 * s.log()).sqrt()
    angle = 2 * torch.pi * _uniform(s, generator)
    return points + distance[..., None] * torch.stack([angle.cos(), angle.sin()], -1)


def draw_cues(people, kinds: Tensor, sigmas: Tensor, size: tuple[int, int], sigma: float,
              generator: torch.Generator, jitter: float = 1.0) -> Tensor:
    """Training cues (N, 1, H, W) of N people, on their device.

    people: `data.crops.Items`. kinds: (N,), places in `KINDS`, on the CPU, so that choosing rows by
    kind does not wait for a GPU. sigmas: (K,), of OKS. size: (w, h) of the crop. sigma: of a point,
    in crop pixels. jitter: as in `CueMix`. Moved points stay in the crop, except those of a pose.
    """
    rows = {kind: (kinds == i).nonzero()[:, 0].to(people.areas.device, non_blocking=True)
            for i, kind in enumerate(KINDS)}
    shown, xy, v = inside(people.keypoints, size), *people.keypoints.split((2, 1), -1)
    edge = constant((size[0] - 1.0, size[1] - 1.0), xy.device)
    near = xy + jitter * (oks_jitter(xy, people.areas, sigmas, generator) - xy)
    visible = shown & (v[..., 0] == 2)
    visible = torch.where(visible.any(1, keepdim=True), visible, shown)
    points = _pick(near, visible, 1, generator)  # every cue starts as one point; most keep it
    some = rows["any-joint"]
    reach = 0.2 * jitter * people.areas[some].sqrt()[:, None, None]
    shift = reach * (_uniform(xy[some], generator) - 0.5)
    points[some] = _pick(xy[some] + shift, shown[some], 1, generator)
    for some, draw in ((rows["interior"], generator), (rows["centroid"], None)):
        points[some] = _mask_points(people.masks[some], draw)
    points = torch.minimum(points.clamp(min=0), edge)
    given = torch.ones_like(people.areas)
    given[rows["none"]] = 0
    maps = point_maps(points, given[:, None], size, sigma)

    several, posed, boxed, mask = (rows[kind] for kind in ("points", "pose", "box", "mask"))
    own = torch.minimum(_pick(near[several], visible[several], 2, generator).clamp(min=0), edge)
    other, labels = _other_points(people.neighbours[several], size, generator)
    maps[several] = point_maps(torch.cat([points[several], own, other], 1), labels, size, sigma)
    joints = shown[posed] & (_uniform(v[posed, :, 0], generator) < 0.85)  # some are missed
    pose = torch.cat([points[posed], near[posed]], 1)
    joints = torch.cat([torch.ones_like(joints[:, :1]), joints], 1).to(pose.dtype)
    maps[posed] = point_maps(pose, joints, size, sigma)
    maps[boxed] = box_maps(people.boxes[boxed], people.matrices[boxed], size, sigma / 4)
    maps[mask] = people.masks[mask] / 255
    return maps


def _other_points(neighbours: Tensor, size: tuple[int, int], generator: torch.Generator
                  ) -> tuple[Tensor, Tensor]:
    """Two joints (M, 2, 2) of neighbours (M, K, 3) that lie in the crop, and labels (M, 5): 1 for
    the person's first point, 1 or 0 for the other two, -1 or 0 for each of the neighbour's."""
    known = inside(neighbours, size)
    other = _pick(neighbours[..., :2], known, 2, generator)
    coins = torch.rand(len(known), 5, generator=generator, device=known.device)
    used = (coins < constant((2.0, 0.5, 0.5, 1.0, 0.5), known.device)).to(neighbours.dtype)
    return other, torch.cat([used[:, :3], -used[:, 3:] * known.any(1, keepdim=True)], 1)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _pick(points: Tensor, allowed: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` random points (N, count, 2) of (N, K, 2), uniform among the allowed (N, K)."""
    weights = allowed.float() + 1e-9  # a row without any allowed point must not stop the draw
    chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
    return points.gather(1, chosen[..., None].expand(-1, -1, 2))


def _mask_points(masks: Tensor, generator: torch.Generator | None) -> Tensor:
    """A random pixel (N, 1, 2) of masks (N, 1, h, w) uint8, or without a generator the one nearest
    to the centroid."""
    flat = masks.flatten(1) > 127
    grid = pixel_grid((masks.shape[3], masks.shape[2]), flat.to(torch.float32))
    if generator is None:
        mean = (flat[..., None] * grid).sum(1) / flat.sum(1, keepdim=True).clamp(min=1)
        rank = -((grid - mean[:, None]) ** 2).sum(-1)
    else:
        rank = torch.rand(flat.shape, generator=generator, device=flat.device)
    return grid[torch.where(flat, rank, -torch.inf).argmax(1)][:, None]
