"""The cue lab: a cue that is dragged over a picture while the pose follows.

A lab is two things. A pure function turns settings into what is shown, and can be tested without a
browser. A thin controller around it shows that and takes drags, clicks, keys and sliders.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch
from pycocotools import mask as rle

from ..crowd.scenes import draw_scene
from ..cues.cue import Cue
from ..errors import DataError
from ..photos.draw import draw_cue, draw_names, draw_poses, panel_size
from ..pose.geometry import apply, crop, crop_matrix, invert, iou, pad, union
from ..pose.oks import oks
from ..pose.skeleton import COCO17
from .figures import look
from .widgets import Lab, Pad, Still

SEED = 3_000_000  # scenes that no network was trained or validated on
NAMES = "ABCDEF"


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (H, W, 3) uint8 with people A, B, ... on it, of whom A and B share a box, C and D,
    and so on: keypoints (P, K, 3) x, y, v, areas (P,), own boxes (P, 4) x, y, w, h and visible
    masks (P, H, W) bool. `hidden` may be a joint of A's that B's body covers. In picture pixels."""

    picture: np.ndarray
    people: torch.Tensor
    areas: torch.Tensor
    own_boxes: torch.Tensor
    masks: np.ndarray
    hidden: tuple[float, float] | None = None

    @classmethod
    def drawn(cls, picture, entries: list[dict], **more) -> "Scene":
        """Some people, annotation entries, of what `draw_scene` gives."""
        boxes, joints, areas = (torch.tensor([entry[name] for entry in entries]).float()
                                for name in ("bbox", "keypoints", "area"))
        masks = np.stack([rle.decode(entry["segmentation"]) > 0 for entry in entries])
        return cls(np.asarray(picture), joints.view(len(boxes), -1, 3), areas, boxes, masks, **more)

    @property
    def pairs(self) -> torch.Tensor:
        """The boxes (P / 2, 4) that two people each share."""
        return union(self.own_boxes[::2], self.own_boxes[1::2])

    @property
    def boxes(self) -> torch.Tensor:
        """A's and B's box as (1, 4) tensor, as the predictor takes it."""
        return self.pairs[:1]

    @property
    def box(self) -> np.ndarray:
        """The same as (4,) array."""
        return self.pairs[0].numpy()

    def middle(self, person: int) -> tuple[float, float]:
        """The visible joint of a person that is nearest to the mean of the visible ones."""
        shown = self.people[person][self.people[person, :, 2] == 2, :2]
        best = (shown - shown.mean(0)).norm(dim=1).argmin()
        return tuple(shown[best].tolist())

    def top(self, person: int) -> tuple[float, float]:
        """The highest visible joint of a person."""
        shown = self.people[person][self.people[person, :, 2] == 2, :2]
        return tuple(shown[shown[:, 1].argmin()].tolist())


def pair_scene(number: int = 0, overlap: tuple[float, float] = (0.2, 0.4)) -> Scene:
    """The scene of the number-th drawn pair whose boxes overlap so much (IoU), ten or more joints
    of both in plain view. The same number always gives the same scene."""
    for index in range(10_000):
        picture, entries = draw_scene(SEED, index)
        entries = [entry for entry in entries if entry["num_keypoints"]]
        if len(entries) < 2:
            continue
        everybody = Scene.drawn(picture, entries)
        clear = (everybody.people[..., 2] == 2).sum(1) >= 10
        shared = torch.triu(iou(everybody.own_boxes, everybody.own_boxes), 1)
        shared *= clear[:, None] * clear
        fitting = ((shared >= overlap[0]) & (shared < overlap[1])).nonzero()
        if len(fitting) and number == 0:
            return Scene.drawn(picture, [entries[person] for person in fitting[0]])
        number -= len(fitting) > 0
    raise DataError(f"no pair of drawn people overlaps by {overlap[0]} to {overlap[1]}")


def chimera_scene() -> Scene:
    """A drawn couple of whom `crowd-tiny` without a cue finds a pose with joints of both."""
    picture, entries = draw_scene(SEED, 151, size=480)
    return Scene.drawn(picture, entries[3:5])


