"""The cue network's targets and peaks, against brute force; its training, and its cues."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite import PoseEstimator, load_model, save_model
from hintpose_lite.cues.cue import Cue
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import CheckpointError, ConfigError, RunError
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos.cue_network import (
    SPEC,
    Company,
    CueNetwork,
    find_peaks,
    first_network,
    network_for,
    people_maps,
    train_cuenet,
)
from hintpose_lite.pose.skeleton import COCO17, Skeleton
from hintpose_lite.training.config import TrainConfig


def peaks_by_hand(heat: np.ndarray, low: float, most: int) -> list[tuple]:
    """(height, x, y) of the pixels that nothing within two pixels exceeds, highest first."""
    found = []
    for y, x in np.ndindex(heat.shape):
        about = heat[max(0, y - 2):y + 3, max(0, x - 2):x + 3]
        if heat[y, x] >= low and heat[y, x] == about.max():
            near = [(heat[b, a], a, b) for b in range(y - 1, y + 2) for a in range(x - 1, x + 2)
                    if 0 <= b < heat.shape[0] and 0 <= a < heat.shape[1]]
            mass = sum(max(0, h) for h, *_ in near)
            found.append((heat[y, x], x + sum(max(0, h) * (a - x) for h, a, _ in near) / mass,
                          y + sum(max(0, h) * (b - y) for h, _, b in near) / mass))
    return sorted(found, reverse=True)[:most]


@pytest.mark.parametrize("name, cues", [("crowd-tiny", "crowd-cues"),
                                        ("people-small", "people-cues")])
def test_a_pose_network_gets_cues_from_one_that_was_trained_on_the_same(name, cues, tmp_path):
    model = load_model(name)
    assert network_for(model) == cues
    assert network_for(load_model(save_model(model, tmp_path / "mine.safetensors"))) == cues


@given(st.integers(0, 10_000), st.integers(5, 12), st.integers(5, 12), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_peaks_are_those_of_a_search_by_hand(seed, height, width, most):
    maps = torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    points, heights = find_peaks(maps, 0.3, most)
    for k in range(2):
        expected = peaks_by_hand(maps[k, 0].numpy(), 0.3, most)
        known = heights[k] > 0
        assert known.sum() == len(expected)
        got = torch.cat([heights[k, known, None], points[k, known]], 1)
        assert torch.allclose(got, torch.tensor(expected).view(-1, 3).float(), atol=1e-4)


def test_of_equal_neighbours_one_is_a_peak():
    maps = torch.zeros(1, 1, 8, 9)
    maps[0, 0, 3, 4:6], maps[0, 0, 7, 8] = 0.9, 0.8
    points, heights = find_peaks(maps, 0.3, 4)
    assert heights[0].tolist() == pytest.approx([0.9, 0.8, 0, 0])
    assert torch.allclose(points[0, :2], torch.tensor([[4.5, 3], [8, 7]]))


def test_targets_have_a_peak_a_person_that_is_there_and_inside():
    points = torch.tensor([[[40.0, 60.0], [20.0, 20.0], [-3.0, 50.0], [70.0, 100.0]]])
    maps = people_maps(points, torch.tensor([[True, True, True, False]]), SPEC)
    assert maps.shape == (1, 1, 32, 24)
    found, heights = find_peaks(maps, 0.3)
    assert (heights > 0.3).sum() == 2
    assert torch.allclose(found[0, :2] * 4, points[0, :2], atol=0.4)
    assert heights[0, :2] == pytest.approx(1.0, abs=0.01)


def test_the_company_of_a_person_is_everybody_in_the_picture(crowd):
    company = Company(crowd, TrainConfig(spec=SPEC))
    for row in range(len(crowd)):
        mates = np.flatnonzero(crowd.image_ids == crowd.image_ids[row])
        known = company.middles[row][:, 2] > 0
        assert known.sum() == len(mates)
        for mate, (x, y) in zip(mates, company.middles[row][known, :2].tolist(), strict=True):
            assert crowd[mate].mask()[round(y), round(x)]
    boxes = [company.draw_box(crowd[0], None, np.random.default_rng(i)).tolist()
             for i in range(400)]
    whole = [box == [0, 0, *crowd[0].image_size] for box in boxes]
    assert 0.15 < np.mean(whole) < 0.35


def test_training_is_repeatable_learns_and_keeps_what_exists(crowd, tmp_path):
    paths = [train_cuenet(crowd, tmp_path / f"{name}.safetensors", steps=12, batch=8,
                          seed=3, progress=False) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    fresh = HintPose.from_spec(SPEC).state_dict()["final_layer.weight"]
    assert not torch.equal(load_model(paths[0]).state_dict()["final_layer.weight"], fresh)
    with pytest.raises(CheckpointError):
        train_cuenet(crowd, paths[0], steps=1, progress=False)
    with pytest.raises(RunError):
        train_cuenet(crowd, tmp_path / "c.safetensors", steps=30, batch=4, lr=1e20,
                     progress=False)
    assert not (tmp_path / "c.safetensors").exists()
    for overwrite in (False, True):  # told before the work, which here would not end
        with pytest.raises(CheckpointError):
            train_cuenet(crowd, tmp_path / "c.pt", steps=10**9, overwrite=overwrite)


def test_a_pose_network_gives_its_layers():
    trained, first = load_model("people-small"), first_network("people-small")
    assert first.spec.joints == first.spec.hops == 1 and first.spec.calibration == (1, 0)
    assert first.spec.input_size == trained.spec.input_size
    state, given = first.state_dict(), trained.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in state.items()
               if not name.startswith("final_layer"))
    assert state["final_layer.weight"].shape[0] == 1
    assert CueNetwork(first).model is first


def test_people_of_another_skeleton_teach_it_as_well(crowd, tmp_path):
    """Eleven of COCO's joints: no hips, no legs."""
    content = json.loads(crowd.annotations.read_text())
    for entry in content["annotations"]:
        entry["keypoints"] = entry["keypoints"][:33]
    content["categories"][0] |= {"keypoints": COCO17.names[:11]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    upper = Skeleton(COCO17.names[:11], COCO17.swaps[:5], (), COCO17.sigmas[:11])
    persons = CocoPersons(tmp_path / "a.json", crowd.images, upper)
    out = train_cuenet(persons, tmp_path / "c.safetensors", steps=1, batch=4,
                       progress=False)
    assert out.exists()


@pytest.fixture
def network(tmp_path):
    """A cue network that says 0.9 in the middle of each crop and nothing elsewhere."""
    model = HintPose.from_spec(SPEC).eval()
    maps = torch.zeros(1, 1, 1, 32, 24)
    maps[..., 16, 12] = 0.9
    model.forward = lambda images, *_: maps.expand(1, len(images), 1, 32, 24)
    return CueNetwork(model)


def test_peaks_become_cues_in_picture_pixels(network):
    picture = np.zeros((100, 120, 3), np.uint8)
    cues = network(picture, np.array([[10, 20, 30, 40], [50, 0, 60, 80]]))
    assert [len(own) for own in cues] == [1, 1] and network(picture, np.zeros((0, 4))) == []
    for own, middle in zip(cues, ([25, 40], [80, 40]), strict=True):
        assert own[0].kind == "points" and np.abs(own[0].xy[0] - middle).max() < 5


def test_an_estimator_asks_for_everybody_the_network_names(network):
    poses = PoseEstimator("crowd-tiny", source=network)(np.zeros((100, 120, 3), np.uint8))
    assert len(poses) == 1 and isinstance(poses[0].cue, Cue)


def test_other_networks_are_refused(tmp_path):
    with pytest.raises(ConfigError):
        CueNetwork("crowd-tiny")
    with pytest.raises(ConfigError, match="low=0"):
        CueNetwork(save_model(HintPose.from_spec(SPEC), tmp_path / "m.safetensors"), low=0)
