"""A figure of the network, and the lab of the input refinement block and what it adds to a crop."""

import copy
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import cm, colormaps
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ..cues.cue import Cue
from ..evaluation.predict import cut_crops, prepare
from ..model.hintpose import as_hintpose
from ..model.hrnet import HRNet
from ..photos.draw import BLUE, GREEN, GREY, ORANGE
from .scene import CueLab, Scene, point_in_picture
from .widgets import Still

PARTS = ("everything", "only near the cue", "only away from the cue", "nothing")
LINES = {"same size": (GREY, "-"), "smaller": (BLUE, "-."), "larger": (ORANGE, "--"),
         "the addition": (GREEN, ":")}


def network_shapes(model: HRNet, size: tuple[int, int]) -> dict[str, list[tuple[int, int, int]]]:
    """Shapes (C, H, W) in a network for a crop of `size` (w, h): of "image", "stem", "layer1",
    "heatmaps", and of the branches of "stage2" to "stage4", finest first."""
    model, shapes = copy.deepcopy(model).to("meta").eval(), {}  # on "meta" only shapes are computed

    def store(name: str, given) -> None:
        shapes[name] = [tuple(x.shape[1:]) for x in (given if isinstance(given, list) else [given])]

    store("image", images := torch.zeros(1, 3, *size[::-1], device="meta"))
    for name, reader in (("stem", "layer1"), ("layer1", "transition1.0"),
                         *((stage, stage) for stage in ("stage2", "stage3", "stage4"))):
        model.get_submodule(reader).register_forward_pre_hook(
            lambda _, inputs, name=name: store(name, inputs[0]))
    store("heatmaps", as_hintpose(model)(images, hops=1)[0])
    return shapes


def network_figure(model: HRNet, size: tuple[int, int] = (192, 256)):
    """A network's parts, branches and fusions for crops of `size` (w, h): a matplotlib Figure."""
    figure = Figure(figsize=(8.6, 4.7), layout="compressed")
    axis = figure.subplots()
    spec, shapes = as_hintpose(model).spec, network_shapes(model, size).items()
    texts = {name: [f"{c}\n{w}×{h}" for c, h, w in found] for name, found in shapes}

    def node(x: float, y: float, text: str = "+", ink=GREY) -> tuple[float, float]:
        look = dict(fc="w", ec=np.divide(ink, 255), boxstyle="circle" if text == "+" else "round")
        axis.text(x, y, text, ha="center", va="center", fontsize=8, bbox=look)
        return x, y

    def join(a: tuple, b: tuple, kind: str = "same size") -> None:
        ink, style = LINES[kind]
        axis.plot(*zip(a, b, strict=True), color=np.divide(ink, 255), ls=style, lw=1.4, label=kind)

    trunk = [node(x, y, f"{name}\n{texts[name][0]}")
             for name, x, y in (("image", 0, 1), ("stem", 1.6, 0), ("layer1", 2.65, 0))]
    if spec.cue:
        at, x = (1, 0.95) if spec.cue_level == "image" else (2, 2.13)
        total = node(x, y := trunk[at - 1][1])
        block = node(x, y + 0.95, "input\nrefinement", GREEN)
        for end in (node(x - 1, y + 0.95, "cue", GREEN), trunk[at - 1], total):
            join(block, end, "the addition")
        trunk.insert(at, total)
    for pair in itertools.pairwise(trunk):
        join(*pair)
    sums = trunk[-1:]
    for number in (2, 3, 4):
        x, modules = 1.65 * number + 0.35, getattr(model, f"stage{number}")
        axis.text(x, 0.45, f"stage {number}\nmodules: {len(modules)}", ha="center", fontsize=8)
        rows = [node(x, -row, text) for row, text in enumerate(texts[f"stage{number}"])]
        for total, branch in zip([*sums, sums[-1]], rows, strict=True):  # the last one is new
            join(total, branch, "smaller" if branch is rows[-1] else "same size")
        sums = [node(x + 0.85, -row) for row in range(len(modules[-1].fuse_layers))]
        for (i, branch), (j, total) in itertools.product(enumerate(rows), enumerate(sums)):
            join(branch, total, "same size" if i == j else "smaller" if i < j else "larger")
    join(sums[0], node(sums[0][0] + 0.75, 0, f"heatmaps\n{texts['heatmaps'][0]}"))
    axis.set(xmargin=0.07, ymargin=0.09, xticks=[], ylabel="stride (input pixels per pixel)",
             yticks=[1, 0, -1, -2, -3], yticklabels=[1, 4, 8, 16, 32], frame_on=False)
    kinds = {line.get_label(): line for line in axis.lines}
    axis.legend(kinds.values(), kinds, loc="lower left", fontsize=8, frameon=False)
    return figure


