"""The lab of two right answers: the mixture, what is read off it, and the controls."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from hintpose_lite.labs.mixture_lab import (
    SIGMA,
    MixtureLab,
    draw_owners,
    mix,
    mixture_figure,
    owners,
)
from hintpose_lite.labs.scene import pair_scene
from hintpose_lite.pose.heatmaps import gaussians


@pytest.fixture(scope="module")
def scenes():
    return [pair_scene(0, overlap) for overlap in ((0.2, 0.4), (0.4, 0.5))]


def test_a_point_belongs_to_whoever_has_the_nearest_joint_of_that_name():
    joints = torch.tensor([[[0.0, 0], [9, 0], [0, 9]], [[4, 0], [0, 0], [0, 1]]])
    points = torch.tensor([[1.0, 0], [2, 0], [0, 4]])
    assert owners(points, joints).tolist() == [0, 1, 1]


def test_a_mixture_is_the_mean_of_both_people_s_targets(scenes):
    mixed = mix(scenes[0], 0.3)
    a, b = (gaussians(joints / 4, (24, 32), SIGMA) for joints in mixed.joints)
    torch.testing.assert_close(mixed.maps, 0.3 * a + 0.7 * b)
    assert len(mixed.which) == len(mixed.points) == len(mixed.heights) == len(mixed.owner)
    labelled = (scenes[0].people[..., 2] > 0).all(0)
    assert labelled[mixed.which].all() and labelled.sum() == len(mixed.which)


def test_whoever_is_meant_more_often_gets_the_whole_pose(scenes):
    for scene in scenes:
        for share, person in ((1.0, 0), (0.6, 0), (0.55, 0), (0.45, 1), (0.4, 1), (0.0, 1)):
            mixed = mix(scene, share)
            assert (mixed.owner == person).all() and mixed.near[person] > 0.9
            assert mixed.near[1 - person] < 0.5
    # The second pair's joints lie far apart: a peak is as high as its person's share, less what a
    # place between four pixels takes.
    heights = mix(scenes[1], 0.6).heights
    assert heights.min() > 0.6 * 0.84 and heights.max() < 0.63
    alone = mix(scenes[1], 1.0)
    torch.testing.assert_close(alone.points, alone.joints[0], atol=0.01, rtol=0)


def test_half_and_half_is_a_chimera_and_noise_makes_another(scenes):
    for scene in scenes:
        settings = (0, 0), (0.05, 0), (0.05, 1)
        found = [mix(scene, 0.5, noise, seed).owner for noise, seed in settings]
        assert all(set(owner) == {0, 1} for owner in found)
        assert len({tuple(owner) for owner in found}) == 3
        again = mix(scene, 0.5, 0.05, 1)
        assert (again.owner == found[2]).all()


def test_limbs_between_two_people_are_dashed(scenes):
    axis = Figure().subplots()
    mixed = mix(scenes[0], 0.5)
    owner = dict(zip(mixed.which, mixed.owner, strict=True))
    draw_owners(axis, np.zeros((128, 96, 3), np.uint8), mixed.points, mixed.owner, mixed.which)
    ink = axis.lines[1::2]  # each above a white one
    limbs = [(5, 6), (6, 8), (11, 12)]  # A's shoulders, A's shoulder to B's elbow, A's hips
    for i, j in limbs:
        ends = mixed.points[[list(mixed.which).index(i), list(mixed.which).index(j)], 0].tolist()
        line = next(x for x in ink if sorted(x.get_xdata()) == pytest.approx(sorted(ends)))
        assert line.is_dashed() == (owner[i] != owner[j])
    assert {owner[6], owner[8]} == {0, 1}
    assert [len(dots.get_offsets()) for dots in axis.collections] == [6, 5]


def test_the_figure_says_what_it_shows(scenes):
    assert "a chimera, 6 joints A's, 5 B's" in mixture_figure(scenes[0], 0.5).get_label()
    assert "wholly A's, 11 joints A's, 0 B's" in mixture_figure(scenes[0], 0.6).get_label()
    figure = mixture_figure(scenes[0], 0.4)
    assert figure.get_label().startswith("40% of the targets were A's, 60% B's: the pose is wholly")
    bars = figure.axes[2].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(mix(scenes[0], 0.4).heights.tolist())
    assert all(bar.get_hatch() == "//" for bar in bars)


def test_the_lab_follows_its_controls(scenes):
    lab = MixtureLab(scenes)
    assert not lab.errors and "a chimera" in lab.status.value
    before = lab.shown.value
    lab.controls.share.value = 0.6
    assert "wholly A" in lab.status.value and lab.shown.value != before
    lab.set(share=0.5, pair=2)
    assert "3 joints A" in lab.status.value
    before = lab.shown.value
    lab.controls.noise.value = 0.2
    assert not lab.errors and lab.shown.value != before
    assert repr(lab) == "MixtureLab()"
