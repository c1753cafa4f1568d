"""Boxes and affine maps, against cv2 and against their own definitions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite.pose import geometry

numbers = st.floats(-200, 400, width=32)
lengths = st.floats(4, 300, width=32)
boxes = st.tuples(numbers, numbers, lengths, lengths).map(lambda b: torch.tensor([b]))


def test_iou_of_known_boxes():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    b = torch.tensor([[5.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 5, 5], [0, 0, 0, 0]])
    expected = torch.tensor([[1 / 3, 1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(geometry.iou(a, b), expected)


@settings(deadline=None, max_examples=50)
@given(boxes, boxes)
def test_union_covers_both_and_no_more(a, b):
    both = geometry.corners(geometry.union(a, b))
    a, b = geometry.corners(a), geometry.corners(b)
    torch.testing.assert_close(both[:, :2], torch.minimum(a, b)[:, :2])
    torch.testing.assert_close(both[:, 2:], torch.maximum(a, b)[:, 2:], atol=1e-3, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(boxes, st.sampled_from([0.75, 1.0, 0.5]))
def test_padded_box_has_the_aspect_and_covers_the_box(box, aspect):
    grown = geometry.pad(box, aspect)
    assert torch.allclose(grown[:, 2] / grown[:, 3], torch.tensor(aspect), rtol=1e-4)
    torch.testing.assert_close(geometry.center(grown), geometry.center(box), atol=1e-3, rtol=1e-4)
    assert (grown[:, 2:] >= box[:, 2:] * 1.25 * (1 - 1e-5)).all()


@settings(deadline=None, max_examples=50)
@given(boxes, st.floats(-90, 90), st.integers(0, 2**31))
def test_maps_invert(box, angle, seed):
    points = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(seed)) * 300
    matrix = geometry.crop_matrix(geometry.pad(box), (96, 128), torch.tensor([angle]))
    there = geometry.apply(matrix, points)
    back = geometry.apply(geometry.invert(matrix), there)
    torch.testing.assert_close(back, points, atol=0.05, rtol=1e-3)


def test_crop_matrix_is_hrnets():
    """HRNet: the box's centre lands on half the crop's size, its width on the crop's width."""
    matrix = geometry.crop_matrix(torch.tensor([[10.0, 20, 60, 80]]), (192, 256))
    points = torch.tensor([[[40.0, 60.0], [10, 20], [70, 100]]])
    expected = torch.tensor([[[96.0, 128.0], [0, 0], [192, 256]]])
    torch.testing.assert_close(geometry.apply(matrix, points), expected, atol=1e-3, rtol=0)


def test_positive_rotation_is_clockwise_on_the_screen():
    box = torch.tensor([[0.0, 0, 96, 96]])
    matrix = geometry.crop_matrix(box, (96, 96), torch.tensor([90.0]))
    right_of_centre = geometry.apply(matrix, torch.tensor([[[68.0, 48.0]]]))
    torch.testing.assert_close(right_of_centre, torch.tensor([[[48.0, 68.0]]]), atol=1e-3, rtol=0)


def test_maps_keep_their_precision_under_autocast():
    box, points = torch.tensor([[1801.0, 933, 57, 71]]), torch.tensor([[[1820.3, 977.7]]])
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            matrix = geometry.crop_matrix(geometry.pad(box), (192, 256), torch.tensor([20.0]))
            found.append((matrix, geometry.apply(matrix, points),
                          geometry.apply(geometry.invert(matrix), points)))
    assert all(torch.equal(plain, cast) for plain, cast in zip(*found, strict=True))


def test_constants_are_made_once_and_serve_training_too():
    with torch.inference_mode():
        made = geometry.constant((1.0, 2.5), torch.device("cpu"))
    assert made is geometry.constant((1.0, 2.5), torch.device("cpu")) and not made.is_inference()
