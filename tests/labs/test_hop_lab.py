"""The chapter of the hops: what is counted, what is drawn, and the lab by its values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.labs.hop_lab import (
    HopLab,
    conv_costs,
    hop_figure,
    interval,
    run_hops,
    shared_scene,
    turned,
    unrolled_figure,
)
from hintpose_lite.labs.scene import pair_scene
from hintpose_lite.labs.widgets import encoded
from hintpose_lite.model.hintpose import HintPose


@pytest.fixture(scope="module")
def run(model):
    return run_hops(model, pair_scene(), 1, hops=4)


def test_passes_and_multiplications_of_hops_are_counted():
    with torch.device("meta"):
        net = HintPose(width=32)
    passes, macs = {}, {}
    for hops in (1, 3):
        costs = conv_costs(net, (192, 256), hops)
        passes[hops] = [cost["passes"] for cost in costs.values()]
        macs[hops] = {part: cost["macs"] for part, cost in costs.items()}
    assert list(costs) == ["stem and layer1", "feedback", "stages"]
    assert passes == {1: [1, 0, 1], 3: [1, 2, 3]}
    # 256 features and 64 extracted channels to 256; 17 heatmaps to 64 channels; at 48 x 64 pixels
    assert macs[3]["feedback"] == 2 * 48 * 64 * (320 * 256 + 17 * 64)
    assert macs[3]["stages"] == 3 * macs[1]["stages"]
    refinement = 192 * 256 * 9 * (4 * 16 + 16 * 3)
    total = sum(macs[1].values()) - refinement
    assert round(total / 1e9, 3) == 7.645  # the plain network's, see tests/parity/test_macs.py
    assert net.conv1.weight.is_meta and not net.conv1._forward_hooks  # the network is left alone


def test_the_network_that_is_counted_stays_as_it_is(model):
    conv_costs(model, (96, 128))
    assert not any(p.is_meta for p in model.parameters())


def test_a_scene_of_a_data_set_is_a_person_and_their_partner(model, tmp_path):
    people = make_crowd(tmp_path / "crowd", images=6, seed=1, workers=1)
    row = int(np.flatnonzero(people.partner >= 0)[0])
    scene, pair = shared_scene(people, row), [row, people.partner[row]]
    assert np.array_equal(scene.people, people.keypoints[pair])
    assert np.array_equal(scene.areas, people.areas[pair].astype(np.float32))
    low, high = people.boxes[pair][:, :2].min(0), people.boxes[pair][:, :2].max(0)
    assert np.array_equal(scene.box[:2], low) and (scene.box[:2] + scene.box[2:] >= high).all()
    assert run_hops(model, scene, 0, hops=1).near.shape == (1, 2)


def test_the_search_takes_good_poses_that_change_most():
    quality = torch.tensor([[0.1, 0.5, 0.9, 0.7, 0.5], [0] * 5, [0.5, 0.7, 0.8, 0.4, 0.1]])
    assert turned(quality) == [1, 3]  # 0 rises more, but is not good; 4 falls more, but was not
    assert turned(quality, least=0) == [0, 4]
    assert turned(quality.flip(0)) == [3, 1]


def test_an_interval_is_that_of_pictures():
    random = np.random.default_rng(0)
    values, draws = random.normal(5, 2, 400), random.integers(400, size=(2000, 400))
    low, high = interval(values, np.arange(400), draws)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    fourfold = np.repeat(values[:100], 4)  # four times the people, and no more pictures
    low, high = interval(fourfold, np.arange(400) // 4, draws[:, :100] % 100)
    assert high - low == pytest.approx(2 * 1.96 * values[:100].std() / 10, rel=0.1)


def test_a_hop_is_drawn_with_its_own_numbers(run):
    assert run.near.shape == (4, 2)
    assert (run.near[1:, 1] > run.near[1:, 0]).all()  # person 1 is asked for
    figure = hop_figure(run, 3, joint=9)
    crop, heat, line = figure.axes
    assert crop.get_title() == "pose after hop 3"
    assert heat.get_title().startswith("left wrist, peak ")
    for person in (0, 1):
        np.testing.assert_allclose(line.lines[person].get_ydata(), run.near[:3, person], rtol=1e-6)
    assert len(hop_figure(run, 2).axes[2].lines[0].get_xdata()) == 2  # what comes is not told
    one, whole = (axis.images[0].get_array() for axis in (heat, hop_figure(run, 3).axes[1]))
    assert (one != whole).any()
    assert figure.get_label().startswith("Hop 3: nearer to B (OKS: A ")
    assert "moved" not in hop_figure(run, 1).get_label()


def test_joints_that_went_more_than_two_pixels_have_moved(run):
    points = run.points[:1].repeat(3, 1, 1)
    points[1:, 5] += 20  # from hop 1 to 2, which does not count for hop 3
    points[2, :3, 0] += torch.tensor([1.9, 2.1, 9.0])
    label = hop_figure(SimpleNamespace(**{**vars(run), "points": points}), 3).get_label()
    assert label.endswith("; 2 of 17 joints have moved since the hop before.")


def test_without_a_cue_none_is_given(model):
    assert run_hops(model, pair_scene(), None, hops=1).cue.kind == "none"


def test_the_unrolled_picture_has_every_hop():
    texts = [text.get_text() for text in unrolled_figure(4).axes[0].texts]
    assert sum(text.startswith("heatmaps") for text in texts) == 4
    assert texts.count("+") == texts.count("Update\n1×1") == 3
    assert texts.count("stem,\nlayer1") == 1 and len(encoded(unrolled_figure(), "PNG")) > 5000


def test_the_lab_asks_once_and_steps_through(model, monkeypatch):
    asked = []

    def watched(*settings):
        asked.append(settings[2])
        return run_hops(*settings, hops=6)
    monkeypatch.setattr("hintpose_lite.labs.hop_lab.run_hops", watched)
    lab = HopLab(model, {"one": pair_scene(), "two": pair_scene(1)})
    assert not lab.errors and "Hop 1: " in lab.status.value and asked == [0]
    before = lab.still.value
    lab.controls.hop.value = 6
    assert asked == [0] and "Hop 6: " in lab.status.value and lab.still.value != before
    lab.set(cue="on B", hop=3)
    assert asked == [0, 1] and "nearer to B" in lab.status.value and lab.run.asked == 1
    before = lab.still.value
    lab.controls.joint.value = "left_wrist"
    assert lab.still.value != before
    lab.set(cue="none", scene="two")
    assert asked == [0, 1, None] and lab.run.asked is None and not lab.errors
    assert repr(lab) == "HopLab()"
