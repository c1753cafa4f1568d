"""Object keypoint similarity (OKS), the suppression of duplicate poses, and a pose's score."""

import torch
from torch import Tensor

LOW = 0.2  # a joint up to this score does not count for a pose's score
EPSILON = 2.0**-52  # COCO adds it to every area, so that an area of 0 divides nothing by 0


def oks(predicted: Tensor, truth: Tensor, areas: Tensor, sigmas) -> Tensor:
    """Object keypoint similarity, in [0, 1], as COCO defines it (cocodataset.org/#keypoints-eval).

    The mean over the labelled joints (v > 0) of exp(-d^2 / (2 area (2 sigma)^2)).
    predicted: (..., K, 2) and truth: (..., K, 3), x and y in picture pixels, v in 0, 1, 2.
    areas: (...,) of the truth, square pixels. sigmas: (K,). The leading shapes broadcast.
    Returns (...,); 0 without labelled joints or with a NaN at one. ValueError if K differs.
    """
    sigmas = torch.as_tensor(sigmas, dtype=predicted.dtype, device=predicted.device)
    if not predicted.shape[-2] == truth.shape[-2] == len(sigmas):
        raise ValueError(f"{predicted.shape[-2]} predicted joints, {truth.shape[-2]} true ones and "
                         f"{len(sigmas)} sigmas: all three must agree")
    labelled = truth[..., 2] > 0
    distance = (predicted - truth[..., :2]).square().sum(-1)
    distance = distance / (8 * sigmas.square() * (areas + EPSILON).unsqueeze(-1))
    likeness = torch.where(labelled, torch.exp(-distance), torch.zeros_like(distance))
    mean = likeness.sum(-1) / labelled.sum(-1).clamp_min(1)
    return torch.nan_to_num(mean, nan=0.0)


def pose_oks(a: Tensor, b: Tensor, areas: Tensor, sigmas) -> Tensor:
    """OKS between poses a and b (..., K, 2), which broadcast, every joint counted; areas (...,)."""
    return oks(a, torch.cat([b, torch.ones_like(b[..., :1])], dim=-1), areas, sigmas)


def rescore(box_scores: Tensor, joint_scores: Tensor, threshold: float = LOW) -> Tensor:
    """Poses' scores (N,) as in HRNet: box score (N,) x mean of the joint scores (N, K) above
    `threshold`, or 0 if there is none."""
    valid = joint_scores > threshold
    return box_scores * ((joint_scores * valid).sum(-1) / valid.sum(-1).clamp_min(1))


def oks_nms(keypoints: Tensor, scores: Tensor, areas: Tensor, sigmas, threshold: float = 0.9,
            images: Tensor | None = None, limit: int | None = None) -> Tensor:
    """Greedy suppression: a pose goes if its OKS to a better one that stays exceeds `threshold`.

    As in HRNet all joints count, and the area of a pair is the mean of its two areas.
    keypoints: (N, K, 2); scores, areas: (N,); equal scores rank in the order given.
    images: (N,) integers, each pose's picture (None: the same). limit: of poses per picture.
    Returns the indices that stay (M,), by falling score.
    """
    if images is None:
        images = torch.zeros_like(scores, dtype=torch.long)
    ranking = torch.argsort(scores, descending=True, stable=True)
    ranking = ranking[torch.argsort(images[ranking], stable=True)]  # picture by picture, best first
    stays = [ranking[:0]]
    for rows in ranking.split(images.unique(return_counts=True)[1].tolist()):
        same = (pose_oks(keypoints[rows, None], keypoints[rows],
                         (areas[rows, None] + areas[rows]) / 2, sigmas) > threshold).tolist()
        kept = []
        for i in range(len(rows)):
            if not any(same[i][j] for j in kept):
                kept.append(i)
        stays.append(rows[kept[:limit]])
    stays = torch.cat(stays).sort().values
    return stays[torch.argsort(scores[stays], descending=True, stable=True)]
