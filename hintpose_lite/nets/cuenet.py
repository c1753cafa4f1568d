"""The cue network: says where in a box people are, so that each of them can be asked for.

The report names a simple network, trained for it, as one source of cues, and says no more; all of
this is our choice. It is a small HRNet with one heatmap, on which every person of the crop is a
peak of height 1 at the middle of the visible mask: a cue each. `proposals` trains and uses it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..heatmaps import encode
from .spec import Spec

SPEC = Spec(width=16, stem=16, modules=(1, 1, 1), blocks=1, joints=1, cue=False, hops=1,
            input_size=(96, 128), codec="quarter", target_sigma=1.5)


def people_maps(points: Tensor, shown: Tensor, spec: Spec) -> Tensor:
    """Targets (N, 1, h, w): a Gaussian a person; where two meet, the higher counts.

    points (N, P, 2): the middles of the people of each crop, in crop pixels; shown (N, P): which
    of them exist. One whose middle lies outside the crop gives no peak.
    """
    inside = ((points >= 0) & (points <= points.new_tensor(spec.input_size) - 1)).all(-1)
    heights = (inside & shown).to(points.dtype)
    maps = encode(points, spec.input_size, spec.target_sigma, spec.codec, heights=heights)
    return maps.amax(1, keepdim=True)


def find_peaks(maps: Tensor, low: float, most: int = 8) -> tuple[Tensor, Tensor]:
    """The highest local maxima of maps (N, 1, h, w) that reach `low`, which must be above 0.

    Returns points (N, most, 2) in heatmap pixels, refined to the mean place of the 3x3 pixels about
    each peak, and heights (N, most), falling, then 0. No peak is within two pixels of a higher one.
    """
    maps = maps.clamp(min=0)
    height, width = maps.shape[-2:]
    tops = (maps == F.max_pool2d(maps, 5, 1, 2)) & (maps >= low)
    ranks = tops * torch.arange(height * width, 0.0, -1, device=maps.device).view(height, width)
    tops &= ranks == F.max_pool2d(ranks, 5, 1, 2)  # of equal neighbours the first
    heights, flat = (maps * tops).flatten(1).topk(min(most, height * width), dim=1)
    shift = torch.arange(-1.0, 2, device=maps.device)
    kernels = torch.stack([torch.ones(3, 3, device=maps.device), shift.expand(3, 3),
                           shift[:, None].expand(3, 3)])
    mass, x, y = F.conv2d(maps, kernels[:, None], padding=1).flatten(2).gather(
        2, flat[:, None].expand(-1, 3, -1)).unbind(1)
    middle = torch.stack([flat % width, flat // width], -1)
    return middle + torch.stack([x, y], -1) / mass.clamp(min=1e-6)[..., None], heights
