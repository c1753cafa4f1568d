"""The chapter of the hops: what is counted, what is drawn, and the lab by its values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hintpose_lite.labs.hop_lab import HopLab, conv_costs, hop_figure, run_hops, unrolled_figure
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


def test_distances_and_oks_are_the_hops_own(run):
    assert run.near.shape == (4, 2) and run.errors.shape == (4, 2, 17)
    assert (run.near[1:, 1] > run.near[1:, 0]).all()  # person 1 is asked for
    truth = run.scene.people[1]
    far = (run.points[2] - truth[:, :2]).norm(dim=1)
    far[truth[:, 2] == 0] = torch.nan
    assert far.isnan().any() and far.isfinite().any()
    np.testing.assert_allclose(run.errors[2, 1], far, rtol=1e-6)


def test_a_hop_is_drawn_with_its_own_numbers(run):
    figure = hop_figure(run, 3, joint=9)
    crop, heat, far, line = figure.axes
    assert crop.get_title() == "hop 3" and heat.get_title().startswith("left wrist, peak ")
    drawn = np.array([bar.get_width() for bar in far.patches])
    np.testing.assert_allclose(drawn, run.errors[2, 1], rtol=1e-6)
    for person in (0, 1):
        np.testing.assert_allclose(line.lines[person].get_ydata(), run.near[:3, person], rtol=1e-6)
    assert len(hop_figure(run, 2).axes[3].lines[0].get_xdata()) == 2  # what comes is not told
    assert line.lines[2].get_xdata()[0] == 3
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


def test_without_a_cue_the_nearer_person_is_the_measure(model):
    run = run_hops(model, pair_scene(), None, hops=2)
    nearer = "AB"[int(run.near[1].argmax())]
    assert hop_figure(run, 2).axes[2].get_title() == f"distance to {nearer} (the nearer)"
    assert run.cue.kind == "none"


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
    lab = HopLab(model)
    assert not lab.errors and "Hop 1: " in lab.status.value and asked == [0]
    before = lab.still.value
    lab.controls.hop.value = 6
    assert asked == [0] and "Hop 6: " in lab.status.value and lab.still.value != before
    lab.set(cue="on B", hop=3)
    assert asked == [0, 1] and "nearer to B" in lab.status.value and lab.run.asked == 1
    before = lab.still.value
    lab.controls.joint.value = "left_wrist"
    assert lab.still.value != before
    lab.set(cue="none", scene=1)
    assert asked == [0, 1, None] and lab.run.asked is None and not lab.errors
    assert repr(lab) == "HopLab()"
