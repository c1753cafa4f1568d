"""What surrounds the people of a synthetic scene: background, things in front, light and noise. All
coordinates are fractions of the picture's side."""

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .figures import colour, pick, tone


class Painter:
    """Paints shapes on a square picture, and as 0 on the map of body parts, if there is one."""

    def __init__(self, picture: Image.Image, codes: Image.Image | None = None):
        self.side, self.draw = picture.size[0], ImageDraw.Draw(picture)
        self.mark = codes and ImageDraw.Draw(codes)

    def _paint(self, kind, outline, fill, shade):
        outline = [v * self.side for v in outline]
        getattr(self.draw, kind)(outline, tone(fill, shade))
        if self.mark:
            getattr(self.mark, kind)(outline, 0)

    def box(self, x0, y0, x1, y1, fill, shade=1.0):
        self._paint("rectangle", (x0, y0, max(x0, x1), max(y0, y1)), fill, shade)

    def oval(self, x, y, rx, ry, fill, shade=1.0):
        self._paint("ellipse", (x - rx, y - ry, x + rx, y + ry), fill, shade)

    def shape(self, points, fill, shade=1.0):
        self._paint("polygon", [v for point in points for v in point], fill, shade)


def background(rng: np.random.Generator, size: int, figures) -> Image.Image:
    """A canvas (2 size x 2 size) that shows a place, with the figures' shadows on its ground."""
    place, horizon = pick(rng, (room, room, street, park, hall)), rng.uniform(.5, .78)
    fills = [tuple(.62 * c + 48 for c in colour(rng)) for _ in range(9)]  # more muted than clothes
    wall, ground = fills[0], fills[1]
    if place in (street, park):
        wall = (rng.uniform(130, 200), rng.uniform(170, 215), rng.uniform(200, 245))
        ground = tone((104, 138, 76) if place is park else (128, 126, 122), rng.uniform(.7, 1.2))
    ramp = np.clip(np.array(wall) * rng.uniform(.85, 1.1, (2, 2, 1)), 0, 255).astype(np.uint8)
    canvas = Image.fromarray(ramp).resize((size, size), Image.Resampling.BILINEAR).resize(
        (2 * size, 2 * size), Image.Resampling.NEAREST)
    painter = Painter(canvas)
    painter.box(0, horizon, 1, 1, ground)
    place(rng, painter, horizon, ground, fills[2:])
    shadow = ImageDraw.Draw(canvas, "RGBA")
    for figure in figures:
        ankles, r = figure.pixels[15:17].sum(), .3 * figure.body.height
        x, y = ankles.real, ankles.imag  # their sum is their middle on a canvas twice as large
        shadow.ellipse((x - r, y - r * .16, x + r, y + r * .24), (0, 0, 0, 60))
    return canvas


def room(rng, p, horizon, ground, fills):
    """Wallpaper, floor boards, and furniture along the wall."""
    if rng.random() < .4:
        paper, step = pick(rng, fills), rng.uniform(.05, .12)
        for x in np.arange(0, 1, step).tolist():
            p.box(x, 0, x + step * .45, horizon, paper)
    for x in np.linspace(-1, 2, 16).tolist():
        p.shape([(x, 1), (x + .012, 1), (.5 + (x - .5) * .5, horizon)], ground, .82)
    p.box(0, horizon - .02, 1, horizon, pick(rng, fills))
    for x in rng.uniform(-.05, .95, int(rng.integers(3, 7))).tolist():
        thing, fill = pick(rng, "window frame shelf door lamp plant sofa"), pick(rng, fills)
        w, y = .12, rng.uniform(.05, .25)
        if thing == "window":
            p.box(x - .015, y - .015, x + .3, y + .3, (238, 236, 230))
            for pane in (x, x + .145):
                p.box(pane, y, pane + .13, y + .28, (170, 204, 228), rng.uniform(.7, 1.1))
        elif thing == "frame":
            p.box(x - .012, y - .012, x + w + .012, y + w + .032, fill, .5)
            p.box(x, y, x + w, y + w + .02, pick(rng, fills))
            p.oval(x + w / 2, y + .08, .04, .03, pick(rng, fills))
        elif thing == "shelf":
            p.box(x, y, x + .26, horizon, (112, 82, 56))
            for row in np.arange(y + .02, horizon - .08, .12).tolist():
                for column in np.arange(.012, .24, .022).tolist():
                    p.box(x + column, row + rng.uniform(0, .04), x + column + .018, row + .1,
                          pick(rng, fills))
        elif thing == "door":
            p.box(x, .12, x + .2, horizon, fill, .7)
            p.box(x + .015, .14, x + .185, horizon, fill)
            p.oval(x + .17, .45, .01, .01, (230, 200, 110))
        elif thing == "lamp":
            p.box(x + .05, .3, x + .058, horizon + .03, (60, 56, 52))
            p.shape([(x + .02, .2), (x + .09, .2), (x + .12, .32), (x - .01, .32)], (246, 226, 170))
        elif thing == "plant":
            top, foot = horizon - .06, horizon + .05
            leaves(rng, p, x, top, .12)
            p.shape([(x - .05, top), (x + .05, top), (x + .035, foot), (x - .035, foot)],
                    (168, 92, 62))
        else:
            p.box(x, horizon - .2, x + .42, horizon, fill, .8)
            p.box(x - .03, horizon - .1, x + .45, horizon + .06, fill)
            p.box(x + .02, horizon - .12, x + .2, horizon - .06, fill, 1.15)


