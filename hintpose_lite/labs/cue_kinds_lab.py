"""The lab of the kinds of cue: to whom does a joint behind another person belong?"""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure

from ..crowd.scenes import draw_scene
from ..cues.cue import Cue, render_cues
from ..photos.draw import BLUE, blank_figure, overlay, panel_size
from .scene import SEED, Scene, crop_of, cue_frame, place_in_crop, point_in_picture, to_crop
from .widgets import Lab, Pad, Still

KINDS = ("any-joint", "points", "box", "mask", "pose", "none")
HIDDEN = ((697, 3, 2, 8), (55, 0, 1, 7), (207, 4, 3, 8))  # scene, person A, B in front, A's joint


def hidden_scene(number: int = 0) -> Scene:
    """One of three chosen scenes in which B's body covers a joint of person A, at `hidden`."""
    index, a, b, joint = HIDDEN[number]
    picture, entries = draw_scene(SEED, index)
    hidden = tuple(np.float32(entries[a]["keypoints"][3 * joint:3 * joint + 2]).tolist())
    return Scene.drawn(picture, [entries[a], entries[b]], hidden=hidden)


def kind_cue(scene: Scene, kind: str, plus: Sequence[float], minus: Sequence[float]) -> Cue:
    """A cue of one of the `KINDS`: one point or two, positive and negative, in picture pixels; box,
    mask and pose are person A's."""
    return {"any-joint": lambda: Cue.point(*plus),
            "points": lambda: Cue.points([plus, minus], [1, -1]),
            "box": lambda: Cue.box(scene.own_boxes[0]), "mask": lambda: Cue.mask(scene.masks[0]),
            "pose": lambda: Cue.pose(scene.people[0]), "none": Cue.none}[kind]()


def cue_map(scene: Scene, cue: Cue, spec) -> torch.Tensor:
    """The cue as the input map of a network with this spec: (H, W) in [-1, 1]."""
    size = spec.input_size
    return render_cues([cue], to_crop(scene, size), size, spec.cue_sigma)[0, 0]


def map_picture(scene: Scene, values: torch.Tensor, zoom: int = 3) -> np.ndarray:
    """A cue map (h, w) over the grey crop, `zoom` times larger: positive values are blue, negative
    ones orange."""
    size = values.shape[1] * zoom, values.shape[0] * zoom
    grey = crop_of(scene, size).mean(2, keepdim=True) * 0.5 + 110
    return overlay(grey.byte().expand(-1, -1, 3).numpy(), values.numpy(), BLUE, 0.85)


def panels(pictures: Sequence, titles: Sequence[str], columns: int, label: str) -> Figure:
    """Pictures in rows, with titles, as a Figure whose alt text is `label`."""
    rows = -(-len(pictures) // columns)
    figure, axes = blank_figure(rows, columns, (7, rows * (9.5 / columns + 0.2)))
    figure.set_label(label)
    for axis, picture, title in zip(axes.flat, pictures, titles):
        axis.imshow(picture)
        axis.set_title(title, fontsize=9)
    return figure


class CueKindsLab(Lab):
    """A joint of person A is hidden behind B: choose a kind of cue, drag its points, and see whose
    pose is found. Dragging switches other kinds back to points. `frame` is what is shown."""

    def __init__(self, model, scene: Scene | None = None):
        self.model, self.scene, self.frame = model, scene or hidden_scene(), None
        self.size, self.pad, self.map = panel_size(model.spec), Pad(self.move), Still()
        controls = {"kind": widgets.Dropdown(options=KINDS, description="cue"),
                    "drag": widgets.Dropdown(options=["plus", "minus"], description="drag the")}
        for sign, xy in ("plus", self.scene.hidden), ("minus", self.scene.middle(1)):
            for way, value in zip(("across", "down"), place_in_crop(self.scene, self.size, xy)):
                controls[f"{sign}_{way}"] = widgets.FloatSlider(
                    value, max=1, step=0.01, description=f"{sign}, {way}",
                    style=dict(description_width="initial"))
        super().__init__([self.pad, self.map], controls)

    def move(self, x: float, y: float) -> None:
        """Moves the dragged point to a place in the crop, each coordinate from 0 to 1."""
        sign, kind = self.controls.drag.value, self.controls.kind.value
        kind = "points" if sign == "minus" or kind == "points" else "any-joint"
        self.set(kind=kind, **{f"{sign}_across": x, f"{sign}_down": y})

    def render(self, kind: str, drag: str, **places: float) -> str:
        """Runs the network with this cue, and shows the pose beside the cue's map."""
        for sign, used in ("plus", kind in KINDS[:2]), ("minus", kind == "points"):
            for way in ("across", "down"):
                getattr(self.controls, f"{sign}_{way}").disabled = not used
        places = {sign: (places[f"{sign}_across"], places[f"{sign}_down"])
                  for sign in ("plus", "minus")}
        cue = kind_cue(self.scene, kind, *(point_in_picture(self.scene, self.size, place)
                                           for place in places.values()))
        self.frame = cue_frame(self.model, self.scene, cue)
        said = f"cue: {kind}; {self.frame.said}"
        self.pad.put(self.frame.picture, f"A crop with two people; {said}.", places[drag])
        self.map.put(map_picture(self.scene, cue_map(self.scene, cue, self.model.spec)),
                     f"The map of the cue ({kind}) over the crop in grey.")
        return said
