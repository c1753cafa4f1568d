"""The lab of the kinds of cue: its scenes, its maps, who wins in it, and its controls."""

import numpy as np
import pytest
import torch

from hintpose_lite.cues.cue import Cue
from hintpose_lite.evaluation.predict import cut_crops, prepare
from hintpose_lite.labs.cue_kinds_lab import (
    HIDDEN,
    KINDS,
    CueKindsLab,
    cue_map,
    hidden_scene,
    kind_cue,
    map_picture,
    panels,
)
from hintpose_lite.labs.scene import cue_frame, place_in_crop


@pytest.fixture(scope="module")
def scene():
    return hidden_scene()


@pytest.mark.parametrize("number", range(len(HIDDEN)))
def test_a_joint_of_a_is_hidden_behind_b(number):
    scene = hidden_scene(number)
    x, y = (round(side) for side in scene.hidden)
    at = (scene.people[0, :, :2] == torch.tensor(scene.hidden)).all(1)
    assert scene.people[0, at, 2].tolist() == [1]
    assert not scene.masks[0, y, x] and scene.masks[1, y, x]
    for (left, top, width, height), mask in zip(scene.own_boxes.tolist(), scene.masks):
        rows, columns = np.nonzero(mask)
        assert (columns.min(), columns.max() + 1) == (left, left + width)
        assert (rows.min(), rows.max() + 1) == (top, top + height)


def test_the_map_is_what_the_network_is_given(model, scene):
    crops = cut_crops([scene.picture], scene.boxes, model.spec)
    for kind in KINDS:
        cue = kind_cue(scene, kind, scene.hidden, scene.middle(1))
        given = prepare(model.spec, *crops, [cue])[1][0, 0]
        values = cue_map(scene, cue, model.spec)
        torch.testing.assert_close(values, given)
        assert (values.max() > 0.9) == (kind != "none")
        assert (values.min() < -0.9) == (kind == "points")


def test_a_map_is_drawn_blue_and_orange_over_grey(scene):
    values = torch.zeros(64, 48)
    values[10, 10], values[50, 40] = 1, -1
    picture = map_picture(scene, values).astype(int)
    assert picture.shape == (192, 144, 3)
    plus, minus, rest = picture[31, 31], picture[151, 121], picture[100, 20]
    assert plus[2] > plus[0] + 50 and minus[0] > minus[2] + 50 and np.ptp(rest) == 0


def test_who_wins_depends_on_the_kind_of_cue(model, scene):
    def lead(kind, minus=(0, 0)):
        near = cue_frame(model, scene, kind_cue(scene, kind, scene.hidden, minus)).near
        return near[0] - near[1]

    assert lead("any-joint") < -0.2  # B covers the joint
    assert all(lead(kind) > 0.2 for kind in ("box", "mask", "pose"))
    for joint, (x, y, v) in enumerate(scene.people[1].tolist()):
        if v and joint not in (3, 4):  # the ears are neither the face nor trunk and legs
            on_face = 1 if joint < 3 else -1
            assert on_face * lead("points", (x, y)) > 0.2, joint


def test_the_lab_drags_either_point(model, scene):
    lab = CueKindsLab(model, scene)
    start = place_in_crop(scene, lab.size, scene.hidden)
    assert lab.pad.place == pytest.approx(start, abs=0.01) and "person B" in lab.status.value
    lab.set(kind="mask")
    assert "cue: mask" in lab.status.value and "person A" in lab.pad.alt
    assert lab.frame.place is None
    map_of_mask = lab.map.value
    lab.pad._receive(None, {"x": 0.3, "y": 0.4}, [])
    assert lab.frame.place == pytest.approx((0.3, 0.4), abs=0.01)
    assert lab.controls.kind.value == "any-joint" and lab.map.value != map_of_mask
    lab.set(drag="minus")
    lab.move(0.6, 0.7)
    assert lab.controls.kind.value == "points" and lab.pad.place == [0.6, 0.7]
    assert (lab.controls.plus_across.value, lab.controls.minus_down.value) == (0.3, 0.7)
    lab.set(drag="plus")
    lab.move(0.5, 0.5)
    assert lab.controls.kind.value == "points" and lab.pad.place == [0.5, 0.5]
    assert not lab.errors and repr(lab) == "CueKindsLab()"


def test_unknown_kinds_are_refused(scene):
    with pytest.raises(KeyError):
        kind_cue(scene, "whistle", (0, 0), (0, 0))
    assert kind_cue(scene, "none", (0, 0), (0, 0)).kind == Cue.none().kind


def test_panels_are_named():
    figure = panels([np.zeros((4, 3, 3), np.uint8)] * 3, ["one", "two", "three"], 2, "three panels")
    assert figure.get_label() == "three panels"
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", ""]
    assert not any(axis.get_frame_on() for axis in figure.axes)