def street(rng, p, horizon, ground, fills):
    """Houses with windows, a road, cars, lamp posts and trees."""
    x = -.05
    while x < 1:
        wide, top, fill = rng.uniform(.14, .32), rng.uniform(-.05, .35), pick(rng, fills)
        p.box(x, top, x + wide, horizon, fill)
        glass = pick(rng, ((70, 86, 104), (228, 210, 150), (178, 198, 210)))
        step = .075
        for column in np.arange(x + .025, x + wide - .045, step).tolist():
            for row in np.arange(top + .04, horizon - .08, step * 1.2).tolist():
                p.box(column, row, column + .042, row + .055, glass)
        if rng.random() < .6:
            p.box(x, horizon - .1, x + wide, horizon - .07, pick(rng, fills))
        x += wide
    p.box(0, horizon, 1, horizon + .05, (186, 182, 176))
    for dash in np.arange(rng.uniform(-.2, 0), 1, .2).tolist():
        p.box(dash, horizon + .13, dash + .1, horizon + .145, (232, 228, 214))
    for x in rng.uniform(0, 1, int(rng.integers(2, 5))).tolist():
        thing = pick(rng, "car car tree post")
        if thing == "car":
            y, fill = horizon + .02, pick(rng, fills)
            p.shape([(x + .04, y - .12), (x + .22, y - .12), (x + .28, y - .03),
                     (x - .02, y - .03)], (84, 100, 116))
            p.box(x - .05, y - .05, x + .32, y + .03, fill)
            for wheel in (x + .03, x + .24):
                p.oval(wheel, y + .03, .032, .032, (28, 28, 30))
        elif thing == "tree":
            tree(rng, p, x, horizon + .03)
        else:
            p.box(x, .1, x + .014, horizon + .05, (64, 66, 70))
            p.oval(x + .007, .1, .025, .018, (244, 236, 200))


def park(rng, p, horizon, ground, fills):
    """Clouds, hills, trees, bushes, a path and flowers."""
    for x, y in rng.uniform((0, .02), (1, .25), (4, 2)).tolist():
        p.oval(x, y, rng.uniform(.06, .16), .03, (244, 246, 248))
    for x in rng.uniform(0, 1, 3).tolist():
        p.oval(x, horizon + .05, rng.uniform(.25, .5), rng.uniform(.1, .25), ground,
               rng.uniform(.65, .95))
    p.box(0, horizon + .02, 1, 1, ground)
    if rng.random() < .6:
        x = rng.uniform(.2, .8)
        p.shape([(x - .03, horizon + .02), (x + .03, horizon + .02), (x + .4, 1), (x - .3, 1)],
                (196, 178, 144))
    for x in sorted(rng.uniform(-.05, 1.05, int(rng.integers(3, 8))).tolist()):
        tree(rng, p, x, horizon + rng.uniform(.02, .06))
    if rng.random() < .4:
        for x in np.arange(0, 1, .06).tolist():
            p.box(x, horizon - .06, x + .02, horizon + .06, (150, 116, 82))
        p.box(0, horizon - .03, 1, horizon - .01, (150, 116, 82))
    for x, y in rng.uniform((0, horizon + .05), (1, 1), (40, 2)).tolist():
        p.box(x, y, x + .008, y + .012, ground, 1.2)
    for x, y in rng.uniform((0, horizon + .08), (1, 1), (10, 2)).tolist():
        p.oval(x, y, .008, .008, pick(rng, ((240, 220, 90), (232, 96, 110), (240, 240, 240))))


