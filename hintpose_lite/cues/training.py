"""The imperfect cues of training: which kinds are drawn how often, and how each one is drawn.

All of it is batched, on the device of the crops.
"""

from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor

from ..pose.geometry import apply, compose, invert, pixel_grid, warp
from ..settings import settle
from .cue import box_maps, point_maps


@dataclass(frozen=True)
class CueMix:
    """How often each kind of cue is drawn in training, as weights (they need not sum to 1).

    joint: any labelled joint, moved by up to a tenth of sqrt(area) (the report's recipe; the amount
    is ours). near: a visible joint moved by the joint's own OKS scale. interior, centroid: a random
    or the central pixel of the visible mask. mask: that mask itself. points: up to three points,
    with up to two negative ones on the neighbour. box: the person's box. pose: all joints, noisy.
    none: no cue (dropout).
    """

    joint: float = 0.12
    near: float = 0.30
    interior: float = 0.15
    centroid: float = 0.10
    mask: float = 0.08
    points: float = 0.10
    box: float = 0.04
    pose: float = 0.06
    none: float = 0.05

    def __post_init__(self):
        settle(self)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The kinds of `count` cues, as numbers of the fields above (count,), drawn on the CPU."""
        weights = torch.tensor(astuple(self))
        return torch.multinomial(weights, count, replacement=True, generator=generator)


@dataclass(frozen=True)
class CuePeople:
    """What is known of N people when their training cues are drawn; picture pixels.

    keypoints and neighbours (the partner's keypoints, v = 0 where there is none): (N, K, 3);
    boxes (N, 4); areas (N,); masks (N, 1, h, w) in [0, 1], all zero where unknown, with
    mask_matrices (N, 2, 3) that take picture points to mask pixels; sigmas (K,) of OKS.
    """

    keypoints: Tensor
    neighbours: Tensor
    boxes: Tensor
    areas: Tensor
    masks: Tensor
    mask_matrices: Tensor
    sigmas: Tensor


def oks_jitter(points: Tensor, areas: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, K, 2) moved so that each one's OKS term becomes s ~ U(0.5, 1), in any direction.

    Inverts exp(-d^2 / (2 area (2 sigma)^2)) = s for the distance d. areas (N,), sigmas (K,).
    """
    s = 0.5 + 0.5 * _uniform(points[..., 0], generator)
    distance = (-2 * areas[:, None] * (2 * sigmas) ** 2 * s.log()).sqrt()
    angle = 2 * torch.pi * _uniform(s, generator)
    return points + distance[..., None] * torch.stack([angle.cos(), angle.sin()], -1)


def draw_cues(people: CuePeople, kinds: Tensor, matrices: Tensor, size: tuple[int, int],
              sigma: float, generator: torch.Generator) -> Tensor:
    """Training cues (N, 1, H, W) of N people; kinds (N,) as `CueMix.draw` gives them, on the CPU,
    so that a GPU need not be asked who gets which.

    Other arguments as for `render_cues`. A person without a mask, whose cue should come from it,
    gets "near" instead.
    """
    rows = {field.name: (kinds == i).nonzero()[:, 0].to(matrices.device, non_blocking=True)
            for i, field in enumerate(fields(CueMix))}
    masked = people.masks.flatten(1).amax(1) > 0
    xy, v = people.keypoints[..., :2], people.keypoints[..., 2]
    near = oks_jitter(xy, people.areas, people.sigmas, generator)
    points = _pick(near, _visible(v), 1, generator)  # all start as one point, most remain one
    joint = rows["joint"]
    shift = (_uniform(xy[joint], generator) - 0.5) * 0.2 * people.areas[joint].sqrt()[:, None, None]
    points[joint] = _pick(xy[joint] + shift, v[joint] > 0, 1, generator)
    for some, draw in ((rows["interior"], generator), (rows["centroid"], None)):
        inside = _mask_points(people.masks[some], people.mask_matrices[some], draw)
        points[some] = torch.where(masked[some, None, None], inside, points[some])
    given = torch.ones(len(kinds), device=matrices.device)
    given[rows["none"]] = 0
    maps = point_maps(apply(matrices, points), given[:, None], size, sigma)

    several, posed, boxed, mask = (rows[kind] for kind in ("points", "pose", "box", "mask"))
    more, labels = _more_points(people, several, near, generator)
    both = torch.cat([points[several], more], 1)
    maps[several] = point_maps(apply(matrices[several], both), labels, size, sigma)
    joints = (v[posed] > 0) & (_uniform(v[posed], generator) < 0.85)  # a pose misses some joints
    maps[posed] = point_maps(apply(matrices[posed], near[posed]), joints.to(v.dtype), size, sigma)
    maps[boxed] = box_maps(people.boxes[boxed], matrices[boxed], size, sigma / 4)
    to_crop = compose(matrices[mask], invert(people.mask_matrices[mask]))
    dense = warp(people.masks[mask], to_crop, size)
    maps[mask] = torch.where(masked[mask, None, None, None], dense, maps[mask])
    return maps


def _more_points(people: CuePeople, some: Tensor, near: Tensor,
                 generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For people `some` (M,), whose cue is several points: up to two more of their own and up to
    two of the neighbour (M, 4, 2), and labels (M, 5): 1 for the first point and the own ones, -1
    for the neighbour's, 0 for unused ones."""
    v, neighbours = people.keypoints[some, :, 2], people.neighbours[some]
    own = _pick(near[some], _visible(v), 2, generator)
    other = _pick(neighbours[..., :2], neighbours[..., 2] > 0, 2, generator)
    coins = torch.rand(len(v), 4, generator=generator, device=v.device)
    known = (neighbours[..., 2] > 0).any(1, keepdim=True)
    used = (coins < coins.new_tensor([0.5, 0.5, 1.0, 0.5])).to(v.dtype)
    labels = torch.cat([torch.ones_like(used[:, :1]), used[:, :2], -used[:, 2:] * known], 1)
    return torch.cat([own, other], 1), labels


def _visible(v: Tensor) -> Tensor:
    """Which joints (N, K) may be pointed at: the visible ones, or all labelled ones if none is."""
    return torch.where((v == 2).any(1, keepdim=True), v == 2, v > 0)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _pick(points: Tensor, allowed: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` random points (N, count, 2) of (N, K, 2), uniform among the allowed (N, K)."""
    weights = allowed.float() + 1e-9  # a row without any allowed point must not stop the draw
    chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
    return points.gather(1, chosen[..., None].expand(-1, -1, 2))


def _mask_points(masks: Tensor, matrices: Tensor, generator: torch.Generator | None) -> Tensor:
    """A random pixel of masks (N, 1, h, w), or without a generator the one nearest the centroid:
    (N, 1, 2) in picture pixels; matrices (N, 2, 3) take picture points to mask pixels."""
    flat = masks.flatten(1) > 0.5
    grid = pixel_grid((masks.shape[3], masks.shape[2]), matrices)
    if generator is None:
        mean = flat.to(grid.dtype) @ grid / flat.sum(1, keepdim=True).clamp(min=1)
        rank = -((grid - mean[:, None]) ** 2).sum(-1)
    else:
        rank = torch.rand(flat.shape, generator=generator, device=flat.device)
    best = torch.where(flat, rank, -torch.inf).argmax(1)
    return apply(invert(matrices), grid[best][:, None])
