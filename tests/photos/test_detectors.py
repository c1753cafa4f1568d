"""Cue sources: who lies in a box, torchvision's networks, other models' results."""

import functools
import json
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from hintpose_lite.crowd.scenes import draw_scene
from hintpose_lite.cues.cue import Cue
from hintpose_lite.errors import CheckpointError, ConfigError, DataError, FetchError
from hintpose_lite.photos import detectors
from hintpose_lite.photos.detectors import Detections, Detector, ResultFile
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import union
from hintpose_lite.pose.oks import oks
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.weights.weights import load_model

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


# --- who lies in a box ----------------------------------------------------------------------------

def box_iou(a, b) -> float:
    shared = [max(0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    common = shared[0] * shared[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def wanted(boxes, people, found) -> list[list[int]]:
    """The rule again, point by point: `people` are the pixels or joints of each."""
    answer = []
    for box in boxes:
        x, y, w, h = box
        overlap = [box_iou(box, other) for other in found]
        there = []
        for i, points in enumerate(people):
            inside = sum(x <= px <= x + w and y <= py <= y + h for px, py in points)
            if inside and (inside >= len(points) / 2 or overlap[i] >= .3):
                there.append(i)
        answer.append(sorted(there, key=lambda i: -overlap[i]))
    return answer


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_rule_against_counting_pixels_and_joints(data):
    place, side = st.integers(-4, 10), st.integers(1, 12)
    box = st.tuples(place, place, side, side)
    found = np.array(data.draw(st.lists(box, min_size=1, max_size=4)), np.float32)
    boxes = np.array(data.draw(st.lists(box, max_size=3)), np.float32).reshape(-1, 4)
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    full = generator.choice([0, .02, .3], (len(found), 1, 1))
    masks = generator.random((len(found), 12, 14)) < full
    joints = np.concatenate([generator.uniform(-2, 15, (len(found), 17, 2)),
                             generator.integers(0, 2, (len(found), 17, 1))], -1).astype("f4")
    scores = np.ones(len(found), "f4")
    for detections, people in (
            (Detections(found, scores, masks), [np.argwhere(mask)[:, ::-1] for mask in masks]),
            (Detections(found, scores, keypoints=joints), [j[j[:, 2] > 0, :2] for j in joints])):
        cues = detections(PICTURE, boxes)
        named = wanted(boxes.tolist(), people, found.tolist())
        assert [len(part) for part in cues] == [len(part) for part in named]
        for cue, i in zip(sum(cues, []), sum(named, []), strict=True):
            if detections.masks is None:
                assert cue.kind == "points" and np.array_equal(cue.xy, people[i])
            else:
                assert cue.kind == "mask" and np.array_equal(cue.array > 0, masks[i])


@pytest.mark.parametrize("box, points, inside", [
    ((10, 0, 20, 20), [(5, 5), (15, 5), (7, 7)], True),    # a third of them, IoU 1/3
    ((12, 0, 20, 20), [(5, 5), (15, 5), (7, 7)], False),   # a third of them, IoU 1/4
    ((12, 0, 20, 20), [(5, 5), (15, 5)], True),            # half of them, IoU 1/4
    ((10, 0, 20, 20), [(5, 5), (7, 7)], False),            # none, IoU 1/3
    ((15, 5, 1, 1), [(15, 5), (16, 6)], True)])            # the box's edge belongs to it
def test_the_rule_at_its_limits(box, points, inside):
    mask, joints = np.zeros((1, 20, 20), bool), np.zeros((1, 17, 3), "f4")
    for i, (x, y) in enumerate(points):
        mask[0, y, x], joints[0, i] = True, (x, y, 1)
    own, score = np.array([(0, 0, 20, 20)], "f4"), np.ones(1, "f4")
    for found in (Detections(own, score, mask), Detections(own, score, keypoints=joints)):
        cues, = found(PICTURE, [box])
        assert len(cues) == inside


def test_a_person_has_one_cue_in_whichever_box():
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 10:30], masks[1, 10:50, 40:60] = True, True
    boxes = np.array([(10, 10, 20, 40), (40, 10, 20, 40)], "f4")
    asked = [(8, 8, 54, 44), (39, 8, 30, 44), (0, 0, 5, 5)]
    (left, right), (alone,), nobody = Detections(boxes, np.ones(2, "f4"), masks)(PICTURE, asked)
    assert alone is right and left.array[30, 15] and right.array[30, 45] and nobody == []


# --- torchvision's networks -----------------------------------------------------------------------

@pytest.fixture(scope="module", params=["masks", "keypoints"])
def real(request):
    """The real networks with random weights, made to look at small pictures, and sure of people."""
    small = functools.partial(torchvision.models.get_model, min_size=64, max_size=64,
                              box_detections_per_img=3, rpn_post_nms_top_n_test=20)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr("torchvision.models.get_model", small)
        torch.manual_seed(0)
        detector = Detector(request.param, weights=None, score=.6)
        assert detector._network is None, "nothing is built before it is needed"
        nobody = Detector(request.param, weights=None, score=1.0)
        nobody._network = detectors._build(request.param, None, 1.0).eval()
        detector._network = nobody._network
    return detector, nobody


def test_real_networks_with_random_weights(real):
    detector, nobody = real
    heads = detector._network.roi_heads
    assert not nobody(PICTURE).size and nobody.cues(PICTURE, [(0, 0, 80, 60)]) == [[]]
    heads.score_thresh = .6
    torch.nn.init.constant_(heads.box_predictor.cls_score.bias[1:2].data, 50)
    found = detector.detect(PICTURE)
    count = len(found.boxes)
    assert 1 <= count <= 3 and found.boxes.shape == (count, 4) and found.boxes.dtype == np.float32
    low, high = found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]
    assert (found.boxes[:, 2:] > 0).all() and (low >= 0).all() and (high <= (80.01, 60.01)).all()
    assert (found.scores >= .6).all() and found.scores.dtype == np.float32
    if detector.kind == "masks":
        assert found.masks.shape == (count, 60, 80) and found.masks.dtype == bool
    else:
        assert found.keypoints.shape == (count, 17, 3) and found.keypoints.dtype == np.float32
        assert {0, 1}.issuperset(np.unique(found.keypoints[..., 2]))
    assert len(detector.cues(PICTURE, [(0, 0, 80, 60)])[0]) <= count
    with torch.inference_mode():
        raw = detector._network([torch.from_numpy(PICTURE).permute(2, 0, 1) / 255])[0]
    x0, y0, x1, y1 = raw["boxes"][0].tolist()
    np.testing.assert_allclose(found.boxes[0], (x0, y0, x1 - x0, y1 - y0), rtol=1e-5)


def stub(detector: Detector, output: dict) -> list:
    """Puts output in torchvision's format into a detector; returns the pictures it is shown."""
    shown = []

    def network(images):
        shown.extend(images)
        return [{name: value.clone() for name, value in output.items()}]

    detector._network = network
    return shown


def hand_made() -> dict:
    """Four things: a person, a dog (label 18), a second person, and an unlikely third one."""
    masks = torch.zeros(4, 1, 60, 80)
    masks[0, 0, 10:50, 10:30], masks[2, 0, 10:50, 40:60], masks[3, 0, :5, :5] = .9, .6, .8
    masks[2, 0, 10:50, 60:70] = .5
    points = torch.ones(4, 17, 3)
    points[0, :, :2], points[2, :, :2] = torch.tensor([20., 30]), torch.tensor([50., 30])
    peaks = torch.full((4, 17), 5.0)
    peaks[2, 3:] = 1.9
    boxes = [[10., 10, 30, 50], [0, 0, 9, 9], [40, 10, 60, 50], [0, 0, 5, 5]]
    return {"boxes": torch.tensor(boxes),
            "labels": torch.tensor([1, 18, 1, 1]), "scores": torch.tensor([.99, .9, .7, .3]),
            "masks": masks, "keypoints": points, "keypoints_scores": peaks}


@pytest.mark.parametrize("kind", ["masks", "keypoints"])
def test_what_is_made_of_the_networks_output(kind):
    detector = Detector(kind)
    shown = stub(detector, hand_made())
    assert detector(PICTURE).tolist() == [[10, 10, 20, 40], [40, 10, 20, 40]]
    picture, = shown
    assert torch.equal(picture, torch.from_numpy(PICTURE.transpose(2, 0, 1)) / 255)
    found = detector.detect(PICTURE)
    np.testing.assert_allclose(found.scores, (.99, .7))
    (first, second), (other,) = detector.cues(PICTURE, [(5, 5, 60, 50), (39, 9, 30, 42)])
    assert other is second
    if kind == "masks":
        assert found.masks.sum((1, 2)).tolist() == [800, 800] and found.keypoints is None
        assert first.array.shape == (60, 80) and first.array.sum() == 800
    else:
        assert found.keypoints[:, :, 2].sum(1).tolist() == [17, 3] and found.masks is None
        assert first.xy.tolist() == [[20, 30]] * 17 and second.xy.tolist() == [[50, 30]] * 3
    everybody = Detector(kind, score=0)
    stub(everybody, hand_made())
    assert len(everybody(PICTURE)) == 3


def test_a_picture_is_looked_at_once():
    detector, picture = Detector(), PICTURE.copy()
    shown = stub(detector, hand_made())
    boxes = detector(picture)
    boxes[:] = 7
    assert detector(PICTURE)[0, 0] == 10
    assert detector.cues(torch.tensor(picture).permute(2, 0, 1), []) == []
    assert len(shown) == 1, "the same content, whatever it comes in"
    picture[0, 0] ^= 255
    detector(picture)
    assert len(shown) == 2, "painted over, it is another picture"
    detector(PICTURE), detector(PICTURE[:30])
    assert len(shown) == 4, "only the last one is remembered"
    with pytest.raises(DataError):
        detector(PICTURE[..., 0])


@pytest.mark.parametrize("settings", [{"kind": "boxes"}, {"score": 1.1}, {"score": -1}])
def test_settings_that_do_not_exist(settings):
    with pytest.raises(ConfigError, match="masks, keypoints"):
        Detector(**settings)


@pytest.fixture
def tiny(monkeypatch):
    """A small stand-in for both networks; notes how it was built."""
    noted = []

    def get_model(name, **settings):
        noted.append((name, settings))
        return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))

    monkeypatch.setattr("torchvision.models.get_model", get_model)
    return noted