@contextmanager
def keeping(model: HRNet, part: str) -> Iterator[None]:
    """Inside this context a network's input refinement block adds only the given one of `PARTS`."""
    def cut(_, inputs: tuple[Tensor, Tensor], change: Tensor) -> Tensor:
        near = F.max_pool2d(inputs[1].abs(), 5, 1, 2) > 0.01  # two 3x3 convolutions reach 2 pixels
        return change * (1, near, ~near, 0)[PARTS.index(part)]

    with model.input_refinement.register_forward_hook(cut):
        yield


@torch.inference_mode()
def block_parts(model: HRNet, scene: Scene, cue: Cue | None) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors of a network whose cue enters at the image: the normalised crop of a scene's
    box (3, H, W), the cue's map (1, H, W), and what the block adds to the crop (3, H, W)."""
    crops, matrices = cut_crops([scene.picture], scene.boxes, spec := model.eval().spec)
    crops, cues = prepare(spec, crops, matrices, [cue or Cue.none()])
    return crops[0], cues[0], model.input_refinement(crops, cues * spec.cue_amplitude)[0]


def change_figure(spec, crop: Tensor, changes: Mapping[str, Tensor], limit: float = 4.0):
    """A matplotlib Figure with a row for each named change (3, H, W) of a normalised crop
    (3, H, W): the crop, the sum, and the change of each channel, darkest from `limit` deviations
    on."""
    shades = cm.ScalarMappable(cmap=colormaps["PuOr_r"].resampled(17))  # few make small files
    shades.set_clim(-limit, limit)
    mean, std = torch.tensor([spec.mean, spec.std])
    tiles = [[*((x.movedim(0, 2) * std + mean).clamp(0, 1) for x in (crop, crop + change)),
              *(shades.to_rgba(x)[..., :3] for x in change.numpy())] for change in changes.values()]
    figure = Figure(figsize=(6.8, 0.8 + 1.8 * len(tiles)), layout="compressed")
    axis, (height, width) = figure.subplots(), crop.shape[1:]
    axis.imshow(np.vstack([np.hstack(row) for row in tiles]), interpolation="nearest")
    axis.set_xticks((np.arange(5) + 0.5) * width, ["crop", "crop + change", "red", "green", "blue"])
    axis.set_yticks((np.arange(len(tiles)) + 0.5) * height, changes, rotation=90, va="center")
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    figure.colorbar(shades, ax=axis, location="bottom", aspect=40, label="added (deviations)")
    return figure


class BlockLab(CueLab):
    """The cue lab that also shows what the block adds, `added` (3, H, W), and can limit it."""

    def __init__(self, model: HRNet, scene: Scene | None = None):
        self.change, self.added = Still(), None
        super().__init__(model, scene, more={
            "keep": widgets.Dropdown(options=PARTS),
            "gain": widgets.FloatSlider(1, min=1, max=8, description="amplify")})
        self.children = [*self.children, self.change]

    def render(self, keep: str, gain: float, **asked) -> str:
        """Runs the network, and shows the pose and what the block added."""
        with keeping(self.model, keep):
            said, place = super().render(**asked), self.frame.place
            cue = Cue.point(*point_in_picture(self.scene, self.size, place)) if place else None
            crop, _, self.added = block_parts(self.model, self.scene, cue)
        self.change.put(change_figure(self.model.spec, crop, {keep: self.added}, 4 / gain),
                        f"A crop, and what the block adds to it; kept: {keep}.")
        return f"kept: {keep}; {said}"
