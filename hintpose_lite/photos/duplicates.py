"""Removes poses that repeat another pose, or finds cues to predict them again.

A pose repeats a better one if their OKS is high. Areas are those of the poses, since a box may hold
several people. The estimator uses this on the poses of one picture.
"""

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue
from ..pose.geometry import pad
from ..pose.oks import LOW, oks_nms, pose_oks
from ..pose.skeleton import Skeleton

SAME = 0.5  # poses for two people's cues with a higher OKS are taken for the same person


def distinct(poses: list, skeleton: Skeleton) -> list:
    """The poses without those that repeat a better one (HRNet's OKS-NMS), in their old order."""
    points, areas, scores = _measures(poses)
    return [poses[i] for i in oks_nms(points, scores, areas, skeleton.sigmas).sort().values]


def told_apart(cues: list[Cue], reach: list[float]) -> list[Cue]:
    """The cues of different people, with every other person's points as negative points."""
    own = {i: cue.xy[cue.labels > 0] for i, cue in enumerate(cues) if cue.kind == "points"}
    others = {i: [points for j, points in own.items() if j != i] for i in own}
    return [against(cue, np.concatenate(others[i]), reach[i]) if others.get(i) else cue
            for i, cue in enumerate(cues)]


def against(cue: Cue, points: np.ndarray, reach: float) -> Cue:
    """Adds negative points (P, 2), in picture pixels, to a cue of points. Points within `reach` of
    a positive point are left out, since they would cancel it."""
    own = cue.xy[cue.labels > 0]
    far = (np.linalg.norm(points[:, None] - own, axis=2) > reach).all(1)
    return Cue.points(np.concatenate([cue.xy, points[far]]),
                      np.concatenate([cue.labels, -np.ones(far.sum())]))


def second_cues(poses: list, reach: list[float], skeleton: Skeleton) -> dict[int, Cue]:
    """Which of several people's poses to predict again, once, and with which new cues.

    If two poses are the same, the one with the higher score is kept, and its joints with a score
    above 0.2 become negative points of the other's cue, if that is made of points. The report has
    no such rule; it is our own.
    """
    points, areas, scores = _measures(poses)
    kept = oks_nms(points, scores, areas, skeleton.sigmas, threshold=SAME).tolist()
    again = {}
    for i in sorted({*range(len(poses))} - {*kept}):
        alike = pose_oks(points[kept], points[i], (areas[kept] + areas[i]) / 2,
                         skeleton.sigmas) > SAME
        taken = [poses[j].keypoints[poses[j].scores > LOW]
                 for j, same in zip(kept, alike.tolist(), strict=True)
                 if same and (-poses[j].score, j) < (-poses[i].score, i)]  # with higher scores
        if poses[i].cue.kind == "points" and taken:
            again[i] = against(poses[i].cue, np.concatenate(taken), reach[i])
    return again


def _measures(poses: list) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (n, K, 2), areas (n,) in square pixels and scores (n,) of poses."""
    points = torch.from_numpy(np.stack([pose.keypoints for pose in poses]))
    low, high = points.amin(1), points.amax(1)
    areas = pad(torch.cat([low, high - low], 1))[:, 2:].prod(1)
    return points, areas, torch.tensor([pose.score for pose in poses])
