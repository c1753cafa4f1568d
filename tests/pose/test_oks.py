"""OKS against the formula and pycocotools; suppression and rescoring against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from hintpose_lite.pose.oks import oks, oks_nms, rescore
from hintpose_lite.pose.skeleton import COCO17

few = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**31 - 1)


def people(seed, count, joints=17, spread=30.0):
    """Random predictions (N,K,2), truths (N,K,3) with some joints unlabelled, areas (N,)."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 200, (count, joints, 2))
    visibility = rng.integers(0, 3, (count, joints, 1))
    truth = np.concatenate([points, visibility], -1)
    predicted = points + rng.normal(0, spread, points.shape)
    return [torch.from_numpy(a) for a in (predicted, truth, rng.uniform(10, 9e3, count))]


def oks_by_loops(predicted, truth, area, sigmas):
    terms = [np.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * area * (2 * s) ** 2))
             for (px, py), (x, y, v), s in zip(predicted, truth, sigmas, strict=True) if v > 0]
    return sum(terms) / len(terms) if terms else 0.0


def nms_by_loops(keypoints, scores, areas, sigmas, threshold, images, limit):
    ones = np.ones((keypoints.shape[1], 1))
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if images[j] == images[i]]
        clash = any(oks_by_loops(keypoints[i], np.concatenate([keypoints[j], ones], -1),
                                 (areas[i] + areas[j]) / 2, sigmas) > threshold for j in rivals)
        if not clash:
            kept.append(i)
    return [i for n, i in enumerate(kept)
            if sum(images[j] == images[i] for j in kept[:n]) < limit]


@few
@given(seeds, st.integers(0, 5), st.sampled_from([17, 14, 1]))
def test_oks_is_the_formula(seed, count, joints):
    predicted, truth, areas = people(seed, count, joints)
    sigmas = np.linspace(.02, .1, joints)
    expected = [oks_by_loops(*person, sigmas)
                for person in zip(predicted.numpy(), truth.numpy(), areas.numpy(), strict=True)]
    assert oks(predicted, truth, areas, sigmas).numpy() == pytest.approx(np.array(expected))


def test_oks_equals_pycocotools():
    predicted, truth, areas = people(3, 12)
    truth[:, 0, 2] = 2  # COCO handles persons without joints in another way
    cocoeval = COCOeval(iouType="keypoints")
    cocoeval._gts[1, 1] = [dict(keypoints=t.flatten().tolist(), bbox=[0, 0, 9, 9], area=float(a))
                           for t, a in zip(truth, areas, strict=True)]
    cocoeval._dts[1, 1] = [dict(keypoints=torch.nn.functional.pad(p, (0, 1)).flatten().tolist(),
                                score=1 - i / 100) for i, p in enumerate(predicted)]
    ours = oks(predicted[:, None], truth[None], areas[None], COCO17.sigmas)
    assert ours.shape == (12, 12)
    assert ours.numpy() == pytest.approx(cocoeval.computeOks(1, 1), abs=1e-12)


def test_oks_of_odd_people():
    predicted, truth, areas = people(0, 4)
    truth[..., 2] = 1
    predicted[0] = truth[0, :, :2]
    truth[1, :, 2] = 0
    predicted[2, 5] = torch.nan
    areas[3] = 0
    assert oks(predicted, truth, areas, COCO17.sigmas).tolist() == [1, 0, 0, 0]
    truth[2, 5, 2] = 0  # a NaN where nothing is labelled does not matter
    assert oks(predicted, truth, areas, COCO17.sigmas)[2] > 0
    with pytest.raises(ValueError, match="14 sigmas"):
        oks(predicted, truth, areas, COCO17.sigmas[:14])


@few
@given(seeds, st.integers(0, 24), st.integers(1, 3), st.floats(0.05, 0.95), st.integers(1, 30))
def test_nms_is_the_greedy_one(seed, count, pictures, threshold, limit):
    rng = np.random.default_rng(seed)
    pose = rng.uniform(0, 50, (4, 17, 2))[rng.integers(0, 4, count)]
    keypoints = pose + rng.normal(0, rng.uniform(0, 8), pose.shape)
    scores = rng.integers(0, 6, count) / 5.0  # many ties
    areas, images = rng.uniform(200, 4e3, count), rng.integers(0, pictures, count)
    expected = nms_by_loops(keypoints, scores, areas, COCO17.sigmas, threshold, images, limit)
    arrays = [torch.from_numpy(a) for a in (keypoints, scores, areas)]
    kept = oks_nms(*arrays, COCO17.sigmas, threshold, torch.from_numpy(images), limit)
    assert kept.tolist() == expected


def test_a_suppressed_pose_suppresses_nobody():
    chain = torch.zeros(3, 17, 2)
    chain[1, :, 0], chain[2, :, 0] = 6, 12
    areas, scores = torch.full((3,), 4000.0), torch.tensor([.9, .8, .7])
    near = oks(chain[0], torch.cat([chain[1], torch.ones(17, 1)], 1), areas[0], COCO17.sigmas)
    far = oks(chain[0], torch.cat([chain[2], torch.ones(17, 1)], 1), areas[0], COCO17.sigmas)
    threshold = float(near + far) / 2
    assert oks_nms(chain, scores, areas, COCO17.sigmas, threshold).tolist() == [0, 2]
    apart = torch.tensor([7, 8, 7])
    assert oks_nms(chain, scores, areas, COCO17.sigmas, threshold, apart).tolist() == [0, 1, 2]


@few
@given(seeds)
def test_rescore_is_the_loop(seed):
    rng = np.random.default_rng(seed)
    boxes, joints = rng.uniform(0, 1, 6), rng.uniform(0, .5, (6, 5))
    joints[0], joints[1, 0] = .1, .2  # nobody above the threshold; exactly on it
    expected = []
    for box, row in zip(boxes, joints, strict=True):
        above = [s for s in row if s > .2]
        expected.append(box * sum(above) / len(above) if above else 0)
    assert rescore(torch.from_numpy(boxes), torch.from_numpy(joints)).tolist() == pytest.approx(
        expected)
    assert expected[0] == 0
