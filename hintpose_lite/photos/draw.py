"""Draws poses, cues and heatmaps, and makes empty figures for them. No network is run here.

Left and right differ in hue *and* in line style (solid, dashed); points on the person and points on
others differ in hue and shape. So nobody needs to see colours. The palette is Okabe and Ito's
(jfly.uni-koeln.de/color). Every function returns an array or a figure; none shows or saves it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from ..cues.cue import Cue
from ..model.hrnet import STRIDE
from ..pose import geometry
from ..pose.oks import LOW
from ..pose.skeleton import COCO17, Skeleton

BLUE, ORANGE, GREY, GREEN = (0, 114, 178), (230, 159, 0), (90, 90, 90), (0, 158, 115)
SIDES = {1: BLUE, -1: ORANGE, 0: GREY}  # left, right, and joints or limbs without a side
RED, PURPLE, WHITE = (213, 94, 0), (204, 121, 167), (255, 255, 255)
PEOPLE = (GREEN, RED, PURPLE, (86, 180, 233), (240, 228, 66), BLUE, ORANGE)  # one per person
HEIGHT = 384  # pixels of a panel of a figure


def draw_poses(picture: np.ndarray, poses: Sequence, skeleton: Skeleton = COCO17, *,
               zoom: int = 1) -> np.ndarray:
    """A copy of a picture (H, W, 3) uint8 RGB with poses drawn on it.

    poses: objects like `Pose` with keypoints (K, 2) in picture pixels (NaN: not drawn), scores
    (K,), a box, and a cue or None. zoom: enlarges the copy, which small people need.
    The body's left side is solid blue, its right side dashed orange; limbs between the sides are
    grey. Lines grow with the person, lower scores are fainter, and joints with a score of at most
    0.2 are hollow. A cue's points have the marks of `draw_cue`, smaller.
    """
    canvas = _canvas(picture, zoom)
    for pose in poses:
        width = max(1.2, zoom * max(pose.box[2:]) / 80)
        _paint(canvas, pose.keypoints, zoom, width, _draw_pose, pose.scores, skeleton)
        if pose.cue is not None and pose.cue.kind == "points":
            radius = width if len(pose.cue.xy) > 5 else 2.5 * width  # of a pose: small
            _paint(canvas, pose.cue.xy, zoom, radius, _draw_points, pose.cue.labels)
    return np.array(canvas.convert("RGB"))


def draw_people(picture: np.ndarray, poses: Sequence, skeleton: Skeleton = COCO17) -> np.ndarray:
    """`draw_poses`, and for every person a frame in a colour of their own around the joints that
    are sure, with their number (the poses' order, from 1) and score."""
    image = Image.fromarray(draw_poses(picture, poses, skeleton))
    draw, size = ImageDraw.Draw(image), max(11, round(max(image.size) / 40))
    font = ImageFont.load_default(size)
    for number, pose in enumerate(poses, 1):
        sure = np.asarray(pose.scores) > LOW
        points = pose.keypoints[sure if sure.any() else slice(None)]
        points = points[np.isfinite(points).all(1)].clip(0, np.subtract(image.size, 1))
        if not len(points):
            continue
        colour, edge = PEOPLE[(number - 1) % len(PEOPLE)], size / 2
        low = (points.min(0) - edge).clip(0).tolist()
        high = (points.max(0) + edge).clip(0, np.subtract(image.size, 1)).tolist()
        draw.rectangle([*low, *high], outline=colour, width=max(2, size // 6))
        text = f"{number}: {pose.score:.2f}"
        place = draw.textbbox((low[0], max(0, low[1] - 1.3 * size)), text, font)
        draw.rectangle(np.add(place, (-3, -3, 3, 3)).tolist(), fill=colour)
        draw.text(place[:2], text, "black" if sum(colour) > 380 else "white", font, anchor="lt")
    return np.array(image)


def draw_cue(picture: np.ndarray, cue: Cue, *, zoom: int = 1, tint: float = 0.45) -> np.ndarray:
    """A copy of a picture (H, W, 3) uint8 RGB, `zoom` times larger, with a cue drawn on it.

    Points on the person are green discs with a plus, points on others are vermilion squares with a
    minus; more than five points, such as a pose, are smaller. A box is a green frame. A mask has a
    green outline and a green tint of strength `tint`. Without a cue the copy is unchanged.
    """
    canvas = _canvas(picture, zoom)
    size = max(3, max(canvas.size) / 40)
    if cue.kind == "points":
        radius = size / 2 if len(cue.xy) > 5 else size
        _paint(canvas, cue.xy, zoom, radius, _draw_points, cue.labels)
    elif cue.kind == "box":
        ends = geometry.corners(torch.as_tensor(cue.xywh)).view(2, 2)
        _paint(canvas, ends, zoom, size / 3, _draw_frame)
    elif cue.kind == "mask":
        canvas = _draw_mask(canvas.convert("RGB"), cue.array, max(1.0, size / 5), tint)
    return np.array(canvas.convert("RGB"))


def draw_names(picture: np.ndarray, names: Sequence[str], places: np.ndarray) -> np.ndarray:
    """A copy of a picture (H, W, 3) uint8 RGB with short names just above places (n, 2) in its
    pixels, in white with a dark edge; names that would lie outside are moved into the picture."""
    image = Image.fromarray(picture)
    size, draw = max(9, round(max(image.size) / 20)), ImageDraw.Draw(image)
    for name, (x, y) in zip(names, places, strict=True):
        spot = np.clip((x, y - 1.2 * size), size, np.subtract(image.size, size))
        draw.text(tuple(spot), name, "white", ImageFont.load_default(size), "mm", stroke_width=2,
                  stroke_fill="black")
    return np.array(image)


def overlay(picture: np.ndarray, values: np.ndarray, colour: tuple[int, int, int] = GREEN,
            strength: float = 0.7) -> np.ndarray:
    """A picture (H, W, 3) uint8 with a map (h, w) in [-1, 1], such as a cue or a heatmap, stretched
    over it: positive values get the colour, negative ones the opposite colour, zeros nothing."""
    values = Image.fromarray(np.asarray(values, np.float32).clip(-1, 1))
    values = np.asarray(values.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))[..., None]
    ink = np.where(values > 0, colour, 255 - np.array(colour))
    return (picture + (ink - picture) * strength * np.abs(values)).round().astype(np.uint8)


def heatmap_overlay(crop: np.ndarray, maps: Tensor, codec: str = "quarter") -> np.ndarray:
    """A dark grey copy of a crop (H, W, 3) uint8, of any size, with the maximum over heatmaps
    (K, h, w) over it, exactly where the codec places it. The highest value is brightest."""
    edge = int(codec == "udp")
    steps = [size * (1 - edge / (STRIDE * count)) / (count - edge)  # panel pixels per heatmap pixel
             for size, count in zip(crop.shape[1::-1], maps.shape[:0:-1], strict=True)]
    matrix = [[steps[0], 0, 0], [0, steps[1], 0]]
    top = geometry.crop(maps.float().amax(0).numpy(), matrix, crop.shape[1::-1])
    grey = np.repeat(crop.mean(2, keepdims=True) * 0.5 + 25, 3, axis=2).astype(np.uint8)
    return overlay(grey, top / max(top.max(), 1e-6), PURPLE, 0.9)


def _canvas(picture: np.ndarray, zoom: int) -> Image.Image:
    canvas = Image.fromarray(picture)
    return canvas.resize([side * zoom for side in canvas.size]).convert("RGBA")


def _paint(canvas: Image.Image, points: np.ndarray, zoom: int, width: float, paint: Callable,
           *more) -> None:
    """Calls paint(draw, points, width, *more) on an enlarged layer, reduces the layer, which makes
    its edges smooth, and puts it on the canvas. The canvas is `zoom` times as large as the picture
    in whose pixels the points are given."""
    points = (np.asarray(points, float) + 0.5) * zoom  # pixel i covers i to i + 1 in Pillow
    if not np.isfinite(points).all(1).any():
        return
    low = np.floor(np.nanmin(points, 0) - 6 * width).clip(0, canvas.size).astype(int)
    high = np.ceil(np.nanmax(points, 0) + 6 * width).clip(0, canvas.size).astype(int)
    if (low < high).all():
        fine = 4 if max(high - low) <= 1000 else 2
        layer = Image.new("RGBA", tuple(int(side) for side in (high - low) * fine))
        paint(ImageDraw.Draw(layer), (points - low) * fine, width * fine, *more)
        canvas.alpha_composite(layer.reduce(fine), tuple(int(side) for side in low))


def _draw_pose(draw: ImageDraw.ImageDraw, points: np.ndarray, width: float, scores: np.ndarray,
               skeleton: Skeleton) -> None:
    sides, scores = np.zeros(len(skeleton), int), np.clip(np.asarray(scores, float), 0, 1)
    sides[np.array(skeleton.swaps, int).reshape(-1, 2)] = 1, -1
    known = np.isfinite(points).all(1)

    def ink(side: int, score: float, edge: float) -> tuple[int, int, int, int]:
        return (*(WHITE if edge else SIDES[side]), round(255 * (0.35 + 0.65 * score)))

    for edge in (0.5 * width, 0):  # first a white edge, visible on every background
        for a, b in skeleton.limbs:
            if known[a] and known[b]:
                side = np.sign(sides[a] + sides[b])
                _line(draw, points[a], points[b], round(width + 2 * edge), 6 * width,
                      ink(side, min(scores[a], scores[b]), edge), dashed=side < 0)
        for i in np.flatnonzero(known):
            reach, colour = 1.2 * width + edge, ink(sides[i], scores[i], edge)
            draw.ellipse([*(points[i] - reach), *(points[i] + reach)], outline=colour,
                         fill=colour if scores[i] > LOW else (0, 0, 0, 0),
                         width=round(0.5 * width + 2 * edge))


def _draw_points(draw, points: np.ndarray, radius: float, labels: np.ndarray) -> None:
    for point, label in zip(points, labels, strict=True):
        shape, ink = (draw.ellipse, GREEN) if label > 0 else (draw.rectangle, RED)
        for reach, fill in ((1.25 * radius, WHITE), (radius, ink)):
            shape([*(point - reach), *(point + reach)], fill=fill)
        arms = [[0.6, 0], [0, 0.6]] if label > 0 else [[0.6, 0]]  # plus, minus
        for arm in np.array(arms) * radius:
            draw.line([*(point - arm), *(point + arm)], fill=WHITE, width=round(0.35 * radius))


def _draw_frame(draw, ends: np.ndarray, width: float) -> None:
    for by, ink in ((width, WHITE), (width / 1.6, GREEN)):
        draw.rectangle([*(ends[0] - by), *(ends[1] + by)], outline=ink, width=round(2 * by))


def _draw_mask(picture: Image.Image, mask: np.ndarray, width: float, tint: float) -> Image.Image:
    """Stretches a mask (h, w) in [0, 1] over the picture: tinted, with a green and white edge."""
    inside = np.array(Image.fromarray(np.uint8(mask * 255)).resize(picture.size)) > 127
    near = np.array(Image.fromarray(inside).convert("L").filter(ImageFilter.BoxBlur(width)))
    drawn = overlay(np.array(picture), mask, GREEN, tint)
    drawn[inside & (near < 255)], drawn[~inside & (near > 0)] = GREEN, WHITE
    return Image.fromarray(drawn)


def _line(draw, start: np.ndarray, end: np.ndarray, width: int, period: float, ink: tuple,
          dashed: bool) -> None:
    count = max(1, round(float(np.hypot(*(end - start))) / period)) if dashed else 1
    dash = 0.6 / count if dashed else 1
    for i in range(count):
        first = (i + 0.5) / count - dash / 2
        draw.line([*(start + (end - start) * first), *(start + (end - start) * (first + dash))],
                  fill=ink, width=width)


def mark_cue(axis, place, positive: bool = True, size: float = 13) -> None:
    """The mark of `draw_cue` for a point (x, y) on a matplotlib axis; size: in points."""
    ink, shape, sign = (GREEN, "o", "$+$") if positive else (RED, "s", "$-$")
    axis.plot(*place, shape, color=np.divide(ink, 255), ms=size, mec="white", mew=size / 8)
    axis.plot(*place, marker=sign, color="white", ms=0.6 * size, mew=0)


def blank_figure(rows: int, columns: int, size: tuple[float, float] | None = None):
    """An empty Figure and its axes (rows, columns), without ticks or frames. size: in inches."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=size or (max(2.2 * columns, 2.6), 2.9 * rows), layout="compressed")
    return figure, figure.subplots(rows, columns, squeeze=False,
                                   subplot_kw=dict(xticks=[], yticks=[], frame_on=False))


def panel_size(spec) -> tuple[int, int]:
    """Width and height in pixels of a panel that shows a crop of a network with this spec."""
    return round(spec.input_size[0] * HEIGHT / spec.input_size[1]), HEIGHT
