"""Augmentation: pictures, joints and cues go through one matrix, and the draws have their law."""

from dataclasses import replace

import pytest
import torch

from hintpose_lite.cues.training import CueMix
from hintpose_lite.data.batches import Augment, draw_matrices, make_batch
from hintpose_lite.data.crops import build_crops
from hintpose_lite.model.hintpose import Spec
from hintpose_lite.pose.geometry import apply, scale_of
from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.skeleton import COCO17

SPEC = Spec(input_size=(64, 96), target_sigma=1.2, cue_sigma=4.0)
STILL = Augment(rotate=0, scale=0, flip=0, half_body=0, shift=0, shared=0, light=0)


@pytest.fixture(scope="module")
def crops(crowd):
    return build_crops(crowd, 128, workers=1, progress=False)


def batch(crops, augment, mix=None, seed=0):
    rows, mix = torch.arange(len(crops)), mix or CueMix()
    generator = torch.Generator().manual_seed(seed)
    return make_batch(crops, rows, mix.draw(len(rows), generator), SPEC, augment, COCO17,
                      generator)


def test_targets_peak_on_the_joints(crops):
    made = batch(crops, Augment())
    found, _ = decode(made.targets, SPEC.input_size, "dark", SPEC.target_sigma)
    inside = (made.weights > 0) & ((made.points > 10) & (made.points <
              made.points.new_tensor(SPEC.input_size) - 10)).all(-1)
    assert inside.sum() > 100
    assert (found - made.points)[inside].abs().max() < 0.6
    assert not made.targets[made.weights == 0].any()


def test_a_flip_swaps_left_and_right_and_mirrors_picture_and_cue(crops):
    mix = CueMix(**{name: float(name == "mask") for name in CueMix.__dataclass_fields__})
    straight, flipped = (batch(crops, replace(STILL, flip=flip), mix) for flip in (0, 1))
    order = list(COCO17.mirror)
    torch.testing.assert_close(flipped.points[:, order, 0], 63 - straight.points[..., 0],
                               atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(flipped.images.flip(-1), straight.images, atol=0.05, rtol=1e-2)
    torch.testing.assert_close(flipped.cues.flip(-1), straight.cues, atol=0.05, rtol=1e-2)


def test_same_generator_state_same_batch(crops):
    one, two, other = (batch(crops, Augment(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, two.images) and torch.equal(one.cues, two.cues)
    assert not torch.equal(one.images, other.images)


def test_draws_follow_their_law(crops):
    rows = torch.zeros(4000, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    augment = replace(STILL, flip=0.5, rotate=0.6, rotation=45.0, scale=0.35)
    matrices, flipped = draw_matrices(crops, rows, SPEC.input_size, augment, COCO17, generator)
    assert abs(flipped.float().mean() - 0.5) < 0.03
    linear = matrices[..., :2] / scale_of(matrices)[:, None, None]
    angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 1, 1]))
    assert abs((angle.abs() > 1e-3).float().mean() - 0.6) < 0.03
    assert angle.abs().max() <= 90.01 and angle.abs().max() > 80
    still, _ = draw_matrices(crops, rows[:1], SPEC.input_size, STILL, COCO17, generator)
    growth = scale_of(still) / scale_of(matrices)
    assert growth.min() > 0.649 and growth.max() < 1.351
    assert abs((growth > 1.349).float().mean() - 0.159) < 0.03, "clipped at one deviation"


def test_shared_boxes_show_both_people(crops):
    rows = (crops.overlap >= 0.1).nonzero()[:, 0]
    assert (crops.partners[rows][..., 2] > 0).any(1).all()
    matrices, _ = draw_matrices(crops, rows, SPEC.input_size, replace(STILL, shared=1), COCO17,
                                torch.Generator().manual_seed(0))
    for keypoints in (crops.keypoints[rows], crops.partners[rows]):
        places = apply(matrices, keypoints[..., :2])[keypoints[..., 2] > 0]
        assert ((places > -2) & (places < places.new_tensor(SPEC.input_size) + 2)).all()


def test_training_cues_are_as_high_as_asked(crops):
    loud, low = (batch(crops, replace(STILL, cue_height=height)).cues for height in (1.0, 0.25))
    assert loud.max() > 0.9
    torch.testing.assert_close(low, loud / 4)


def test_a_model_without_a_cue_gets_none(crops):
    spec = replace(SPEC, cue=False)
    made = make_batch(crops, torch.arange(3), torch.zeros(3), spec, Augment(), COCO17,
                      torch.Generator().manual_seed(0))
    assert made.cues is None


def test_half_body_boxes_lie_on_a_half(crops):
    matrices, _ = draw_matrices(crops, torch.arange(len(crops)), SPEC.input_size,
                                replace(STILL, half_body=1), COCO17,
                                torch.Generator().manual_seed(0))
    whole, _ = draw_matrices(crops, torch.arange(len(crops)), SPEC.input_size, STILL, COCO17,
                             torch.Generator().manual_seed(0))
    assert (scale_of(matrices) > 1.15 * scale_of(whole)).float().mean() > 0.5
