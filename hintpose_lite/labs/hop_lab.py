"""The loop of HintPose: a figure of it, its cost, whom it repairs and spoils, and the lab of its
hops."""

import copy
import functools
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..cues.cue import Cue
from ..data.coco import CocoPersons
from ..photos.draw import BLUE, GREEN, GREY, ORANGE, RED, draw_poses, heatmap_overlay
from ..pose.oks import oks
from ..pose.skeleton import COCO17
from .figures import look
from .scene import Scene, place_in_crop
from .widgets import Lab, Still

MOST = 6  # hops in the lab
REST = 2  # picture pixels; joints that go further have moved
PARTS = {"recurrent_refinement": "feedback"} | dict.fromkeys(  # all others: the stages
    ("input_refinement", "conv1", "conv2", "layer1"), "stem and layer1")


def conv_costs(model, size: tuple[int, int], hops: int | None = None) -> dict[str, Counter]:
    """The cost of the convolutions for one crop of `size` (w, h): a Counter each for "stem and
    layer1" (with the input refinement), "feedback" and "stages" (2 to 4, and the final layer), with
    the number of "passes", of multiplications ("macs") and of output "values"."""
    model, calls = copy.deepcopy(model).to("meta").eval(), Counter()  # shapes only
    costs = {part: Counter() for part in ("stem and layer1", "feedback", "stages")}
    names = {conv: name for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}

    def count(conv: nn.Conv2d, _, output) -> None:
        cost, calls[conv] = costs[PARTS.get(names[conv].split(".")[0], "stages")], calls[conv] + 1
        cost.update(macs=output.numel() * conv.weight[0].numel(), values=output.numel())
        cost["passes"] = max(cost["passes"], calls[conv])

    for conv in names:
        conv.register_forward_hook(count)
    model(torch.zeros(1, 3, size[1], size[0], device="meta"), hops=hops)
    return costs


def unrolled_figure(hops: int = 3):
    """HintPose with `hops` hops, unrolled to one long network: a matplotlib Figure."""
    figure, last = Figure(figsize=(1.4 + 2.1 * hops, 3.4), layout="compressed"), 2 * hops
    axis = figure.add_subplot(xlim=(-0.7, last + 0.8), ylim=(-0.1, 3.4), xticks=[], yticks=[],
                              frame_on=False)

    def node(x: float, y: float, text: str, ink=GREY) -> None:
        axis.text(x, y, text, ha="center", va="center", fontsize=9, zorder=3, bbox=dict(
            boxstyle="round,pad=0.35", fc="white", ec=np.divide(ink, 255), lw=1.5))

    def wire(*corners: tuple[float, float], head: float, ink=GREY, style="-") -> None:
        axis.plot(*zip(*corners, strict=True), c=np.divide(ink, 255), ls=style, lw=1.5)
        tip = np.array(corners[-2]) * (1 - head) + np.array(corners[-1]) * head
        axis.annotate("", tip, corners[-2], arrowprops=dict(
            arrowstyle="-|>", color=np.divide(ink, 255), lw=0, mutation_scale=16))

    wire((0, 3), (0, 2), head=0.6)
    wire((0, 2), (0, 0), (last, 0), head=0.4 / hops)
    node(0, 3, "picture, cue")
    node(0, 2, "stem,\nlayer1", GREEN)
    axis.text(0.1, 0.1, "features f", fontsize=9)
    for x in range(2, last + 1, 2):
        wire((x, 0), (x, 2), head=0.75)
        wire((x, 2), (x, 3), head=0.65)
        if x > 2:
            wire((x - 1, 0), (x - 1, 1), head=0.6)
            wire((x - 2, 3), (x - 1, 3), (x - 1, 1), (x, 1), head=0.8, ink=ORANGE, style="--")
            node(x - 1, 2, "Extract\n1×1", ORANGE)
            node(x - 1, 1, "Update\n1×1", ORANGE)
            node(x, 1, "+")
        node(x, 2, "stages 2–4,\nfinal layer", BLUE)
        node(x, 3, f"heatmaps {x // 2},\nloss {x // 2}")
    return figure


def shared_scene(persons: CocoPersons, row: int) -> Scene:
    """The box that person A, `row` of a data set, shares with their partner B."""
    pair = [row, int(persons.partner[row])]
    people, areas, boxes = (torch.as_tensor(values[pair]).float() for values in (
        persons.keypoints, persons.areas, persons.boxes))
    return Scene(persons.read(row), people, areas, boxes, np.zeros((2, 0, 0), bool))


def turned(quality: Tensor, least: float = 0.6) -> list[int]:
    """Two of N people, by number; quality (T, N) is the OKS of each hop's pose. The first gains
    most from the first to the last hop, of those with at least `least` after the last; the second
    loses most, of those with as much after the first."""
    gain, good = quality[-1] - quality[0], quality >= least
    return [int(gain.where(good[-1], -2).argmax()), int(gain.where(good[0], 2).argmin())]


