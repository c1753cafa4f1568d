"""Multiplications of all convolutions, against the published figures."""

import pytest
import torch
from torch import nn

from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import HRNet


def conv_macs(net, images, *rest) -> int:
    counts = []

    def count(conv, inputs, output):
        counts.append(output.numel() * conv.weight[0].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    net(images, *rest)
    return sum(counts)


# The papers' "7.1 and 14.6 GFLOPs" are these numbers divided by 1024^3.
@pytest.mark.parametrize("width, giga, published", [(32, 7.645, 7.1), (48, 15.692, 14.6)])
def test_macs_at_256x192(width, giga, published):
    with torch.device("meta"):
        macs = conv_macs(HRNet(width), torch.zeros(1, 3, 256, 192))
    assert round(macs / 1e9, 3) == giga
    assert round(macs / 1024 ** 3, 1) == published


def test_what_runs_once_and_what_runs_every_hop():
    runs = {}

    def note(name):
        return lambda *_: runs.update({name: runs.get(name, 0) + 1})

    with torch.device("meta"):
        net = HintPose(width=4, stem=8, modules=(1, 1, 1), blocks=1)
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note(name))
        net(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64), hops=3)
    for name, count in runs.items():
        part = name.split(".")[0]
        once = ("input_refinement", "conv1", "conv2", "layer1")
        assert count == (1 if part in once else 2 if part == "recurrent_refinement" else 3), name
    assert len(runs) == sum(isinstance(m, nn.Conv2d) for m in net.modules())
