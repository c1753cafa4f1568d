"""The lab of the kinds of cue: whose is a joint that is hidden behind another person?"""

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from pycocotools import mask as rle

from ..cues import Cue, render_cues
from ..data.crowd import draw_scene
from ..geometry import union, warp
from .draw import BLUE, overlay, panel_size
from .labs import SEED, Scene, cue_frame, place_in_crop, point_in_picture, to_crop
from .widgets import Lab, Pad, Still

KINDS = ("point", "point and minus", "box", "mask", "pose", "none")
HIDDEN = ((194, 1, 0, 8), (55, 0, 1, 7), (207, 4, 3, 8))  # scene, person A, B in front, A's joint


@dataclass(frozen=True, eq=False)
class HiddenScene(Scene):
    """A scene where B's body covers a joint of person A, at `hidden`. Of both people the boxes
    (2, 4) x, y, w, h and the visible masks (2, H, W) bool. All in picture pixels."""

    own_boxes: torch.Tensor
    masks: np.ndarray
    hidden: tuple[float, float]


def hidden_scene(number: int = 0) -> HiddenScene:
    """One of a few chosen scenes."""
    index, *pair, joint = HIDDEN[number]
    picture, entries = draw_scene(SEED, index)
    boxes, people, areas, masks = zip(*(
        (entry["bbox"], entry["keypoints"], entry["area"], rle.decode(entry["segmentation"]))
        for entry in (entries[person] for person in pair)))
    boxes, people = torch.tensor(boxes).float(), torch.tensor(people).view(2, -1, 3)
    return HiddenScene(np.asarray(picture), union(*boxes[:, None])[0].numpy(), people,
                       torch.tensor(areas).float(), boxes, np.stack(masks).astype(bool),
                       tuple(people[0, joint, :2].tolist()))


def kind_cue(scene: HiddenScene, kind: str, plus: Sequence[float], minus: Sequence[float]) -> Cue:
    """A cue of one of the `KINDS`: points in picture pixels; box, mask and pose are person A's."""
    return {"point": lambda: Cue.point(*plus),
            "point and minus": lambda: Cue.points([plus, minus], [1, -1]),
            "box": lambda: Cue.box(scene.own_boxes[0]), "mask": lambda: Cue.mask(scene.masks[0]),
            "pose": lambda: Cue.pose(scene.people[0]), "none": Cue.none}[kind]()


def cue_map(scene: Scene, cue: Cue, spec) -> torch.Tensor:
    """The cue as a network with that spec is given it: (H, W) in [-1, 1]."""
    matrix, size = to_crop(scene, spec.input_size), spec.input_size
    return render_cues([cue], matrix, size, spec.cue_sigma)[0, 0]


def map_picture(scene: Scene, values: torch.Tensor, zoom: int = 3) -> np.ndarray:
    """A cue map (h, w) over the grey crop, `zoom` times larger: blue where it is positive,
    orange where it is negative."""
    size = values.shape[1] * zoom, values.shape[0] * zoom
    colours = torch.tensor(scene.picture).permute(2, 0, 1)[None].float()
    grey = warp(colours, to_crop(scene, size), size)[0].mean(0)[..., None] * 0.5 + 110
    return overlay(grey.byte().expand(-1, -1, 3).numpy(), values.numpy(), BLUE, 0.85)


def panels(pictures: Sequence, titles: Sequence[str], columns: int, label: str) -> Figure:
    """Pictures in rows, with titles, as a Figure whose alt text is `label`."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(7, rows * (9.5 / columns + 0.2)), layout="compressed", label=label)
    axes = figure.subplots(rows, columns, subplot_kw=dict(xticks=[], yticks=[], frame_on=False))
    for axis, picture, title in zip(axes.flat, pictures, titles):
        axis.imshow(picture)
        axis.set_title(title, fontsize=8)
    return figure


class CueKindsLab(Lab):
    """A joint of person A is hidden behind B: choose a kind of cue, drag its points, see who wins.
    Dragging while another kind is chosen goes back to points. `frame` is what is shown."""

    def __init__(self, model, scene: HiddenScene | None = None):
        self.model, self.scene, self.frame = model, scene or hidden_scene(), None
        self.size, self.pad, self.map = panel_size(model.spec), Pad(self.move), Still()
        spots = [place_in_crop(self.scene, self.size, xy)
                 for xy in (self.scene.hidden, self.scene.middle(1))]
        signs = "plus", "minus"
        controls = {"kind": widgets.Dropdown(options=KINDS, description="cue"),
                    "drag": widgets.Dropdown(options=signs, description="drag the")}
        for sign, spot in zip(signs, spots):
            for way, value in zip(("across", "down"), spot):
                controls[f"{sign}_{way}"] = widgets.FloatSlider(
                    value, min=0, max=1, step=0.01, description=f"{sign}, {way}",
                    continuous_update=False, style=dict(description_width="initial"))
        super().__init__([self.pad, self.map], controls)

    def move(self, x: float, y: float) -> None:
        """Puts the point that is dragged on a place in the crop, each coordinate from 0 to 1."""
        sign, kind = self.controls.drag.value, self.controls.kind.value
        kind = "point and minus" if sign == "minus" or kind == "point and minus" else "point"
        self.set(kind=kind, **{f"{sign}_across": x, f"{sign}_down": y})

    def render(self) -> str:
        """Asks the network with that cue, and shows the answer beside the cue's map."""
        c = self.controls
        plus, minus = places = ((c.plus_across.value, c.plus_down.value),
                                (c.minus_across.value, c.minus_down.value))
        cue = kind_cue(self.scene, c.kind.value, *(point_in_picture(self.scene, self.size, place)
                                                   for place in places))
        self.frame = cue_frame(self.model, self.scene, cue)
        said = f"cue: {c.kind.value}; {self.frame.said}"
        self.pad.put(self.frame.picture, f"A crop with two people; {said}.",
                     plus if c.drag.value == "plus" else minus)
        self.map.put(map_picture(self.scene, cue_map(self.scene, cue, self.model.spec)),
                     f"The map of the cue ({c.kind.value}) over the crop in grey.")
        return said
