"""Crops and cues in, poses in picture pixels out: through `predict_crops`, in evaluation, estimator
and labs, so the same person with the same cue gets the same pose everywhere."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue, render_cues
from ..data.batches import normalise
from ..data.coco import CocoPersons
from ..data.pictures import crop
from ..errors import ConfigError, DataError
from ..model.device import autocast
from ..model.hintpose import HintPose, Spec
from ..pose.geometry import apply, crop_matrix, invert, pad
from ..pose.heatmaps import decode, mirror
from ..pose.skeleton import COCO17, Skeleton


@dataclass(frozen=True)
class Poses:
    """Poses of n people after each of T hops: keypoints (T, n, K, 2) in picture pixels, and scores
    (T, n, K), the heights of the heatmaps' peaks."""

    keypoints: Tensor
    scores: Tensor


@torch.inference_mode()
def heatmaps(model: HintPose, images: Tensor, cues: Tensor | None, *, rows: Tensor | None = None,
             hops: int | None = None, flip: bool = True, skeleton: Skeleton = COCO17) -> Tensor:
    """Heatmaps (T, N, K, h, w) of normalised crops (M, 3, H, W) and cue maps (N, 1, H, W) or None,
    float32 also under autocast. rows: (N,), the crop of each cue; None: one cue per crop. flip:
    average with the heatmaps of the mirrored crop and cue (HRNet's flip test)."""
    straight = model(images, cues, hops, rows).float()
    if not flip:
        return straight
    mirrored = model(images.flip(-1), None if cues is None else cues.flip(-1), hops, rows)
    return (straight + mirror(mirrored.float(), skeleton, model.spec.codec)) / 2


@torch.inference_mode()
def predict_crops(model: HintPose, crops: Tensor, matrices: Tensor, cues: list[Cue] | None, *,
                  rows: Tensor | None = None, hops: int | None = None, flip: bool = True,
                  skeleton: Skeleton = COCO17, precision: str = "float32") -> Poses:
    """Poses of N people in crops (M, 3, H, W) uint8, as `cut_crops` makes them.

    matrices: (M, 2, 3), from picture to crop; cues: one for each person, or None for none at all;
    rows: (N,), each person's crop, where several share one (None: each has its own). precision:
    of the network, see `autocast`. Everything lies on the model's device.
    """
    if model.training:
        raise DataError("the model is in training mode, in which a batch changes its own answers: "
                        "call model.eval() first")
    spec = model.spec
    images, maps = prepare(spec, crops, matrices, cues, rows)
    with autocast(precision, images.device):
        maps = heatmaps(model, images, maps, rows=rows, hops=hops, flip=flip, skeleton=skeleton)
    points, scores = decode(maps.flatten(0, 1), spec.input_size, spec.codec, spec.target_sigma)
    shape, back = maps.shape[:2], invert(matrices if rows is None else matrices[rows])
    points = apply(back.repeat(shape[0], 1, 1), points)
    return Poses(points.unflatten(0, shape), scores.unflatten(0, shape))


def prepare(spec: Spec, crops: Tensor, matrices: Tensor, cues: list[Cue] | None,
            rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """What the network is shown, from arguments as for `predict_crops`: normalised crops
    (M, 3, H, W), and cue maps (N, 1, H, W) or None."""
    maps = None
    if spec.cue and cues:
        matrices = matrices if rows is None else matrices[rows]
        maps = render_cues(cues, matrices, spec.input_size, spec.cue_sigma)
    return normalise(crops, spec.mean, spec.std), maps


def cut_crops(pictures: Iterable[np.ndarray], boxes: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Crops (n, 3, H, W) uint8 of n pictures (h, w, 3) uint8 around boxes (n, 4), not yet padded,
    and the matrices from picture to crop (n, 2, 3)."""
    size = spec.input_size
    matrices = crop_matrix(pad(boxes, size[0] / size[1]), size)
    crops = np.stack([crop(picture, matrix, size) for picture, matrix
                      in zip(pictures, matrices, strict=True)])
    return torch.from_numpy(crops).permute(0, 3, 1, 2), matrices


def predict(model: HintPose, persons: CocoPersons, rows, boxes, cues: list[Cue] | None, *,
            hops: int | None = None, flip: bool = True, batch: int = 64,
            precision: str = "float32", progress: Callable[[int], object] | None = None) -> Poses:
    """Poses of people `rows` (n,) of a data set, each in its box (n, 4) with its cue.

    boxes: picture pixels, not yet padded; cues: one per row, or None. Pictures are decoded in the
    background. progress: called after every batch with the number of people in it.
    """
    rows = np.asarray(rows) if len(rows) else np.zeros(0, int)
    boxes = torch.tensor(np.asarray(boxes), dtype=torch.float32)
    if not len(rows) == len(boxes) == (len(rows) if cues is None else len(cues)):
        raise DataError(f"{len(rows)} people, {len(boxes)} boxes, "
                        f"{'no' if cues is None else len(cues)} cues: give one of each per person")
    device = next(model.parameters()).device
    if model.spec.joints != len(persons.skeleton):
        raise ConfigError(f"the network has {model.spec.joints} joints, the data set's skeleton "
                          f"{len(persons.skeleton)}: take a network trained on such a skeleton")

    def cut(chosen: np.ndarray):
        return chosen, *cut_crops(_read(persons, rows[chosen]), boxes[chosen], model.spec)

    order, parts = np.argsort(persons.image_ids[rows], kind="stable"), []
    chunks = (order[start:start + batch] for start in range(0, len(order), batch))
    for chosen, crops, matrices in ahead(cut, chunks, min(4, os.cpu_count() or 1)):
        part = predict_crops(model, crops.to(device), matrices.to(device),
                             cues and [cues[i] for i in chosen], hops=hops, flip=flip,
                             skeleton=persons.skeleton, precision=precision)
        parts.append((part.keypoints.cpu(), part.scores.cpu()))
        if progress:
            progress(len(chosen))
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
            try:
                picture, image = persons.read(int(row)), persons.image_ids[row]
            except DataError as error:
                raise DataError(f"{error}; `hintpose check-data` names all bad pictures") from error
        yield picture


def ahead(work: Callable, items: Iterable, threads: int) -> Iterator:
    """As map(work, items), but in threads, up to three items in advance; closing the iterator ends
    the threads."""
    with ThreadPoolExecutor(threads) as pool:
        coming = (pool.submit(work, item) for item in items)
        waiting = deque(islice(coming, 2))
        while waiting:
            waiting.extend(islice(coming, 1))
            yield waiting.popleft().result()
