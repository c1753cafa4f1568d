"""Drawings, by their pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hintpose_lite.cues import Cue
from hintpose_lite.errors import DataError
from hintpose_lite.nets.hintpose import HintPose
from hintpose_lite.show.draw import BLUE, GREEN, GREY, ORANGE, cue_figure, draw_poses, overlay
from hintpose_lite.skeleton import Skeleton

# A square: left side, right side, and a line across the top that joins both.
SQUARE = Skeleton(("l1", "l2", "r1", "r2"), ((0, 2), (1, 3)), ((0, 1), (2, 3), (0, 2)), (.1,) * 4)
CORNERS = np.array([(80.0, 20.0), (80.0, 80.0), (20.0, 20.0), (20.0, 80.0)])
GREEN_FIELD = np.full((100, 100, 3), (40, 120, 40), np.uint8)


def pose(scores=(1, 1, 1, 1), keypoints=CORNERS, cue=None, box=(0, 0, 100, 240)):
    return SimpleNamespace(keypoints=keypoints, scores=np.array(scores, float), box=np.array(box),
                           cue=cue)


def near(pixels, colour, tolerance=12) -> np.ndarray:
    return (np.abs(np.asarray(pixels, int) - colour) <= tolerance).all(-1)


def test_left_right_and_centre_differ_in_hue_and_the_right_is_dashed():
    picture = GREEN_FIELD.copy()
    drawn = draw_poses(picture, [pose()], SQUARE)
    assert np.array_equal(picture, GREEN_FIELD) and drawn.dtype == np.uint8
    between = slice(26, 75)
    assert near(drawn[between, 80], BLUE).all()
    assert near(drawn[20, between], GREY).all()
    dashed = near(drawn[between, 20], ORANGE)
    assert 0.3 < dashed.mean() < 0.9 and near(drawn[between, 20], GREEN_FIELD[0, 0], 30).any()
    assert (np.diff(dashed.astype(int)) == 1).sum() >= 2
    assert near(drawn[50, 50], GREEN_FIELD[0, 0], 0)


def test_less_sure_is_fainter_and_low_joints_are_hollow():
    faint = draw_poses(GREEN_FIELD, [pose((0.3, 0.3, 1, 1))], SQUARE)
    sure = draw_poses(GREEN_FIELD, [pose()], SQUARE)
    assert not near(faint[50, 80], GREEN_FIELD[0, 0], 20)

    def strength(drawn):
        return abs(drawn[50, 80].astype(int) - GREEN_FIELD[0, 0]).sum()

    assert strength(faint) < 0.7 * strength(sure)
    alone = Skeleton(SQUARE.names, SQUARE.swaps, (), SQUARE.sigmas)
    hollow = draw_poses(GREEN_FIELD, [pose((0.2, 1, 1, 1))], alone)
    assert near(hollow[20, 80], GREEN_FIELD[0, 0], 20) and near(hollow[80, 80], BLUE)
    assert not near(hollow[14:27, 74:87], GREEN_FIELD[0, 0], 20).all()


def test_lines_grow_with_the_person():
    def width(size):
        drawn = draw_poses(GREEN_FIELD, [pose(box=(0, 0, size, size))], SQUARE)
        return near(drawn[50], BLUE, 60).sum()

    assert 1 <= width(40) < width(240) < width(480)


def test_cues_are_marked():
    cue = Cue.points([(50, 50), (50, 70)], [1, -1])
    drawn = draw_poses(GREEN_FIELD, [pose(cue=cue)], SQUARE)
    assert near(drawn[50, 50], (0, 0, 0)) and near(drawn[70, 50], (0, 0, 0))
    assert near(drawn[50, 57], (0, 0, 0), 60) and not near(drawn[70, 57], (0, 0, 0), 60)
    plain = draw_poses(GREEN_FIELD, [pose(cue=Cue.box((1, 1, 5, 5)))], SQUARE)
    assert np.array_equal(plain, draw_poses(GREEN_FIELD, [pose()], SQUARE))


@settings(deadline=None, max_examples=12)
@given(arrays(float, (4, 2), elements=st.floats(-1e4, 1e4)), st.floats(0.01, 1000))
def test_poses_anywhere_leave_the_size_alone(keypoints, size):
    drawn = draw_poses(GREEN_FIELD[:30, :20], [pose(keypoints=keypoints, box=(0, 0, size, 1))],
                       SQUARE)
    assert drawn.shape == (30, 20, 3)


def test_nobody_to_draw():
    assert np.array_equal(draw_poses(GREEN_FIELD, [], SQUARE), GREEN_FIELD)


def test_overlays_show_sign_and_strength():
    values = np.zeros((100, 100))
    values[:, :30], values[:, 70:] = 1, -1
    drawn = overlay(GREEN_FIELD, values, GREEN, strength=1.0)
    assert near(drawn[:, :30], GREEN, 0).all() and near(drawn[:, 70:], 255 - np.array(GREEN)).all()
    assert np.array_equal(drawn[:, 30:70], GREEN_FIELD[:, 30:70])
    small = overlay(GREEN_FIELD, np.full((5, 4), 0.5), (40, 220, 40), strength=1.0)
    assert near(small, (40, 170, 40), 1).all()
    assert np.array_equal(overlay(GREEN_FIELD, values * 9), overlay(GREEN_FIELD, values))


def test_the_cue_figure_is_labelled_and_has_a_panel_for_each_hop(crowd):
    torch.manual_seed(0)
    small = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1, input_size=(32, 64))
    model, twin = HintPose(hops=2, **small).eval(), HintPose(cue=False, hops=1, **small).eval()
    row = int(np.flatnonzero(crowd.partner >= 0)[0])
    figure = cue_figure(model, crowd, row, twin)
    assert len(figure.axes) == 9 and [len(axis.images) for axis in figure.axes] == [1] * 8 + [0]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["cue on person A",
                                                               "cue on person B", "no cue"]
    assert figure.axes[1].get_title() == "hop 1"
    assert "with cue on person B it finds " in figure.get_label()
    first, second = (figure.axes[i].images[0].get_array() for i in (0, 3))
    assert not np.array_equal(first, second), "another cue, another picture"
    figure.canvas.draw()
    crowd_of_one = SimpleNamespace(partner=np.array([-1]))
    with pytest.raises(DataError, match="nobody"):
        cue_figure(model, crowd_of_one, 0)
