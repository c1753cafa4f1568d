"""The lab of one's own picture: its stand-in, its boxes, its answers, and its controls."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite.cues.cue import Cue
from hintpose_lite.labs import photo_lab
from hintpose_lite.labs.photo_lab import SIDE, PhotoLab, box_around, drawn_photo, photo_frame
from hintpose_lite.labs.scene import CueLab
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos.draw import GREY
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.oks import oks
from hintpose_lite.pose.skeleton import COCO17


@pytest.fixture(scope="module")
def photo():
    return drawn_photo()


@pytest.fixture
def lab(model, photo):
    return PhotoLab(model, photo.picture, photo.pairs)


def whose(photo, found):
    points = torch.as_tensor(found.keypoints)[None]
    return int(oks(points, photo.people, photo.areas, COCO17.sigmas).argmax())


def test_the_stand_in_has_two_pairs_that_share_a_box_each(photo):
    assert photo.picture.shape == (480, 480, 3) and photo.picture.dtype == np.uint8
    assert photo.people.shape == (4, 17, 3) and photo.masks.shape == (4, 480, 480)
    for person, mask in enumerate(photo.masks):
        y, x = np.argwhere(mask).T
        left, top, width, height = photo.own_boxes[person].tolist()
        assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (left, left + width, top,
                                                                top + height)
        own, pair = photo.own_boxes[person], photo.pairs[person // 2]
        assert (pair[:2] <= own[:2]).all() and (own[:2] + own[2:] <= pair[:2] + pair[2:]).all()
        assert mask[tuple(round(side) for side in photo.middle(person)[::-1])]
    assert photo.box.tolist() == photo.pairs[0].tolist()


@pytest.mark.parametrize("cue, expected", [
    (Cue.point(15, 15), [10, 10, 20, 20]), (Cue.point(60, 60), [0, 0, 100, 90]),
    (Cue.point(150, 60), [0, 0, 200, 100]), (Cue.none(), [0, 0, 200, 100]),
    (Cue.points([(15, 15)], [-1]), [0, 0, 200, 100]),  # a minus alone names nobody
    (Cue.points([(15, 15), (80, 80)], [1, -1]), [10, 10, 20, 20])])
def test_the_box_is_the_smallest_one_around_the_plus(cue, expected):
    boxes = [(0, 0, 100, 90), (10, 10, 20, 20), (11, 40, 3, 3)]
    assert box_around(cue, boxes, (200, 100)).tolist() == [expected]
    assert box_around(cue, [], (200, 100)).tolist() == [[0, 0, 200, 100]]


def test_the_answer_is_the_estimators(model, photo):
    a, b = photo.middle(0), photo.middle(1)
    frame = photo_frame(model, photo.picture, photo.pairs, [(*a, 1), (*b, -1)])
    pose, = PoseEstimator(model)(photo.picture, photo.pairs[:1], [Cue.points([a, b], [1, -1])])
    np.testing.assert_allclose(frame.keypoints, pose.keypoints, atol=1e-3)
    np.testing.assert_allclose(frame.scores, pose.scores, atol=1e-5)
    assert frame.score == pytest.approx(pose.score) and f"score {pose.score:.2f}" in frame.said
    assert f"+ ({a[0]:.0f}, {a[1]:.0f}), − ({b[0]:.0f}, {b[1]:.0f})" in frame.said
    assert frame.box.tolist() == photo.pairs[:1].tolist() and frame.heat.dtype == np.uint8
    pose, = PoseEstimator(model)(photo.picture)  # with joints that are too low to count
    assert photo_frame(model, photo.picture).score == pytest.approx(pose.score)


def test_a_large_picture_is_shown_small_and_answered_in_its_own_pixels(model, photo, monkeypatch):
    large = np.asarray(Image.fromarray(photo.picture).resize((1440, 1440), Image.Resampling.BOX))
    plus = [(3 * x + 1, 3 * y + 1, 1) for x, y in [photo.middle(1)]]
    frame = photo_frame(model, large, 3 * photo.pairs, plus)
    small = photo_frame(model, photo.picture, photo.pairs, [(*photo.middle(1), 1)])
    assert np.median(np.abs(frame.keypoints / 3 - small.keypoints)) < 2
    assert frame.picture.shape == (SIDE, SIDE, 3) and frame.box.tolist() == [[78, 435, 543, 912]]

    drawn = {}
    monkeypatch.setattr(photo_lab, "draw_cue", lambda on, cue: drawn.update(cue=cue) or on)
    monkeypatch.setattr(photo_lab, "draw_poses", lambda on, some: drawn.update(pose=some[0]) or on)
    again = photo_frame(model, large, 3 * photo.pairs, plus)
    assert (again.picture[[145, 300, 449], [100, 26, 100]] == GREY).all()  # the edges of the box
    np.testing.assert_allclose(drawn["cue"].xy[0], photo.middle(1), atol=1e-3)
    np.testing.assert_allclose(drawn["pose"].keypoints, (again.keypoints - 1) / 3, atol=1e-3)
    monkeypatch.undo()
    wide = PhotoLab(model, np.zeros((50, 100, 3), np.uint8))
    wide.click(80, 10)
    assert wide.frame.picture.shape == (SIDE // 2, SIDE, 3) and not wide.errors
    assert wide.clicks[0] == pytest.approx((80, 10, 1))
    assert wide.controls.box.value == "looked for"  # no boxes are known


def test_a_network_without_a_cue_says_so(photo):
    blind = HintPose(width=4, stem=8, modules=(1, 1, 1), blocks=1, cue=False, hops=1).eval()
    click = [(*photo.middle(0), 1)]
    assert "takes no cue" in photo_frame(blind, photo.picture, photo.pairs, click).said
    assert "takes no cue" not in photo_frame(blind, photo.picture, photo.pairs).said


def test_clicks_are_put_moved_and_taken_back(lab, photo):
    assert not lab.clicks and "clicks: none" in lab.status.value and repr(lab) == "PhotoLab()"
    for person in (0, 1):
        lab.buttons["clear"].click()
        lab.click(*photo.middle(person))
        assert whose(photo, lab.frame) == person
        np.testing.assert_allclose(lab.clicks[0], [*photo.middle(person), 1], atol=1e-3)
    before = lab.pad.frame
    lab.click(*photo.middle(0), sign=-1)
    assert [sign for *_, sign in lab.clicks] == [1, -1] and lab.pad.frame != before
    assert "− (" in lab.pad.alt and lab.frame.said in lab.pad.alt
    lab.set(across=0.9, down=0.1)  # sliders move the newest, and it keeps its sign
    assert len(lab.clicks) == 2 and lab.clicks[1] == pytest.approx((431.5, 47.5, -1))
    lab.buttons["undo"].click()
    assert len(lab.clicks) == 1 and whose(photo, lab.frame) == 1
    assert lab.controls.across.value == pytest.approx((photo.middle(1)[0] + 0.5) / 480)
    lab.click(*photo.middle(0))
    lab.buttons["clear"].click()
    assert not lab.clicks
    lab.buttons["undo"].click()
    assert not lab.clicks and not lab.errors
    assert lab.frame.box.tolist() == [[0, 0, 480, 480]]


def test_keys_move_the_newest_click_and_clicks_are_new(lab):
    lab.buttons["add"].click()
    assert lab.clicks == [(239.5, 239.5, 1)] and lab.pad.place == [0.5, 0.5]
    lab.pad._receive(None, {"x": 0.52, "y": 0.5, "key": True}, [])
    assert len(lab.clicks) == 1 and lab.clicks[0][0] == pytest.approx(0.52 * 480 - 0.5)
    assert lab.pad.place == [0.52, 0.5]
    lab.controls.sign.value = "minus"
    lab.pad._receive(None, {"x": 0.53, "y": 0.5, "key": False}, [])
    assert [sign for *_, sign in lab.clicks] == [1, -1] and not lab.errors
    lab.buttons["clear"].click()
    assert "no click" not in lab.status.value
    lab.pad._receive(None, {"x": 0.6, "y": 0.5, "key": True}, [])
    assert not lab.clicks and not lab.errors and "no click to be moved" in lab.status.value


def test_a_click_that_the_network_does_not_see_is_told(lab, photo):
    lab.click(*photo.middle(0))
    lab.click(*photo.middle(1), sign=-1)
    assert "outside the box" not in lab.status.value
    lab.click(470, 470, sign=-1)
    assert "outside the box" in lab.status.value


def test_the_whole_picture_can_be_the_box(lab, photo):
    lab.click(*photo.middle(3))
    assert lab.frame.box.tolist() == photo.pairs[1:].tolist()
    lab.controls.box.value = "whole picture"
    assert lab.frame.box.tolist() == [[0, 0, 480, 480]] and len(lab.clicks) == 1
    assert Image.open(io.BytesIO(lab.pad.frame)).size == (480, 480)


def test_a_box_can_be_looked_for(lab, model, photo):
    lab.set(box="looked for")
    assert lab.frame.box.tolist() == [[0, 0, 480, 480]], "nobody is asked for yet"
    lab.click(*photo.middle(3))
    with pytest.warns(UserWarning, match="cue 0"):
        pose, = PoseEstimator(model, looks=3)(photo.picture, cues=[Cue.point(*photo.middle(3))])
    np.testing.assert_allclose(lab.frame.box[0], pose.box, atol=0.5)
    assert pose.box[2:].prod() < 480**2 / 3 and whose(photo, lab.frame) == 3 and not lab.errors
    lab.controls.sign.value = "minus"
    lab.buttons["clear"].click()
    assert lab.controls.sign.value == "plus"
    lab.controls.sign.value = "minus"  # and so nobody is named
    lab.put(0.5, 0.5)
    assert lab.frame.box.tolist() == [[0, 0, 480, 480]] and not lab.errors


def test_dragging_is_no_click(lab, model, photo):
    assert not lab.pad.drags and CueLab(model, photo).pad.drags
    assert 'model.get("drags")' in lab.pad._esm
