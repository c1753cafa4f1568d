"""Pictures of poses: on a photograph, maps laid over it, and the figure that shows what a cue does.

Left and right differ in hue *and* in line style (solid, dashed), so nobody has to tell colours
apart. Colours: Okabe and Ito's palette (jfly.uni-koeln.de/color).
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..cues import Cue
from ..data.coco import CocoPersons
from ..errors import DataError
from ..evaluation import person_cue
from ..geometry import apply, compose, crop_matrix, invert, pad, union, warp
from ..heatmaps import decode
from ..nets.hintpose import as_hintpose
from ..oks import oks
from ..predictor import cut_windows, heatmaps, prepare
from ..skeleton import COCO17, Skeleton

BLUE, ORANGE, GREY, GREEN = (0, 114, 178), (230, 159, 0), (90, 90, 90), (0, 158, 115)
SIDES = {"left": BLUE, "right": ORANGE, "centre": GREY}
RED = (213, 94, 0)
HEIGHT = 384  # pixels of a panel of the figure
LOW = 0.2  # a joint up to this score does not count for a pose's score, and is drawn hollow


def draw_poses(picture: np.ndarray, poses: Sequence, skeleton: Skeleton = COCO17) -> np.ndarray:
    """A copy of a picture (H, W, 3) uint8 RGB with poses drawn on it.

    poses: such as `Pose`: keypoints (K, 2) in picture pixels, scores (K,), a box and a cue or None.
    The body's left is solid blue, its right dashed orange, what joins both grey. Lines grow with
    the person; the less sure, the fainter; joints with a score up to 0.2 are hollow. A cue's points
    are black crosses: upright on the person meant, slanted on others.
    """
    canvas = Image.fromarray(picture).convert("RGBA")
    for pose in poses:
        width = max(1.2, max(pose.box[2:]) / 80)
        _paint(canvas, pose.keypoints, width, _draw_pose, pose.scores, skeleton)
        if pose.cue is not None and pose.cue.kind == "points":
            _paint(canvas, pose.cue.xy, width, _draw_marks, pose.cue.labels)
    return np.array(canvas.convert("RGB"))


def _paint(canvas: Image.Image, points: np.ndarray, width: float, paint: Callable, *more) -> None:
    """Calls paint(draw, points, width, *more) on an enlarged layer and lays that, averaged and so
    with smooth edges, onto the canvas."""
    points = np.asarray(points, float) + 0.5  # pixel i covers i to i + 1 in Pillow
    low = np.floor(points.min(0) - 6 * width).clip(0, canvas.size).astype(int)
    high = np.ceil(points.max(0) + 6 * width).clip(0, canvas.size).astype(int)
    if (low < high).all():
        fine = 4 if max(high - low) <= 1000 else 2
        layer = Image.new("RGBA", tuple(int(side) for side in (high - low) * fine))
        paint(ImageDraw.Draw(layer), (points - low) * fine, width * fine, *more)
        canvas.alpha_composite(layer.reduce(fine), tuple(int(side) for side in low))


def _draw_pose(draw: ImageDraw.ImageDraw, points: np.ndarray, width: float, scores: np.ndarray,
               skeleton: Skeleton) -> None:
    sides, scores = _sides(skeleton), np.clip(np.asarray(scores, float), 0, 1)
    for edge in (0.5 * width, 0):  # a white edge below everything sets it off from any background
        for a, b in skeleton.limbs:
            pair = {sides[a], sides[b]} - {"centre"}
            side = pair.pop() if len(pair) == 1 else "centre"
            _line(draw, points[a], points[b], width, edge,
                  _ink(side, min(scores[a], scores[b]), edge), dashed=side == "right")
        for point, side, score in zip(points, sides, scores, strict=True):
            circle = [*(point - 1.2 * width - edge), *(point + 1.2 * width + edge)]
            ink = _ink(side, score, edge)
            if score > LOW:
                draw.ellipse(circle, fill=ink)
            else:
                draw.ellipse(circle, fill=(0, 0, 0, 0), outline=ink,
                             width=round(0.5 * width + 2 * edge))


def _draw_marks(draw: ImageDraw.ImageDraw, points: np.ndarray, width: float,
                labels: np.ndarray) -> None:
    for edge, ink in ((0.5 * width, (255, 255, 255)), (0, (0, 0, 0))):
        for point, label in zip(points, labels, strict=True):
            arms = np.array([[3, 0], [0, 3]] if label > 0 else [[2, 2], [2, -2]]) * width
            for arm in arms * (1 + edge / (3 * width)):
                draw.line([*(point - arm), *(point + arm)], fill=ink, width=round(width + 2 * edge))


def _sides(skeleton: Skeleton) -> list[str]:
    sides = ["centre"] * len(skeleton)
    for left, right in skeleton.swaps:
        sides[left], sides[right] = "left", "right"
    return sides


def _ink(side: str, score: float, edge: float) -> tuple[int, int, int, int]:
    return (*((255, 255, 255) if edge else SIDES[side]), round(255 * (0.35 + 0.65 * score)))


def _line(draw, start: np.ndarray, end: np.ndarray, width: float, edge: float, ink: tuple,
          dashed: bool) -> None:
    length = float(np.hypot(*(end - start)))
    count = max(1, round(length / (6 * width))) if dashed else 1
    dash = 0.6 / count if dashed else 1
    for i in range(count):
        first = (i + 0.5) / count - dash / 2
        a, b = start + (end - start) * first, start + (end - start) * (first + dash)
        draw.line([*a, *b], fill=ink, width=round(width + 2 * edge))


def overlay(picture: np.ndarray, values: np.ndarray, colour: tuple[int, int, int] = GREEN,
            strength: float = 0.7) -> np.ndarray:
    """A picture (H, W, 3) uint8 with a map of values in [-1, 1] laid over it, such as a cue, a
    heatmap or a mask (h, w), stretched to its size: colour where positive, the opposite colour
    where negative, nothing at 0."""
    values = Image.fromarray(np.asarray(values, np.float32).clip(-1, 1))
    values = np.asarray(values.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))[..., None]
    ink = np.where(values > 0, colour, 255 - np.array(colour))
    return (picture + (ink - picture) * strength * np.abs(values)).round().astype(np.uint8)


# --- what a cue does ------------------------------------------------------------------------------

def cue_figure(model, persons: CocoPersons, row: int, twin=None):
    """One crop, two people, asked for each: a matplotlib Figure whose get_label() is its alt text.

    The crop is the box that person A, `row` of a data set, shares with its partner B. A line of
    panels each for the cue on A, on B, and, if the cueless `twin` is given, for no cue: the pose
    found, and for each hop the maximum over all joints' heatmaps, brightest where that is highest.
    Models as for `predict`, in eval mode.
    Raises DataError if A has no partner.
    """
    from matplotlib.figure import Figure

    partner = int(persons.partner[row])
    if partner < 0:
        raise DataError(f"person {row} overlaps with nobody: choose one with a partner")
    lines = [_asked(model, persons, row, partner, who) for who in (row, partner)]
    lines += [_asked(twin, persons, row, partner, None)] if twin is not None else []
    columns = max(len(panels) for panels, _ in lines)
    figure = Figure(figsize=(1.9 * columns, 2.9 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False)
    names = ["cue on person A", "cue on person B", "no cue"]
    for line, (panels, found), name in zip(axes, lines, names, strict=False):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, panel, title in zip(line, panels, ["", *range(1, columns)], strict=False):
            axis.imshow(panel)
            axis.set_title(f"hop {title}" if title else f"finds {found}", fontsize=10)
        line[0].set_ylabel(name, fontsize=11)
    answers = "; ".join(f"with {name} it finds {found}"
                        for name, (_, found) in zip(names, lines, strict=False))
    figure.set_label(f"A pose network is shown the same crop of two overlapping people: {answers}. "
                     "Beside each pose stand the heatmaps after each hop, all joints in one map.")
    return figure


@torch.inference_mode()
def _asked(model, persons: CocoPersons, row: int, partner: int,
           who: int | None) -> tuple[list[np.ndarray], str]:
    """The panels of one line (pose, then hops), and whom the pose is nearer to: A, B or neither."""
    model, pair = as_hintpose(model), [row, partner]
    spec, device = model.spec, next(model.parameters()).device
    box = union(*torch.as_tensor(persons.boxes[pair])[:, None])
    cue = None if who is None else person_cue(persons, who, "joint")
    windows, to_window = cut_windows([persons.read(row)], box, spec)
    images, maps, matrix = prepare(spec, windows, to_window, box, cue and [cue])
    hops = heatmaps(model, images.to(device), None if maps is None else maps.to(device),
                    skeleton=persons.skeleton)[:, 0].cpu()
    points, scores = decode(hops[-1:], spec.input_size, spec.codec, spec.target_sigma)

    people = torch.as_tensor(persons.keypoints[pair])
    people[..., 2] = people[..., 2].amin(0)  # joints labelled in both, as identity is counted
    areas = torch.as_tensor(persons.areas[pair]).float().mean()
    near = oks(apply(invert(matrix), points), people, areas, persons.skeleton.sigmas)
    found = "neither" if near.max() < 0.1 else "AB"[int(near.argmax())]

    zoom = HEIGHT / spec.input_size[1]
    size = (round(spec.input_size[0] * zoom), HEIGHT)
    show = crop_matrix(pad(box, size[0] / size[1]), size)  # picture to panel
    crop = warp(windows.float(), compose(show, invert(to_window)), size)[0]
    pose = SimpleNamespace(
        keypoints=points[0] * zoom, scores=scores[0], box=(0, 0, *size),
        cue=cue and Cue.points(apply(show, torch.as_tensor(cue.xy)).numpy()))
    panels = _panels(crop.round().byte().permute(1, 2, 0).numpy(), pose, hops, persons.skeleton)
    return panels, found


def _panels(crop: np.ndarray, pose, hops: Tensor, skeleton: Skeleton) -> list[np.ndarray]:
    """A crop (H, W, 3) with a pose, and grey with the maximum of each hop's maps (T, K, h, w)."""
    grey = np.repeat(crop.mean(2, keepdims=True) * 0.6 + 60, 3, axis=2).astype(np.uint8)
    stretch = torch.eye(2, 3)[None] * crop.shape[0] / hops.shape[-2]
    maps = warp(hops.amax(1, keepdim=True), stretch.expand(len(hops), -1, -1), crop.shape[1::-1])
    peaks = maps.amax((2, 3), keepdim=True).clamp(min=1e-6)
    return [draw_poses(crop, [pose], skeleton),
            *(overlay(grey, hop, RED, 0.9) for hop in (maps / peaks)[:, 0].numpy())]
