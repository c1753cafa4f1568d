"""A larger network that computes what a small one computes: a start for longer training.

    python benchmarks/grow.py crowd-tiny --out start.safetensors --width 24 --stem 24
    python benchmarks/grow.py crowd-tiny --out start.safetensors --modules 1 3 3

Wider layers get copies of channels; what reads a channel and its copy shares the old weight out
between the two (Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016), by chance, so that both go their
own ways in training. The modules that a stage gets on top change nothing, since the last batch norm
of each of their paths has weight 0. The script stops if the outputs differ.
"""

import argparse
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import FuseModule
from hintpose_lite.weights.weights import load_model, save_model


def sources(old: int, new: int) -> Tensor:
    """For each of the `new` channels, the one of `old` that it copies: always the same ones for
    these two numbers, since layers that are added up have to agree."""
    order = torch.randperm(old, generator=torch.Generator().manual_seed(old))
    return torch.cat([torch.arange(old), order[:new - old]])


def inputs_of(name: str, old: HintPose, new: HintPose, channels: int) -> Tensor:
    """The source of each input channel of a convolution. The update of the hops reads two feature
    maps, one behind the other."""
    if name != "recurrent_refinement.update.weight":
        return sources(old.state_dict()[name].shape[1], channels)
    features = sources(4 * old.spec.stem, 4 * new.spec.stem)
    hidden = sources(old.spec.stem, new.spec.stem)
    return torch.cat([features, 4 * old.spec.stem + hidden])


def widened(weight: Tensor, outputs: Tensor, inputs: Tensor, generator) -> Tensor:
    """A convolution's weight with these output and input channels, and the same sums."""
    wide = weight[outputs][:, inputs].clone()
    for channel in range(weight.shape[1]):
        original, *copies = (inputs == channel).nonzero()[:, 0].tolist()
        for copy in copies:  # one at most
            share = 0.5 + 0.35 * torch.randn(len(wide), 1, 1, generator=generator)
            wide[:, copy] *= share
            wide[:, original] *= 1 - share
    return wide


def silence(module: FuseModule) -> None:
    """Zeroes the last norms of a module, so that it returns its (non-negative) inputs."""
    last = [block.bn2 for block in module.modules() if isinstance(block, BasicBlock)]
    for path in (path for paths in module.fuse_layers for path in paths):
        last += [norm for norm in path.modules() if isinstance(norm, nn.BatchNorm2d)][-1:]
    for norm in last:
        nn.init.zeros_(norm.weight)


@torch.no_grad()
def grown(old: HintPose, **settings) -> HintPose:
    """`old` with other settings of its Spec (width and stem up to twice as large, more modules)."""
    new = HintPose.from_spec(replace(old.spec, **settings)).eval()
    names = {f"stage4.{old.spec.modules[2] - 1}.": f"stage4.{new.spec.modules[2] - 1}."}
    state, generator = new.state_dict(), torch.Generator().manual_seed(0)
    for stage, before, after in zip((2, 3, 4), old.spec.modules, new.spec.modules, strict=True):
        last = stage == 4  # its last module has one output, and stays the last
        for i in range(before - last, after - last):
            silence(getattr(new, f"stage{stage}")[i])
    for name, value in old.state_dict().items():
        place = next((name.replace(a, b) for a, b in names.items() if name.startswith(a)), name)
        if value.ndim:
            outputs = sources(len(value), len(state[place]))
            value = value[outputs] if value.ndim == 1 else widened(
                value, outputs, inputs_of(name, old, new, state[place].shape[1]), generator)
        state[place].copy_(value)
    new.trained_on = old.trained_on
    return new


def difference(old: HintPose, new: HintPose) -> float:
    """The largest difference of the heatmaps of two crops of noise after three hops, as a share of
    the highest value."""
    draw, (width, height) = torch.Generator().manual_seed(1), old.spec.input_size
    crops = torch.randn(2, 3, height, width, generator=draw)
    cues = torch.rand(2, 1, height, width, generator=draw) if old.spec.cue else None
    with torch.no_grad():
        one, other = (model(crops, cues, old.spec.hops) for model in (old, new))
    return float((one - other).abs().max() / one.abs().max())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("model")
    options.add_argument("--out", required=True)
    options.add_argument("--width", type=int)
    options.add_argument("--stem", type=int)
    options.add_argument("--modules", type=int, nargs=3)
    options = options.parse_args()
    old = load_model(options.model)
    settings = {name: getattr(options, name) for name in ("width", "stem", "modules")}
    new = grown(old, **{name: value for name, value in settings.items() if value})
    off = difference(old, new)
    count = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (old, new)]
    print(f"{count[0]:.2f} -> {count[1]:.2f} million parameters, heatmaps differ by {off:.1e}")
    if off > 1e-3:
        raise SystemExit("the larger network computes something else")
    save_model(new, options.out)


if __name__ == "__main__":
    main()
