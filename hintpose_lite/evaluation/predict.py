"""Crops and cues in, poses in picture pixels out: through a `Predictor`, in evaluation, estimator
and labs, so the same person with the same cue gets the same pose everywhere."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue, render_cues
from ..data.batches import normalise
from ..data.coco import CocoPersons
from ..errors import ConfigError, DataError
from ..model.device import autocast
from ..model.hintpose import HintPose, Spec
from ..pose.geometry import apply, crop, crop_matrix, invert, pad
from ..pose.heatmaps import decode, mirror
from ..pose.skeleton import COCO17, Skeleton


@dataclass(frozen=True)
class Poses:
    """Poses of n people after each of T hops: keypoints (T, n, K, 2) in picture pixels, and scores
    (T, n, K), the heights of the heatmaps' peaks."""

    keypoints: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Predictor:
    """A network, and how it is used.

    hops: None for those of its spec. flip: average with the heatmaps of the mirrored crop and cue
    (HRNet's flip test). skeleton: of its joints (`predict_people` takes the data set's). precision:
    of the network, see `autocast`.
    """

    model: HintPose
    hops: int | None = None
    flip: bool = True
    skeleton: Skeleton = COCO17
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def heatmaps(self, images: Tensor, cues: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Heatmaps (T, N, K, h, w), float32, of normalised crops (M, 3, H, W) and cue maps
        (N, 1, H, W) or None. rows: (N,), the crop of each cue; None: one cue per crop."""
        images, cues = (maps if maps is None else maps.to(self.device) for maps in (images, cues))
        with autocast(self.precision, self.device):
            straight = self.model(images, cues, self.hops, rows).float()
            if not self.flip:
                return straight
            cues = None if cues is None else cues.flip(-1)
            mirrored = self.model(images.flip(-1), cues, self.hops, rows).float()
        return (straight + mirror(mirrored, self.skeleton, self.model.spec.codec)) / 2

    @torch.inference_mode()
    def predict_crops(self, crops: Tensor, matrices: Tensor, cues: list[Cue] | None,
                      rows: Tensor | None = None) -> Poses:
        """Poses of N people in crops (M, 3, H, W) uint8, as `cut_crops` makes them, on the CPU.

        matrices: (M, 2, 3), from picture to crop; cues: one for each person, or None for none at
        all; rows: (N,), each person's crop, where several share one (None: each has its own).
        """
        if self.model.training:
            raise DataError("the model is in training mode, in which a batch changes its own "
                            "answers: call model.eval() first")
        spec = self.model.spec
        crops, matrices = crops.to(self.device), matrices.to(self.device)
        rows = None if rows is None else rows.to(self.device)
        maps = self.heatmaps(*prepare(spec, crops, matrices, cues, rows), rows)
        points, scores = decode(maps.flatten(0, 1), spec.input_size, spec.codec, spec.target_sigma)
        shape, back = maps.shape[:2], invert(matrices if rows is None else matrices[rows])
        points = apply(back.repeat(shape[0], 1, 1), points)
        return Poses(points.unflatten(0, shape).cpu(), scores.unflatten(0, shape).cpu())

    def predict_people(self, persons: CocoPersons, rows, boxes, cues: list[Cue] | None, *,
                       batch: int = 64, progress: Callable[[int], object] | None = None) -> Poses:
        """Poses of people `rows` (n,) of a data set, each in its box (n, 4) with its cue.

        boxes: picture pixels, not yet padded; cues: one per row, or None. Pictures are decoded in
        the background. progress: called after every batch with the number of people in it.
        """
        rows, spec = np.asarray(rows) if len(rows) else np.zeros(0, int), self.model.spec
        boxes = torch.tensor(np.asarray(boxes), dtype=torch.float32)
        if not len(rows) == len(boxes) == (len(rows) if cues is None else len(cues)):
            raise DataError(f"{len(rows)} people, {len(boxes)} boxes, "
                            f"{'no' if cues is None else len(cues)} cues: give one of each per "
                            "person")
        if spec.joints != len(persons.skeleton):
            raise ConfigError(f"the network has {spec.joints} joints, the data set's skeleton "
                              f"{len(persons.skeleton)}: take a network trained on such a skeleton")

        def cut(chosen: np.ndarray):
            return chosen, *cut_crops(_read(persons, rows[chosen]), boxes[chosen], spec)

        predictor = replace(self, skeleton=persons.skeleton)
        order = np.argsort(persons.image_ids[rows], kind="stable")  # a picture is decoded once
        chunks = (order[start:start + batch] for start in range(0, len(order), batch))
        scores = torch.zeros(self.hops or spec.hops, len(rows), spec.joints)
        points = torch.zeros(*scores.shape, 2)
        for chosen, *crops in ahead(cut, chunks, min(4, os.cpu_count() or 1)):
            part = predictor.predict_crops(*crops, cues and [cues[i] for i in chosen])
            points[:, chosen], scores[:, chosen] = part.keypoints, part.scores
            if progress:
                progress(len(chosen))
        return Poses(points, scores)


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
