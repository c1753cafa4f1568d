"""Labs of the notebooks: a cue that is dragged over a picture while the pose follows.

A lab is two things. A pure function turns settings into a `Frame`, and can be tested without a
browser. A thin controller around it shows the frame, takes drags, clicks, arrow keys and sliders,
and says in a line of text what came out, errors too.

Tried in JupyterLab 4. Notebook 7 shares its widgets; VS Code and Colab were not tried.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from PIL import Image

from ..cues import Cue
from ..data.crowd import draw_scene
from ..errors import DataError
from ..geometry import apply, crop_matrix, invert, iou, pad, union
from ..oks import oks
from ..skeleton import COCO17
from .draw import draw_cue, draw_poses, look, panel_size

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
    matrix = _to_crop(scene, size)
    spot = torch.tensor([[[place[0] * size[0] - 0.5, place[1] * size[1] - 0.5]]])
    x, y = apply(invert(matrix), spot)[0, 0].tolist()
    height, width = scene.picture.shape[:2]
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def place_in_crop(scene: Scene, size: tuple[int, int], xy: tuple[float, float]
                  ) -> tuple[float, float]:
    """Undoes `point_in_picture`: picture pixels to a place in the crop of that size (w, h)."""
    x, y = apply(_to_crop(scene, size), torch.tensor([[xy]]))[0, 0].tolist()
    return (x + 0.5) / size[0], (y + 0.5) / size[1]


def _to_crop(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """The map (1, 2, 3) from the picture to the crop of the scene's box."""
    return crop_matrix(pad(scene.boxes, size[0] / size[1]), size)


# --- the controllers ------------------------------------------------------------------------------

class Pad(anywidget.AnyWidget):
    """A picture to drag on. Only the newest place is sent, and no more than two are on their way,
    so a slow answer never queues up. `moved` is called with (x, y), each from 0 to 1."""

    _esm = """
    export default { render({ model, el }) {
      const pad = document.createElement("div"), image = document.createElement("img");
      let waiting = 0, newest = null;
      const show = () => {
        URL.revokeObjectURL(image.src);
        image.src = URL.createObjectURL(new Blob([model.get("frame")], { type: "image/jpeg" }));
        image.alt = model.get("alt");
      };
      const send = () => {
        if (newest && waiting < 2) { waiting += 1; model.send(newest); newest = null; }
      };
      const move = (x, y) => {
        newest = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1) };
        send();
      };
      const point = (event) => {
        const box = image.getBoundingClientRect();
        move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      };
      const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      pad.tabIndex = 0;
      pad.setAttribute("role", "application");
      pad.setAttribute("aria-label", "Drag the cue, or move it with the arrow keys");
      pad.style.cssText = "display: inline-block; touch-action: none; cursor: crosshair";
      image.draggable = false;
      image.style.cssText = "display: block; user-select: none";
      pad.appendChild(image);
      pad.addEventListener("pointerdown", (event) => {
        pad.setPointerCapture(event.pointerId);
        point(event);
      });
      pad.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
      pad.addEventListener("keydown", (event) => {
        const step = keys[event.key], [x, y] = model.get("place");
        if (step) { event.preventDefault(); move(x + 0.02 * step[0], y + 0.02 * step[1]); }
      });
      const answered = () => { waiting -= 1; send(); };
      model.on("msg:custom", answered);
      model.on("change:frame", show);
      el.appendChild(pad);
      show();
      return () => { model.off("msg:custom", answered); model.off("change:frame", show); };
    } };
    """
    frame = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    place = traitlets.List([0.5, 0.5]).tag(sync=True)

    def __init__(self, moved: Callable[[float, float], None]):
        super().__init__()
        self._moved = moved
        self.on_msg(self._receive)

    def _receive(self, _, content: dict, __) -> None:
        try:
            self._moved(float(content["x"]), float(content["y"]))
        finally:
            self.send({"answered": True})

    def __repr__(self) -> str:
        return "Pad()"  # stored outputs must not change from run to run


class CueLab(widgets.VBox):
    """Two people in one box, a cue to drag from one to the other, and the pose that follows.

    Drag or click in the left picture, use the arrow keys there, or move the sliders. `frame` is
    what is shown, `errors` the messages of what went wrong.
    """

    def __init__(self, model, scene: Scene | None = None, *, hops: int = 3, most_hops: int = 5):
        self.model, self.scene = model, scene or pair_scene()
        self.frame, self.errors, self._busy = None, [], False
        self.pad = Pad(self.move)
        self.heat = widgets.HTML()
        self.x, self.y = (widgets.FloatSlider(0.5, min=0, max=1, step=0.01, description=name,
                                              continuous_update=False)
                          for name in ("cue, across", "cue, down"))
        self.cued = widgets.Checkbox(True, description="with a cue")
        recurrent = model.spec.hops > 1
        self.hops = widgets.IntSlider(min(hops, most_hops) if recurrent else 1, min=1,
                                      max=most_hops if recurrent else 1, description="hops",
                                      continuous_update=False)
        self.status = widgets.HTML()
        for control in (self.x, self.y, self.cued, self.hops):
            control.observe(self._changed, names="value")
        super().__init__([widgets.HBox([self.pad, self.heat]),
                          widgets.HBox([self.x, self.y]), widgets.HBox([self.hops, self.cued]),
                          self.status])
        self.point_at(self.scene.middle(0))

    def point_at(self, xy: tuple[float, float]) -> None:
        """Puts the cue on a place in picture pixels."""
        self.move(*place_in_crop(self.scene, panel_size(self.model.spec), xy))

    def move(self, x: float, y: float) -> None:
        """Puts the cue on a place in the crop, each coordinate from 0 to 1."""
        self._busy = True  # both sliders change, the network is asked once
        try:
            self.x.value, self.y.value = x, y
        finally:
            self._busy = False
        self._refresh()

    def _changed(self, _) -> None:
        if not self._busy:
            self._refresh()

    def _refresh(self) -> None:
        """Asks the network and shows the answer; an error is told in the status line."""
        try:
            place, cue = (self.x.value, self.y.value), None
            if self.cued.value:
                size = panel_size(self.model.spec)
                cue = Cue.point(*point_in_picture(self.scene, size, place))
            self.frame = cue_frame(self.model, self.scene, cue, self.hops.value)
            self.pad.alt = f"A crop with two people. {self.frame.said}."
            self.pad.place = list(place)
            self.pad.frame = encoded(self.frame.picture)
            heat = base64.b64encode(encoded(self.frame.heat)).decode()
            self.heat.value = (f'<img alt="Heatmaps of that crop, all joints in one map." '
                               f'src="data:image/jpeg;base64,{heat}">')
            self.status.value = self.frame.said
        except Exception as error:  # widgets swallow errors, so this one is shown
            self.errors.append(error)
            self.status.value = f"error: {type(error).__name__}: {error}"

    def __repr__(self) -> str:
        return "CueLab()"


def encoded(picture: np.ndarray, kind: str = "JPEG") -> bytes:
    """A picture (H, W, 3) uint8 as the bytes of a file of that kind."""
    Image.fromarray(picture).save(file := io.BytesIO(), kind, quality=90)
    return file.getvalue()
