"""Crops: they show what the matrix says, do not alias, and are the same in training and in use."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from hintpose_lite.cues.training import KINDS, CueMix
from hintpose_lite.data.crops import Augment, PersonCrops, crop, load, places_of_steps, stack
from hintpose_lite.evaluation.predict import cut_crops
from hintpose_lite.model.hintpose import Spec
from hintpose_lite.pose import geometry

SPEC = Spec(input_size=(64, 96), target_sigma=1.2, cue_sigma=4.0)
STILL = Augment(rotate=0, scale=0, flip=0, half_body=0, shift=0, shared=0, light=0)


def blob(height, width, x, y, wide=12.0):
    yy, xx = np.mgrid[:height, :width]
    values = 255 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * wide**2))
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


def centre_of(picture):
    values = picture.reshape(*picture.shape[:2], -1)[..., 0].astype(float)
    yy, xx = np.mgrid[:values.shape[0], :values.shape[1]]
    return np.array([(xx * values).sum(), (yy * values).sum()]) / values.sum()


@pytest.mark.parametrize("side", [60.0, 100, 250, 401])
@pytest.mark.parametrize("rotation", [0.0, 33])
def test_a_crop_shows_a_blob_where_its_matrix_says(side, rotation):
    picture = blob(480, 640, 300.0, 200.0, side / 12)
    box = torch.tensor([[290 - side / 2, 215 - side / 2, side, side]])
    matrix = geometry.crop_matrix(box, (64, 64), torch.tensor([rotation]))
    expected = geometry.apply(matrix, torch.tensor([[[300.0, 200.0]]]))[0, 0].numpy()
    for shown in (picture, picture[..., 0]):  # a mask has no colours
        cut = crop(shown, matrix[0], (64, 64))
        assert cut.shape == (64, 64, *shown.shape[2:]) and cut.dtype == np.uint8
        np.testing.assert_allclose(centre_of(cut), expected, atol=0.1)


@pytest.mark.parametrize("rotation", [0.0, 33.0])
def test_a_crop_is_the_warp_of_the_whole_picture(rotation, warp):
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (90, 120, 3)).astype(np.uint8), (0, 0), 2)
    matrix = geometry.crop_matrix(geometry.pad(torch.tensor([[30.0, -10, 50, 70]])), (48, 64),
                                  torch.tensor([rotation]))
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    expected = warp(whole, matrix, (48, 64))[0].permute(1, 2, 0).numpy()
    difference = np.abs(crop(picture, matrix[0], (48, 64)) - expected)
    assert difference.max() < 3 and difference.mean() < 0.6
    assert (expected == 0).any(), "part of this box lies outside the picture"


def test_what_is_fine_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    matrix = geometry.crop_matrix(torch.tensor([[56.0, 56, 400, 400]]), (48, 48))
    assert np.ptp(crop(stripes, matrix[0], (48, 48)).astype(int)) <= 2


def test_outside_of_the_picture_a_crop_is_black():
    picture = np.full((200, 200, 3), 200, np.uint8)
    for side in (150.0, 900):
        box = torch.tensor([[-side * 2 / 3, -side * 2 / 3, side, side]])
        cut = crop(picture, geometry.crop_matrix(box, (60, 60))[0], (60, 60))
        assert not cut[:39].any() and not cut[:, :39].any() and (cut[41:50, 41:50] == 200).all()
    far = geometry.crop_matrix(torch.tensor([[9000.0, 9000, 50, 50]]), (60, 60))
    assert not crop(picture, far[0], (60, 60)).any()


def test_a_panorama_is_cut_like_any_picture():
    picture = np.zeros((20, 40_000, 3), np.uint8)  # wider than OpenCV itself can warp
    picture[:, 39_000:39_010] = 255
    near = geometry.crop_matrix(torch.tensor([[38_995.0, 0, 20, 20]]), (40, 40))
    assert crop(picture, near[0], (40, 40)).max() == 255
    whole = geometry.crop_matrix(torch.tensor([[0.0, -19_990, 40_000, 40_000]]), (400, 400))
    assert crop(picture, whole[0], (400, 400)).shape == (400, 400, 3)


def test_training_and_evaluation_see_the_same_pixels(crowd):
    people = PersonCrops(crowd, SPEC, STILL)
    for row in range(len(crowd)):
        item = people.item(0, row)
        crops, matrices = cut_crops([crowd.read(row)], torch.from_numpy(crowd.boxes[row])[None],
                                    SPEC)
        np.testing.assert_allclose(item["matrices"], matrices[0], rtol=1e-5, atol=1e-4)
        again = crop(crowd.read(row), torch.from_numpy(item["matrices"]), SPEC.input_size)
        np.testing.assert_array_equal(item["crops"].transpose(1, 2, 0), again)
        difference = np.abs(crops[0].numpy().astype(int) - item["crops"])
        assert difference.max() <= 6  # where the matrices are rounded to the other side


def test_an_item_is_a_function_of_seed_epoch_and_row(crowd):
    one, two = (PersonCrops(crowd, SPEC, Augment(), seed=3) for _ in range(2))
    two[0, 1]
    item, other = one[2, 5], two[2, 5]
    assert all(np.array_equal(item[name], other[name]) for name in item)
    for changed in (one[3, 5], one[2, 6], PersonCrops(crowd, SPEC, Augment(), seed=4)[2, 5]):
        assert not np.array_equal(changed["matrices"], item["matrices"])


def test_draws_follow_their_law(crowd):
    augment = Augment(flip=0.5, rotate=0.6, rotation=45.0, scale=0.35, half_body=0, shift=0,
                      shared=0)
    people, pair = PersonCrops(crowd, SPEC, augment), (crowd[0], None)
    drawn = [people.draw_matrix(*pair, np.random.default_rng([0, i])) for i in range(3000)]
    matrices, flipped = np.stack([matrix for matrix, _ in drawn]), [flip for _, flip in drawn]
    assert abs(np.mean(flipped) - 0.5) < 0.03
    scale = np.sqrt(np.abs(np.linalg.det(matrices[..., :2])))
    angle = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 1, 1]))
    assert abs((np.abs(angle) > 1e-3).mean() - 0.6) < 0.03
    assert np.abs(angle).max() <= 90.01 and np.abs(angle).max() > 80
    still, _ = PersonCrops(crowd, SPEC, STILL).draw_matrix(*pair, np.random.default_rng(0))
    growth = np.sqrt(np.linalg.det(still[:, :2])) / scale
    assert growth.min() > 0.649 and growth.max() < 1.351
    assert abs((growth > 1.349).mean() - 0.159) < 0.03, "clipped at one deviation"


def settled(crowd, **changes):
    people = PersonCrops(crowd, SPEC, Augment(**{**vars(STILL), **changes}))
    return stack([people.item(0, row) for row in range(len(crowd))])


def test_shared_boxes_show_both_people(crowd):
    items = settled(crowd, shared=1)
    paired = torch.from_numpy((crowd.overlap >= 0.1) & (crowd.partner >= 0))
    assert (items.neighbours[paired][..., 2] > 0).any(1).all()
    for keypoints in (items.keypoints[paired], items.neighbours[paired]):
        places = keypoints[keypoints[..., 2] > 0][:, :2]
        assert ((places > -2) & (places < torch.tensor(SPEC.input_size) + 2)).all()


def test_half_body_boxes_lie_on_a_half(crowd):
    half, whole = (geometry.scale_of(settled(crowd, half_body=h).matrices) for h in (1, 0))
    assert (half > 1.15 * whole).float().mean() > 0.5


def test_a_mask_lies_on_the_person(crowd):
    people = PersonCrops(crowd, SPEC, STILL)
    for row in range(len(crowd)):
        item = people.item(0, row, kind="mask")
        assert item["masks"].max() > 127 and KINDS[item["kinds"]] == "mask"
        visible = item["keypoints"][item["keypoints"][:, 2] == 2, :2].round().astype(int)
        x, y = visible.clip(0, np.array(SPEC.input_size) - 1).T
        assert (item["masks"][0, y, x] > 0).mean() > 0.6
        joint = people.item(0, row, kind="joint")
        assert not joint["masks"].any(), "it is decoded where it is needed"


def test_decoded_pictures_take_no_more_than_their_share(crowd):
    people = PersonCrops(crowd, SPEC, STILL, cached=2 * 96 * 96 * 3)
    for row in range(len(crowd)):
        np.testing.assert_array_equal(people.picture(row), crowd.read(row))
        assert len(people.pictures.values) <= 2


def test_every_epoch_is_a_permutation_and_a_run_goes_on_where_it_was():
    whole = [*places_of_steps(10, 4, 7, 0, 10)]
    places = sum(whole, [])
    for epoch in range(4):
        assert sorted(places[10 * epoch:10 * epoch + 10]) == [(epoch, row, 0) for row in range(10)]
    assert places[:10] != [(0, row, 0) for _, row, _ in places[10:20]]
    assert [*places_of_steps(10, 4, 7, 6, 10)] == whole[6:]
    assert [*places_of_steps(10, 4, 8, 0, 10)] != whole


def test_people_come_up_in_proportion_to_their_weights():
    weights = np.array([2.3, 1, 1, 0, 0.5, 0.2, 1, 2, 1, 1])
    places = sum(places_of_steps(10, 10, 7, 0, 2000, weights), [])
    assert len({*places}) == len(places), "a person who comes up twice varies twice"
    assert all([place[0] for place in places[10 * i:10 * i + 10]] == [i] * 10 for i in range(50))
    counts = np.bincount([row for _, row, _ in places], minlength=10)
    np.testing.assert_allclose(counts / 2000, weights, atol=0.04)
    turns = {(epoch, row): set() for epoch, row, _ in places}
    for epoch, row, turn in places:
        turns[epoch, row].add(turn)
    assert all(seen == {*range(len(seen))} for seen in turns.values())
    assert [*places_of_steps(10, 4, 7, 6, 10, weights)] == [
        *places_of_steps(10, 4, 7, 0, 10, weights)][6:]


def test_workers_start_after_opencv_has_used_its_threads():
    """In a process of its own, since such a worker would end with a fault."""
    code = """
import cv2, numpy as np
from torch.utils.data import DataLoader
from hintpose_lite.data.crops import _alone
cv2.setNumThreads(8)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 3)
print(len([*DataLoader(range(4), num_workers=2, worker_init_fn=_alone)]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           timeout=300)
    assert ended.stdout.split() == ["4"], ended.stderr[-2000:]


def test_the_loader_gives_the_batches_in_turn(crowd):
    people = PersonCrops(crowd, SPEC, Augment(), CueMix(), seed=1)
    places = [*places_of_steps(len(crowd), 3, 1, 0, 4)]
    before = torch.get_rng_state()
    for items, wanted in zip(load(people, places, torch.device("cpu")), places, strict=True):
        assert torch.equal(items.crops, stack([people[place] for place in wanted]).crops)
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left alone"