def interval(values: np.ndarray, pictures: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The 95 % interval (2,) of the mean of values (N,), by bootstrap. pictures (N,): the picture
    of each, 0 to P - 1; draws (B, P): pictures drawn with replacement, as often as there are."""
    sums, counts = (np.bincount(pictures, some, draws.shape[1]) for some in (values, None))
    return np.percentile(sums[draws].sum(1) / counts[draws].sum(1), [2.5, 97.5])


def run_hops(model, scene: Scene, asked: int | None = None, hops: int = MOST) -> SimpleNamespace:
    """What each of T hops finds in a scene's box, with a cue in the middle of person `asked` (0, 1;
    None: no cue). Returns the results of `look`; `near` (T, P), the OKS with each person; and
    scene, asked, spec."""
    cue = Cue.none() if asked is None else Cue.point(*scene.middle(asked))
    seen = look(model, scene.picture, scene.boxes, cue, COCO17, hops)
    near = oks(seen.points[:, None], scene.people, scene.areas, COCO17.sigmas)
    return SimpleNamespace(**vars(seen), near=near, scene=scene, asked=asked, spec=model.spec)


def hop_figure(run: SimpleNamespace, hop: int, joint: int | None = None):
    """One hop (1 to T) of a run, with the heatmap of one joint or the maximum over all joints: a
    Figure whose get_label() describes it."""
    figure, size = Figure(figsize=(9.4, 4.2), layout="constrained"), run.crop.shape[1::-1]
    crop, heat, line = figure.subplots(1, 3)
    near, hops = run.near[hop - 1], range(1, len(run.near) + 1)
    maps = run.maps[hop - 1] if joint is None else run.maps[hop - 1, joint:joint + 1]
    name = "all joints" if joint is None else COCO17.names[joint].replace("_", " ")
    crop.imshow(draw_poses(run.crop, run.poses[hop - 1:hop]))
    crop.set(title=f"pose after hop {hop}", xticks=[], yticks=[])
    heat.imshow(heatmap_overlay(run.crop, maps, run.spec.codec))
    heat.set(title=f"{name}, peak {maps.max():.2f}", xticks=[], yticks=[])
    for who, (letter, ink, style, values) in enumerate(zip(
            "AB", (GREEN, RED), ("o-", "s--"), run.near.T, strict=True)):
        line.plot(hops[:hop], values[:hop], style, c=np.divide(ink, 255), label=f"with {letter}")
        *spot, v = ((*run.scene.top(who), 2) if joint is None else
                    run.scene.people[who, joint].tolist())
        place = place_in_crop(run.scene, size, spot)
        for axis in (crop, heat) if v else ():
            axis.annotate(letter, np.multiply(place, size) - 0.5, (0, 12), ha="center", fontsize=8,
                          textcoords="offset points", arrowprops=dict(arrowstyle="-", color="w"),
                          color="w", bbox=dict(boxstyle="round", fc=np.divide(ink, 255), ec="w"))
    line.axvspan(run.spec.hops + 0.5, hops[-1] + 0.5, color="0.9", label="not trained for")
    line.set(xlim=(0.5, hops[-1] + 0.5), ylim=(0, 1.05), xlabel="hop", title="OKS of the pose")
    line.legend(fontsize=8, loc="center right")
    gone = (run.points[hop - 1] - run.points[max(hop - 2, 0)]).norm(dim=-1) > REST
    since = f"; {gone.sum()} of {len(gone)} joints have moved since the hop before"
    figure.set_label(f"Hop {hop}: nearer to {'AB'[near.argmax()]} (OKS: A {near[0]:.2f}, "
                     f"B {near[1]:.2f}){since if hop > 1 else ''}.")
    return figure


class HopLab(Lab):
    """Steps through the hops on named scenes. `run` is the one that is shown; `ask(name, person)`
    is a cached `run_hops`."""

    def __init__(self, model, scenes: Mapping[str, Scene]):
        self.run, self.still = None, Still()
        self.ask = functools.cache(lambda name, who: run_hops(model, scenes[name], who))
        super().__init__([self.still], {
            "hop": widgets.IntSlider(1, 1, MOST),
            "cue": widgets.Dropdown(options=["on A", "on B", "none"]),
            "scene": widgets.Dropdown(options=[*scenes]),
            "joint": widgets.Dropdown(options=["all", *COCO17.names], description="heatmap")})

    def render(self, hop: int, cue: str, scene: str, joint: str) -> str:
        """Shows the hop; the network runs once for each scene and cue."""
        self.run = self.ask(scene, {"on A": 0, "on B": 1}.get(cue))
        figure = hop_figure(self.run, hop, None if joint == "all" else COCO17.names.index(joint))
        self.still.put(figure, f"Crop, heatmap, OKS. {figure.get_label()}")
        return figure.get_label()
