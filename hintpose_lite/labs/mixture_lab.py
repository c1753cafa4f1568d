"""The lab of two right answers: the best heatmaps without a cue, and the pose decoded from them."""

from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure

from ..photos.draw import GREEN, GREY, RED
from ..pose.geometry import apply, scale_of
from ..pose.heatmaps import decode, encode
from ..pose.oks import oks
from ..pose.skeleton import COCO17
from .scene import Scene, crop_of, to_crop
from .widgets import Lab, Still

SIZE, SIGMA, CODEC = (96, 128), 1.2, "dark"  # crop and targets of the shipped networks
ZOOM = 3  # pixels of a picture for one of the crop
INKS, MIXED = np.array([GREEN, RED]) / 255, np.array(GREY) / 255


def mix(scene: Scene, share: float, noise: float = 0.0, seed: int = 0) -> SimpleNamespace:
    """The heatmaps with the least mean squared error if the target is A's with probability `share`,
    else B's. noise: standard deviation of errors that are added to each heatmap pixel.

    Returns joints (2, K, 2) of A and B in crop pixels, those labelled in both, `which` (K,); the
    heatmaps, `maps` (K, h, w); and what is decoded from them: points (K, 2), heights (K,), their
    `owner` (K,), see `owners`, and `near`, the OKS with A and B.
    """
    matrix = to_crop(scene, SIZE)
    which = (scene.people[:2, :, 2] > 0).all(0).nonzero()[:, 0]
    joints = apply(matrix, scene.people[:2, which, :2])
    a, b = encode(joints, SIZE, SIGMA, CODEC)
    random = torch.randn(a.shape, generator=torch.Generator().manual_seed(seed))
    maps = share * a + (1 - share) * b + noise * random
    points, heights = (found[0] for found in decode(maps[None], SIZE, CODEC, SIGMA))
    near = oks(points, torch.cat([joints, torch.ones_like(joints[..., :1])], -1),
               scene.areas[:2] * scale_of(matrix) ** 2, np.array(COCO17.sigmas)[which])
    return SimpleNamespace(which=which.numpy(), joints=joints, maps=maps, points=points,
                           heights=heights, owner=owners(points, joints).numpy(), near=near)


def owners(points: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """Whose joint of the same name is nearest to each of the points (K, 2): the number (K,) of a
    person in joints (P, K, 2)."""
    return (joints - points).norm(dim=-1).argmin(0)


def draw_owners(axis, crop: np.ndarray, points, owner, which=range(17)) -> None:
    """Draws a crop and a pose (K, 2) on a matplotlib axis. which: the joints' numbers in COCO (K,).
    A's joints (owner 0) are green circles, B's (1) vermilion squares; limbs between a
    joint of A and a joint of B are grey and dashed."""
    axis.imshow(crop, interpolation="nearest")
    axis.set(xticks=[], yticks=[], frame_on=False, title="pose")
    rows = {int(joint): row for row, joint in enumerate(which)}
    for i, j in ([rows[end] for end in ends] for ends in COCO17.limbs if {*ends} <= {*rows}):
        ink, style = (INKS[owner[i]], "-") if owner[i] == owner[j] else (MIXED, (0, (3, 2)))
        axis.plot(*points[[i, j]].T, color="white", lw=3.5)
        axis.plot(*points[[i, j]].T, color=ink, lw=2, ls=style)
    for who, mark in enumerate("os"):
        axis.scatter(*points[owner == who].T, 36, color=INKS[who], marker=mark,
                     edgecolor="white", zorder=3)


def mixture_figure(scene: Scene, share: float, noise: float = 0.0) -> Figure:
    """The pose, the heatmaps and the peaks' heights of a mixture; get_label() describes them."""
    mixed, figure = mix(scene, share, noise), Figure(figsize=(9.5, 4.5), layout="compressed")
    pose, heat, bars = figure.subplots(1, 3, width_ratios=(1.35, 1.4, 1))
    crop = crop_of(scene, (ZOOM * SIZE[0], ZOOM * SIZE[1])).round().byte().numpy()
    draw_owners(pose, crop, ZOOM * mixed.points, mixed.owner, mixed.which)
    shown = heat.imshow(mixed.maps.amax(0), vmin=0, vmax=1, cmap="magma")
    heat.set(xlabel="x (heatmap pixels)", ylabel="y (heatmap pixels)", title="all heatmaps")
    figure.colorbar(shown, ax=heat, label="height")
    bars.barh(range(len(mixed.which)), mixed.heights.numpy(), color=INKS[mixed.owner],
              hatch=[("", "//")[who] for who in mixed.owner], edgecolor="white")
    for value, style, name in ((share, "--", "A"), (1 - share, ":", "B")):
        bars.axvline(value, color="black", ls=style, lw=1, label=f"share of {name}")
    figure.legend(loc="outside lower right", ncols=2, fontsize=9)
    bars.set(yticks=range(len(mixed.which)), ylim=(len(mixed.which), -1), xlim=(0, 1.05),
             yticklabels=[COCO17.names[joint].replace("_", " ") for joint in mixed.which],
             xlabel="height (hatched: B's)", title="peaks")
    of_a, of_b = np.bincount(mixed.owner, minlength=2)
    whose = "a chimera" if of_a and of_b else "wholly A's" if of_a else "wholly B's"
    figure.set_label(f"{share:.0%} of the targets were A's, {1 - share:.0%} B's: the pose is "
                     f"{whose}, {of_a} joints A's, {of_b} B's; OKS with A {mixed.near[0]:.2f}, "
                     f"with B {mixed.near[1]:.2f}")
    return figure


class MixtureLab(Lab):
    """Two people in one box, and the pose decoded from the best heatmaps without a cue."""

    def __init__(self, scenes: list[Scene]):
        self.scenes, self.shown = scenes, Still()
        super().__init__([self.shown], {
            "share": widgets.FloatSlider(0.5, max=1, step=0.01, description="share of A"),
            "noise": widgets.FloatSlider(0, max=0.2, step=0.02),
            "pair": widgets.IntSlider(1, 1, len(scenes))}, columns=3)

    def render(self, share: float, noise: float, pair: int) -> str:
        """Mixes two people's heatmaps, decodes a pose and draws both."""
        return self.shown.put(mixture_figure(self.scenes[pair - 1], share, noise))
