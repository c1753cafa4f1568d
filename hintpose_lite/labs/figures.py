"""Figures of what a cue and what a hop does: a network is run, and its answers are drawn."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from ..cues.cue import Cue
from ..cues.evaluation import person_cue
from ..data.coco import CocoPersons
from ..data.crops import crop
from ..errors import DataError
from ..evaluation.predict import cut_crops, heatmaps, prepare
from ..inputs.pictures import as_picture
from ..model.hintpose import as_hintpose
from ..photos.draw import HEIGHT, blank_figure, draw_cue, draw_poses, heatmap_overlay, panel_size
from ..photos.estimator import check_boxes, check_cues
from ..pose.geometry import PADDING, apply, corners, crop_matrix, invert, pad, union
from ..pose.heatmaps import decode
from ..pose.oks import oks
from ..pose.skeleton import COCO17, Skeleton


def hop_strip(model, picture, box, cue: Cue | None = None, keypoints=None, *,
              area: float | None = None, hops: int | None = None, skeleton: Skeleton = COCO17):
    """What each hop finds in one box: a matplotlib Figure whose get_label() is its alt text.

    A panel a hop: the maximum over all joints' heatmaps on the crop, the cue, and that hop's pose.
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


def cue_figure(model, persons: CocoPersons, row: int, twin=None):
    """One crop, two people, asked for each: a matplotlib Figure whose get_label() is its alt text.

    The crop is the box that person A, `row` of a data set, shares with its partner B. A line of
    panels each for the cue on A, on B, and, if the cueless `twin` is given, for no cue: the pose
    found, and for each hop the maximum over all joints' heatmaps, brightest where that is highest.
    Models are put into eval mode. Raises DataError if A has no partner.
    """
    pair = [row, int(persons.partner[row])]
    if pair[1] < 0:
        raise DataError(f"person {row} overlaps with nobody: choose one with a partner")
    box = union(*torch.as_tensor(persons.boxes[pair])[:, None])
    people, areas = torch.as_tensor(persons.keypoints[pair]), torch.as_tensor(persons.areas[pair])
    people[..., 2] = people[..., 2].amin(0)  # joints labelled in both, as identity is counted
    asked = [(model, person_cue(persons, who, "joint")) for who in pair]
    asked += [(twin, Cue.none())] if twin is not None else []
    looks = [look(net, persons.read(row), box, cue, persons.skeleton) for net, cue in asked]
    figure, axes = blank_figure(len(looks), 1 + max(len(seen.heat) for seen in looks))
    names, answers = ("cue on person A", "cue on person B", "no cue"), []
    for line, seen, name in zip(axes, looks, names, strict=False):
        near = oks(seen.points[-1:], people, areas.float().mean(), persons.skeleton.sigmas)
        found = "neither" if near.max() < 0.1 else "AB"[int(near.argmax())]
        answers.append(f"with {name} it finds {found}")
        pose = draw_poses(seen.crop, seen.poses[-1:], persons.skeleton)
        for hop, (axis, panel) in enumerate(zip(line, [pose, *seen.heat], strict=False)):
            axis.imshow(panel)
            axis.set_title(f"hop {hop}" if hop else f"finds {found}", fontsize=10)
        line[0].set_ylabel(name, fontsize=11)
    figure.set_label("A pose network is shown the same crop of two overlapping people: "
                     f"{'; '.join(answers)}. Beside each pose stand the heatmaps after each hop, "
                     "all joints in one map.")
    return figure


@torch.inference_mode()
def look(model, picture: np.ndarray, box: Tensor, cue: Cue | None,
         skeleton: Skeleton = COCO17, hops: int | None = None) -> SimpleNamespace:
    """What each hop finds in a box (1, 4): `maps` (T, K, h, w), and `points` (T, K, 2) in picture
    pixels; on a panel (H, W, 3) uint8: the `crop` alone, the `heat` of each hop, `poses`, `cue`."""
    model, cue = as_hintpose(model).eval(), cue or Cue.none()
    spec, device = model.spec, next(model.parameters()).device
    crops, matrix = cut_crops([picture], box, spec)
    images, cues = prepare(spec, crops, matrix, [cue])
    maps = heatmaps(model, images.to(device), None if cues is None else cues.to(device), hops=hops,
                    skeleton=skeleton)[:, 0].cpu()
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
