"""Batches: pictures, joints and cues go through one matrix, and no cue is lost."""

from dataclasses import replace

import pytest
import torch

from hintpose_lite.cues.training import KINDS, CueMix
from hintpose_lite.data.batches import make_batch
from hintpose_lite.data.crops import Augment, PersonCrops, stack
from hintpose_lite.model.hintpose import Spec
from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.skeleton import COCO17

SPEC = Spec(input_size=(64, 96), target_sigma=1.2, cue_sigma=4.0)
STILL = Augment(rotate=0, scale=0, flip=0, half_body=0, shift=0, shared=0, light=0)


def batch(crowd, augment, kind=None, seed=0, spec=SPEC, epoch=0):
    people = PersonCrops(crowd, spec, augment, seed=seed)
    items = stack([people.item(epoch, row, kind=kind) for row in range(len(crowd))])
    return make_batch(items, spec, augment, COCO17, torch.Generator().manual_seed(seed))


def test_targets_peak_on_the_joints(crowd):
    made = batch(crowd, Augment())
    found, _ = decode(made.targets, SPEC.input_size, "dark", SPEC.target_sigma)
    inside = (made.weights > 0) & ((made.points > 10) & (made.points <
              made.points.new_tensor(SPEC.input_size) - 10)).all(-1)
    assert inside.sum() > 100
    assert (found - made.points)[inside].abs().max() < 0.6
    assert not made.targets[made.weights == 0].any()


def test_a_flip_swaps_left_and_right_and_mirrors_picture_and_cue(crowd):
    straight, flipped = (batch(crowd, replace(STILL, flip=flip), "mask") for flip in (0, 1))
    order = list(COCO17.mirror)
    torch.testing.assert_close(flipped.points[:, order, 0], 63 - straight.points[..., 0],
                               atol=1e-3, rtol=1e-4)
    # The warp rounds places to 1/32 of a pixel, to one side or the other.
    assert (flipped.images.flip(-1) - straight.images).abs().max() < 0.3
    assert (flipped.images.flip(-1) - straight.images).abs().mean() < 0.02
    assert (flipped.cues.flip(-1) - straight.cues).abs().max() < 0.1


def test_the_same_seed_gives_the_same_batch(crowd):
    one, two, other = (batch(crowd, Augment(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, two.images) and torch.equal(one.cues, two.cues)
    assert not torch.equal(one.images, other.images)


def test_training_cues_are_as_high_as_asked(crowd):
    loud, low = (batch(crowd, replace(STILL, cue_height=height)).cues for height in (1.0, 0.25))
    assert loud.max() > 0.9
    torch.testing.assert_close(low, loud / 4)


def test_a_model_without_a_cue_gets_none(crowd):
    assert batch(crowd, Augment(), spec=replace(SPEC, cue=False)).cues is None


@pytest.mark.parametrize("augment", [Augment(), Augment(half_body=1.0, shift=0.2)])
def test_no_cue_is_empty_where_something_of_the_person_is_shown(crowd, augment):
    """The share of empty cue maps is what the mix asks for, also in crops of half a body."""
    cues = torch.cat([batch(crowd, augment, epoch=epoch).cues for epoch in range(40)])
    empty = (cues.amax((1, 2, 3)) < 0.01).float().mean()
    mix = CueMix()
    assert len(cues) > 500 and abs(empty - mix.none / sum(mix.weights)) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_cues_of_each_kind_lie_in_the_crop(crowd, kind):
    cues = batch(crowd, Augment(half_body=1.0), kind).cues
    highest = cues.amax((1, 2, 3))
    assert (highest > 0.5).all() if kind != "none" else not cues.any()
