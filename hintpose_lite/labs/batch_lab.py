"""Training batches as pictures, and the lab of what training makes of one person."""

from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch

from ..cues.training import KINDS
from ..data.batches import Batch, make_batch
from ..data.coco import CocoPersons
from ..data.crops import Augment, PersonCrops, stack
from ..photos.draw import BLUE, draw_names, draw_poses, heatmap_overlay, overlay
from ..pose.skeleton import COCO17
from .widgets import Lab, Still

NAMES = tuple(name.replace("_", " ") for name in COCO17.names)
ZOOM = 3  # pixels of a picture for one of the crop
GAP = 4  # pixels between pictures


def example(people: CocoPersons, row: int, spec, kind: str, seed: int = 0, flip: bool = False,
            strength: float = 0.0) -> Batch:
    """A batch of one person in the box shared with the partner, with a cue of one of the `KINDS`.
    strength: how much is turned, scaled and relit, 0 to 1, all as the seed draws it. Whether it is
    flipped changes no other draw."""
    augment = Augment(rotate=1.0, rotation=30 * strength, scale=0.35 * strength, shift=0.0,
                      light=0.5 * strength, flip=float(flip), half_body=0.0, shared=1.0)
    crops = PersonCrops(people, spec, augment, seed=seed)
    return make_batch(stack([crops.item(0, row, kind=kind)]), spec, augment, people.skeleton,
                      torch.Generator().manual_seed(seed))


def pictures(batch: Batch, spec, joint: int | None = None) -> list[list[np.ndarray]]:
    """A batch as three lists of N pictures (H, W, 3) uint8: crops with the labelled joints; the
    same, pale, with cues (blue positive, orange negative); and targets of one joint or of all."""
    mean, std = (255 * torch.tensor(value).view(3, 1, 1) for value in (spec.mean, spec.std))
    crops, cues, targets = [], [], []
    for n, image in enumerate(batch.images * std + mean):
        pixels = image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        crop = draw_poses(pixels, [], zoom=ZOOM)
        known = torch.where(batch.weights[n, :, None] > 0, batch.points[n], torch.nan)
        pose = SimpleNamespace(keypoints=known, scores=batch.weights[n], cue=None,
                               box=(0, 0, 0, len(pixels) / 2))
        crops.append(draw_poses(pixels, [pose], zoom=ZOOM))
        tinted = overlay((pixels * 0.4 + 130).astype(np.uint8), batch.cues[n, 0].numpy(), BLUE)
        cues.append(draw_poses(tinted, [pose], zoom=ZOOM))
        maps = batch.targets[n] if joint is None else batch.targets[n, joint:joint + 1]
        targets.append(heatmap_overlay(crop, maps, spec.codec))
    return [crops, cues, targets]


def sheet(rows: list[list[np.ndarray]], titles: list[list[str]]) -> np.ndarray:
    """Pictures of one size in rows, each with its title in its upper part, as one picture."""
    return np.vstack([np.hstack([
        np.pad(draw_names(picture, [title], [(picture.shape[1] / 2, 0)]),
               ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
        for picture, title in zip(*row, strict=True)]) for row in zip(rows, titles, strict=True)])


class BatchLab(Lab):
    """One person of `rows` as training may see them: first straight, then (`batch`) flipped, turned
    and lit as the controls say, with the target."""

    def __init__(self, people: CocoPersons, spec, rows: list[int]):
        self.people, self.spec, self.still, self.batch = people, spec, Still(), None
        super().__init__([self.still], {
            "person": widgets.Dropdown(options=rows),
            "cue": widgets.Dropdown(options=KINDS, value="centroid"),
            "joint": widgets.Dropdown(options=NAMES, value="left wrist"),
            "flip": widgets.Checkbox(False),
            "strength": widgets.FloatSlider(0, max=1, step=0.05),
            "draw": widgets.IntSlider(0, max=20)})

    def render(self, person: int, cue: str, joint: str, flip: bool, strength: float, draw: int
               ) -> str:
        """Draws the person twice, and says where the joint's target went."""
        asked, number = (self.people, person, self.spec, cue, draw), NAMES.index(joint)
        self.batch = example(*asked, flip, strength)
        _, [straight], _ = pictures(example(*asked), self.spec, number)
        _, [shown], [target] = pictures(self.batch, self.spec, number)
        said = where(self.batch, number, flip)
        self.still.put(sheet([[straight, shown, target]], [["straight", "for training", joint]]),
                       f"A person and the cue straight, and as training shows them: {said}.")
        return said


def where(batch: Batch, joint: int, flip: bool) -> str:
    """Where a joint's target lies, and where a mirror that swaps no names would have put it."""
    other = COCO17.mirror[joint]
    if not batch.weights[0, joint]:
        return f"no target: the {NAMES[joint]} has no label, or is out of the crop"
    (x, y), (left, top) = batch.points[0, [joint, other]].tolist()
    said = f"target of the {NAMES[joint]}: x = {x:.0f}, y = {y:.0f} (pixels of the crop)"
    return said if not flip else (f"{said}; the mirror alone would take it to x = {left:.0f}, "
                                  f"y = {top:.0f}, to the {NAMES[other]}'s place")
