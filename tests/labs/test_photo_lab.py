"""The lab for photographs: its stand-in, boxes, poses, controls, and what it refuses."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite.cues.cue import Cue
from hintpose_lite.errors import FetchError
from hintpose_lite.labs.photo_lab import (
    MOST,
    SHOWN,
    PhotoLab,
    box_around,
    clicks_cue,
    drawn_photo,
    photo_frame,
)
from hintpose_lite.labs.scene import CueLab
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos import gallery
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.oks import oks
from hintpose_lite.pose.skeleton import COCO17


@pytest.fixture(scope="module")
def photo():
    return drawn_photo()


@pytest.fixture
def lab():
    return PhotoLab()


def put(lab, xy, who="another person"):
    """A click at a place in picture pixels."""
    lab.controls.who.value = who
    width, height = lab.picture.shape[1::-1]
    lab.put((xy[0] + 0.5) / width, (xy[1] + 0.5) / height)


def whose(photo, pose):
    points = torch.as_tensor(pose.keypoints)[None]
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


def test_clicks_become_a_cue_for_each_person():
    clicks = [(1, 2, 1, 0), (3, 4, 1, 1), (5, 6, -1, 1)]
    assert clicks_cue(clicks, 0).xy.tolist() == [[1, 2]]
    assert clicks_cue(clicks, 1).xy.tolist() == [[3, 4], [5, 6]]
    assert clicks_cue(clicks, 1).labels.tolist() == [1, -1]
    assert clicks_cue(clicks, 2).kind == clicks_cue([]).kind == "none"


def test_the_answers_are_the_estimators(model, photo):
    cues = [Cue.point(*photo.middle(person)) for person in (0, 1)]
    boxes, estimator = photo.pairs[[0, 0]], PoseEstimator(model)
    frame = photo_frame(estimator, photo.picture, cues, boxes)
    poses = estimator(photo.picture, boxes, cues, flip=False, apart=True)
    for found, pose in zip(frame.poses, poses, strict=True):
        np.testing.assert_array_equal(found.keypoints, pose.keypoints)
        assert f"score {pose.score:.2f}" in frame.said
    assert [whose(photo, pose) for pose in frame.poses] == [0, 1]
    assert frame.picture.dtype == np.uint8 and frame.picture.shape == (SHOWN[1], SHOWN[1], 3)


def test_a_network_without_a_cue_says_so(photo):
    blind = HintPose(width=4, stem=8, modules=(1, 1, 1), blocks=1, cue=False, hops=1).eval()
    frame = photo_frame(PoseEstimator(blind), photo.picture, [Cue.point(60, 250)], photo.pairs[:1])
    assert "takes no cue" in frame.said


def test_two_clicks_are_two_people_and_give_two_poses(lab, photo):
    assert not lab.clicks and "clicked on: 0" in lab.status.value and repr(lab) == "PhotoLab()"
    for person in (0, 1, 3):
        before = lab.pad.frame
        put(lab, photo.middle(person))
        assert lab.pad.frame != before
    assert [whose(photo, pose) for pose in lab.frame.poses] == [0, 1, 3] and not lab.errors
    assert "clicked on: 3" in lab.status.value and lab.frame.said in lab.pad.alt
    boxes = np.stack([pose.box for pose in lab.frame.poses])
    np.testing.assert_array_equal(boxes, photo.pairs[[0, 0, 1]])
    assert lab.pad.place == pytest.approx((np.array(photo.middle(3)) + 0.5) / 480)


def test_further_clicks_concern_the_same_person_and_undo_takes_them_back(lab, photo):
    put(lab, photo.middle(0), "not this person")  # a minus alone would name nobody
    assert [click[2:] for click in lab.clicks] == [(1, 0)]
    put(lab, photo.middle(1), "not this person")
    put(lab, photo.people[0, 16, :2].tolist(), "the same person")
    assert [click[2:] for click in lab.clicks] == [(1, 0), (-1, 0), (1, 0)]
    assert len(lab.frame.poses) == 1 and whose(photo, lab.frame.poses[0]) == 0
    put(lab, photo.middle(1))
    assert [whose(photo, pose) for pose in lab.frame.poses] == [0, 1]
    for left in (3, 2, 1, 0, 0):
        lab.buttons["undo"].click()
        assert len(lab.clicks) == left and not lab.errors


def test_keys_move_the_newest_click_and_clicks_are_new(lab):
    lab.buttons["add"].click()
    assert lab.clicks == [(239.5, 239.5, 1, 0)] and lab.pad.place == [0.5, 0.5]
    lab.pad._receive(None, {"x": 0.52, "y": 0.5, "key": True}, [])
    assert len(lab.clicks) == 1 and lab.clicks[0][0] == pytest.approx(0.52 * 480 - 0.5)
    assert lab.pad.place == [0.52, 0.5]
    lab.pad._receive(None, {"x": 0.3, "y": 0.5, "key": False}, [])
    assert [click[3] for click in lab.clicks] == [0, 1] and not lab.errors
    lab.buttons["undo"].click(), lab.buttons["undo"].click()
    lab.pad._receive(None, {"x": 0.6, "y": 0.5, "key": True}, [])
    assert not lab.clicks and not lab.errors, "there is no click to be moved"


def test_a_click_away_from_the_known_boxes_has_one_looked_for(lab, photo):
    lab.boxes = ()
    put(lab, photo.middle(3))
    pose, = lab.frame.poses
    assert pose.box[2:].prod() < 480**2 / 3 and whose(photo, pose) == 3 and not lab.errors


def test_a_photograph_is_shrunk_and_goes_to_the_other_network(lab, photo):
    large = Image.fromarray(photo.picture).resize((1600, 1200))
    file = io.BytesIO()
    large.save(file, "PNG")
    lab.upload.value = ({"content": memoryview(file.getvalue()), "name": "a.png", "size": 9,
                         "type": "image/png", "last_modified": datetime.now(UTC)},)
    assert lab.picture.shape[:2] == (960, MOST[0]) and "Your" in lab.credit.value
    assert lab.estimator.model.spec.input_size == (128, 160) and not len(lab.boxes)
    put(lab, (200, 600))
    assert len(lab.frame.poses) == 1 and not lab.errors and lab.frame.picture.shape == (450, 600, 3)
    lab.camera._handle_custom_msg({}, [file.getvalue()])
    assert not lab.clicks


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_file_that_is_no_picture_leaves_everything_as_it_is(lab, content):
    before = lab.picture
    lab.use(io.BytesIO(content))
    assert lab.picture is before and "stays as it is" in lab.status.value and not lab.errors


def test_the_gallery_is_fetched_by_a_click_alone(lab, photo, monkeypatch):
    asked = []

    def fetch(id):
        asked.append(id)
        if id == 448076:
            raise FetchError("no network")
        return photo.picture

    monkeypatch.setattr(gallery, "fetch", fetch)
    assert len(lab.choice.options) == 10 and not asked
    lab.choice.value = 388056
    assert not asked and lab.buttons["fetch"].description == gallery.offer(388056)
    lab.buttons["fetch"].click()
    assert asked == [388056] and lab.credit.value == gallery.credit(388056) and not lab.errors
    lab.choice.value = 448076
    lab.buttons["fetch"].click()
    assert "no network" in lab.status.value and lab.credit.value == gallery.credit(388056)


def test_dragging_is_no_click(lab, model, photo):
    assert not lab.pad.drags and CueLab(model, photo).pad.drags
    assert 'model.get("drags")' in lab.pad._esm
