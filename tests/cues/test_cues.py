"""Cues: what the maps look like, that they move with crop and flip, and the noise of training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite.cues.cue import Cue, point_maps, render_cues
from hintpose_lite.cues.training import KINDS, CueMix, draw_cues, oks_jitter
from hintpose_lite.data.crops import Items
from hintpose_lite.errors import DataError
from hintpose_lite.pose import geometry
from hintpose_lite.pose.oks import oks
from hintpose_lite.pose.skeleton import COCO17

SIZE = (48, 64)
IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def render(cue: Cue, matrix=IDENTITY, sigma=3.0) -> torch.Tensor:
    return render_cues([cue], matrix, SIZE, sigma)[0, 0]


def test_the_middle_of_a_cue():
    assert Cue.points([(1, 2), (3, 4), (9, 9)], [1, 1, -1]).middle().tolist() == [2, 3]
    assert Cue.box([10, 20, 5, 7]).middle().tolist() == [12, 23]
    mask = np.zeros((6, 8))
    mask[2:4, 5:8] = 1
    assert Cue.mask(mask).middle().tolist() == [6, 2.5]
    soft = 0.9 * mask + 0.1  # a third of its weight lies on the other pixels
    y, x = np.indices(soft.shape)
    assert Cue.mask(soft).middle() == pytest.approx(
        [(x * soft).sum() / soft.sum(), (y * soft).sum() / soft.sum()], abs=1e-6)
    assert Cue.none().middle() is None and Cue.points([(1, 2)], [-1]).middle() is None


def test_point_peaks_on_the_point():
    values = render(Cue.point(20, 30))
    assert values[30, 20] == 1 and values.argmax() == 30 * 48 + 20
    assert values.min() >= 0


def test_negative_points_are_subtracted_and_values_stay_in_range():
    cue = Cue.points([(10, 10), (12, 10), (30, 40)], [1, 1, -1])
    values = render(cue)
    assert values[10, 10] == pytest.approx(1, abs=1e-6)
    assert values[40, 30] == pytest.approx(-1, abs=1e-6)
    assert values.abs().max() <= 1


def test_none_is_zeros():
    assert not render(Cue.none()).any()


def test_box_is_filled_softly():
    values = render(Cue.box((10, 20, 20, 30)))
    assert values[35, 20] > 0.99 and values[5, 5] < 0.01
    assert values[35, 10] == pytest.approx(0.5, abs=0.02)


def test_mask_is_the_mask():
    mask = np.zeros((64, 48), bool)
    mask[10:40, 5:25] = True
    np.testing.assert_allclose(render(Cue.mask(mask)).numpy(), mask, atol=1e-3)


def test_pose_is_its_known_joints():
    pose = np.array([[10, 10, 2], [40, 50, 0], [20, 30, 1]])
    values = render(Cue.pose(pose))
    assert values[10, 10] > 0.99 and values[30, 20] > 0.99 and values[50, 40] < 0.01


@settings(deadline=None, max_examples=30)
@given(st.floats(10, 90), st.floats(10, 90), st.floats(-60, 60), st.sampled_from(["point", "box",
                                                                                "mask"]))
def test_cues_move_with_the_crop_and_the_flip(x, y, angle, kind):
    """A cue rendered in a crop peaks where the crop's matrix takes it; mirrored, it is mirrored."""
    mask = np.zeros((100, 100), np.float32)
    mask[int(y) - 5:int(y) + 6, int(x) - 5:int(x) + 6] = 1
    cue = {"point": Cue.point(x, y), "box": Cue.box((x - 6, y - 6, 12, 12)),
           "mask": Cue.mask(mask)}[kind]
    box = geometry.pad(torch.tensor([[x - 25.0, y - 30.0, 55.0, 60.0]]))
    matrix = geometry.crop_matrix(box, SIZE, torch.tensor([angle]))
    place = geometry.apply(matrix, torch.tensor([[[x, y]]]))[0, 0]
    values = render(cue, matrix)
    grid = geometry.pixel_grid(SIZE, values)
    mean = (grid * values.reshape(-1, 1)).sum(0) / values.sum()
    assert (mean - place).abs().max() < 1.0
    mirrored = matrix * torch.tensor([[-1.0], [1.0]])  # x -> width - 1 - x
    mirrored[:, 0, 2] += SIZE[0] - 1
    torch.testing.assert_close(render(cue, mirrored), values.flip(-1), atol=2e-3, rtol=1e-3)


