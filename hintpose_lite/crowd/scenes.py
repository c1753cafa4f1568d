"""Procedural scenes: a cluttered background, one to seven articulated people in overlapping groups,
and things in front of them. All annotations are read off the finished picture: a person's mask is
what is left of the person after everybody nearer was painted, the box is its extent, and a joint is
visible if its pixel shows the part of the body that the joint belongs to."""

import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle

from ..pose.skeleton import COCO17
from . import figures as fig
from .figures import REACH, Figure, Layer, pick, sample_body, sample_look, sample_pose
from .scenery import background, develop, foreground

VISIBLE = .2  # share of a silhouette that must show; people who show less get no keypoints
STEPS = np.linspace(.02, .7, 35)  # lengths of steps aside, in body heights

OWN_PARTS = np.zeros((17, 8), bool)  # the parts that the pixel of a joint may show
OWN_PARTS[:5, fig.SKULL] = OWN_PARTS[[5, 6, 11, 12], fig.TORSO] = True
for limb, joints in fig.LIMBS.items():
    OWN_PARTS[list(joints[:3]), limb] = True
JOINED = np.zeros((17, 17), bool)
for one, other in COCO17.limbs:
    JOINED[one, other] = JOINED[other, one] = True


def draw_scene(seed: int, index: int, size: int = 192, hard: bool = True
               ) -> tuple[Image.Image, list[dict]]:
    """Scene `index` of a seed: its picture (size x size, RGB) and its people's entries, no ids."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    people = arrange(rng, size, hard)
    light = pick(rng, (-1, 1))
    canvas = background(rng, size, [figure for figure, _ in people])
    codes = Image.new("L", canvas.size)
    layers = [figure.layers(light) for figure, _ in people]
    paint, mark = ImageDraw.Draw(canvas), ImageDraw.Draw(codes)
    painted = [(layer, number * 8 + layer.part if layer.part else 0)
               for number, own in enumerate(layers, 1) for layer in own]
    for layer, code in sorted(painted, key=lambda item: item[0].depth):
        for outline, fill, solid in layer.shapes:
            paint.polygon(outline, fill)
            if solid:
                mark.polygon(outline, code)
    foreground(rng, canvas, codes)
    parts = np.asfortranarray(np.asarray(codes)[::2, ::2])  # masks are encoded by columns
    entries = [annotate(figure, parts, number, own, extra)
               for number, ((figure, extra), own) in enumerate(zip(people, layers, strict=True), 1)]
    return develop(rng, canvas.reduce(2)), [entry for entry in entries if entry]


def silhouette(layers: list[Layer]) -> int:
    """Area of a whole person in pixels, with what is hidden or outside the picture."""
    outlines = [np.reshape(outline, (-1, 2)) / 2 for layer in layers if layer.part
                for outline, _, solid in layer.shapes if solid]
    points = np.concatenate(outlines)
    low = np.floor(points.min(0)) - 1
    alone = Image.new("L", tuple((points.max(0) - low + 2).astype(int).tolist()))
    for outline in outlines:
        ImageDraw.Draw(alone).polygon((outline - low).ravel().tolist(), 1)
    return int(np.count_nonzero(np.asarray(alone)))


def annotate(figure: Figure, parts: np.ndarray, number: int, layers: list[Layer], extra: dict
             ) -> dict | None:
    """The COCO entry of person `number`, or None if fewer than 4 pixels of the person show. parts:
    (size, size) uint8, 8 times the person's number plus the part of the body."""
    mine = parts // 8 == number
    area = int(np.count_nonzero(mine))
    if area < 4:
        return None
    mask = rle.encode(mine.view(np.uint8))
    joints = np.zeros((17, 3))
    x0, y0, x1, y1 = figure.box  # cheaper than the silhouette, and never smaller
    if area >= VISIBLE * (x1 - x0) * (y1 - y0) or area >= VISIBLE * silhouette(layers):
        joints = keypoints(figure, parts, number)
    return {"category_id": 1, "iscrowd": 0, "area": area,
            "bbox": [int(side) for side in rle.toBbox(mask)],
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "keypoints": joints.ravel().tolist(),
            "num_keypoints": int(np.count_nonzero(joints[:, 2])), **extra}


def keypoints(figure: Figure, parts: np.ndarray, number: int) -> np.ndarray:
    """(17, 3) x, y, v, labelled as people label photographs: v is 2 if the pixel shows the joint's
    own part of the body; 1 for a hidden joint of the trunk or the limbs that the skeleton joins to
    a visible one, so that an annotator could place it; else 0."""
    points, facing = figure.keypoints()
    points = points.round(2)
    column, row = points.round().astype(int).T
    height, width = parts.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    owner, part = np.divmod(parts[row.clip(0, height - 1), column.clip(0, width - 1)], 8)
    seen = inside & facing & (owner == number) & OWN_PARTS[np.arange(17), part]
    hidden = inside & ~seen & (np.arange(17) >= 5) & (JOINED & seen).any(1)
    v = 2 * seen + hidden
    return np.where(v[:, None] > 0, np.column_stack([points, v]), 0)


