"""The lab for your own picture: click on people, and see whose pose the network finds."""

from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image, ImageDraw

from ..crowd.scenes import draw_scene
from ..cues.cue import Cue
from ..photos.draw import GREY, draw_cue, draw_poses
from ..photos.estimator import PoseEstimator, smallest_around
from ..pose.geometry import corners, pad
from ..pose.oks import LOW, rescore
from .figures import look
from .scene import SEED, Scene
from .widgets import Lab, Pad, Still

SIDE = 480  # pixels of the longer side of the lab's picture


def drawn_photo() -> Scene:
    """A drawn picture in place of a photograph: 480 x 480 pixels, A with B and C with D."""
    return Scene.drawn(*draw_scene(SEED, 17, size=SIDE))


def box_around(cue: Cue, boxes, size: tuple[int, int]) -> torch.Tensor:
    """The smallest of boxes (n, 4) around a cue's middle, or a whole picture of size (w, h)."""
    box = smallest_around(cue, torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4))
    return box if len(box) else torch.tensor([[0.0, 0.0, *size]])


def clicks_cue(clicks) -> Cue:
    """Clicks (x, y, +1 or -1) as one cue."""
    return Cue.points([c[:2] for c in clicks], [c[2] for c in clicks]) if clicks else Cue.none()


def photo_frame(model, picture: np.ndarray, boxes=(), clicks=()) -> SimpleNamespace:
    """The pose that a network finds in a picture (H, W, 3) uint8, for clicks (x, y, +1 or -1) that
    all concern the same person, in the box (1, 4) that `box_around` chooses; in picture pixels.

    keypoints (K, 2), scores (K,) and score are those of `PoseEstimator`. heat: the heatmaps on the
    crop; picture: box, clicks and pose, the longer side SIDE pixels; said: a line of text.
    """
    cue = clicks_cue(clicks)
    box = box_around(cue, boxes, picture.shape[1::-1])
    seen = look(model, picture, box, cue)
    keypoints, scores = seen.points[-1].numpy(), seen.poses[-1].scores
    score = float(rescore(torch.ones(1), scores[None]))
    canvas, shrink = Image.fromarray(picture), SIDE / max(picture.shape[:2])
    canvas = canvas.resize([round(side * shrink) for side in canvas.size], reducing_gap=2.0)
    ImageDraw.Draw(canvas).rectangle((corners(box)[0] * shrink).tolist(), outline=GREY, width=3)
    small = cue if cue.xy is None else Cue.points((cue.xy + 0.5) * shrink - 0.5, cue.labels)
    pose = SimpleNamespace(keypoints=(keypoints + 0.5) * shrink - 0.5, scores=scores.numpy(),
                           cue=None, box=np.tile(np.ptp(keypoints, axis=0), 2) * shrink)
    listed = ", ".join(f"{'+' if sign > 0 else '−'} ({x:.0f}, {y:.0f})" for x, y, sign in clicks)
    said = (f"clicks: {listed or 'none'}; box: {', '.join(f'{n:.0f}' for n in box[0].tolist())}; "
            f"score {score:.2f}, {int((scores > LOW).sum())} of {len(scores)} joints above {LOW}")
    crop = corners(pad(box, model.spec.input_size[0] / model.spec.input_size[1]))[0].tolist()
    if not all(crop[0] <= x <= crop[2] and crop[1] <= y <= crop[3] for x, y, _ in clicks):
        said += "; a click lies outside the box, where the network does not look"
    if clicks and not model.spec.cue:
        said += "; this network takes no cue: a click chooses a box, but nobody in it"
    shown = draw_poses(draw_cue(np.array(canvas), small), [pose])
    return SimpleNamespace(keypoints=keypoints, scores=pose.scores, score=score, said=said, box=box,
                           picture=shown, heat=seen.heat[-1])


class PhotoLab(Lab):
    """Click on a person, and the pose appears; further clicks concern the same person. The sliders,
    and arrow keys on the picture, move the newest click; "add" adds a click in the middle.

    boxes (n, 4): the known boxes; the box can also be the whole picture, or be found by the looks
    of `PoseEstimator`. `clicks`: x, y, and +1 or -1. All are in picture pixels.
    """

    def __init__(self, model, picture: np.ndarray, boxes=()):
        self.model, self.picture, self.boxes, self.places = model, picture, boxes, []
        self.heat, self.clicks, self.looking = Still(), [], PoseEstimator(model, looks=3)
        self.pad = Pad(self.put, drags=False, nudged=lambda x, y: self.set(across=x, down=y))
        middle = dict(value=0.5, max=1, step=0.005)
        super().__init__([self.pad, self.heat], {
            "sign": widgets.Dropdown(options=["plus", "minus"], description="next click"),
            "box": widgets.Dropdown(options=["smallest", "whole picture", "looked for"],
                                    value="smallest" if len(boxes) else "looked for"),
            "across": widgets.FloatSlider(description="click, across", **middle),
            "down": widgets.FloatSlider(description="click, down", **middle)})
        self.buttons = {name: widgets.Button(description=name) for name in ("add", "undo", "clear")}
        self.buttons["add"].on_click(lambda _: self.put(0.5, 0.5))
        self.buttons["undo"].on_click(lambda _: self.undo())
        self.buttons["clear"].on_click(lambda _: self.undo(len(self.places)))
        self.children = (*self.children[:-1], widgets.HBox([*self.buttons.values()]), self.status)

    def click(self, x: float, y: float, sign: int = 1) -> None:
        """Adds a click in picture pixels; sign -1 means that it is on somebody else."""
        self.controls.sign.value = "plus" if sign > 0 else "minus"
        height, width = self.picture.shape[:2]
        self.put((x + 0.5) / width, (y + 0.5) / height)

    def put(self, x: float, y: float) -> None:
        """Adds a click at a place, each coordinate from 0 to 1."""
        self.places.append((x, y, 1 if self.controls.sign.value == "plus" else -1))
        self.set(across=x, down=y)

    def undo(self, count: int = 1) -> None:
        """Removes the newest clicks."""
        self.places = self.places[:-count or None]
        x, y, _ = self.places[-1] if self.places else (0.5, 0.5, 0)
        if not self.places:
            self.controls.sign.value = "plus"  # a minus alone would name nobody
        self.set(across=x, down=y)

    def render(self, sign: str, box: str, across: float, down: float) -> str:
        """Runs the network with all clicks, and shows the pose."""
        height, width = self.picture.shape[:2]
        self.places[-1:] = [(across, down, label) for *_, label in self.places[-1:]]
        self.clicks = [(x * width - 0.5, y * height - 0.5, label) for x, y, label in self.places]
        boxes = self.boxes if box == "smallest" else ()
        if box == "looked for" and self.clicks:
            cue = clicks_cue(self.clicks)
            whole = box_around(cue, (), (width, height))
            boxes = self.looking.narrowed(self.picture, whole, [cue])
        self.frame = photo_frame(self.model, self.picture, boxes, self.clicks)
        self.pad.put(self.frame.picture, f"The picture, clicks and pose. {self.frame.said}.",
                     (across, down))
        self.heat.put(self.frame.heat, "Heatmaps of the crop, all joints in one map.")
        if not self.places and (across, down) != (0.5, 0.5):
            return f"{self.frame.said}; there is no click to be moved: click, or press add"
        return self.frame.said
