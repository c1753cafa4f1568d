"""Articulated people for synthetic scenes: looks, bodies, poses, 3-D joints, shapes to paint.

There are three frames. *Own*: x points to the person's left, y up, z where the person faces; the
unit is the body's height, and the ground is y = 0. *View*: x points right, y up, z towards the
camera. *Screen*: picture pixels with y down, as complex numbers x + iy, so that one product turns
and scales a point. Adults are 7.5 heads tall; children have larger heads.
"""

import cmath
import math
from dataclasses import dataclass, replace

import numpy as np

# Joints 0 to 16 are COCO's; these follow.
PELVIS, CHEST, NECK, HEAD, L_HAND, R_HAND, L_TOE, R_TOE = range(17, 25)
# What a pixel can show: no person (that includes what people carry), or a part of a person.
OBJECT, TORSO, SKULL, L_ARM, R_ARM, L_LEG, R_LEG = range(7)
LIMBS = {L_ARM: (5, 7, 9, L_HAND), R_ARM: (6, 8, 10, R_HAND),
         L_LEG: (11, 13, 15, L_TOE), R_LEG: (12, 14, 16, R_TOE)}
SIDES = np.array([[1.0, 1, 1], [-1, 1, 1]])  # mirrors the vector of a left limb for the right
UPPER, LOWER = (np.array([[a], [a], [b], [b]]) for a, b in ((.165, .24), (.14, .237)))
REACH = .305  # both bones of an arm
KNEES = [SIDES * (.2, 0, 1), SIDES * (.3, .6, 1)]  # where knees point: upright, else
TOES = SIDES * (.02, -.024, .08)  # from the ankles

SKINS = [(250, 218, 196), (240, 196, 162), (222, 170, 128), (196, 138, 96), (160, 106, 70),
         (122, 78, 52), (92, 60, 44)]
HAIRS = [(30, 25, 24), (56, 38, 28), (94, 62, 38), (148, 102, 56), (208, 172, 108), (150, 70, 38),
         (170, 166, 162)]
NEUTRALS = [(34, 36, 42), (74, 78, 86), (150, 152, 156), (236, 234, 228), (40, 54, 90),
            (80, 102, 142), (174, 152, 118), (96, 78, 62)]
RIM, SHADE, LIGHT = .45, .8, 1.04  # every shape is painted in three tones of its colour

# Where a left wrist lies from its shoulder, in arm lengths, and where the elbow points.
ARMS = {"hang": ((.14, -.95, .08), (.6, 0, -1)), "hip": ((-.02, -.62, .16), (1, 0, -.4)),
        "crossed": ((-.62, -.42, .5), (.6, -1, .2)), "forward": ((-.05, .02, .93), (.4, -1, 0)),
        "up": ((.16, .95, .1), (1, 0, .2)), "side": ((.93, .1, .1), (0, -1, -.4)),
        "wave": ((.5, .42, .25), (.5, -1, 0)), "ear": ((-.1, .34, .2), (1, -.7, .2)),
        "hold": ((-.3, -.36, .58), (.6, -1, -.2)), "pocket": ((.16, -.74, .14), (.7, 0, -1)),
        "lap": ((-.12, -.66, .58), (.8, 0, -.6)), "back": ((.1, -.85, -.3), (.6, 0, -1)),
        "swing": ((.1, -.75, .45), (.2, -.3, -1))}
HABITS = {"stand": "hang hang hip crossed pocket hold ear wave back",
          "sit": "lap lap hold ear wave", "walk": "swing hang back pocket",
          "run": "swing back hold", "reach": "up forward side", "crouch": "forward lap hold hang"}
KINDS = ["stand"] * 6 + ["walk"] * 4 + ["sit"] * 3 + ["reach"] * 3 + ["run", "crouch"]


