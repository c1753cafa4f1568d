"""Encode, decode and mirror, against independent loops and against themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite.errors import ConfigError
from hintpose_lite.pose.heatmaps import CODECS, decode, encode, gaussians, mirror
from hintpose_lite.pose.skeleton import COCO17, Skeleton

SIZE = (64, 96)


def test_gaussian_is_the_formula():
    maps = gaussians(torch.tensor([[3.3, 2.0]]), (8, 6), 1.5)
    for y in range(6):
        for x in range(8):
            value = np.exp(-((x - 3.3) ** 2 + (y - 2.0) ** 2) / (2 * 1.5**2))
            assert abs(maps[0, y, x].item() - value) < 1e-6


@settings(deadline=None, max_examples=60)
@given(st.floats(16, 47), st.floats(16, 79), st.sampled_from(CODECS), st.sampled_from([1.2, 2.0]))
def test_decode_undoes_encode(x, y, codec, sigma):
    point = torch.tensor([[[x, y]]])
    found, score = decode(encode(point, SIZE, sigma, codec), SIZE, codec, sigma)
    # A quarter-pixel step leaves up to a quarter of a heatmap pixel. A Taylor step is nearly exact;
    # the largest error, 0.125, has DARK with the wider sigma where its blur reaches over the edge.
    tolerance = 1.05 if codec == "quarter" else 0.13
    assert (found - point).abs().max() < tolerance
    assert 0.5 < score.item() <= 1


def hrnet_decode(heatmap: np.ndarray) -> np.ndarray:
    """The official decoder, written down from its description for one map (h, w)."""
    height, width = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    point = np.array([x, y], float)
    if heatmap.max() <= 0:
        return np.zeros(2)
    if 1 < x < width - 1 and 1 < y < height - 1:
        point[0] += 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
        point[1] += 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return point * 4


def dark_decode(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """DARK's decoder for one map, with an explicit inverse and cv2's blur."""
    import cv2
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    size = 2 * round(2.5 * sigma) + 1
    blurred = cv2.GaussianBlur(heatmap, (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
    m = np.log(np.maximum(blurred, 1e-10))
    gradient = np.array([m[y, x + 1] - m[y, x - 1], m[y + 1, x] - m[y - 1, x]]) / 2
    dxx = (m[y, x + 2] - 2 * m[y, x] + m[y, x - 2]) / 4
    dyy = (m[y + 2, x] - 2 * m[y, x] + m[y - 2, x]) / 4
    dxy = (m[y + 1, x + 1] - m[y - 1, x + 1] - m[y + 1, x - 1] + m[y - 1, x - 1]) / 4
    step = -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient
    return (np.array([x, y]) + step) * 4


def test_quarter_equals_the_official_decoder():
    maps = torch.randn(4, 17, 24, 16, generator=torch.Generator().manual_seed(0))
    maps[0, 0] = -1  # no positive value
    found, scores = decode(maps, SIZE, "quarter")
    for n in range(4):
        for k in range(17):
            np.testing.assert_allclose(found[n, k], hrnet_decode(maps[n, k].numpy()), atol=1e-5)
    torch.testing.assert_close(scores, maps.flatten(-2).amax(-1))


def test_dark_equals_its_formula():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 17, 2, generator=generator) * torch.tensor([32.0, 56.0]) + 16
    maps = encode(points, SIZE, 2.0, "dark")
    maps = maps + 0.01 * torch.rand(maps.shape, generator=generator)
    found, _ = decode(maps, SIZE, "dark", 2.0)
    for k in range(17):
        np.testing.assert_allclose(found[0, k], dark_decode(maps[0, k].numpy(), 2.0), atol=2e-3)


@pytest.mark.parametrize("codec", CODECS)
def test_mirror_of_a_mirrored_crop_is_the_crop(codec):
    points = torch.tensor([[[20.0 + k, 30.0 + 2 * k] for k in range(17)]])
    mirrored = points[:, list(COCO17.mirror)].clone()
    mirrored[..., 0] = SIZE[0] - 1 - mirrored[..., 0]
    back = mirror(encode(mirrored, SIZE, 2.0, codec), COCO17, codec)
    straight = encode(points, SIZE, 2.0, codec)
    error = (back - straight).abs().max().item()
    # x / stride leaves a quarter of a heatmap pixel after HRNet's one-pixel shift; UDP is exact.
    assert error < (1e-5 if codec == "udp" else 0.1)
    unshifted = encode(mirrored, SIZE, 2.0, codec).flip(-1)[:, list(COCO17.mirror)]
    if codec != "udp":
        assert (unshifted - straight).abs().max().item() > 2 * error


def test_a_skeleton_of_14_joints():
    names = tuple(f"joint{i}" for i in range(14))
    skeleton = Skeleton(names, ((0, 1), (2, 3)), ((0, 2),), (0.05,) * 14)
    maps = torch.rand(2, 14, 24, 16)
    back = mirror(mirror(maps, skeleton, "udp"), skeleton, "udp")
    torch.testing.assert_close(back, maps)
    assert decode(maps, SIZE)[0].shape == (2, 14, 2)
    with pytest.raises(ValueError, match="sigmas"):
        Skeleton(names, (), (), (0.05,) * 13)


def test_unknown_codec_is_refused():
    with pytest.raises(ConfigError, match="quarter, dark, udp"):
        encode(torch.zeros(1, 1, 2), SIZE, 2.0, "half")