def hall(rng, p, horizon, ground, fills):
    """A shop or a gym: tiles, shelves full of things, banners, a striped floor."""
    for x in np.arange(0, 1, .12).tolist():
        p.box(x, 0, x + .006, horizon, ground, 1.15)
    for row in np.arange(rng.uniform(.05, .2), horizon - .08, .14).tolist():
        p.box(0, row + .1, 1, row + .115, (92, 92, 96))
        x = 0.0
        while x < 1:
            wide, tall = rng.uniform(.025, .09), rng.uniform(.03, .09)
            p.box(x, row + .1 - tall, x + wide, row + .1, pick(rng, fills))
            x += wide + rng.uniform(.005, .04)
    for i, y in enumerate(np.linspace(horizon, 1, 7)[:-1].tolist()):
        p.box(0, y, 1, y + .01 + .004 * i, ground, .85)
    for x in rng.uniform(0, .9, int(rng.integers(0, 3))).tolist():
        p.box(x, 0, x + .12, rng.uniform(.15, .4), pick(rng, fills))


def leaves(rng, p, x, y, r):
    for angle in np.linspace(.3, math.pi - .3, 7).tolist():
        dx, dy = r * math.cos(angle), -1.5 * r * math.sin(angle)
        p.shape([(x - .02, y), (x + dx, y + dy), (x + .02, y)], (74, 124, 66), rng.uniform(.6, 1.2))


def tree(rng, p, x, y):
    r, top = rng.uniform(.08, .16), y - rng.uniform(.25, .5)
    p.box(x - .018, top, x + .018, y, (98, 74, 54))
    fill = tone((76, 118, 62), rng.uniform(.6, 1.2))
    for dx, dy, shade in ((0, .03, .75), (-.07, 0, .9), (.06, -.02, 1), (-.01, -.06, 1.12)):
        p.oval(x + dx, top + dy, r, r * .9, fill, shade)


def foreground(rng: np.random.Generator, canvas: Image.Image, codes: Image.Image) -> None:
    """Sometimes paints a table, a post, a rail or a plant in front of the people: on the picture,
    and as background (0) on the map of body parts."""
    if rng.random() > .3:
        return
    p = Painter(canvas, codes)
    x, fill = rng.uniform(0, .75), colour(rng)
    thing, y = pick(rng, "table post rail plant"), rng.uniform(.76, .9)
    if thing == "table":
        wide = rng.uniform(.3, .6)
        p.box(x - .02, y, x + wide + .02, y + .03, fill, 1.1)
        p.box(x, y + .03, x + wide, 1.01, fill, .75)
        for at in rng.uniform(x, x + wide - .06, 3).tolist():
            tall = rng.uniform(.03, .09)
            p.box(at, y - tall, at + rng.uniform(.02, .06), y, colour(rng))
    elif thing == "post":
        wide = rng.uniform(.02, .05)
        p.box(x, -.01, x + wide, 1.01, fill, .6)
        p.box(x + wide * .3, -.01, x + wide * .6, 1.01, fill, .9)
    elif thing == "rail":
        for bar in (y - .1, y, y + .1):
            p.box(-.01, bar, 1.01, bar + .014, fill, .7)
        for post in np.arange(rng.uniform(0, .2), 1, .3).tolist():
            p.box(post, y - .13, post + .02, 1.01, fill, .55)
    else:
        for _ in range(2):
            leaves(rng, p, x + rng.uniform(-.05, .05), 1.0, rng.uniform(.12, .22))


def develop(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The picture as a camera takes it: exposure and colour of the light, then sensor noise."""
    gain = rng.uniform(.84, 1.14) * (1 + rng.uniform(-.05, .05, 3))
    curve = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-4, 20), 0, 255)
    lit = picture.point(curve.astype(np.uint8).T.ravel().tolist())
    coarse = int(rng.integers(4, 7))
    noise = np.frombuffer(rng.bytes(3 * lit.width * lit.height), np.uint8) >> coarse
    return ImageChops.add(lit, Image.frombytes("RGB", lit.size, noise), 1, -(128 >> coarse))
