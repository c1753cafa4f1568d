"""Figures of what a cue and what a hop does: a network is run, and its answers are drawn."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue
from ..evaluation.predict import Predictor, cut_crops, prepare
from ..inputs.pictures import as_picture
from ..model.hintpose import as_hintpose
from ..photos.draw import HEIGHT, blank_figure, draw_cue, draw_poses, heatmap_overlay, panel_size
from ..photos.estimator import check_boxes, check_cues
from ..pose.geometry import PADDING, apply, corners, crop, crop_matrix, invert, pad
from ..pose.heatmaps import decode
from ..pose.oks import oks
from ..pose.skeleton import COCO17, Skeleton


def hop_strip(model, picture, box, cue: Cue | None = None, keypoints=None, *,
              area: float | None = None, hops: int | None = None, skeleton: Skeleton = COCO17):
    """What each hop finds in one box: a matplotlib Figure whose get_label() is its alt text.

    One panel per hop: the maximum over all joints' heatmaps on the crop, the cue, and the pose.
    model and picture: as for `PoseEstimator`; box (x, y, w, h) and cue in picture pixels.
    keypoints (K, 3) x, y, v: the true pose, for the OKS in the titles, with the person's area in
    square pixels (None: 0.53 of the box's, as xtcocotools has it; too much if more share the box).
    Raises DataError for a picture, box or cue, ConfigError for a cue or hops, that cannot be used.
    """
    picture = as_picture(picture)
    box = check_boxes([box], picture.shape[1::-1])
    cue, = check_cues([cue], picture.shape[:2], as_hintpose(model).spec.cue)
    seen = look(model, picture, box, cue, skeleton, hops)
    titles = [f"hop {hop}" for hop in range(1, len(seen.poses) + 1)]
    if keypoints is not None:
        area = 0.53 * box[0, 2:].prod() if area is None else torch.tensor(float(area))
        near = oks(seen.points, torch.tensor(np.float32(keypoints)), area, skeleton.sigmas)
        titles = [f"{title}, OKS {value:.2f}" for title, value in zip(titles, near.tolist())]
    figure, axes = blank_figure(1, len(titles))
    for axis, heat, pose, title in zip(axes[0], seen.heat, seen.poses, titles, strict=True):
        pose.cue = None  # drawn beneath it, whatever its kind
        axis.imshow(draw_poses(draw_cue(heat, seen.cue, tint=0), [pose], skeleton))
        axis.set_title(title, fontsize=10)
    figure.supxlabel("left: solid; right: dashed; unsure: rings", fontsize=8)
    figure.set_label(f"A pose network is shown a crop (cue: {cue.kind}). Its pose and its heatmaps,"
                     f" all joints in one map, after {'; '.join(titles)}.")
    return figure


@torch.inference_mode()
def look(model, picture: np.ndarray, box: Tensor, cue: Cue | None,
         skeleton: Skeleton = COCO17, hops: int | None = None) -> SimpleNamespace:
    """What each hop finds in a box (1, 4): `maps` (T, K, h, w), and `points` (T, K, 2) in picture
    pixels; on a panel (H, W, 3) uint8: the `crop` alone, the `heat` of each hop, `poses`, `cue`."""
    model, cue = as_hintpose(model).eval(), cue or Cue.none()
    spec = model.spec
    crops, matrix = cut_crops([picture], box, spec)
    images, cues = prepare(spec, crops, matrix, [cue])
    maps = Predictor(model, hops, skeleton=skeleton).heatmaps(images, cues)[:, 0].cpu()
    points, scores = decode(maps, spec.input_size, spec.codec, spec.target_sigma)
    points = apply(invert(matrix), points)
    size = panel_size(spec)
    show = crop_matrix(pad(box, size[0] / size[1]), size)  # picture to panel
    panel, cue = crop(picture, show[0], size), _moved(cue, show, size)
    poses = [SimpleNamespace(keypoints=k, scores=s, box=(0, 0, 0, HEIGHT / PADDING), cue=cue)
             for k, s in zip(apply(show, points), scores, strict=True)]
    return SimpleNamespace(crop=panel, maps=maps, points=points, poses=poses, cue=cue,
                           heat=[heatmap_overlay(panel, hop, spec.codec) for hop in maps])


def _moved(cue: Cue, matrix: Tensor, size: tuple[int, int]) -> Cue:
    """A cue through a map (1, 2, 3) that does not turn, to a picture of `size` (w, h)."""
    if cue.kind == "points":
        return Cue.points(apply(matrix[0], torch.as_tensor(cue.xy)), cue.labels)
    if cue.kind == "box":
        low, high = apply(matrix[0], corners(torch.as_tensor(cue.xywh)).view(2, 2))
        return Cue.box(torch.cat([low, high - low]))
    if cue.kind == "mask":
        mask = crop(cue.array, matrix[0], size)
        cue = Cue.mask(mask) if mask.any() else Cue.none()  # none of it may lie in the crop
    return cue