def test_offline_it_says_what_to_do(tiny, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no way out")

    monkeypatch.setattr("hintpose_lite.weights.fetch.urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FetchError, match="no way out") as caught:
        Detector("masks")(PICTURE)
    file = tmp_path / "checkpoints" / "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
    assert str(file) in str(caught.value) and not tiny
    file.write_bytes(b"something else")
    with pytest.raises(FetchError, match="73cbd019"):
        Detector("masks")(PICTURE)


def test_published_weights_are_torchvisions(tiny, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(detectors, "fetch", lambda *args: fetched.append(args))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    detectors._build("keypoints", "COCO_V1", .3)
    enum = torchvision.models.get_model_weights("keypointrcnn_resnet50_fpn")
    (url, path, digits), = fetched
    assert url == enum.COCO_V1.url and path == tmp_path / "checkpoints" / url.split("/")[-1]
    assert digits == "fc266e95"
    (name, settings), = tiny
    assert name == "keypointrcnn_resnet50_fpn" and settings["weights"] is enum.COCO_V1
    assert settings["weights_backbone"] is None and settings["box_score_thresh"] == .3


def test_weights_from_a_file(tiny, tmp_path):
    stored = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    torch.save(stored.state_dict(), tmp_path / "own.pth")
    network = detectors._build("keypoints", tmp_path / "own.pth", .5)
    assert torch.equal(network[0].weight, stored[0].weight) and network[1].eps == 1e-5
    # In a published file, batch norms are frozen, without counters; one is for an epsilon of 0.
    frozen = {k: v for k, v in stored.state_dict().items() if not k.endswith("batches_tracked")}
    for kind, name, epsilon in (("keypoints", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth", 0),
                                ("masks", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 1e-5)):
        torch.save(frozen, tmp_path / name)
        network = detectors._build(kind, str(tmp_path / name), .5)
        assert torch.equal(network[0].bias, stored[0].bias) and network[1].eps == epsilon


@pytest.mark.parametrize("content", [None, b"", b"no weights", {"a": torch.ones(1)}, [1, 2]])
def test_files_that_are_no_weights(tiny, tmp_path, content):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match="weights.pth"):
        Detector("masks", weights=file)(PICTURE)


# --- result files ---------------------------------------------------------------------------------

def result(image_id=1, score=.5, **more) -> dict:
    points = [[10 + j, 20 + 2 * j, .9 if j % 2 else .1] for j in range(17)]
    return {"image_id": image_id, "category_id": 1, "keypoints": sum(points, []), "score": score,
            **more}


def test_poses_of_a_result_file(tmp_path):
    entries = [result(score=.2), result(7, bbox=[1, 2, 30, 40]), result(score=.8)]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    results = ResultFile(tmp_path / "r.json")
    assert results.image_ids == [1, 7] and results.left_out == 0
    found = results.of(1)
    np.testing.assert_allclose(found.scores, (.8, .2))  # best first
    assert found.boxes.tolist() == [[11, 22, 14, 28]] * 2, "the extent of the known joints"
    (one, two), = found(PICTURE, [(0, 0, 80, 60)])
    assert one.xy.tolist() == [[10 + j, 20 + 2 * j] for j in range(1, 17, 2)] == two.xy.tolist()
    assert results.of(7).boxes.tolist() == [[1, 2, 30, 40]]
    nobody = results.of(3)
    assert nobody.boxes.shape == (0, 4) and nobody(PICTURE, [(0, 0, 80, 60)]) == [[]]
    assert "bbox" not in entries[0], "what was handed in stays as it was"


def test_people_that_are_left_out_are_counted():
    unsure = result(3)
    unsure["keypoints"] = [0.0] * 51
    results = ResultFile([result(), result(2, score=.1), unsure, result(4, bbox=[1, 2, 0, 4])], .3)
    assert results.image_ids == [1] and results.left_out == 3


def test_numbers_are_read_from_arrays_and_text():
    """What a Python program hands in, or a table that was written as text."""
    entry = result(score=np.float32(.5), bbox=np.float32([1, 2, 30, 40]), category_id=np.int64(1))
    entry |= {"image_id": "1", "keypoints": np.float64(entry["keypoints"])}
    text = {**result(), "score": "0.25", "bbox": ["1", "2", "30", "40"]}
    people = ResultFile([entry, text]).of(1)
    assert people.scores.tolist() == [.5, .25] and (people.boxes == [1, 2, 30, 40]).all()
    assert (people.keypoints[0] == people.keypoints[1]).all()


def test_masks_of_a_result_file():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 10:30] = True
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    code["counts"] = code["counts"].decode()
    entry = {"image_id": 1, "score": .5, "bbox": [10, 10, 20, 40], "segmentation": code}
    results = ResultFile([entry])
    (cue,), = results.of(1)(PICTURE, [(0, 0, 80, 60)])
    assert cue.kind == "mask" and np.array_equal(cue.array > 0, mask)
    assert results.of(2)(PICTURE, [(0, 0, 80, 60)]) == [[]]
    (same,), = ResultFile([{**entry, "keypoints": None}]).of(1)(PICTURE, [(0, 0, 80, 60)])
    assert np.array_equal(same.array, cue.array)
    for damaged in ({"size": [60, 80], "counts": "1"}, {"counts": "x"}, {"size": 3, "counts": "x"}):
        with pytest.raises(DataError, match="image_id 1"):
            ResultFile([{**entry, "segmentation": damaged}]).of(1)
    with pytest.raises(DataError):
        ResultFile([entry, result()]).of(1)


@pytest.mark.parametrize("wrong", [
    {"image_id": "000001.jpg"}, {"image_id": 1.5}, {"score": None}, {"score": float("nan")},
    {"keypoints": [[1, 2, .5]] * 17}, {"keypoints": [1.0] * 34}, {"keypoints": [np.inf] * 51},
    {"keypoints": None}, {"bbox": [1, 2, 3]}, {"bbox": None}, {"bbox": "0,0,3,3"}])
def test_other_formats_are_refused(wrong):
    with pytest.raises(DataError, match="entry 1"):
        ResultFile([result(), {**result(), **wrong}])


@pytest.mark.parametrize("content", [
    "{", 100_000 * "[", '{"annotations": []}', "[3]",
    '[{"image_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}]',
    '[{"image_id": 1, "score": 1, "segmentation": {}}]'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match="r.json"):
        ResultFile(tmp_path / "r.json")
    with pytest.raises(DataError):
        ResultFile(tmp_path / "missing.json")


def test_an_independent_models_results(coco_sample):
    results = ResultFile(coco_sample / "reference_results_val.json")
    assert len(results.image_ids) > 50
    for image_id in results.image_ids[:20]:
        found = results.of(image_id)
        first = [cues[0].xy for cues in found(None, found.boxes)]
        for points, joints in zip(first, found.keypoints, strict=True):
            assert np.array_equal(points, joints[joints[:, 2] > 0, :2]), "in one's box one's pose"


# --- all of it together ---------------------------------------------------------------------------

@pytest.fixture(scope="module")
def scene():
    """Two people whose boxes overlap, in a crowd scene; and whose poses some are."""
    picture, people = draw_scene(3, 5)
    boxes = np.array([person["bbox"] for person in people], "f4")
    truth = torch.tensor([person["keypoints"] for person in people]).view(-1, 17, 3)
    areas = torch.tensor([float(person["area"]) for person in people])
    shared = union(*torch.tensor(boxes)[:, None]).numpy()
    assert len(people) == 2 and box_iou(*boxes.tolist()) > .3 and (shared != boxes).any(1).all()

    def closest(poses) -> list[int]:
        """Whose pose each is, which has to be clear."""
        points = torch.tensor(np.array([pose.keypoints for pose in poses]))
        likeness = oks(points[:, None], truth[None], areas[None], COCO17.sigmas)
        assert (likeness.amax(1) > .5).all() and (likeness.amin(1) < .2).all()
        return likeness.argmax(1).tolist()

    seen = torch.cat([truth[..., :2], (truth[..., 2:] == 2).float()], -1).float().numpy()
    masks = np.stack([rle.decode(person["segmentation"]).astype(bool) for person in people])
    return SimpleNamespace(picture=np.asarray(picture), boxes=boxes, closest=closest,
                           shared=shared,
                           masks=Detections(boxes, np.ones(2, "f4"), masks),
                           poses=Detections(boxes, np.ones(2, "f4"), keypoints=seen))


@pytest.fixture(scope="module")
def model():
    return load_model("crowd-tiny")


@pytest.mark.parametrize("kind", ["masks", "poses"])
def test_two_people_of_one_shared_box_get_two_poses(scene, model, kind):
    estimator = PoseEstimator(model, source=getattr(scene, kind))
    poses = estimator(scene.picture, scene.shared)
    assert sorted(scene.closest(poses)) == [0, 1]
    assert all(np.array_equal(pose.box, scene.shared[0]) for pose in poses)
    poses = estimator(scene.picture, np.concatenate([scene.shared, scene.boxes]))
    assert sorted(scene.closest(poses)) == [0, 1], "three boxes, two people"
    assert len(estimator(scene.picture)) == 2, "the whole picture as the box"


def test_the_same_person_asked_for_twice_comes_back_once(scene, model):
    points = scene.poses.keypoints[0]
    x, y = points[points[:, 2] > 0][-1, :2]  # a foot: it is far from the other person
    twice = [Cue.point(x, y), Cue.point(x + .1, y)]
    estimator = PoseEstimator(model, source=lambda picture, boxes: [twice for _ in boxes])
    poses = estimator(scene.picture, scene.shared)
    assert scene.closest(poses) == [0]
    assert len(estimator(scene.picture, scene.shared, twice[:1])) == 1
    fresh = PoseEstimator(model, source=lambda _, boxes: [[Cue.point(x, y)] for _ in boxes])
    moved = np.concatenate([scene.boxes[:1], scene.boxes[:1] + (1, 1, 0, 0)])
    assert scene.closest(fresh(scene.picture, moved)) == [0], "also from two boxes"


def test_a_detector_is_both_boxes_and_cues_for_one_pass(scene, model):
    detector = Detector("masks")
    low, size = torch.tensor(scene.boxes).split(2, 1)
    shown = stub(detector, {"boxes": torch.cat([low, low + size], 1),
                            "labels": torch.tensor([1, 1]), "scores": torch.tensor([.9, .8]),
                            "masks": torch.tensor(scene.masks.masks)[:, None].float()})
    poses = PoseEstimator(model, detector, detector.cues)(scene.picture)
    assert scene.closest(poses) == [0, 1] and len(shown) == 1
    assert [pose.box.tolist() for pose in poses] == scene.boxes.tolist()
