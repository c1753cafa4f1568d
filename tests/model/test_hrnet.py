"""HRNet: published counts and names, shapes, refused inputs, and that it learns."""

import pytest
import torch
from torch.nn import functional as F

from hintpose_lite.errors import ConfigError
from hintpose_lite.model.hrnet import HRNet

SMALL = {"width": 4, "stem": 8, "modules": (1, 1, 1), "blocks": 1}


@pytest.mark.parametrize("width, parameters", [(32, 28_536_113), (48, 63_595_745)])
def test_counts_of_the_published_networks(width, parameters):
    with torch.device("meta"):
        net = HRNet(width)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == 1754


def test_official_names():
    with torch.device("meta"):
        names = HRNet().state_dict()
    for name, shape in {
        "conv1.weight": (64, 3, 3, 3), "bn2.running_var": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer1.3.conv1.weight": (64, 256, 1, 1),
        "transition1.0.0.weight": (32, 256, 3, 3), "transition1.1.0.0.weight": (64, 256, 3, 3),
        "stage2.0.branches.1.3.bn2.bias": (64,),
        "stage2.0.fuse_layers.0.1.0.weight": (32, 64, 1, 1),
        "stage2.0.fuse_layers.1.0.0.0.weight": (64, 32, 3, 3),
        "transition2.2.0.0.weight": (128, 64, 3, 3),
        "stage3.3.fuse_layers.2.0.1.0.weight": (128, 32, 3, 3),
        "transition3.3.0.1.weight": (256,), "stage4.1.fuse_layers.3.0.2.0.weight": (256, 32, 3, 3),
        "stage4.2.fuse_layers.0.3.0.weight": (32, 256, 1, 1),
        "final_layer.weight": (17, 32, 1, 1), "final_layer.bias": (17,),
    }.items():
        assert tuple(names[name].shape) == shape, name
    # The last module only feeds the finest output.
    assert not any(name.startswith("stage4.2.fuse_layers.1.") for name in names)


def test_shapes_and_parts():
    net = HRNet(joints=5, **SMALL).eval()
    images = torch.randn(2, 3, 96, 64)
    f = net.stem_features(images)
    assert f.shape == (2, 32, 24, 16)
    assert net.head(f).shape == (2, 4, 24, 16)
    assert net(images).shape == (2, 5, 24, 16)
    assert torch.equal(net(images), net.final_layer(net.head(f)))


def test_forward_changes_neither_input_nor_features():
    net = HRNet(**SMALL).eval()
    images = torch.randn(1, 3, 64, 64)
    before = images.clone()
    f = net.stem_features(images)
    kept = f.clone()
    net.head(f)
    assert torch.equal(images, before) and torch.equal(f, kept)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 3, 64, 48), (1, 3, 16, 32)])
def test_other_sizes_are_refused_with_the_reason(shape):
    with pytest.raises(ConfigError, match="32"):
        HRNet(**SMALL)(torch.zeros(shape))


@pytest.mark.parametrize("images", [
    torch.zeros(1, 64, 64, 3), torch.zeros(3, 64, 64), torch.zeros(1, 3, 64, 64).byte()])
def test_pictures_of_another_form_are_refused(images):
    with pytest.raises(ConfigError):
        HRNet(**SMALL)(images)


@pytest.mark.parametrize("settings", [
    {"width": 0}, {"joints": 2.5}, {"stem": -1}, {"blocks": 0}, {"modules": (1, 1)},
    {"modules": (1, 0, 1)}, {"modules": 3}, {"width": True}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        HRNet(**{**SMALL, **settings})


def test_first_heatmaps_are_small_and_a_few_steps_reduce_the_loss():
    torch.manual_seed(0)
    net = HRNet(joints=2, **SMALL)
    images, target = torch.randn(4, 3, 64, 64), torch.rand(4, 2, 16, 16)
    assert net(images).abs().max() < 0.5
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.mse_loss(net(images), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize(("width", "kernel", "lost"), [(4, 1, 1), (5, 1, 0), (4, 3, 0)])
def test_fewer_channels_than_joints_lose_a_combination_of_heatmaps(width, kernel, lost):
    torch.manual_seed(0)
    net = HRNet(width, joints=5, stem=8, modules=(1, 1, 1), blocks=1, final_kernel=kernel)
    net.eval().double()
    with torch.inference_mode():
        maps = net(torch.randn(4, 3, 64, 64).double()).transpose(0, 1).flatten(1)
    varying = maps - maps.mean(1, keepdim=True)
    assert torch.linalg.matrix_rank(varying) == 5 - lost