def test_points_have_the_gradient_of_finite_differences():
    points = torch.tensor([[[20.0, 30.0], [10.0, 12.0]]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    weights = torch.rand(1, 1, 64, 48, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda p: (point_maps(p, labels, SIZE, 3.0) * weights).sum(), points)


@pytest.mark.parametrize("make", [
    lambda: Cue.point(float("nan"), 1), lambda: Cue.points([]),
    lambda: Cue.points([(1, 2)], [1, 1]), lambda: Cue.points([(1, 2, 3), (4, 5, 6)]),
    lambda: Cue.points([1, 2, 3]), lambda: Cue.points("here"), lambda: Cue.box("all of it"),
    lambda: Cue.mask([[1, 0], [1]]), lambda: Cue.pose("standing"),
    lambda: Cue.box((1, 2, 0, 4)), lambda: Cue.mask(np.zeros((4, 4))), lambda: Cue.mask([1, 2]),
    lambda: Cue.point([], []), lambda: Cue.mask(-np.ones((3, 3))),
    lambda: Cue.points(torch.ones(1, 2, requires_grad=True)),
    lambda: Cue.pose([[1, 2, 0]]), lambda: Cue.pose([1, 2, 3])])
def test_unusable_cues_are_refused(make):
    with pytest.raises(DataError):
        make()


def test_a_cue_does_not_change_with_what_it_was_made_of():
    xy = np.array([[5, 6]], np.float32)
    cue, box = Cue.points(xy), np.array([1, 2, 3, 4], np.float32)
    boxed = Cue.box(box)
    xy[:] = box[:] = 0
    assert cue.xy.tolist() == [[5, 6]] and boxed.xywh.tolist() == [1, 2, 3, 4]


def people(count: int, apart=(200.0, 0)) -> Items:
    """People whose joints lie in a 20 x 30 block of the crop; neighbours stand `apart`."""
    generator = torch.Generator().manual_seed(1)
    xy = torch.rand(count, 17, 2, generator=generator) * torch.tensor([20.0, 30.0]) + 8
    keypoints = torch.cat([xy, torch.full((count, 17, 1), 2.0)], -1)
    masks = torch.zeros(count, 1, 64, 48, dtype=torch.uint8)
    masks[:, :, 8:38, 8:28] = 255
    return Items(crops=None, masks=masks, keypoints=keypoints,
                 neighbours=keypoints + torch.tensor([*apart, 0]),
                 areas=torch.full((count,), 600.0),
                 boxes=torch.tensor([[8.0, 8, 20, 30]]).expand(count, -1),
                 matrices=IDENTITY.expand(count, -1, -1), lights=None, kinds=None)


def draw(kind: str, count=200, seed=0, **shown) -> torch.Tensor:
    kinds = torch.full((count,), KINDS.index(kind))
    return draw_cues(people(count, **shown), kinds, torch.tensor(COCO17.sigmas), SIZE, 2.0,
                     torch.Generator().manual_seed(seed))[:, 0]


def test_a_mix_draws_kinds_as_often_as_it_says():
    weights = {kind.replace("-", "_"): 0.0 for kind in KINDS} | {"joint": 3.0, "pose": 1.0}
    mix = CueMix(**weights)
    random = np.random.default_rng(0)
    kinds = [KINDS[mix.draw(random)] for _ in range(4000)]
    assert set(kinds) == {"joint", "pose"} and abs(kinds.count("joint") / 4000 - 0.75) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_training_cues_lie_on_the_person_and_are_seeded(kind):
    maps = draw(kind)
    assert torch.equal(maps, draw(kind))
    assert kind in ("mask", "centroid", "box", "none") or not torch.equal(maps, draw(kind, seed=1))
    assert maps.abs().max() <= 1
    if kind == "none":
        assert not maps.any()
    else:
        block = maps[:, 2:44, 2:34].clamp(min=0).sum((1, 2))
        assert (block / maps.clamp(min=0).sum((1, 2)) > 0.7).all()


def test_mask_kinds_lie_inside_the_mask():
    for kind in ("interior", "centroid"):
        peaks = draw(kind).flatten(1).argmax(1)
        x, y = peaks % 48, peaks // 48
        assert ((x >= 7) & (x <= 28) & (y >= 7) & (y <= 38)).all()


def test_negatives_lie_on_the_neighbour_where_the_crop_shows_one():
    assert (draw("points", apart=(14.0, 22.0)).amin((1, 2)) < -0.5).all()
    assert draw("points").min() == 0


@pytest.mark.parametrize("kind", ["joint", "any-joint", "points", "pose"])
def test_points_are_chosen_among_what_lies_in_the_crop(kind):
    """Of somebody who stands half outside."""
    items = people(200)
    items.keypoints[:, :16, 0] -= 60
    kinds = torch.full((200,), KINDS.index(kind))
    maps = draw_cues(items, kinds, torch.tensor(COCO17.sigmas), SIZE, 2.0,
                     torch.Generator().manual_seed(0))
    assert (maps.amax((1, 2, 3)) > 0.5).all()


def test_oks_jitter_has_the_promised_oks():
    """The joints' OKS terms after the jitter are uniform in [0.5, 1]."""
    data, sigmas = people(2000), torch.tensor(COCO17.sigmas)
    moved = oks_jitter(data.keypoints[..., :2], data.areas, sigmas,
                       torch.Generator().manual_seed(0))
    for k in (0, 9, 16):
        terms = oks(moved[:, k:k + 1], data.keypoints[:, k:k + 1], data.areas, sigmas[k:k + 1])
        assert terms.min() > 0.5 - 1e-4
        assert abs(terms.mean().item() - 0.75) < 0.02
