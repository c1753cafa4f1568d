"""Two answers that are one person: left out, or asked for again.

A pose repeats a better one if its OKS to it is high; the areas are those of the poses, since a box
may hold several people. Used by the estimator, on the poses of one picture.
"""

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue
from ..pose.geometry import pad
from ..pose.oks import LOW, oks_nms, pose_oks
from ..pose.skeleton import Skeleton

SAME = 0.5  # OKS from which two answers to two people's cues are taken for one person


def distinct(poses: list, skeleton: Skeleton) -> list:
    """The poses, in their order, without those that repeat a better one (HRNet's OKS-NMS)."""
    points, areas, scores = _measures(poses)
    return [poses[i] for i in oks_nms(points, scores, areas, skeleton.sigmas).sort().values]


def told_apart(cues: list[Cue], reach: list[float]) -> list[Cue]:
    """Cues of different people: each made of points has those of all others `against` it, too."""
    own = {i: cue.xy[cue.labels > 0] for i, cue in enumerate(cues) if cue.kind == "points"}
    others = {i: [points for j, points in own.items() if j != i] for i in own}
    return [against(cue, np.concatenate(others[i]), reach[i]) if others.get(i) else cue
            for i, cue in enumerate(cues)]


def against(cue: Cue, points: np.ndarray, reach: float) -> Cue:
    """A cue of points, with others (P, 2) that do not belong to the person; picture pixels. Those
    within `reach` of a point that does are left out, for they would wipe it out."""
    own = cue.xy[cue.labels > 0]
    far = (np.linalg.norm(points[:, None] - own, axis=2) > reach).all(1)
    return Cue.points(np.concatenate([cue.xy, points[far]]),
                      np.concatenate([cue.labels, -np.ones(far.sum())]))


def asked_again(poses: list, reach: list[float], skeleton: Skeleton) -> dict[int, Cue]:
    """For answers to cues of different people: whom to ask for again, once, and with which cue.

    Where two are the same pose, the surer one is believed, and all its joints above the score 0.2
    are held `against` the other, if that one's cue is made of points. Not in the report, but ours.
    """
    points, areas, scores = _measures(poses)
    kept = oks_nms(points, scores, areas, skeleton.sigmas, threshold=SAME).tolist()
    again = {}
    for i in sorted({*range(len(poses))} - {*kept}):
        alike = pose_oks(points[kept], points[i], (areas[kept] + areas[i]) / 2,
                         skeleton.sigmas) > SAME
        taken = [poses[j].keypoints[poses[j].scores > LOW]
                 for j, same in zip(kept, alike.tolist(), strict=True)
                 if same and (-poses[j].score, j) < (-poses[i].score, i)]  # only surer ones
        if poses[i].cue.kind == "points" and taken:
            again[i] = against(poses[i].cue, np.concatenate(taken), reach[i])
    return again


def _measures(poses: list) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (n, K, 2), areas (n,) in square pixels and scores (n,) of poses."""
    points = torch.from_numpy(np.stack([pose.keypoints for pose in poses]))
    low, high = points.amin(1), points.amax(1)
    areas = pad(torch.cat([low, high - low], 1))[:, 2:].prod(1)
    return points, areas, torch.tensor([pose.score for pose in poses])
