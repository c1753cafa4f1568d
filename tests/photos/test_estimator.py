"""The estimator: the data set's answers for single pictures, whatever they come as."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.evaluation import person_cue
from hintpose_lite.errors import ConfigError, DataError
from hintpose_lite.evaluation.evaluate import CUES, evaluate
from hintpose_lite.evaluation.predict import Poses, Predictor
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.photos import estimator as estimator_module
from hintpose_lite.photos.estimator import (
    BATCH,
    Pose,
    PoseEstimator,
    _box_of,
    as_picture,
    calibrate,
)
from hintpose_lite.pose.geometry import center
from hintpose_lite.pose.oks import oks, rescore
from hintpose_lite.pose.skeleton import Skeleton
from hintpose_lite.weights.weights import load_model, save_model

TINY = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1)
USE = dict(input_size=(32, 64), target_sigma=1.2, cue_sigma=4.0)
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOX = (10, 5, 30, 50)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = HintPose(hops=2, **TINY, **USE).eval()
    torch.nn.init.normal_(model.final_layer.weight)
    torch.nn.init.normal_(model.input_refinement.correct.weight)
    torch.nn.init.normal_(model.recurrent_refinement.update.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """The people of one picture, so that both ways ask for them in one batch."""
    return make_crowd(tmp_path_factory.mktemp("one") / "scene", 1, seed=6, size=96, workers=1)


@pytest.fixture(scope="module")
def estimator(model):
    return PoseEstimator(model, flip=False)


def points(poses: list[Pose]) -> np.ndarray:
    return np.stack([pose.keypoints for pose in poses])


@pytest.mark.parametrize("flip, hops", [(True, None), (False, 1)])
def test_the_answers_are_predicts_to_the_last_digit(crowd, model, flip, hops):
    rows = np.flatnonzero(crowd.image_ids == crowd.image_ids[0])
    assert len(rows) > 1
    cues = [Cue.point(*crowd.keypoints[row][crowd.keypoints[row][:, 2] > 0][0, :2]) for row in rows]
    wanted = Predictor(model, hops, flip).predict_people(crowd, rows, crowd.boxes[rows], cues)
    found = PoseEstimator(model, flip=flip, hops=hops)(crowd[rows[0]].path, crowd.boxes[rows], cues)
    assert np.array_equal(points(found), wanted.keypoints[-1].numpy())
    assert np.array_equal(np.stack([p.by_hop for p in found], 1), wanted.keypoints.numpy())
    assert np.array_equal(np.stack([p.scores for p in found]), wanted.scores[-1].numpy())
    totals = rescore(torch.ones(len(rows)), wanted.scores[-1])
    assert [p.score for p in found] == totals.tolist()
    assert [p.hops for p in found] == [hops or 2] * len(rows)
    assert all(p.cue is cue and np.array_equal(p.box, box)
               for p, cue, box in zip(found, cues, crowd.boxes[rows], strict=True))
    again = PoseEstimator(model)(crowd[rows[0]].path, crowd.boxes[rows], cues, flip=flip, hops=hops)
    assert np.array_equal(points(again), points(found))
    without = PoseEstimator(model)(crowd[rows[0]].path, crowd.boxes[rows], flip=flip, hops=hops)
    assert without[0].cue is None and not np.array_equal(points(without), points(found))


def test_calibrated_scores_are_probabilities_in_the_same_order():
    heights = torch.tensor([[-0.1, 0.0, 0.2, 0.5, 0.9, 1.3]])
    assert calibrate(heights, (1.0, 0.0)) is heights
    scores = calibrate(heights, (0.8, 1.5))
    assert ((scores > 0) & (scores < 1)).all() and (scores.diff() >= 0).all()
    assert scores[0, 3] == pytest.approx(torch.sigmoid(torch.tensor(1.5)))


def test_calibration_changes_the_joints_scores_and_not_the_poses():
    plain = HintPose(**TINY).eval()
    sure = HintPose.from_spec(replace(plain.spec, calibration=(0.8, 1.5)))
    sure.load_state_dict(plain.state_dict())
    one, two = (PoseEstimator(model)(PICTURE, [BOX])[0] for model in (plain, sure))
    assert one.score == two.score and np.array_equal(one.keypoints, two.keypoints)
    wanted = calibrate(torch.from_numpy(one.scores), (0.8, 1.5))
    assert np.array_equal(two.scores, wanted.numpy())


def test_every_kind_of_picture_gives_the_same(tmp_path, estimator):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    kinds = [PICTURE, str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(PICTURE),
             torch.from_numpy(PICTURE).permute(2, 0, 1), PICTURE[:, ::-1].copy()[:, ::-1],
             io.BytesIO((tmp_path / "a.png").read_bytes())]
    first, *others = [estimator(kind, [BOX])[0] for kind in kinds]
    assert isinstance(first, Pose) and first.keypoints.dtype == np.float32
    assert all(np.array_equal(first.keypoints, other.keypoints) for other in others)
    turned = Image.fromarray(np.rot90(PICTURE).copy())
    turned.getexif()[274] = 6  # "turn by 90 degrees clockwise to show"
    assert np.array_equal(as_picture(turned), PICTURE)


@pytest.mark.parametrize("picture", [
    PICTURE.astype(np.float32), PICTURE[..., 0], PICTURE[..., :2], PICTURE[:0],
    torch.from_numpy(PICTURE), torch.rand(3, 8, 8), Image.new("F", (4, 4)), None, [1, 2]])
def test_other_pictures_are_refused(estimator, picture):
    with pytest.raises(DataError):
        estimator(picture)


def test_a_file_that_is_no_picture_is_refused(estimator):
    with pytest.raises(DataError):
        estimator(io.BytesIO(b"no picture"))


@pytest.mark.parametrize("boxes, message", [
    ([BOX, (80, 5, 10, 10)], "box 1"),
    ([BOX, (-10, 5, 10, 10)], "box 1"), ([(5, -20, 9, 20)], "box 0"),
    ([(5, 60, 9, 20)], "box 0"), ([(5, 5, 0, 10)], "box 0"), ([(5, 5, 10, -1)], "box 0"),
    ([(5, np.nan, 10, 10)], "box"), ([(5, 5, 1e39, 10)], "box"),
    (BOX, "shape"), ([(1, 2, 3)], "shape"), ([(1, 2), (3,)], "box"), ("box", "box"),
    ([(5, 5, 1e30, 1e30)], "box")])
def test_boxes_that_cannot_be_used_are_named(estimator, boxes, message):
    with np.errstate(over="ignore"), pytest.raises(DataError, match=message):
        estimator(PICTURE, boxes)


@pytest.mark.parametrize("cue, message", [
    (Cue.point(80, 5), "cue 1"),
    (Cue.point(5, -1), "cue 1"), (Cue.points([(5, 5), (99, 5)], [1, -1]), "cue 1"),
    (Cue.points([(5, 5), (99, 5)], [-1, 1]), "cue 1"), (Cue.points([(99, 5)], [-1]), "cue 1"),
    (Cue.box((90, 5, 10, 10)), "cue 1"), (Cue.mask(np.ones((80, 60))), "cue 1"),
    ((5, 5), "cues")])
def test_cues_that_cannot_be_used_are_named(estimator, cue, message):
    with pytest.raises(DataError, match=message):
        estimator(PICTURE, [BOX, BOX], [Cue.none(), cue])


@pytest.mark.parametrize("part", ["source", "detector"])
def test_a_source_is_something_to_call(model, part):
    with pytest.raises(ConfigError, match=part):
        PoseEstimator(model, **{part: "network"})


def test_a_box_that_looks_like_two_corners_is_noted(estimator):
    with pytest.warns(UserWarning, match="box 1"):
        estimator(PICTURE, [BOX, (40, 30, 79, 59)])
    with pytest.raises(DataError, match="pixel"):
        estimator(PICTURE, [(0.1, 0.1, 0.5, 0.9)])


def test_a_click_outside_its_box_is_named(estimator):
    with pytest.raises(DataError, match="cue 1"):
        estimator(PICTURE, [BOX, BOX], [Cue.point(20, 20), Cue.point(70, 50)])
    far = np.zeros((60, 80), bool)
    far[20:30, 70:] = True
    for cue in (Cue.mask(far), Cue.box((70, 20, 8, 8))):
        with pytest.raises(DataError, match=cue.kind):
            estimator(PICTURE, [BOX], [cue])
    assert len(estimator(PICTURE, [BOX], [Cue.box((20, 20, 55, 30))])) == 1  # reaches into it
    just_outside, partly = Cue.point(BOX[0] - 2, 20), Cue.points([(20, 20), (70, 50)])
    assert len(estimator(PICTURE, [BOX, BOX], [just_outside, partly])) == 2


def test_a_previous_pose_may_reach_over_the_edge(estimator):
    assert len(estimator(PICTURE, [BOX], [Cue.pose([(15, 15), (79.4, 62)])])) == 1


def test_as_many_cues_as_boxes(estimator):
    for boxes, cues in (([BOX], []), ([BOX], [None, None]), ([], [None]), ([BOX] * 2, [None])):
        with pytest.raises(DataError):
            estimator(PICTURE, boxes, cues)
    for wrong in (Cue.point(5, 5), 5, {Cue.point(5, 5)}):
        with pytest.raises(DataError):
            estimator(PICTURE, [BOX], wrong)
    assert estimator(PICTURE, []) == estimator(PICTURE, np.zeros((0, 4)), []) == []


def test_a_score_is_multiplied_by_that_of_the_box(model):
    """As HRNet does it; a person who was pointed at is there, however sure the detector is."""
    boxes, sure = np.array([BOX, (0, 0, 40, 40)], "f4"), np.array([0.5, 0.25], "f4")
    plain = [pose.score for pose in PoseEstimator(model)(PICTURE, boxes)]
    assert min(plain) > 0
    found = PoseEstimator(model)(PICTURE, boxes, scores=sure)
    assert [pose.score for pose in found] == pytest.approx([*(sure * plain)])
    detector = SimpleNamespace(detect=lambda picture: SimpleNamespace(boxes=boxes, scores=sure))
    assert [p.score for p in PoseEstimator(model, detector)(PICTURE)] == [p.score for p in found]
    source = PoseEstimator(model, detector, lambda picture, boxes: [[], [Cue.point(5, 5)]])
    assert {round(float(p.score / f.score), 4) for p, f in zip(
        source(PICTURE), source(PICTURE, boxes), strict=True)} <= {0.5, 0.25}
    clicked, = PoseEstimator(model, detector)(PICTURE, cues=[Cue.point(12, 44)])
    assert clicked.score == PoseEstimator(model)(PICTURE, boxes[:1],
                                                 [Cue.point(12, 44)])[0].score
    for wrong in (sure[:1], [1.0, np.nan]):
        with pytest.raises(DataError):
            PoseEstimator(model)(PICTURE, boxes, scores=wrong)


def test_without_boxes_the_detector_or_the_whole_picture(model, estimator, recwarn):
    whole = estimator(PICTURE)
    assert [pose.box.tolist() for pose in whole] == [[0, 0, 80, 60]]
    seen = []

    def detector(picture):
        seen.append(picture.shape)
        return torch.tensor([BOX, (0, 0, 70, 60), (50, 30, 20, 20)])

    detecting = PoseEstimator(model, detector, flip=False)
    assert [pose.box.tolist() for pose in detecting(PICTURE)] == detector(PICTURE).tolist()
    assert seen[0] == (60, 80, 3)
    mask = np.zeros((60, 80), bool)
    mask[40:45, 55:60] = True
    cues = [Cue.point(12, 30), Cue.points([(45, 30), (12, 30)], [1, -1]), Cue.mask(mask),
            Cue.box((52, 32, 10, 10))]
    found = detecting(PICTURE, cues=cues)
    assert [pose.box.tolist()[0] for pose in found] == [10, 0, 50, 50]
    assert detecting(PICTURE, cues=[]) == [] and not recwarn.list
    assert detecting(PICTURE, [BOX], cues[:1])[0].box.tolist() == list(BOX)


@pytest.mark.parametrize("cue", [Cue.point(75, 30), Cue.none(), Cue.points([(12, 30)], [-1])])
def test_a_cue_without_a_box_around_it_gets_the_whole_picture_and_says_so(model, cue):
    for detector in (None, lambda _: [BOX], lambda _: []):
        with pytest.warns(UserWarning, match="cue 0") as caught:
            pose, = PoseEstimator(model, detector, flip=False)(PICTURE, cues=[cue])
        assert pose.box.tolist() == [0, 0, 80, 60] and caught[0].filename == __file__


def test_looks_narrow_the_picture_to_the_person_a_click_names(tmp_path):
    people = make_crowd(tmp_path / "scenes", 5, seed=6_000_000, workers=1)
    shipped, near = load_model("crowd-tiny"), {0: [], 2: []}
    for row in range(len(people)):
        cue, person = person_cue(people, row, "joint"), people[row]
        for looks, found in near.items():
            with pytest.warns(UserWarning, match="looked for" if looks else "looks=2 would"):
                pose, = PoseEstimator(shipped, flip=False, looks=looks)(person.path, cues=[cue])
            found.append(float(oks(torch.tensor(pose.keypoints)[None],
                                   torch.tensor(person.keypoints)[None],
                                   torch.tensor([person.area]), people.skeleton.sigmas)))
        assert (pose.box[:2] < cue.xy[0]).all() and (cue.xy[0] < pose.box[:2] + pose.box[2:]).all()
        assert pose.box[2:].prod() < 0.7 * 192**2
    assert len(near[0]) > 10 and np.mean(near[2]) > np.mean(near[0]) + 0.2


def test_looks_leave_boxes_that_are_known_and_cues_that_name_nobody(model):
    asked = PoseEstimator(model, lambda _: [BOX], flip=False, looks=2)
    inside, nobody = Cue.point(20, 20), Cue.points([(12, 30)], [-1])
    assert asked(PICTURE, cues=[inside])[0].box.tolist() == list(BOX)
    whole = (0, 0, 80, 60)
    assert asked(PICTURE, [whole], [inside])[0].box.tolist() == list(whole)
    with pytest.warns(UserWarning):
        alone = PoseEstimator(model, flip=False, looks=2)(PICTURE, cues=[nobody, inside])
    assert alone[0].box.tolist() == list(whole) != alone[1].box.tolist()


def test_the_box_of_a_pose_holds_its_sure_joints_and_the_cue():
    points = np.full((17, 2), 50, np.float32)
    points[:3], points[16] = [(20, 30), (40, 30), (45, 170)], (900, 900)
    scores = np.r_[np.full(3, 0.9), 0.21, np.full(13, 0.1)].astype(np.float32)
    pose = Pose(points, scores, 1.0, np.array([0, 0, 100, 100]), Cue.point(60, 30), 1, points[None])
    assert _box_of(pose, (80, 70)).tolist() == pytest.approx([16, 26, 48, 48])
    heap = Pose(0 * points, scores, 1.0, np.array([0, 0, 80, 400]), Cue.point(0, 0), 1, None)
    assert _box_of(heap, (80, 400)).tolist() == [-5, -25, 10, 50]


def test_networks_and_names(tmp_path, model):
    with pytest.raises(ConfigError):
        PoseEstimator(HRNet(**TINY))(PICTURE, [BOX], [Cue.point(20, 20)])
    cueless = PoseEstimator(HRNet(**TINY).train(), flip=False)
    assert not cueless.model.training and not any(m.training for m in cueless.model.modules())
    pose, = cueless(PICTURE, [BOX], [Cue.none()])
    assert pose.keypoints.shape == (17, 2) and pose.hops == 1 and pose.score >= 0
    stored = PoseEstimator(save_model(model, tmp_path / "m.safetensors"), flip=False)
    one, two = stored(PICTURE, [BOX])[0], PoseEstimator(model, flip=False)(PICTURE, [BOX])[0]
    assert np.array_equal(one.keypoints, two.keypoints)
    three = Skeleton(("a", "b", "c"), ((1, 2),), ((0, 1),), (0.1, 0.1, 0.1))
    for wrong in (torch.nn.Linear(2, 2), None):
        with pytest.raises(ConfigError):
            PoseEstimator(wrong)
    with pytest.raises(ConfigError, match="17 joints"):
        PoseEstimator(model, skeleton=three)
    for looks in (-1, 1.5):
        with pytest.raises(ConfigError, match="looks"):
            PoseEstimator(model, looks=looks)
    threes = PoseEstimator(HintPose(hops=1, joints=3, **TINY, **USE), skeleton=three)
    assert threes(PICTURE, [BOX])[0].keypoints.shape == (3, 2)


def test_a_damaged_network_is_named():
    model = HintPose(hops=1, **TINY, **USE)
    torch.nn.init.constant_(model.final_layer.bias, torch.nan)
    with pytest.raises(DataError):
        PoseEstimator(model)(PICTURE, [BOX])


def test_more_people_than_one_batch_keep_their_order(estimator):
    boxes = [(i % 20, i // 20, 30, 40) for i in range(BATCH + 3)]
    cues = [Cue.point(i % 20 + 9, 20) for i in range(len(boxes))]
    found = estimator(PICTURE, boxes, cues)
    assert [pose.box.tolist() for pose in found] == [list(map(float, box)) for box in boxes]
    assert [pose.cue for pose in found] == cues
    alone = estimator(PICTURE, boxes[-1:], cues[-1:])
    np.testing.assert_allclose(found[-1].scores, alone[0].scores, rtol=1e-3, atol=1e-4)


# --- several cues in one box ----------------------------------------------------------------------

@pytest.fixture
def asked(monkeypatch):
    """Replaces the network: a pose lies around its cue (else its box), all joints as sure as the
    box is wide. Returns what was asked, as (box, cue) pairs in a list a batch."""
    batches = []

    cut, last = estimator_module.cut_crops, []

    def remember(pictures, boxes, spec):
        last[:] = [boxes]
        return cut(pictures, boxes, spec)

    def answer(self, crops, matrices, cues, rows):
        boxes, = last
        assert len(crops) == len(matrices) == len(boxes) == len(boxes.unique(dim=0))
        boxes = boxes[rows]
        batches.append(list(zip(boxes.tolist(), cues or [None] * len(boxes), strict=True)))
        middle = [cue.xy[0] if cue and cue.kind == "points" else box[:2] + box[2:] / 2
                  for box, cue in zip(boxes.numpy(), cues or [None] * len(boxes), strict=True)]
        shape = torch.stack([torch.arange(17) % 4 * 3.0, torch.arange(17) // 4 * 4.0], -1)
        points = torch.tensor(np.array(middle))[:, None] + shape
        return Poses(points[None], (boxes[None, :, 2:3] / 100).expand(1, -1, 17))

    monkeypatch.setattr(estimator_module, "cut_crops", remember)
    monkeypatch.setattr(estimator_module.Predictor, "predict_crops", answer)
    return batches


LEFT, RIGHT, NEAR = Cue.point(15, 20), Cue.point(45, 20), Cue.point(45.4, 20.4)
WIDE = (0, 0, 70, 60)


@pytest.mark.parametrize("boxes, proposals, wanted", [
    ([WIDE], [[LEFT, RIGHT]], [(0, LEFT), (0, RIGHT)]),
    ([WIDE], [[RIGHT, LEFT]], [(0, RIGHT), (0, LEFT)]),  # best first, as the source has them
    ([BOX, WIDE], [[LEFT], [RIGHT]], [(0, LEFT), (1, RIGHT)]),  # in the order of the boxes
    ([BOX, WIDE], [[LEFT], [RIGHT, LEFT]], [(0, LEFT), (1, RIGHT)]),  # where named first
    ([WIDE, BOX], [[RIGHT, LEFT], [LEFT]], [(0, RIGHT), (1, LEFT)]),
    ([WIDE, BOX], [[LEFT], [RIGHT, LEFT]], [(0, LEFT), (1, RIGHT)]),
    ([WIDE, BOX], [[LEFT], [LEFT]], [(1, LEFT)]),  # else in the smallest
    ([WIDE, BOX], [[], [LEFT]], [(0, None), (1, LEFT)]),  # nobody: without a cue
    ([WIDE, BOX], [[Cue.none()], []], [(0, None), (1, None)]),
    ([], [], [])])
def test_a_box_is_asked_for_everybody_the_source_names(model, asked, boxes, proposals, wanted):
    seen = []

    def source(picture, given):
        seen.append((picture.shape, given.tolist()))
        given[:] = 0  # a source may do with its boxes what it likes
        return proposals

    found = PoseEstimator(model, None, source)(PICTURE, np.reshape(boxes, (-1, 4)))
    assert [(p.box.tolist(), p.cue if p.cue.kind != "none" else None) for p in found] == [
        (list(boxes[i]), cue) for i, cue in wanted]
    assert [len(batch) for batch in asked] == [len(wanted)] * bool(wanted), "all in one go"
    assert seen == [((60, 80, 3), [list(box) for box in boxes])]


def test_one_person_under_two_cues_comes_back_once_with_the_better_score(model, asked):
    boxes, proposals = [BOX, WIDE, (5, 5, 40, 40)], [[NEAR, LEFT], [RIGHT], [Cue.point(45, 20.2)]]
    found = PoseEstimator(model, source=lambda *_: proposals)(PICTURE, boxes)
    assert [(p.box[2], p.cue) for p in found] == [(30, LEFT), (70, RIGHT)] and len(asked[0]) == 4
    assert [round(p.score, 5) for p in found] == [.3, .7]
    # How far poses may lie apart depends on the people's size, not on that of the box.
    whole, apart = (0, 0, 80, 60), [[Cue.point(30, 20), Cue.point(33, 20)]]
    assert len(PoseEstimator(model, source=lambda *_: apart)(PICTURE, [whole])) == 2


def test_only_a_source_that_is_asked_changes_anything(model, asked):
    def source(*_):
        raise AssertionError("nobody asked")
    with_source, without = PoseEstimator(model, source=source), PoseEstimator(model)
    for boxes, cues in (([BOX, BOX], [LEFT, LEFT]), ([WIDE], [None]), ([], [])):
        found, wanted = (e(PICTURE, boxes, cues) for e in (with_source, without))
        np.testing.assert_array_equal([p.keypoints for p in found], [p.keypoints for p in wanted])
        assert len(found) == len(boxes)
    assert len(without(PICTURE, [BOX, BOX])) == 2, "without a source, boxes in are poses out"


@pytest.mark.parametrize("level, seen", [("stem", 1), ("image", 3)])
def test_the_stem_runs_once_a_box_where_the_cue_comes_after_it(level, seen):
    torch.manual_seed(1)
    model = HintPose(**TINY, cue_level=level, input_size=(64, 64)).eval()
    torch.nn.init.normal_(model.input_refinement.correct.weight, std=0.3)
    estimator, cues = PoseEstimator(model, flip=False), [LEFT, RIGHT, Cue.none()]
    batches = []
    hook = model.conv1.register_forward_hook(lambda _, given, out: batches.append(len(given[0])))
    together = estimator(PICTURE, [WIDE] * 3, cues)
    assert batches == [seen]
    hook.remove()
    for pose, cue in zip(together, cues, strict=True):
        np.testing.assert_allclose(pose.scores, estimator(PICTURE, [WIDE], [cue])[0].scores,
                                   rtol=1e-3, atol=1e-4)


def test_detector_and_source_and_more_people_than_one_batch(model, asked):
    cues = [Cue.point(x, y) for x in range(0, 80, 7) for y in range(0, 60, 8)]
    estimator = PoseEstimator(model, lambda picture: [WIDE, BOX], lambda *_: [cues, []])
    found = estimator(PICTURE)
    assert len(cues) > BATCH and [len(batch) for batch in asked] == [BATCH, len(cues) + 1 - BATCH]
    assert [cue for batch in asked for _, cue in batch][:-1] == cues and len(found) > 1
    whole = PoseEstimator(model, source=lambda picture, boxes: [[LEFT]])(PICTURE)
    assert [p.box.tolist() for p in whole] == [[0, 0, 80, 60]]


@pytest.mark.parametrize("answer", [
    [], [[LEFT]] * 3, [LEFT, LEFT], [None, []], [[(1, 2)], []], [[], [Cue.point(99, 5)]]])
def test_sources_that_answer_something_else(model, answer):
    with pytest.raises(DataError):
        PoseEstimator(model, source=lambda *_: answer)(PICTURE, [BOX, WIDE])


def test_a_network_without_cues_refuses_those_of_a_source():
    estimator = PoseEstimator(HRNet(**TINY), source=lambda picture, boxes: [[LEFT]])
    with pytest.raises(ConfigError):
        estimator(PICTURE, [BOX])


@pytest.mark.parametrize("flip, hops", [(True, 2), (False, 1)])
@pytest.mark.parametrize("kind", [kind for kind in CUES if kind != "wrong"])
def test_evaluate_and_the_estimator_agree_to_the_last_digit(scene, model, kind, flip, hops,
                                                            tmp_path):
    evaluate(model, scene, cue=kind, flip=flip, hops=hops, results=tmp_path / "poses.json", seed=4)
    cues = [person_cue(scene, row, kind, middle=center(torch.tensor(box)).tolist(), seed=4)
            for row, box in enumerate(scene.boxes)]
    poses = PoseEstimator(model)(scene[0].path, scene.boxes, cues, flip=flip, hops=hops)
    found = [np.c_[pose.keypoints, pose.scores].ravel().tolist() for pose in poses]
    kept = [entry["keypoints"] for entry in json.loads((tmp_path / "poses.json").read_text())]
    assert len(scene) > 1 and kept and all(entry in found for entry in kept)


def test_precision_reaches_the_network_and_not_the_coordinates():
    model, seen = load_model("crowd-tiny"), []
    model.register_forward_hook(lambda module, given, maps: seen.append(maps.dtype))
    picture = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        pose, = PoseEstimator(model, precision=precision)(picture)
        assert {*seen} == {dtype} and pose.keypoints.dtype == np.float32
    seen.clear()
    PoseEstimator(model)(picture)
    assert {*seen} == {torch.float32}, "the default"