def arrange(rng: np.random.Generator, size: int, hard: bool) -> list[tuple[Figure, dict]]:
    """The people of a scene, placed, each with the rest of the annotation: "group", "palette" (the
    same number for the same clothes, skin and hair colours) and "depth" (larger is nearer)."""
    kind = pick(rng, "one one one two two close")
    scale = rng.uniform(*{"one": (.62, .9), "two": (.5, .7), "close": (1.1, 1.7)}[kind]) * size
    pitch, floor = rng.uniform(0, .2), rng.uniform(.88, .99) * size
    if kind == "close":  # heads at the top, feet outside
        floor = rng.uniform(.03, .25) * size + scale
    centres = (rng.uniform(.33, .67),) if kind != "two" else (rng.uniform(.16, .3),
                                                              rng.uniform(.7, .84))
    people, order = [], rng.permutation(len(centres)) * 20.0
    for group, centre in enumerate(centres):
        count = pick(rng, (2, 2, 2, 3)) if hard else pick(rng, (1, 1, 1, 2))
        look = sample_look(rng) if rng.random() < (.88 if hard else .2) else None
        make = pick(rng, (apart, apart, apart, apart, hug, beside) if count > 1 else (apart,))
        figures = make(rng, count, scale, pitch, look, hard)
        middle = sum(x for figure in figures for x in figure.box[::2]) / (2 * len(figures))
        for figure in figures:
            figure.origin += centre * size - middle, floor
            figure.depth += order[group]
            people.append((figure, group, group if look else len(people) + 10))
    if kind != "close" and rng.random() < (.3 if hard else .6):  # someone on their own
        figure = person(rng, scale, pitch)
        figure.origin += pick(rng, (.08, .92)) * size + rng.uniform(-.08, .08) * size, floor
        figure.depth = rng.uniform(-3, 40)
        people.append((figure, len(centres), len(people) + 10))
    return [(figure, {"group": group, "palette": palette,
                      "depth": round(float(figure.depth + figure.shift[2]), 3)})
            for figure, group, palette in people]


def person(rng, scale, pitch, look=None, pose=None, yaw=None, shift=(0.0, 0.0, 0.0)) -> Figure:
    """One person, about `scale` pixels tall, who stands at pixel (0, 0). People who share a look
    differ in body, hair and pose, and some in the cut of their clothes."""
    own = sample_look(rng)
    if look and rng.random() < .3:
        look = replace(look, sleeves=own.sleeves, pattern=own.pattern)
    body = sample_body(rng, scale * rng.uniform(.86, 1.1))
    yaw = float(rng.vonmises(0, .9)) if yaw is None else yaw
    return Figure(look or own, body, pose or sample_pose(rng), yaw, pitch, shift)


def apart(rng, count, scale, pitch, look, hard) -> list[Figure]:
    """People in each other's way: each takes a step aside that gives a drawn overlap of boxes."""
    placed = []
    for depth in rng.permutation(count).tolist():
        new = person(rng, scale, pitch, look)
        new.depth, y = 3.0 * depth, (rng.uniform(-.02, .02) + .015 * depth) * scale
        new.origin = np.array([0.0, y])
        if placed:
            other = pick(rng, placed)
            x = other.origin[0] + pick(rng, (-1, 1)) * STEPS * scale
            want = rng.uniform(.2, .8) if hard else rng.uniform(0, .3)
            # Rounded, so that every machine takes the same one of several equally good steps.
            new.origin[0] = x[abs(overlaps(new.box, x, other.box) - want).round(6).argmin()]
        placed.append(new)
    return placed


def overlaps(box: list[float], aside: np.ndarray, other: list[float]) -> np.ndarray:
    """IoU (N,) of a box x0, y0, x1, y1, moved aside by (N,) pixels, with another box."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = box, other
    left, right = x0 + aside, x1 + aside
    shared = np.maximum(np.minimum(right, u1) - np.maximum(left, u0), 0)
    shared *= max(min(y1, v1) - max(y0, v0), 0)
    return shared / ((right - left) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared)


def hug(rng, count, scale, pitch, look, hard) -> list[Figure]:
    """Two people face to face in each other's arms, seen from any side."""
    turn, gap = rng.uniform(-math.pi, math.pi), rng.uniform(.15, .2)
    made = []
    for side in (-1, 1):
        pose = sample_pose(rng, "stand")
        pose.hands = np.array([(-.35, rng.uniform(-.5, .05), gap / REACH + .15) for _ in "lr"])
        pose.elbows = np.array([(1.0, -.6, 0)] * 2)
        pose.torso = (0, rng.uniform(0, .08), 0)
        pose.head = (rng.uniform(-.4, .4), rng.uniform(0, .2), rng.uniform(-.2, .2))
        shift = math.cos(turn) * side * gap / 2, 0.0, -math.sin(turn) * side * gap / 2
        made.append(person(rng, scale, pitch, look, pose, turn - side * math.pi / 2, shift))
        made[-1].body.prop = ""
    return made


def beside(rng, count, scale, pitch, look, hard) -> list[Figure]:
    """People in a row, arms around each other's shoulders, seen from the front or from behind."""
    turn, gap = pick(rng, (0, 0, math.pi)), rng.uniform(.17, .26)
    made = []
    turn += rng.uniform(-.3, .3)
    for i, depth in enumerate(rng.permutation(count)):
        pose = sample_pose(rng, pick(rng, "stand walk"))
        for arm, side in enumerate((1, -1)):  # the left hand reaches to the left
            if 0 <= i + side < count:
                pose.hands[arm] = gap / REACH * rng.uniform(.5, 1), rng.uniform(-.3, .05), -.3
                pose.elbows[arm] = .3, -.5, -1
        place = i - (count - 1) / 2
        shift = math.cos(turn) * place * gap, 0.0, -math.sin(turn) * place * gap
        made.append(person(rng, scale, pitch, look, pose, turn + rng.uniform(-.2, .2), shift))
        made[-1].depth = .05 * float(depth)
    return made