@dataclass
class Look:
    """Colours and cut of the clothes; people of one group may share a look."""

    skin: tuple  # colours are RGB, 0 to 255
    hair: tuple
    top: tuple
    bottom: tuple
    shoes: tuple
    trim: tuple
    sleeves: float  # how much of the arm is covered: 0 none, 1 to the elbow, 2 to the wrist
    legs: float  # how much of the leg is covered, likewise
    skirt: float  # its length in torso lengths; 0 means no skirt
    hem: float  # where the top ends, in torso lengths above the hips
    pattern: str


@dataclass
class Body:
    """Proportions, hair style, hat and luggage of one person; lengths in body heights."""

    height: float  # in pixels, standing
    shoulder: float
    hip: float
    weight: float
    head: float
    hair: str
    hat: str
    beard: bool
    prop: str


@dataclass
class Pose:
    """Where the limbs end; inverse kinematics finds the joints between."""

    kind: str
    pelvis: np.ndarray  # (3,) own frame
    feet: np.ndarray  # (2, 3) left and right ankle, own frame
    hands: np.ndarray  # (2, 3) wrists from the shoulders in arm lengths, x outwards
    elbows: np.ndarray  # (2, 3) where the elbows point, likewise
    torso: tuple[float, float, float]  # turn, lean forward, lean aside; radians
    head: tuple[float, float, float]  # the same, relative to the torso


@dataclass
class Layer:
    """Shapes that are painted together: (flat xy list in half pixels, RGB, is it in the mask?)."""

    depth: float
    part: int
    shapes: list


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The matrix (3, 3) that rolls about z, then tilts forward about x, then turns about y."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    return np.array([[cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
                     [cp * sr, cp * cr, -sp],
                     [cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp]])


def bend(root, target, pole):
    """Two-bone inverse kinematics of both arms, then both legs: the middle and end joints (4, 3).
    Limbs stretch towards targets out of reach; the middle joints point to `pole`."""
    reach = target - root
    length = np.sqrt((reach ** 2).sum(1, keepdims=True)) + 1e-9
    axis = reach / length
    length = np.minimum(np.maximum(length, UPPER - LOWER + .02), (UPPER + LOWER) * .998)
    along = (UPPER ** 2 - LOWER ** 2 + length ** 2) / (2 * length)
    side = pole - (pole * axis).sum(1, keepdims=True) * axis
    side /= np.sqrt((side ** 2).sum(1, keepdims=True)) + 1e-9
    return (root + along * axis + np.sqrt(np.maximum(UPPER ** 2 - along ** 2, 0)) * side,
            root + length * axis)


def pick(rng: np.random.Generator, options):
    """One of the options (a word list or a sequence), all equally likely."""
    options = options.split() if isinstance(options, str) else options
    return options[rng.integers(len(options))]


def colour(rng: np.random.Generator, shade: float = 1.0) -> tuple[float, float, float]:
    """A plausible RGB colour of a garment or a thing: often neutral, never garish."""
    neutral, hue, saturation, value = rng.random(4).tolist()
    if neutral < .42:
        return tone(pick(rng, NEUTRALS), (.92 + .16 * value) * shade)
    value, saturation = (90 + 135 * value) * shade, .3 + .45 * saturation
    waves = [abs((hue * 6 + phase) % 6 - 3) - 1 for phase in (0, 4, 2)]
    return tuple([value * (1 - saturation * (1 - min(max(wave, 0), 1))) for wave in waves])


def sample_look(rng: np.random.Generator) -> Look:
    """A set of clothes with a skin and a hair colour."""
    skin = rng.integers(len(SKINS))
    hair = pick(rng, HAIRS if skin < 3 else HAIRS[:2])
    skirt = rng.uniform(.5, .85) if rng.random() < .22 else 0.0
    top = colour(rng)
    dress = skirt and rng.random() < .5
    return Look(tone(SKINS[skin], rng.uniform(.95, 1.04)), hair, top,
                top if dress else colour(rng, .85), colour(rng, .7), colour(rng),
                sleeves=pick(rng, (.25, .6, .6, .6, 1.9, 1.9, 1.9)),
                legs=0.0 if skirt else pick(rng, (.75, 1.0, 1.93, 1.93, 1.93)), skirt=skirt,
                hem=rng.uniform(-.22, .04),
                pattern=pick(rng, "plain plain plain stripes logo jacket sash"))


