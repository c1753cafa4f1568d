"""Pasted people: who covers whom, what stays visible, and where joints and pixels end up."""

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite.cues.training import KINDS
from hintpose_lite.data import paste
from hintpose_lite.data.coco import Person
from hintpose_lite.data.crops import Augment, PersonCrops
from hintpose_lite.data.paste import candidates, cut_out, draw_place, relative_size
from hintpose_lite.model.hintpose import Spec
from hintpose_lite.pose.skeleton import Skeleton

# A stick person: head, two hands, two feet. Limbs join the head with all others.
STICK = Skeleton(names=("head", "left_hand", "right_hand", "left_foot", "right_foot"),
                 swaps=((1, 2), (3, 4)), limbs=((0, 1), (0, 2), (0, 3), (0, 4)), sigmas=(.1,) * 5)
SPEC = Spec(input_size=(64, 96), target_sigma=1.2, cue_sigma=4.0)
SIZE = (160, 120)


def stick(x, y, w, h, colour=0):
    """A rectangle as a person: its record and a picture (120, 160, 3) in which only it has a
    colour, which also tells its left half from its right."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[y:y + h, x:x + w] = True
    picture = np.zeros((*SIZE[::-1], 3), np.uint8)
    picture[mask] = colour
    picture[y:y + h, x + w // 2:x + w] //= 2
    joints = np.array([(x + w / 2, y + 2, 2), (x + 1, y + h / 2, 2), (x + w - 2, y + h / 2, 2),
                       (x + 1, y + h - 2, 2), (x + w - 2, y + h - 2, 2)], np.float32)
    box = np.array([x, y, w, h], np.float32)
    return Person(SIZE, box, joints, float(w * h), mask), picture


def pasted(seed, first=(50, 30, 30, 60), second=(20, 20, 26, 64)):
    subject, _ = stick(*first)
    cut = cut_out(stick(*second, colour=200)[1], stick(*second)[0])
    return paste.paste(subject, cut, STICK, np.random.default_rng(seed)), subject


SEEDS = st.integers(0, 2**31)
SIZES = st.tuples(st.integers(15, 40), st.integers(35, 70))


@settings(max_examples=150, deadline=None)
@given(SEEDS, SIZES)
def test_masks_share_no_pixel_and_the_one_in_front_is_whole(seed, size):
    made, subject = pasted(seed, second=(20, 20, *size))
    if made is None:
        return
    first, second = made.first.mask(), made.second.mask()
    assert not (first & second).any()
    if made.in_front:
        assert not (first & ~subject.mask()).any()
        assert (second | first).sum() >= subject.mask().sum()
    else:
        assert np.array_equal(first, subject.mask())
        assert made.first.area == subject.area
    share = first.sum() / subject.mask().sum()
    assert share >= paste.VISIBLE
    assert made.first.area == pytest.approx(subject.area * share)
    assert made.second.area == pytest.approx(second.sum())


@settings(max_examples=150, deadline=None)
@given(SEEDS, SIZES)
def test_joints_are_hidden_exactly_where_the_other_one_covers_them(seed, size):
    made, subject = pasted(seed, second=(20, 20, *size))
    if made is None:
        return
    for one, other, behind in ((made.first, made.second, made.in_front),
                               (made.second, made.first, not made.in_front)):
        for x, y, v in one.keypoints:
            if v == 0:
                assert not (0 <= x <= SIZE[0] - 1 and 0 <= y <= SIZE[1] - 1) or x == y == 0
                continue
            under = other.mask()[round(float(y)), round(float(x))]
            assert v == (1 if behind and under else 2)
    assert np.array_equal(made.first.keypoints[:, :2], subject.keypoints[:, :2])


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_boxes_hold_the_masks_and_overlap_as_wanted(seed):
    made, subject = pasted(seed)
    if made is None:
        return
    for person in (made.first, made.second):
        x, y, w, h = person.box.astype(int)
        assert person.mask()[y:y + h, x:x + w].sum() == person.mask().sum()
    scale = np.sqrt(abs(np.linalg.det(made.matrix[:, :2])))
    assert paste.SCALES[0] * 0.9 < scale * 64 / 60 < paste.SCALES[1] * 1.15


def test_both_orders_and_both_mirrors_come_up_equally_often():
    made = [made for made in (pasted(seed)[0] for seed in range(600)) if made is not None]
    assert len(made) > 400
    assert abs(np.mean([one.in_front for one in made]) - 0.5) < 0.07
    assert abs(np.mean([one.matrix[0, 0] < 0 for one in made]) - 0.5) < 0.07


def test_left_and_right_change_places_in_a_mirror():
    for made in (made for made in (pasted(seed)[0] for seed in range(60)) if made):
        whole = made.second.keypoints[:, 2] > 0
        if whole.all():
            left, right = made.second.keypoints[1, 0], made.second.keypoints[2, 0]
            assert left < right, "of the pasted picture's person the left hand stays at the left"


def test_pixels_lie_where_the_mask_says():
    colours = 0
    for made in (made for made in (pasted(seed)[0] for seed in range(40)) if made):
        canvas = np.zeros((*SIZE[::-1], 3), np.uint8)
        drawn = made.draw(canvas, np.eye(2, 3))
        inside = cv2.erode(made.second.mask().astype(np.uint8), np.ones((7, 7))) > 0
        outside = cv2.dilate(made.second.mask().astype(np.uint8), np.ones((7, 7))) == 0
        if made.in_front:  # else its edge may show beside that of the first person
            assert drawn[outside].max() < 10
        if inside.any():
            assert (drawn[inside] > 20).all()
            colours += 1
    assert colours > 10


def test_nothing_is_drawn_outside_of_the_picture():
    matrix = np.array([[0.5, 0, 20], [0, 0.5, 15]])  # the picture fills the middle of the crop
    for made in (made for made in (pasted(seed)[0] for seed in range(60)) if made):
        drawn = made.draw(np.zeros((90, 120, 3), np.uint8), matrix)
        drawn[15:75, 20:100] = 0
        assert drawn.max() < 130  # half of a pixel at the edge
        drawn[14:76, 19:101] = 0
        assert not drawn.any()


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.tuples(*[st.floats(10, 90)] * 4), st.tuples(*[st.floats(15, 80)] * 2))
def test_places_keep_the_overlap_in_its_range(seed, box, size):
    size = np.array(size)
    place = draw_place(np.array(box), size, (160, 120), np.random.default_rng(seed))
    if place is None:
        return
    x, y, w, h = box
    shared = np.prod(np.maximum(np.minimum(place + size, (x + w, y + h))
                                - np.maximum(place, (x, y)), 0))
    iou = shared / (w * h + size.prod() - shared)
    assert paste.OVERLAPS[0] - 1e-6 <= iou <= paste.OVERLAPS[1] + 1e-6


def test_sizes_are_compared_by_limbs_else_by_the_joints_extent():
    small, large = stick(10, 10, 20, 40)[0].keypoints, stick(10, 10, 40, 80)[0].keypoints
    assert relative_size(large, small, STICK) == pytest.approx(2, rel=.1)
    unlabelled = large.copy()
    unlabelled[1:4, 2] = 0
    assert relative_size(unlabelled, small, STICK) == pytest.approx(2, rel=.2)


def test_masks_of_somebody_else_or_in_pieces_are_not_cut_out():
    subject, picture = stick(20, 20, 26, 64, 200)
    assert cut_out(picture, subject) is not None
    shifted = np.roll(subject.mask(), 60, 1)
    broken = subject.mask().copy()
    broken[45:55] = False
    for mask in (shifted, broken, np.zeros_like(shifted), None):
        assert cut_out(picture, replace(subject, segmentation=mask)) is None


def test_nobody_is_pasted_beside_a_person_with_somebody_elses_mask(crowd):
    paster = PersonCrops(crowd, SPEC, Augment(paste=1)).paster
    row = next(row for row in range(len(crowd)) if paster.draw(row, 0, np.random.default_rng(1)))
    mask = np.zeros_like(crowd[row].mask())
    mask[:4] = True
    paster.persons = {row: replace(crowd[row], segmentation=mask)}
    assert paster.draw(row, 0, np.random.default_rng(1)) is None


def test_a_pasted_item_depends_on_seed_epoch_and_row_only(crowd):
    one, two = (PersonCrops(crowd, SPEC, Augment(paste=1), seed=3) for _ in range(2))
    two[0, 1]
    item, other = one[2, 5], two[2, 5]
    assert all(np.array_equal(item[name], other[name]) for name in item)


def test_people_are_pasted_as_often_as_the_setting_says(crowd):
    rows = range(len(crowd))
    for chance in (0.0, 0.5, 1.0):
        people = PersonCrops(crowd, SPEC, Augment(paste=chance), seed=1)
        plain = PersonCrops(crowd, SPEC, Augment(), seed=1)
        drawn = [paster.draw(row, 0, np.random.default_rng(row)) is not None
                 for paster in [people.paster] if paster for row in rows]
        assert not drawn or np.mean(drawn) > 0.4
        same = [np.array_equal(people[0, row]["crops"], plain[0, row]["crops"]) for row in rows]
        assert np.mean(same) == 1 if chance == 0 else np.mean(same) < 0.8


def test_cut_outs_are_whole_and_have_a_mask(crowd):
    rows = candidates(crowd)
    assert 0 < len(rows) < len(crowd)
    for row in rows:
        person = crowd[row]
        x, y, w, h = person.box
        assert person.segmentation is not None and min(x, y) >= paste.MARGIN
        assert x + w <= person.image_size[0] - paste.MARGIN
        assert y + h <= person.image_size[1] - paste.MARGIN


def test_a_set_without_masks_says_so_and_is_used_as_it_is(crowd):
    bare = copy.copy(crowd)
    bare.has_mask = np.zeros(len(crowd), bool)
    with pytest.warns(UserWarning, match="paste=0"):
        people = PersonCrops(bare, SPEC, Augment(paste=1))
    assert "paste=0" not in PersonCrops(crowd, SPEC, Augment(paste=1)).paster.summary()
    assert people.paster.draw(0, 0, np.random.default_rng(0)) is None
    assert people[0, 0]["crops"].any()


def test_an_item_shows_a_pair_and_its_mask_holds_the_visible_joints(crowd):
    people = PersonCrops(crowd, SPEC, Augment(rotate=0, scale=0, flip=0, half_body=0, shift=0,
                                              shared=1, light=0, paste=1), seed=5)
    inside = []
    for row in range(len(crowd)):
        item = people.item(0, row, kind="mask")
        if KINDS[item["kinds"]] != "mask":
            continue
        x, y = item["keypoints"][item["keypoints"][:, 2] == 2, :2].round().astype(int).T
        known = (x >= 0) & (y >= 0) & (x < 64) & (y < 96)
        inside += (item["masks"][0, y[known], x[known]] > 60).tolist()
    assert np.mean(inside) > 0.7
