"""Context crops: the window shows what the matrix says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hintpose_lite.data.crops import CONTEXT, View, build_crops
from hintpose_lite.errors import RunError
from hintpose_lite.pose.geometry import apply, pad


def blob(height, width, x, y):
    yy, xx = np.mgrid[:height, :width]
    values = 255 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 12.0**2))
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


def centre_of(window):
    values = window[..., 0].astype(float)
    yy, xx = np.mgrid[:values.shape[0], :values.shape[1]]
    return np.array([(xx * values).sum(), (yy * values).sum()]) / values.sum()


def test_a_shrunken_window_shows_a_blob_where_its_matrix_says():
    picture = blob(480, 640, 300.0, 200.0)
    view = View.around((150, 60, 310, 290), (640, 480), 128)
    expected = apply(torch.from_numpy(view.matrix())[None], torch.tensor([[[300.0, 200.0]]]))
    found = centre_of(view.cut(picture))
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=0.1)
    assert view.cut(picture).shape == (128, 128, 3)
    half = centre_of(view.cut(picture, stride=2))
    np.testing.assert_allclose(half, (found + 0.5) / 2 - 0.5, atol=0.1)


def test_small_regions_are_not_enlarged_and_small_pictures_kept_whole():
    assert View.around((100, 100, 20, 40), (640, 480), 128).side == 128
    picture = blob(90, 100, 40, 40)
    view = View.around((30, 30, 20, 20), (100, 90), 128)
    np.testing.assert_array_equal(view.cut(picture)[:90, :100], picture)
    assert not view.cut(picture)[90:].any()


def test_window_outside_the_picture_is_black():
    picture = np.full((200, 200, 3), 200, np.uint8)
    window = View.around((-100, -100, 150, 150), (200, 200), 150).cut(picture)
    assert not window[:99, :].any() and (window[101:, 101:] == 200).all()


def test_people_of_a_small_picture_share_its_window(crowd):
    crops = build_crops(crowd, 128, workers=1, progress=False)
    assert len(crops) == len(crowd)
    assert len(crops.windows) == len(np.unique(crowd.image_ids))
    row = len(crowd) - 1
    window = crops.windows[crops.window_of[row]].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(window[:96, :96], crowd.read(row))
    mask = np.kron(crops.masks[row].numpy(), np.ones((2, 2), bool))[:96, :96]
    assert (mask == crowd[row].mask()).mean() > 0.97
    shared = crops.shared[row]
    box = crops.boxes[row]
    assert (shared[:2] <= box[:2]).all() and (shared[2:] >= box[2:] - 1e-3).all()


def test_windows_of_large_pictures_follow_the_people(crowd):
    crops = build_crops(crowd, 64, workers=2, progress=False)
    assert crops.windows.shape[2:] == (64, 64)
    visible = crops.keypoints[..., 2] > 0
    places = apply(crops.matrices, crops.keypoints[..., :2])[visible]
    assert ((places > -1) & (places < 64)).all(), "every joint of a person is in the window"


@pytest.mark.parametrize("picture, box, size", [
    ((1925, 1443), (106, 507, 1040, 533), 256), ((1717, 1526), (27, 127, 405, 152), 384),
    ((1604, 1649), (9, 21, 432, 423), 192)])
def test_rounding_at_the_edge_of_a_picture(picture, box, size):
    for spread in (0, 1):  # as the predictor and as training has it
        regions = pad(pad(torch.tensor([box]).float()), aspect=1.0,
                      padding=CONTEXT if spread else 1.02)
        window = View.around(regions[0].numpy(), picture[::-1], size).cut(
            np.full((*picture, 3), 255, np.uint8))
        assert window.max() == 255


def test_windows_that_do_not_fit_into_memory_are_named(crowd, monkeypatch):
    def full(shape, *_):
        raise MemoryError
    monkeypatch.setattr(np, "zeros", full)
    monkeypatch.setattr("hintpose_lite.data.crops.Layout", lambda *_: SimpleNamespace(
        window_count=9))
    with pytest.raises(RunError, match="need 27000 GB.*--cache"):
        build_crops(crowd, 1_000_000)