def shares(points: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
    """How many joints of a pose (K, 2) are each person's (P,). A joint is that one's of people
    (P, K, 3) x, y, v, whose own such joint is nearest, if it is labelled (v > 0)."""
    labelled = people[..., 2] > 0
    far = (points - people[..., :2]).norm(dim=-1).masked_fill(~labelled, torch.inf)
    return torch.bincount(far.argmin(0)[labelled.any(0)], minlength=len(people))


def cue_frame(model, scene: Scene, cue: Cue | None, hops: int = 3) -> SimpleNamespace:
    """The pose that a network finds in a scene's box after some hops, asked with that cue.

    picture: the crop with cue, pose and people's letters, and heat: the heatmaps, (H, W, 3) uint8;
    said: a line of text; points (K, 2): the pose; near and shares (P,): OKS with each person, and
    the number of their joints; place: the first point's there, or None.
    """
    seen = look(model, scene.picture, scene.boxes, cue, COCO17, hops)
    pose, place = seen.poses[-1], None
    pose.cue = None
    near = oks(seen.points[-1:], scene.people, scene.areas, COCO17.sigmas).tolist()
    best = int(np.argmax(near))
    if seen.cue.kind == "points":
        place = tuple(((seen.cue.xy[0] + 0.5) / seen.crop.shape[1::-1]).tolist())
    values = ", ".join(f"{name} {value:.2f}" for name, value in zip(NAMES, near))
    whose = f"the pose is person {NAMES[best]}'s" if near[best] >= 0.1 else "nobody's pose"
    owned = shares(seen.points[-1], scene.people).tolist()
    whose = "a chimera" if 3 * sorted(owned)[-2] > sum(owned) else whose
    said = f"after {hops} hop{'s' * (hops > 1)}: {whose} (OKS: {values})"
    picture = lettered(scene, draw_cue(draw_poses(seen.crop, [pose]), seen.cue))
    return SimpleNamespace(picture=picture, heat=seen.heat[-1], said=said, near=tuple(near),
                           points=seen.points[-1], shares=owned, place=place)


def point_in_picture(scene: Scene, size: tuple[int, int], place: tuple[float, float]
                     ) -> tuple[float, float]:
    """A place in the crop of that size (w, h), from (0, 0) to (1, 1), in picture pixels."""
    spot = torch.tensor([[[place[0] * size[0] - 0.5, place[1] * size[1] - 0.5]]])
    x, y = apply(invert(to_crop(scene, size)), spot)[0, 0].tolist()
    height, width = scene.picture.shape[:2]
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def place_in_crop(scene: Scene, size: tuple[int, int], xy: tuple[float, float]
                  ) -> tuple[float, float]:
    """Undoes `point_in_picture`: picture pixels to a place in the crop of that size (w, h)."""
    x, y = apply(to_crop(scene, size), torch.tensor([[xy]]))[0, 0].tolist()
    return (x + 0.5) / size[0], (y + 0.5) / size[1]


def to_crop(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """The map (1, 2, 3) from the picture to the crop of the scene's box."""
    return crop_matrix(pad(scene.boxes, size[0] / size[1]), size)


def lettered(scene: Scene, panel: np.ndarray) -> np.ndarray:
    """A copy of the scene's crop (H, W, 3) uint8 with a letter above everybody in it."""
    size = panel.shape[1::-1]
    heads = [place_in_crop(scene, size, scene.top(person)) for person in range(len(scene.people))]
    heads = {name: head for name, head in zip(NAMES, heads) if 0 <= head[0] <= 1}
    return draw_names(panel, "".join(heads), np.multiply([*heads.values()], size))


def crop_of(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """The crop of the scene's box (height, width, 3), 0 to 255."""
    return torch.from_numpy(crop(scene.picture, to_crop(scene, size)[0], size)).float()


class CueLab(Lab):
    """Two people in one box, a cue to drag from one to the other, and the pose that follows.

    Drag, click or use arrow keys in the left picture, or move the sliders. `frame` is shown.
    """

    def __init__(self, model, scene: Scene | None = None, *, more: dict | None = None):
        """more: a subclass's further controls."""
        self.model, self.scene, self.frame = model, scene or pair_scene(), None
        self.size = panel_size(model.spec)
        self.pad, self.heat = Pad(lambda x, y: self.set(x=x, y=y)), Still()
        x, y = place_in_crop(self.scene, self.size, self.scene.middle(0))
        hops, most = (3, 5) if model.spec.hops > 1 else (1, 1)
        super().__init__([self.pad, self.heat], {
            "x": widgets.FloatSlider(x, max=1, step=0.01, description="cue, across"),
            "y": widgets.FloatSlider(y, max=1, step=0.01, description="cue, down"),
            "hops": widgets.IntSlider(hops, 1, most),
            "cued": widgets.Checkbox(True, description="with a cue"), **(more or {})})

    def point_at(self, xy: tuple[float, float]) -> None:
        """Puts the cue on a place in picture pixels."""
        x, y = place_in_crop(self.scene, self.size, xy)
        self.set(x=x, y=y)

    def render(self, x: float, y: float, hops: int, cued: bool) -> str:
        """Asks the network, and shows the answer."""
        cue = Cue.point(*point_in_picture(self.scene, self.size, (x, y))) if cued else None
        self.frame = cue_frame(self.model, self.scene, cue, hops)
        self.pad.put(self.frame.picture, f"A crop with two people. {self.frame.said}.", (x, y))
        self.heat.put(self.frame.heat, "Heatmaps of that crop, all joints in one map.")
        counts = ", ".join(f"{n} of {name}'s" for n, name in zip(self.frame.shares, NAMES))
        return f"{self.frame.said}; joints: {counts}"
