"""The trunk: windows, boxes and cues in, poses in picture pixels out.

Evaluation, the estimator and the notebooks' labs all predict through `predict_windows`, so the same
person asked for in the same way gets the same pose everywhere.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue, render_cues
from ..data.batches import normalise
from ..data.coco import CocoPersons
from ..data.crops import View
from ..data.loader import ahead
from ..errors import ConfigError, DataError
from ..model.hintpose import HintPose, Spec
from ..pose.geometry import apply, compose, crop_matrix, invert, pad, warp
from ..pose.heatmaps import decode, mirror
from ..pose.skeleton import COCO17, Skeleton


@dataclass(frozen=True)
class Poses:
    """Poses of n people after each of T hops: keypoints (T, n, K, 2) in picture pixels, scores
    (T, n, K), the heights of the heatmaps' peaks."""

    keypoints: Tensor
    scores: Tensor


@torch.inference_mode()
def heatmaps(model: HintPose, images: Tensor, cues: Tensor | None, *, rows: Tensor | None = None,
             hops: int | None = None, flip: bool = True, skeleton: Skeleton = COCO17) -> Tensor:
    """Heatmaps (T, N, K, h, w) of normalised crops (M, 3, H, W) and cue maps (N, 1, H, W) or None.

    rows: (N,), the crop of each cue; None: one cue a crop.
    flip: average with the mirrored crop's heatmaps (HRNet's flip test); the cue is mirrored too.
    """
    straight = model(images, cues, hops, rows)
    if not flip:
        return straight
    mirrored = model(images.flip(-1), None if cues is None else cues.flip(-1), hops, rows)
    return (straight + mirror(mirrored, skeleton, model.spec.codec)) / 2


@torch.inference_mode()
def predict_windows(model: HintPose, windows: Tensor, to_window: Tensor, boxes: Tensor,
                    cues: list[Cue] | None, *, rows: Tensor | None = None, hops: int | None = None,
                    flip: bool = True, skeleton: Skeleton = COCO17) -> Poses:
    """Poses of N people from windows (M, 3, S, S) uint8 cut from their pictures.

    to_window: (M, 2, 3), picture points to window pixels; boxes: (M, 4) in picture pixels, not yet
    padded; cues: one a person, or None for none at all; rows: (N,), each person's window, where
    several share one (None: one a window). Everything on the model's device.
    """
    if model.training:
        raise DataError("the model is in training mode, in which a batch changes its own answers: "
                        "call model.eval() first")
    spec = model.spec
    images, maps, matrices = prepare(spec, windows, to_window, boxes, cues, rows)
    maps = heatmaps(model, images, maps, rows=rows, hops=hops, flip=flip, skeleton=skeleton)
    points, scores = decode(maps.flatten(0, 1), spec.input_size, spec.codec, spec.target_sigma)
    shape = maps.shape[:2]
    points = apply(invert(matrices).repeat(shape[0], 1, 1), points)
    return Poses(points.unflatten(0, shape), scores.unflatten(0, shape))


def prepare(spec: Spec, windows: Tensor, to_window: Tensor, boxes: Tensor, cues: list[Cue] | None,
            rows: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
    """What the network is shown, from arguments as for `predict_windows`: normalised crops
    (M, 3, H, W), cue maps (N, 1, H, W) or None, and each person's map picture to crop (N, 2, 3)."""
    size = spec.input_size
    matrices = crop_matrix(pad(boxes, size[0] / size[1]), size)
    images = warp(windows.float(), compose(matrices, invert(to_window)), size)
    images = normalise(images, spec.mean, spec.std)
    matrices = matrices if rows is None else matrices[rows]
    maps = render_cues(cues, matrices, size, spec.cue_sigma) if spec.cue and cues else None
    return images, maps, matrices


def cut_windows(pictures: Iterable[np.ndarray], boxes: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Windows (n, 3, S, S) uint8 of n pictures (H, W, 3) uint8 around boxes (n, 4), not yet padded,
    and the maps picture to window (n, 2, 3)."""
    size = 2 * max(spec.input_size)  # finer than the crop, so the warp has enough to take
    crops = pad(boxes, spec.input_size[0] / spec.input_size[1])
    regions = pad(crops, aspect=1.0, padding=1.02).numpy()  # a little more, for the crop's edge
    windows, matrices = [], []
    for picture, region in zip(pictures, regions, strict=True):
        view = View.around(region, picture.shape[1::-1], size)
        windows.append(view.cut(picture))
        matrices.append(view.matrix())
    stacked = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
    return stacked, torch.from_numpy(np.stack(matrices))


def predict(model: HintPose, persons: CocoPersons, rows, boxes, cues: list[Cue] | None, *,
            hops: int | None = None, flip: bool = True, batch: int = 64) -> Poses:
    """Poses of people `rows` (n,) of a data set, each in its box (n, 4) with its cue.

    boxes: picture pixels, not yet padded; cues: one a row or None. Pictures are decoded in the
    background, each once as long as its people stand in the same batch.
    """
    rows = np.asarray(rows) if len(rows) else np.zeros(0, int)
    boxes = torch.tensor(np.asarray(boxes), dtype=torch.float32)
    if not len(rows) == len(boxes) == (len(rows) if cues is None else len(cues)):
        raise DataError(f"{len(rows)} people, {len(boxes)} boxes and "
                        f"{'no' if cues is None else len(cues)} cues: give one of each a person")
    device = next(model.parameters()).device
    if model.spec.joints != len(persons.skeleton):
        raise ConfigError(f"the network has {model.spec.joints} joints, the data set's skeleton "
                          f"{len(persons.skeleton)}: take a network trained on such a skeleton")

    def cut(chosen: np.ndarray):
        return chosen, *cut_windows(_read(persons, rows[chosen]), boxes[chosen], model.spec)

    order, parts = np.argsort(persons.image_ids[rows], kind="stable"), []
    chunks = (order[start:start + batch] for start in range(0, len(order), batch))
    for chosen, windows, to_window in ahead(cut, chunks, min(4, os.cpu_count() or 1)):
        part = predict_windows(model, windows.to(device), to_window.to(device),
                               boxes[chosen].to(device), cues and [cues[i] for i in chosen],
                               hops=hops, flip=flip, skeleton=persons.skeleton)
        parts.append((part.keypoints.cpu(), part.scores.cpu()))
    if not parts:
        joints, count = len(persons.skeleton), hops or model.spec.hops
        return Poses(torch.zeros(count, 0, joints, 2), torch.zeros(count, 0, joints))
    back = torch.from_numpy(np.argsort(order))
    return Poses(*(torch.cat(part, 1)[:, back] for part in zip(*parts, strict=True)))


def _read(persons: CocoPersons, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The picture of each row, decoded once for rows of one picture that follow each other."""
    picture = image = None
    for row in rows:
        if persons.image_ids[row] != image:
            picture, image = persons.read(int(row)), persons.image_ids[row]
        yield picture
