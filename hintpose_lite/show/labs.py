"""The cue lab: a cue that is dragged over a picture while the pose follows.

A lab is two things. A pure function turns settings into a `Frame`, and can be tested without a
browser. A thin controller around it shows the frame and takes drags, clicks, keys and sliders.
"""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch

from ..cues import Cue
from ..data.crowd import draw_scene
from ..errors import DataError
from ..geometry import apply, crop_matrix, invert, iou, pad, union
from ..oks import oks
from ..skeleton import COCO17
from .draw import draw_cue, draw_poses, look, panel_size
from .widgets import Lab, Pad, Still

SEED = 3_000_000  # scenes that no network was trained or validated on


# --- what is shown --------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (H, W, 3) uint8 and a box (4,) x, y, w, h that people A, B, ... share: their
    keypoints (P, K, 3) x, y, v and areas (P,), in picture pixels."""

    picture: np.ndarray
    box: np.ndarray
    people: torch.Tensor
    areas: torch.Tensor

    @property
    def boxes(self) -> torch.Tensor:
        """The box as (1, 4) tensor, as the predictor takes it."""
        return torch.as_tensor(self.box, dtype=torch.float32)[None]

    def middle(self, person: int) -> tuple[float, float]:
        """The visible joint of a person that is nearest to the mean of the visible ones."""
        joints = self.people[person]
        shown = joints[joints[:, 2] == 2, :2]
        best = (shown - shown.mean(0)).norm(dim=1).argmin()
        return tuple(shown[best].tolist())


def pair_scene(number: int = 0, overlap: tuple[float, float] = (0.2, 0.4)) -> Scene:
    """The scene of the number-th drawn pair whose boxes overlap so much (IoU), ten or more joints
    of both in plain view. The same number always gives the same scene."""
    for index in range(10_000):
        picture, entries = draw_scene(SEED, index)
        entries = [entry for entry in entries if entry["num_keypoints"]]
        if len(entries) < 2:
            continue
        boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32)
        joints = torch.tensor([entry["keypoints"] for entry in entries]).view(len(entries), -1, 3)
        clear = (joints[..., 2] == 2).sum(1) >= 10
        shared = torch.triu(iou(boxes, boxes), 1) * clear[:, None] * clear
        fitting = ((shared >= overlap[0]) & (shared < overlap[1])).nonzero()
        if len(fitting):
            if number == 0:
                pair = fitting[0]
                areas = torch.tensor([float(entries[i]["area"]) for i in pair])
                box = union(*boxes[pair][:, None])[0].numpy()
                return Scene(np.asarray(picture), box, joints[pair].float(), areas)
            number -= 1
    raise DataError(f"no pair of drawn people overlaps by {overlap[0]} to {overlap[1]}")


@dataclass(frozen=True, eq=False)
class Frame:
    """What a lab shows: the crop with cue and pose, the heatmaps (both (H, W, 3) uint8), a line of
    text, the OKS with each person, and where the cue lies in the crop (0 to 1) or None."""

    picture: np.ndarray
    heat: np.ndarray
    said: str
    near: tuple[float, ...]
    place: tuple[float, float] | None


def cue_frame(model, scene: Scene, cue: Cue | None, hops: int = 3) -> Frame:
    """The pose that a network finds in a scene's box after some hops, asked with that cue."""
    seen = look(model, scene.picture, scene.boxes, cue, COCO17, hops)
    picture = draw_cue(seen.crop, seen.cue) if seen.cue else seen.crop
    pose = seen.poses[-1]
    pose.cue = None
    near = oks(seen.points[-1:], scene.people, scene.areas, COCO17.sigmas).tolist()
    best, place = int(np.argmax(near)), None
    if cue is not None and cue.kind == "points" and len(cue.xy):
        width, height = seen.crop.shape[1::-1]
        place = tuple(((seen.cue.xy[0] + 0.5) / (width, height)).tolist())
    values = ", ".join(f"{'ABCDEF'[i]} {value:.2f}" for i, value in enumerate(near))
    said = (f"after {hops} hop{'s' * (hops > 1)}: the pose is person {'ABCDEF'[best]}'s"
            if near[best] >= 0.1 else f"after {hops} hop{'s' * (hops > 1)}: nobody's pose")
    return Frame(draw_poses(picture, [pose]), seen.heat[-1], f"{said} (OKS: {values})",
                 tuple(near), place)


def point_in_picture(scene: Scene, size: tuple[int, int], place: tuple[float, float]
                     ) -> tuple[float, float]:
    """A place in the crop of that size (w, h), from (0, 0) to (1, 1), in picture pixels."""
    matrix = to_crop(scene, size)
    spot = torch.tensor([[[place[0] * size[0] - 0.5, place[1] * size[1] - 0.5]]])
    x, y = apply(invert(matrix), spot)[0, 0].tolist()
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


# --- the controller -------------------------------------------------------------------------------

class CueLab(Lab):
    """Two people in one box, a cue to drag from one to the other, and the pose that follows.

    Drag or click in the left picture, use the arrow keys there, or move the sliders. `frame` is
    what is shown.
    """

    def __init__(self, model, scene: Scene | None = None, *, hops: int = 3, most_hops: int = 5):
        self.model, self.scene, self.frame = model, scene or pair_scene(), None
        self.size = panel_size(model.spec)
        self.pad, self.heat = Pad(self.move), Still()
        recurrent = model.spec.hops > 1
        x, y = place_in_crop(self.scene, self.size, self.scene.middle(0))
        slide = dict(min=0, max=1, step=0.01, continuous_update=False)
        super().__init__([self.pad, self.heat], {
            "x": widgets.FloatSlider(x, description="cue, across", **slide),
            "y": widgets.FloatSlider(y, description="cue, down", **slide),
            "hops": widgets.IntSlider(min(hops, most_hops) if recurrent else 1, min=1,
                                      max=most_hops if recurrent else 1, description="hops",
                                      continuous_update=False),
            "cued": widgets.Checkbox(True, description="with a cue")})

    def point_at(self, xy: tuple[float, float]) -> None:
        """Puts the cue on a place in picture pixels."""
        self.move(*place_in_crop(self.scene, self.size, xy))

    def move(self, x: float, y: float) -> None:
        """Puts the cue on a place in the crop, each coordinate from 0 to 1."""
        self.set(x=x, y=y)

    def render(self) -> str:
        """Asks the network, and shows the answer."""
        place, cue = (self.controls.x.value, self.controls.y.value), None
        if self.controls.cued.value:
            cue = Cue.point(*point_in_picture(self.scene, self.size, place))
        self.frame = cue_frame(self.model, self.scene, cue, self.controls.hops.value)
        self.pad.put(self.frame.picture, f"A crop with two people. {self.frame.said}.", place)
        self.heat.put(self.frame.heat, "Heatmaps of that crop, all joints in one map.")
        return self.frame.said