def sample_body(rng: np.random.Generator, height: float) -> Body:
    """A random body; one in ten is a child's. height: of a standing adult, in pixels."""
    child = rng.random() < .1
    hair = pick(rng, "short short short long long bun afro bald")
    return Body(height * (.72 if child else 1), rng.uniform(.092, .118), rng.uniform(.052, .064),
                (1.3 if rng.random() < .2 else 1) * rng.uniform(.88, 1.14),
                rng.uniform(.98, 1.08) * (1.28 if child else 1), hair,
                hat=pick(rng, ("", "", "", "cap", "beanie")) if hair != "afro" else "",
                beard=hair in "short bald" and not child and rng.random() < .35,
                prop=pick(rng, ("", "", "", "", "backpack", "bag", "ball", "book", "umbrella")))


def sample_pose(rng: np.random.Generator, kind: str | None = None) -> Pose:
    """A random pose. kind: stand, walk, run, sit, crouch, reach, or None for any of them."""
    kind = kind or pick(rng, KINDS)
    u = rng.uniform
    width, along = u(.04, .1, 2), u(-.05, .05, 2)
    lift = np.zeros(2)
    hips, lean = u(.505, .52), u(-.05, .1)
    if kind in ("walk", "run"):
        stride, rear = u(.1, .2) if kind == "walk" else u(.16, .26), int(rng.integers(2))
        along = np.array([stride, -stride] if rear else [-stride, stride])
        lift[rear] = u(.02, .07) if kind == "walk" else u(.1, .22)
        hips, lean = .515 - stride ** 2, u(0, .12) if kind == "walk" else u(.1, .35)
        width *= .7
    elif kind == "sit":
        hips, along, lean = u(.27, .31), u(.14, .3, 2), u(-.12, .2)
    elif kind == "crouch":
        hips, along, lean = u(.2, .38), u(-.02, .1, 2), u(.2, .6)
    elif kind == "reach":
        lean = u(-.1, .35)
    habit = pick(rng, HABITS[kind])
    arms = [ARMS[habit], ARMS[habit if rng.random() < .4 else pick(rng, HABITS[kind])]]
    if rng.random() < .5:
        arms.reverse()
    hands, elbows = map(np.array, zip(*arms, strict=True))
    return Pose(kind, np.array([u(-.03, .03), hips, -.04 * (kind == "crouch") - lean * .08]),
                np.array([width * (1, -1), .045 + lift, along]).T,
                hands + u(-.1, .1, (2, 3)), elbows + u(-.3, .3, (2, 3)),
                (u(-.25, .25), lean, u(-.08, .08)), (u(-.6, .6), u(-.2, .3), u(-.15, .15)))


