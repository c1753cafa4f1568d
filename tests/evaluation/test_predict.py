"""The trunk: crops and cues in, poses in picture pixels out."""

import numpy as np
import pytest
import torch

from hintpose_lite.cues.cue import Cue
from hintpose_lite.data.batches import normalise
from hintpose_lite.errors import ConfigError, DataError
from hintpose_lite.evaluation.predict import Predictor, cut_crops, prepare
from hintpose_lite.model.hintpose import HintPose, Spec
from hintpose_lite.pose.geometry import apply, crop_matrix, pad
from hintpose_lite.pose.heatmaps import decode, encode, mirror
from hintpose_lite.pose.skeleton import COCO17

TINY = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1, input_size=(64, 96), target_sigma=1.2,
            cue_sigma=4.0)


@pytest.fixture()
def model():
    torch.manual_seed(0)
    model = HintPose(hops=2, **TINY).eval()
    torch.nn.init.normal_(model.final_layer.weight)
    torch.nn.init.normal_(model.input_refinement.correct.weight)
    torch.nn.init.normal_(model.recurrent_refinement.update.weight, std=0.1)
    return model


def cues_of(crowd):
    return [Cue.point(*keypoints[keypoints[:, 2] > 0][0, :2]) for keypoints in crowd.keypoints]


def test_poses_come_back_to_the_picture(crowd, monkeypatch):
    """A network that answers with the true heatmaps gives back the true joints."""
    model = HintPose(cue=False, hops=1, codec="dark", **TINY).eval()
    boxes = torch.as_tensor(crowd.boxes)
    matrices = crop_matrix(pad(boxes, 64 / 96), (64, 96))
    points = apply(matrices, torch.as_tensor(crowd.keypoints)[..., :2])
    order = np.argsort(crowd.image_ids, kind="stable")
    truth = encode(points[order], (64, 96), 1.2, "dark")
    monkeypatch.setattr(HintPose, "forward", lambda self, images, cues, hops, rows: truth[None])
    found = Predictor(model, flip=False).predict_people(
        crowd, np.arange(len(crowd)), boxes, None, batch=1000)
    inside = ((points > 10) & (points < points.new_tensor([54.0, 86]))).all(-1)
    inside &= torch.as_tensor(crowd.keypoints)[..., 2] > 0
    assert inside.sum() > 50
    error = (found.keypoints[0] - torch.as_tensor(crowd.keypoints)[..., :2])[inside].abs()
    assert (error * (96 / pad(boxes, 64 / 96)[:, 3].min())).max() < 1


def test_batches_and_order_do_not_matter(crowd, model):
    rows = np.arange(len(crowd))
    cues = cues_of(crowd)
    predictor = Predictor(model)
    one = predictor.predict_people(crowd, rows, crowd.boxes, cues, batch=64)
    two = predictor.predict_people(crowd, rows[::-1], crowd.boxes[::-1].copy(), cues[::-1], batch=3)
    assert one.keypoints.shape == (2, len(crowd), 17, 2)
    torch.testing.assert_close(one.scores, two.scores.flip(1), atol=1e-4, rtol=1e-3)


def test_the_cue_reaches_the_answer(crowd, model):
    rows = np.arange(len(crowd))
    with_cue, without, nothing = (
        Predictor(model).predict_people(crowd, rows, crowd.boxes, cues)
        for cues in (cues_of(crowd), None, [Cue.none()] * len(crowd)))
    assert not torch.equal(with_cue.scores, without.scores)
    torch.testing.assert_close(without.scores, nothing.scores)


def test_the_flip_test_is_mirror_symmetric():
    """A mirrored crop with a mirrored cue gives the mirrored answer; a forgotten cue does not."""
    torch.manual_seed(0)
    model = HintPose(hops=2, codec="udp", **TINY).eval()
    torch.nn.init.normal_(model.final_layer.weight)
    torch.nn.init.normal_(model.input_refinement.correct.weight)
    images, cues = torch.randn(2, 3, 96, 64), torch.rand(2, 1, 96, 64)
    heatmaps = Predictor(model).heatmaps
    straight = heatmaps(images, cues)
    back = mirror(heatmaps(images.flip(-1), cues.flip(-1)), COCO17, "udp")
    torch.testing.assert_close(back, straight, atol=1e-4, rtol=1e-3)
    forgotten = mirror(heatmaps(images.flip(-1), cues), COCO17, "udp")
    assert not torch.allclose(forgotten, straight, atol=1e-2)


def test_wide_boxes_in_large_pictures_lose_nothing(warp):
    """A crop shows the same as a warp of the whole picture."""
    spec = Spec(**TINY, cue=False, hops=1)
    y, x = np.mgrid[:480, :640]
    picture = np.stack([100 + 0.2 * x, 50 + 0.3 * y, 60 + 0.1 * x + 0.1 * y], -1).astype(np.uint8)
    boxes = torch.tensor([[150.0, 90, 300, 300], [100, 150, 400, 120], [300, 20, 60, 400]])
    crops, matrices = cut_crops([picture] * 3, boxes, spec)
    images, _ = prepare(spec, crops, matrices, None)
    whole = torch.from_numpy(picture).permute(2, 0, 1).float().expand(3, -1, -1, -1)
    direct = normalise(warp(whole, matrices, spec.input_size), spec.mean, spec.std)
    assert (images - direct).abs().mean() < 0.03


def test_autocast_rounds_the_network_and_not_the_places(crowd, monkeypatch):
    """A network whose answer is given finds the same points under autocast."""
    model = HintPose(cue=False, hops=1, codec="dark", **TINY).eval()
    maps = torch.rand(1, len(crowd), 17, 24, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(HintPose, "forward", lambda self, images, cues, hops, rows: maps)
    predictor, rows = Predictor(model, flip=False), np.arange(len(crowd))
    plain = predictor.predict_people(crowd, rows, crowd.boxes, None)
    with torch.autocast("cpu", torch.bfloat16):
        cast = predictor.predict_people(crowd, rows, crowd.boxes, None)
    torch.testing.assert_close(cast.keypoints, plain.keypoints, atol=0.01, rtol=0)


def test_the_network_runs_in_bf16_and_places_are_decoded_in_float32(crowd, model, monkeypatch):
    seen, forward = [], HintPose.forward

    def spy(self, *given):
        seen.append(forward(self, *given))
        return seen[-1]

    def decoding(maps, *given):
        assert maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return decode(maps, *given)

    monkeypatch.setattr(HintPose, "forward", spy)
    monkeypatch.setattr("hintpose_lite.evaluation.predict.decode", decoding)
    for precision, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        seen.clear()
        found = Predictor(model, precision=precision).predict_people(
            crowd, [0, 1], crowd.boxes[:2], cues_of(crowd)[:2])
        assert {maps.dtype for maps in seen} == {dtype} and len(seen) == 2  # with the mirror image
        assert found.keypoints.dtype == found.scores.dtype == torch.float32


def test_misuse_is_refused(crowd, model):
    with pytest.raises(DataError):
        Predictor(model).predict_people(crowd, [0, 1], crowd.boxes[:1], None)
    fewer = HintPose(joints=14, **TINY).eval()
    with pytest.raises(ConfigError, match="14 joints"):
        Predictor(fewer).predict_people(crowd, [0], crowd.boxes[:1], None)
    with pytest.raises(DataError):
        Predictor(model.train()).predict_people(crowd, [0], crowd.boxes[:1], None)
