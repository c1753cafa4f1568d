"""HRNet for poses: a crop in, one heatmap per joint at a quarter of its resolution out.

Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation",
CVPR 2019. A network of parallel branches at strides 4, 8, 16 and 32. Each stage adds one branch
at half the resolution, and every module ends by mixing all branches with all others ("fuse").
Parameters have the names of the authors' checkpoints; `weights.published` translates others.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck  # HRNet takes ResNet's as they are
from torchvision.ops import Conv2dNormActivation as ConvBN  # no bias; by default 3 x 3, with a ReLU

from ..errors import ConfigError

STRIDE = 4  # input pixels per heatmap pixel
COARSEST = 32  # stride of the coarsest branch; inputs must be whole multiples of it


def fuse_path(channels: list[int], source: int, target: int) -> nn.Module:
    """What takes branch `source` to the channels and resolution of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:  # from coarse to fine: one jump
        return nn.Sequential(*ConvBN(channels[source], channels[target], 1, activation_layer=None),
                             nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
    steps = target - source  # from fine to coarse: halve the resolution, one step at a time
    halve = [ConvBN(channels[source], channels[source], stride=2) for _ in range(steps - 1)]
    return nn.Sequential(*halve, ConvBN(channels[source], channels[target], stride=2,
                                        activation_layer=None))


class FuseModule(nn.Module):
    """Residual blocks in every branch, then each output branch is the sum over all branches.

    Takes and returns a list of (N, channels[i], H / 2^i, W / 2^i), or only the first with
    `finest_only`.
    """

    def __init__(self, channels: list[int], blocks: int, finest_only: bool = False):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c, c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(channels, source, target) for source in range(len(channels)))
            for target in range(1 if finest_only else len(channels)))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for paths in self.fuse_layers:
            total = paths[0](xs[0])
            for path, x in zip(paths[1:], xs[1:], strict=True):
                total = total + path(x)
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """Pose HRNet: (N, 3, H, W) normalised float pictures -> (N, joints, H / 4, W / 4) heatmaps.

    width:   channels of the finest branch; the others have 2, 4 and 8 times as many. The
             published networks are 32 (28.5 M parameters) and 48 (63.6 M).
    final_kernel: 1 or 3, of the last convolution. With 1 and a width below `joints`, some pair of
             joints, mostly the eyes, cannot be told apart (see `benchmarks/channels.py`).
    stem:    channels of the two strided convolutions; layer1 gives 4 * stem channels.
    modules: fuse modules in stages 2, 3 and 4.
    blocks:  residual blocks in layer1 and in every branch of a module.

    H and W must be multiples of 32. Raises ConfigError for other sizes and bad settings.
    """

    def __init__(self, width: int = 32, joints: int = 17, *, stem: int = 64,
                 modules: tuple[int, int, int] = (1, 4, 3), blocks: int = 4, final_kernel: int = 1):
        super().__init__()
        _check_settings(modules, final_kernel, width=width, joints=joints, stem=stem, blocks=blocks)
        self.architecture = {"width": width, "joints": joints, "stem": stem, "blocks": blocks,
                             "modules": tuple(modules), "final_kernel": final_kernel}
        channels = [width * 2 ** i for i in range(4)]
        wide = 4 * stem
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(
            Bottleneck(stem, stem, downsample=ConvBN(stem, wide, 1, activation_layer=None)),
            *(Bottleneck(wide, stem) for _ in range(blocks - 1)))
        # A transition adds a branch; the extra Sequential keeps the published parameter names.
        self.transition1 = nn.ModuleList([
            ConvBN(wide, channels[0]), nn.Sequential(ConvBN(wide, channels[1], stride=2))])
        self.stage2 = _stage(channels[:2], modules[0], blocks)
        self.transition2 = _new_branch(channels, 2)
        self.stage3 = _stage(channels[:3], modules[1], blocks)
        self.transition3 = _new_branch(channels, 3)
        self.stage4 = _stage(channels, modules[2], blocks, finest_only=True)
        self.final_layer = nn.Conv2d(width, joints, final_kernel, padding=final_kernel // 2)
        _initialise(self)

    def stem(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, stem, H / 4, W / 4)."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)), inplace=True)

    def stem_features(self, images: Tensor) -> Tensor:
        """Stem and layer1: (N, 3, H, W) -> (N, 4 * stem, H / 4, W / 4)."""
        check_images(images)
        return self.layer1(self.stem(images))

    def head(self, f: Tensor) -> Tensor:
        """Stages 2 to 4: what stem_features gives -> (N, width, H / 4, W / 4)."""
        xs = self.stage2([transition(f) for transition in self.transition1])
        xs = self.stage3([*xs, self.transition2[-1](xs[-1])])
        return self.stage4([*xs, self.transition3[-1](xs[-1])])[0]

    def forward(self, images: Tensor) -> Tensor:
        return self.final_layer(self.head(self.stem_features(images)))


def check_images(images: Tensor) -> None:
    """Raises ConfigError for images that the network cannot take."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ConfigError(f"the network takes normalised float pictures (N, 3, H, W), not "
                          f"{images.dtype} of shape {tuple(images.shape)}")
    check_size(images.shape[3], images.shape[2])


def check_size(width: int, height: int) -> None:
    """Raises ConfigError unless the network can take inputs of this size in pixels."""
    if width < COARSEST or height < COARSEST or width % COARSEST or height % COARSEST:
        raise ConfigError(
            f"input size {width}x{height} (width x height) must be made of multiples of "
            f"{COARSEST}, the stride of the coarsest branch; take 192x256, for example")


def _check_settings(modules, final_kernel, **numbers) -> None:
    if final_kernel not in (1, 3) or not isinstance(modules, list | tuple) or len(modules) != 3:
        raise ConfigError(f"final_kernel={final_kernel!r} must be 1 or 3, and modules={modules!r} "
                          "three numbers, one each for stages 2, 3 and 4")
    for name, value in [*numbers.items(), *((f"modules[{i}]", n) for i, n in enumerate(modules))]:
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")


def _stage(channels, count, blocks, finest_only=False) -> nn.Sequential:
    return nn.Sequential(*(FuseModule(channels, blocks, finest_only and i == count - 1)
                           for i in range(count)))


def _new_branch(channels, index) -> nn.ModuleList:
    """Keeps the branches there are; branch `index` starts from the coarsest of them."""
    new = nn.Sequential(ConvBN(channels[index - 1], channels[index], stride=2))
    return nn.ModuleList([*(nn.Identity() for _ in range(index)), new])


@torch.no_grad()
def _initialise(net: HRNet) -> None:
    """He's normal initialisation, which trains small networks from nothing. (HRNet's own, normal
    with deviation 0.001, is meant to be overwritten; only the last layer has it here, so that first
    heatmaps are near zero.)"""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(net.final_layer.weight, std=0.001)
    nn.init.zeros_(net.final_layer.bias)