class Figure:
    """A person in a pose, seen from a direction. Set `origin`, (2,) the pixel of the ground under
    the body, and `depth` (larger is nearer), then paint `layers`."""

    def __init__(self, look: Look, body: Body, pose: Pose, yaw: float, pitch: float = 0.0,
                 shift: tuple[float, float, float] = (0.0, 0.0, 0.0)):
        """yaw, pitch: radians; 0 faces the camera, positive turns towards the right of the picture,
        and tilts the camera down. shift: place in the group, view frame, in body heights."""
        if pose.kind in ("sit", "crouch", "run") and look.skirt:
            look = replace(look, skirt=0.0, legs=.8)
        self.look, self.body, self.pose = look, body, pose
        self.origin, self.shift, self.depth = np.zeros(2), shift, 0.0
        self.view = rotation(0, pitch) @ rotation(yaw)
        torso = rotation(*pose.torso)
        head = torso @ rotation(*pose.head)
        self.joints = self._joints(torso, head) @ self.view.T  # (25, 3) view frame
        self.torso, self.head = self.view @ torso, self.view @ head
        across, up = self.head[:2, 1].tolist()  # the head is drawn upright, then rolled
        self.roll = math.atan2(across, up) if across ** 2 + up ** 2 > .1 else 0.0
        self.upright = rotation(0, 0, self.roll) @ self.head
        self.offsets = self.screen(self.joints)  # (25,) of the joints, while the origin is 0

    def _joints(self, torso, head):
        body, pose = self.body, self.pose
        turned = np.concatenate([  # in the frame of the torso
            [(0, .295, 0), (0, .045, .006), (body.shoulder, 0, 0), (-body.shoulder, 0, 0)],
            pose.hands * SIDES * REACH, pose.elbows * SIDES]) @ torso.T
        chest = pose.pelvis + turned[0]
        neck, hips = chest + turned[1], pose.pelvis + SIDES * (body.hip, 0, 0)
        roots = np.concatenate([chest + turned[2:4], hips])
        middle, end = bend(roots, np.concatenate([roots[:2] + turned[4:6], pose.feet]),
                           np.concatenate([turned[6:], KNEES[pose.kind in ("sit", "crouch")]]))
        return np.concatenate([
            np.zeros((5, 3)), roots[:2], middle[:2], end[:2], hips, middle[2:], end[2:],
            [pose.pelvis, chest, neck, neck + head @ (0, .062 * body.head, .014)],
            end[:2] + (end[:2] - middle[:2]) * .4, end[2:] + TOES])

    def screen(self, points: np.ndarray) -> np.ndarray:
        """View points (..., 3) to picture pixels (...), in slight perspective."""
        (dx, dy, dz), (x, y) = self.shift, self.origin.tolist()
        scale = self.body.height / (1 - (points[..., 2] + dz) / 6)
        return complex(x, y) + ((points[..., 0] + dx) - 1j * (points[..., 1] + dy)) * scale

    @property
    def pixels(self) -> np.ndarray:
        """(25,) the joints in the picture; the first five, of the face, are not set."""
        return self.offsets + complex(*self.origin)

    @property
    def box(self) -> list[float]:
        """Corners x0, y0, x1, y1 of the whole silhouette, exact enough to lay out a scene."""
        x, y, margin = self.pixels.real, self.pixels.imag, .03 * self.body.height
        return [x.min() - margin, y.min() - margin - margin, x.max() + margin, y.max() + margin]

    def on_head(self, directions: np.ndarray, clamped: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Points on the head, given as (N, 3) on a unit sphere in the head's frame: pixels (N,) and
        nearness (N,), positive on the side that faces the camera. The first `clamped` points are
        drawn on the head's horizon if they lie behind it."""
        x, y, z = points = self.upright @ directions.T
        if clamped:
            flat = np.sqrt(x[:clamped] ** 2 + y[:clamped] ** 2 + 1e-6)
            points[:2, :clamped] *= np.where(z[:clamped] < 0, LENGTHS[:clamped] / flat, 1)
        return self.pixels[HEAD] + self._oval(x, y), z

    def _oval(self, x, y):
        """Stretches a disc of radius 1 to the head's outline: offsets (...) in pixels."""
        size = self.body.head * self.body.height
        wide = (.049 + .008 * abs(self.upright[0, 2])) * size  # the chin is narrower
        return (x * (1 + .13 * y) * wide - 1j * (y * (.066 * size))) * cmath.rect(1, self.roll)

    def keypoints(self) -> tuple[np.ndarray, np.ndarray]:
        """COCO's 17 joints: pixels (17, 2), and whether they lie on the side facing the camera."""
        points, depth = self.pixels[:17], self.joints[:, 2]
        points[:5], z = self.on_head(FACE)
        ears = 2 if self.body.hair in ("long", "afro") else -.3
        seen = np.ones(17, bool)
        seen[:5] = z > (-.12, .05, .05, ears, ears)
        seen[5:7] = depth[5:7] - depth[CHEST] > -.055
        seen[11:13] = depth[11:13] - depth[PELVIS] > -.035
        return points.view(float).reshape(17, 2), seen

    def layers(self, light: float) -> list[Layer]:
        """What to paint, to be sorted by depth. light: -1 from the left, 1 from the right."""
        self.light = complex(.3 * light, -.22)
        self.edge = .008 * self.body.height
        z, pixels = self.joints[:, 2].tolist(), self.pixels.tolist()
        head, under = z[HEAD] + .05, .2 if self.look.skirt else .03
        made = [Layer((z[PELVIS] + z[CHEST]) / 2, TORSO, self._torso(pixels)),
                Layer(head, SKULL, self._head(pixels)),
                Layer(min(z[CHEST] - .07 * self.upright[2, 2], head + .001), SKULL, [])]
        made += [Layer((z[b] + z[c]) / 2 + .02 if part < L_LEG else (z[a] + z[b]) / 2 - under, part,
                       []) for part, (a, b, c, _) in LIMBS.items()]
        rows = [row for part in LIMBS for row in self._limb(part, pixels)] + self._hair()
        self._capsules(made, rows)
        made += self._props()
        for layer in made:
            layer.depth += self.depth + self.shift[2]
        return made

    def _capsules(self, layers, rows):
        """Adds tapered limbs to layers. rows: (layer number, start, end, radius at the start and at
        the end in pixels, colour). All get a rim, then a body, then a part in the light."""
        start, end, first, last = np.array([row[1:5] for row in rows]).T[..., None]
        along = np.where(start == end, 1, end - start)
        cap = along / abs(along) * HALF_TURN
        grow, share, shift = np.array([(self.edge, 0, 0), (1, 1, .66),
                                       (0, 0, self.light)])[..., None, None]
        outlines = iter(flat(np.concatenate([end + last * shift + cap * (last * share + grow),
                                             start + first * shift - cap * (first * share + grow)],
                                            2)))
        for shade in (RIM, SHADE, LIGHT):
            tones = {fill: tone(fill, shade) for fill in {row[5] for row in rows}}
            for number, *_, fill in rows:
                layers[number].shapes.append((next(outlines), tones[fill], shade == RIM))

    def _limb(self, part, pixels):
        """Skin, then the sleeve or trouser leg over it, then the hand or shoe."""
        look, arm = self.look, part < L_LEG
        cover, cloth = (look.sleeves, look.top) if arm else (look.legs, look.bottom)
        width = self.body.height * self.body.weight ** .7
        r0, r1, r2, r3, r4 = [r * width for r in ((.033, .026, .019, .017, .013) if arm else
                                                  (.054, .038, .024, .024, .018))]
        a, b, c, d = [pixels[joint] for joint in LIMBS[part]]
        loose, rows = 1.12 if cover > 1 else 1.2, []
        if cover < 1:
            rows.append((part, a, b, r0, r1, look.skin))
        if cover < 1.9:
            rows.append((part, b, c, r1, r2, look.skin))
        rows.append((part, c, d, r3, r4, look.skin if arm else look.shoes))
        if cover:
            t = min(cover, 1)
            rows.append((part, a, a + (b - a) * t, r0 * loose, (r0 + (r1 - r0) * t) * loose, cloth))
        if cover > 1:
            end = b + (c - b) * (cover - 1)
            rows.append((part, b, end, r1 * loose, r2 * loose * 1.15, cloth))
        return rows

    def _hair(self):
        """Hair that hangs or is tied behind the head, as rows for layer 2."""
        if self.body.hair not in ("long", "bun"):
            return []
        size, long = self.body.height * self.body.head, self.body.hair == "long"
        behind = self.head @ ((0, 0, -.03) if long else (0, .05, -.06))
        at = complex(self.screen(self.joints[HEAD] + behind * self.body.head))
        drop, r0, r1 = (.13j, .055, .06) if long else (0, .03, .03)
        return [(2, at, at + drop * size, r0 * size, r1 * size, self.look.hair)]

    def _torso(self, pixels):
        """Elliptic rings swept along the spine: neck, trousers or skirt, top and its pattern."""
        look, body, w = self.look, self.body, self.body.weight
        hip, spine = pixels[PELVIS], pixels[CHEST] - pixels[PELVIS]
        across = 1j * spine / abs(spine) if abs(spine) > 3 else 1 + 0j
        (x0, _, x2), (y0, _, y2), (*_, facing) = self.torso.tolist()
        wide, deep = x0 * across.real - y0 * across.imag, x2 * across.real - y2 * across.imag
        skirt = .155 * w if look.skirt else .05
        a, b = body.hip, body.shoulder  # the rings: height, half width, half depth
        rings = ((-.8, skirt, skirt), (-.2, a * w + .01, .05 * w), (0, (a + .03) * w, .062 * w),
                 (.16, (a + .022) * w, .06 * w), (.45, .43 * (a + b) * w, .052 * w),
                 (.8, b * .94, .062 * w), (.97, b, .05 * w), (1.06, b * .62, .04),
                 (1.14, .034, .034), (1.5, .028, .03))
        half = [math.hypot(x * wide, z * deep) * body.height for _, x, z in rings]
        lit = math.copysign(.34, across.real * self.light.real + across.imag * self.light.imag)
        bands = []  # start, end, offset aside and width in half widths, margin in pixels, RGB, tone
        for low, high, grow, fill in ((1.0, 1.45, 0, tone(look.skin, .88)),
                                      (-max(look.skirt, .2), .2, 0, look.bottom),
                                      (look.hem, 1.13, .004 * body.height, look.top)):
            bands += [(low, high, 0, 1, grow + self.edge, fill, RIM),
                      (low, high, 0, 1, grow, fill, SHADE), (low, high, lit, .6, grow, fill, LIGHT)]
        patterns = {"stripes": [(t, t + .07, 0, 1) for t in (.1, .28, .46, .64)],
                    "sash": [(.5, .68, 0, 1)]}
        if facing > .3:
            patterns |= {"logo": [(.58, .8, 0, .3)], "jacket": [(max(look.hem, 0), 1.05, 0, .26)]}
        bands += [(*place, 0, look.trim, 1) for place in patterns.get(look.pattern, [])]
        low, high, aside, share, grow = np.array([band[:5] for band in bands]).T[..., None]
        t = low + (high - low) * SEVENTHS
        size = np.interp(t, [ring[0] for ring in rings], half)
        middle, spread = hip + t * spine + size * aside * across, (size * share + grow) * across
        outlines = flat(np.concatenate([middle + spread, (middle - spread)[:, ::-1]], 1))
        return [(outline, tone(fill, shade), shade == RIM)
                for outline, (*_, fill, shade) in zip(outlines, bands, strict=True)]

    def _head(self, pixels):
        """Hair or a bald head, then the OUTLINES of `plan`: (number, colour, least nearness)."""
        look, body = self.look, self.body
        bald = body.hair == "bald"
        hair, facing = look.skin if bald else look.hair, self.upright[2, 2]
        outlines, z = self.on_head(OUTLINES, CLAMPED)
        puff = {"bald": 1.0, "afro": 1.32}.get(body.hair, 1.09)
        low = 1 if bald or facing < 0 else .88  # no hair under the chin
        ball = self._oval(COSINE, np.where(SINE < 0, SINE * low, SINE)) * puff
        rim, up = 1 + .13 / (puff * body.head), self._oval(0, (puff - 1) * .8)
        lit = ball * .7 + self.light * .05 * body.height
        balls = flat(pixels[HEAD] + up + np.array([ball * rim, ball, lit]))
        shapes = [(outline, tone(hair, shade), shade == RIM)
                  for outline, shade in zip(balls, (RIM, .88, 1.12), strict=True)]
        plan = []
        if body.hair not in ("long", "afro"):
            plan += [(ear, tone(look.skin, .82), -.35) for ear in EARS]
        if facing > -.75:
            if not bald:
                plan += [(JAW, tone(look.skin, RIM), -.4), (0, tone(look.skin, .86), -.4)]
            plan.append((1 if self.light.real < 0 else 2, tone(look.skin, 1), -.4))
            if body.beard:
                plan.append((3, tone(look.hair, 1), -.4))
            red, green, blue = look.skin
            lips = tone((red, green * .62, blue * .6), .82)
            plan += [(i, fill, .12) for i, fill in zip(
                DECALS, [(245, 244, 240)] * 2 + [(34, 26, 24)] * 2 + [tone(look.hair, .8)] * 2
                + [tone(look.skin, .72), lips], strict=True)]
        if body.hat:
            plan.append((4, tone(look.trim, .85), -2))
        if body.hat == "cap":  # the brim points away from the camera if the face does
            plan.insert(len(plan) if facing > 0 else 0, (BRIM, tone(look.trim, .6), -2))
        drawn, near = flat(outlines.reshape(-1, 14)), z.reshape(-1, 14).mean(1)
        return shapes + [(drawn[i], fill, i in SOLID) for i, fill, least in plan if near[i] > least]

    def _props(self):
        """The chair of a sitting person, and what a person carries."""
        kind, fill = self.body.prop, self.look.trim
        made = []
        hand = (self.joints[9] + self.joints[L_HAND]) / 2
        if self.pose.kind == "sit":
            drop = (self.pose.pelvis[1] - .075) / 2
            legs = [(x, -.075 - drop, z) for z in (.17, -.08) for x in (.11, -.11)]
            *legs, seat, back = self._blocks(
                self.joints[PELVIS] + [*legs, (0, -.075, .05), (0, .165, -.11)] @ self.view.T,
                [(.01, drop, .01)] * 4 + [(.13, .015, .14), (.12, .12, .012)], self.view,
                [tone(fill, .6)] * 4 + [fill] * 2)
            seat.depth = self.joints[PELVIS, 2] - .12
            seat.shapes[:0] = [shape for leg in legs for shape in leg.shapes]
            made += [seat, back]
        blocks = {"backpack": (self.joints[CHEST], self.torso, (0, -.1, -.1), (.085, .105, .045)),
                  "bag": (hand, self.view, (0, -.11, 0), (.03, .075, .09)),
                  "book": (hand, self.torso, (0, .01, .02), (.045, .06, .008)),
                  "umbrella": (hand, self.view, (0, .2, 0), (.005, .25, .005))}  # its stick
        if kind in blocks:
            at, turn, offset, half = blocks[kind]
            made += self._blocks((at + turn @ offset)[None], [half], turn,
                                 [tone(fill, .4) if kind == "umbrella" else fill])
        if kind == "umbrella":
            at, r = self.screen(hand + self.view @ (0, .42, 0)), .27 * self.body.height
            angle = np.linspace(0, math.pi, 9)
            for i, shade in enumerate((.6, .95, .75, 1.05)):
                dome = np.cos(angle) * (1 - .28 * i) - .5j * np.sin(angle)
                made[-1].shapes.append((flat(at + dome * r)[0], tone(fill, shade), i == 0))
        elif kind == "ball":
            at, r = complex(self.screen(hand + self.view @ (0, -.03, .04))), .05 * self.body.height
            made.append(Layer(hand[2] + .05, OBJECT, []))
            self._capsules(made[-1:], [(0, at, at, r, r, fill)])
        return made

    def _blocks(self, centres, halves, turn, fills):
        """Boxes of half sizes (N, 3), turned into the view by (3, 3): one layer per box."""
        corners = centres[:, None] + (CORNERS * np.array(halves)[:, None]) @ turn.T
        outlines = iter(flat(self.screen(corners)[:, FACES].reshape(-1, 4)))
        normals = [*turn.T.tolist(), *(-turn.T).tolist()]
        lit = [.62 + .3 * z + .2 * y if z > 0 else 0 for _, y, z in normals]
        return [Layer(depth, OBJECT, [(face, tone(fill, shade), True) for shade, face in
                                      zip(lit, outlines) if shade])
                for depth, fill in zip(centres[:, 2].tolist(), fills, strict=True)]


def flat(points: np.ndarray) -> list[list[float]]:
    """Outlines (..., N) in picture pixels as Pillow takes them, on a canvas twice as large."""
    return (points * 2 + (.5 + .5j)).reshape(-1, points.shape[-1]).view(float).tolist()


def tone(fill, shade: float) -> tuple[int, int, int]:
    """A colour made darker or lighter."""
    return tuple([min(int(channel * shade), 255) for channel in fill])


def _cap(axis, degrees, size=1.0):
    """The rim of a spherical cap: (14, 3) points on the head."""
    axis = np.array(axis) / np.linalg.norm(axis)
    one = np.cross(axis, (1.0, 0, 0) if abs(axis[0]) < .7 else (0, 1.0, 0))
    one /= np.linalg.norm(one)
    angle = math.radians(degrees)
    return size * (axis * math.cos(angle) + math.sin(angle) * (
        np.cos(_TURN) * one + np.sin(_TURN) * np.cross(axis, one)))


def _oval(x, y, w, h, out=1.0):
    """An ellipse drawn on the face: (14, 3)."""
    points = np.hstack([x + w * np.cos(_TURN), y + h * np.sin(_TURN)])
    return np.column_stack([points, out * np.sqrt(np.maximum(1 - (points ** 2).sum(1), 0))])


FACE = np.array([(0, -.12, 1.02), (.36, .12, .92), (-.36, .12, .92), (.98, -.02, -.1),
                 (-.98, -.02, -.1)])
_TURN = np.linspace(0, 2 * math.pi, 14, endpoint=False)[:, None]
_BRIM = [(math.cos(a), math.sin(a)) for a in np.linspace(0, math.pi, 14)]
OUTLINES = np.concatenate([  # 14 points each: face, lit cheeks, beard, hat, jaw, features, ears
    _cap((0, -.46, .88), 66), _cap((-.15, -.4, .9), 58), _cap((.15, -.4, .9), 58),
    _cap((0, -.85, .55), 40), _cap((0, 1, -.06), 70, 1.14), _cap((0, -.46, .88), 66, 1.09),
    _oval(.36, .12, .13, .065), _oval(-.36, .12, .13, .065), _oval(.36, .12, .065, .07),
    _oval(-.36, .12, .065, .07), _oval(.36, .3, .14, .028), _oval(-.36, .3, .14, .028),
    _oval(0, -.14, .08, .1, 1.15), _oval(0, -.48, .2, .05),
    _cap((.99, -.02, -.12), 15, 1.1), _cap((-.99, -.02, -.12), 15, 1.1),
    np.array([(.85 * x, .42 - .08 * y, .5 + 1.05 * y) for x, y in _BRIM])])
CLAMPED, JAW, DECALS, EARS, BRIM, SOLID = 6 * 14, 5, range(6, 14), [14, 15], 16, {4, 5, 14, 15, 16}
LENGTHS = np.linalg.norm(OUTLINES, axis=1)
COSINE, SINE = np.cos(_TURN[:, 0]), np.sin(_TURN[:, 0])
HALF_TURN, SEVENTHS = np.exp(np.linspace(-.5j, .5j, 6) * math.pi), np.linspace(0, 1, 7)
CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
FACES = np.array([(4, 5, 7, 6), (2, 3, 7, 6), (1, 3, 7, 5), (0, 1, 3, 2), (0, 1, 5, 4),
                  (0, 2, 6, 4)])
