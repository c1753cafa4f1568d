"""Two answers that are one person: left out, or asked for again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.evaluation import person_cue
from hintpose_lite.evaluation.evaluate import evaluated_people
from hintpose_lite.evaluation.judge import judge
from hintpose_lite.photos.duplicates import against, distinct, second_cues, told_apart
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import union
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.weights.weights import load_model

BODY = np.random.default_rng(0).uniform(0, 100, (17, 2)).astype(np.float32)


def pose(x: float, score: float, cue: Cue, unsure: int = 0) -> SimpleNamespace:
    """A body moved to the right; so many of its joints are too unsure to count."""
    scores = np.full(17, score, np.float32)
    scores[:unsure] = 0.2
    points = BODY + np.array([x, 0], np.float32)
    return SimpleNamespace(keypoints=points, scores=scores, score=score, cue=cue)


def test_points_of_different_people_speak_against_each_other():
    several = Cue.points([(1, 2), (3, 4)], [1, -1])
    a, box, b = told_apart([several, Cue.box((0, 0, 5, 5)), Cue.point(7, 8)], [2.0] * 3)
    assert a.xy.tolist() == [[1, 2], [3, 4], [7, 8]] and a.labels.tolist() == [1, -1, -1]
    assert b.xy.tolist() == [[7, 8], [1, 2]] and b.labels.tolist() == [1, -1]
    assert box.kind == "box" and told_apart([], []) == []
    alone = [Cue.point(1, 1), Cue.mask(np.eye(3)), Cue.none()]
    assert told_apart(alone, [2.0] * 3) == alone  # nobody else's points, so nothing changes


def test_of_two_equal_answers_the_less_sure_one_is_asked_again():
    left, right, far = Cue.point(10, 10), Cue.point(20, 20), Cue.point(300, 10)
    poses = [pose(0, 0.5, left), pose(1, 0.8, right, unsure=3), pose(300, 0.4, far)]
    again = second_cues(poses, [0.5] * 3, COCO17)
    assert list(again) == [0]
    assert again[0].labels.tolist() == [1] + [-1] * 14  # joints at 0.2 do not count
    assert np.array_equal(again[0].xy, np.vstack([left.xy, poses[1].keypoints[3:]]))
    assert second_cues([poses[0], poses[2]], [0.5] * 2, COCO17) == {}
    assert second_cues(poses[:1], [0.5], COCO17) == {}


def test_three_equal_answers_and_cues_that_take_no_points():
    point, mask = Cue.point(1, 1), Cue.mask(np.eye(3))
    three = [pose(0, 0.9, point), pose(0, 0.8, mask), pose(0, 0.7, point)]
    again = second_cues(three, [0.5] * 3, COCO17)
    assert list(again) == [2] and len(again[2].xy) == 1 + 17  # against the one that is believed
    assert len(distinct(three, COCO17)) == 1 and distinct(three, COCO17)[0] is three[0]


def test_only_surer_answers_speak_against_one():
    cue = Cue.point(-50, 1)
    near = 0.14 * np.ptp(BODY, axis=0).max()  # once is the same person, twice is not
    chain = [pose(0, 0.9, cue), pose(near, 0.8, cue), pose(2 * near, 0.7, cue)]
    again = second_cues(chain, [0.5] * 3, COCO17)
    assert list(again) == [1], "the ends of the chain are two people"
    assert np.array_equal(again[1].xy[1:], chain[0].keypoints)


def test_points_that_would_wipe_out_the_cue_are_left_out():
    cue = Cue.points([(1, 1), (2, 2)], [1, -1])
    more = against(cue, np.array([[3, 3], [1, 2], [2, 2]]), reach=1.0)
    assert more.labels.tolist() == [1, -1, -1, -1] and more.xy[2:].tolist() == [[3, 3], [2, 2]]
    same = told_apart([Cue.point(5, 5), Cue.point(5, 6)], [4.0, 4.0])
    assert [one.labels.tolist() for one in same] == [[1], [1]]


@pytest.fixture(scope="module")
def shipped():
    return PoseEstimator(load_model("crowd-tiny"), flip=False, hops=1)


def test_two_clicks_find_both_people_more_often_when_they_are_told_apart(tmp_path, shipped):
    people = make_crowd(tmp_path / "scenes", 24, seed=7_000_000, workers=1)
    boxes = torch.as_tensor(people.boxes)
    rows = [row for row in evaluated_people(people, "shared", "joint")
            if people.partner[people.partner[row]] == row]
    firsts = [row for row in rows if row < people.partner[row]]
    found = {}
    for apart in (False, True):
        points, scores = {}, {}
        for row in firsts:
            pair = [row, int(people.partner[row])]
            box = union(boxes[pair[:1]], boxes[pair[1:]])
            cues = [person_cue(people, person, "joint") for person in pair]
            poses = shipped(people.read(row), torch.cat([box, box]), cues, apart=apart)
            assert [pose.cue for pose in poses] == cues  # as given, whatever was asked
            points |= zip(pair, [pose.keypoints for pose in poses], strict=True)
            scores |= zip(pair, [pose.score for pose in poses], strict=True)
        verdict = judge(people, np.array(rows), torch.tensor(np.stack([points[r] for r in rows])),
                        torch.tensor([scores[r] for r in rows])).figures()
        found[apart] = verdict["both"]
    assert len(firsts) > 20 and found[True] > found[False] + 0.08


def test_one_person_is_asked_as_ever_and_so_is_a_source(tmp_path, shipped):
    people = make_crowd(tmp_path / "scenes", 2, seed=7_000_001, workers=1)
    picture, box, cue = people.read(0), people.boxes[:1], [person_cue(people, 0, "joint")]
    (one,), (same,) = (shipped(picture, box, cue, apart=apart) for apart in (False, True))
    assert np.array_equal(one.keypoints, same.keypoints) and same.cue is cue[0]
    assert shipped(picture, [], [], apart=True) == []
    assert len(shipped(picture, box, apart=True)) == 1
    twice = [cue[0], Cue.points(cue[0].xy + 0.5)]  # a source may name one person twice
    named = PoseEstimator(shipped.model, source=lambda *_: [twice], flip=False)
    assert len(named(picture, box, apart=True)) == len(named(picture, box)) == 1


def test_cues_without_points_and_cues_without_boxes(tmp_path, shipped):
    people = make_crowd(tmp_path / "scenes", 2, seed=7_000_001, workers=1)
    picture, box = people.read(0), people.boxes[[0, 0]]
    for cues in ([None, None], [Cue.box(box[0])] * 2, [Cue.points([(9, 9)], [-1]), None]):
        plain, apart = (shipped(picture, box, cues, apart=apart) for apart in (False, True))
        assert all(np.array_equal(a.keypoints, b.keypoints)
                   for a, b in zip(plain, apart, strict=True))
    looking = PoseEstimator(shipped.model, flip=False, looks=1)
    with pytest.warns(UserWarning, match="looked for"):
        poses = looking(picture, cues=[person_cue(people, 0, "joint")] * 2, apart=True)
    assert len(poses) == 2
