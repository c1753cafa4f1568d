"""A figure of the network, the lab of what the input refinement block adds to a crop, and what the
learner's pieces of the chapter are compared with."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib import cm, colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from ..cues.cue import Cue
from ..evaluation.predict import cut_crops, prepare
from ..model.hintpose import as_hintpose
from ..model.hrnet import HRNet
from ..photos.draw import BLUE, GREEN, GREY, ORANGE, blank_figure
from .scene import CueLab, Scene, point_in_picture
from .widgets import Still

PARTS = ("everything", "near the cue", "the mark alone", "the repainting alone", "nothing")
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


def block_runner(make: Callable[[int, int], nn.Module]) -> Callable:
    """For `quiz.piece`: a function that makes a block, gives it weights, or leaves it fresh (None),
    and returns what it adds. Its `make` is the maker of the block."""
    def run(channels: int, hidden: int, weights: dict | None, features: Tensor, cues: Tensor):
        block = make(channels, hidden).eval()
        if weights and block.state_dict():  # a block that is not written yet has none
            block.load_state_dict(weights)
        with torch.no_grad():
            return block(features, cues)

    run.__name__, run.make = make.__name__, make
    return run


def gradient_sizes(network: nn.Module, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
    """The largest gradient, without its sign, of each parameter whose name ends in "weight", for
    the mean squared error of network(*inputs)."""
    weights = [value for name, value in network.named_parameters() if name.endswith("weight")]
    found = torch.autograd.grad(F.mse_loss(network(*inputs), target), weights)
    return torch.stack([gradient.abs().max() for gradient in found])


def cueless_floor(targets: Tensor, labelled: Tensor) -> Tensor:
    """The least loss without a cue, where people 0 and 1, 2 and 3, ... share a crop, and so an
    answer. targets: (2P, K, h, w); labelled: (2P, K), 1 or 0."""
    pairs, known = targets.unflatten(0, (-1, 2)), labelled.unflatten(0, (-1, 2))[..., None, None]
    best = (pairs * known).sum(1, True) / known.sum(1, True).clamp(min=1)
    return 0.5 * ((pairs - best) ** 2 * known).mean()


def near_cue(cues: Tensor) -> Tensor:
    """Where a block can see a cue (N, 1, H, W): two convolutions of 3x3 reach two pixels."""
    return F.max_pool2d(cues.abs(), 5, 1, 2) > 0.01


@contextmanager
def keeping(model: HRNet, part: str) -> Iterator[None]:
    """Inside this context a network's input refinement block adds only the given one of `PARTS`.
    The repainting is what it adds without a cue, the mark is the rest."""
    def cut(block, inputs: tuple[Tensor, Tensor], change: Tensor) -> Tensor:
        plain = block.forward(inputs[0], torch.zeros_like(inputs[1]))
        parts = change, change * near_cue(inputs[1]), change - plain, plain, 0 * change
        return parts[PARTS.index(part)]

    with model.input_refinement.register_forward_hook(cut):
        yield


@torch.inference_mode()
def block_parts(model: HRNet, scene: Scene, cue: Cue | None) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors of a network whose cue enters at the image: the normalised crop of a scene's
    box (3, H, W), the cue's map (1, H, W), and what the block adds to the crop (3, H, W)."""
    crops, matrices = cut_crops([scene.picture], scene.boxes, spec := model.eval().spec)
    crops, cues = prepare(spec, crops, matrices, [cue or Cue.none()])
    cues = cues * spec.cue_amplitude
    return crops[0], cues[0], model.input_refinement(crops, cues)[0]


def change_figure(spec, crop: Tensor, changes: Mapping[str, Tensor], limit: float = 4.0):
    """A matplotlib Figure of named changes (3, H, W) of a normalised crop (3, H, W): the crop with
    each of them, and what is added to green, darkest from `limit` deviations on."""
    shades = cm.ScalarMappable(cmap=colormaps["PuOr_r"].resampled(17))  # few make small files
    shades.set_clim(-limit, limit)
    mean, std = torch.tensor([spec.mean, spec.std])
    rows, columns = (2, len(changes)) if len(changes) > 1 else (1, 2)
    figure, axes = blank_figure(rows, columns, (2.75 * columns + 0.6, 3.85 * rows))
    for (name, change), pair in zip(changes.items(), axes.T if rows > 1 else axes, strict=True):
        pair[0].imshow(((crop + change).movedim(0, 2) * std + mean).clamp(0, 1))
        pair[0].set_title(f"crop + {name}", fontsize=10)
        pair[1].imshow(shades.to_rgba(change[1].numpy()), interpolation="nearest")
        pair[1].set_title(f"{name}: added to green", fontsize=10)
    figure.colorbar(shades, ax=axes, aspect=40, label="added (standard deviations)")
    return figure


class BlockLab(CueLab):
    """The cue lab that shows what the block adds, `added` (3, H, W), and can limit it."""

    def __init__(self, model: HRNet, scene: Scene | None = None):
        self.change, self.added = Still(), None
        super().__init__(model, scene, more={
            "keep": widgets.Dropdown(options=PARTS),
            "gain": widgets.FloatSlider(1, min=1, max=8, description="amplify")})
        self.children[0].children = [self.pad, self.change]

    def render(self, keep: str, gain: float, **asked) -> str:
        """Runs the network, and shows the pose and what the block added."""
        with keeping(self.model, keep):
            said, place = super().render(**asked), self.frame.place
            cue = Cue.point(*point_in_picture(self.scene, self.size, place)) if place else None
            crop, _, self.added = block_parts(self.model, self.scene, cue)
        self.change.put(change_figure(self.model.spec, crop, {keep: self.added}, 4 / gain),
                        f"A crop, and what the block adds to it; kept: {keep}.")
        return f"kept: {keep}; {said}"
