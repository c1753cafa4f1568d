"""The diagram's shapes, what is cut from the block's change, and the lab by its values."""

import numpy as np
import pytest
import torch

from hintpose_lite.cues.cue import Cue
from hintpose_lite.labs.network_lab import (
    PARTS,
    BlockLab,
    block_parts,
    change_figure,
    keeping,
    network_figure,
    network_shapes,
)
from hintpose_lite.labs.scene import cue_frame
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.weights.weights import load_model

SMALL = {"width": 4, "stem": 8, "modules": (1, 2, 1), "blocks": 1}


def test_shapes_are_those_of_the_network_and_leave_it_alone():
    net = HRNet(**SMALL)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert network_shapes(net, (64, 96)) == {
        "image": [(3, 96, 64)], "stem": [(8, 24, 16)], "layer1": [(32, 24, 16)],
        "stage2": [(4, 24, 16), (8, 12, 8)], "stage3": [(4, 24, 16), (8, 12, 8), (16, 6, 4)],
        "stage4": [(4, 24, 16), (8, 12, 8), (16, 6, 4), (32, 3, 2)], "heatmaps": [(17, 24, 16)]}
    assert net.training and not net.layer1._forward_pre_hooks
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("settings, links", [
    ({"cue": False}, 0), ({"cue_level": "image"}, 3), ({"cue_level": "stem"}, 3)])
def test_the_diagram_shows_every_branch_and_every_fusion(settings, links):
    axis, = network_figure(HintPose(hops=1, **SMALL, **settings)).axes
    texts = [text.get_text() for text in axis.texts]
    assert {"4\n48×64", "8\n24×32", "16\n12×16", "32\n6×8"} < set(texts)
    assert "stage 3\nmodules: 2" in texts and ("cue" in texts) == (links > 0)
    kinds = [line.get_label() for line in axis.lines]
    assert kinds.count("the addition") == links
    assert kinds.count("smaller") == 3 + (1 + 3 + 0)  # new branches, then fusions of each stage
    assert kinds.count("larger") == 1 + 3 + 3
    marks = {(line.get_label(), line.get_linestyle()) for line in axis.lines}
    assert len({style for _, style in marks}) == len(marks)  # told apart by more than colour


def test_parts_of_the_change_add_up_and_are_cut_only_meanwhile(model, scene):
    cue, kept = Cue.point(*scene.middle(0)), {}
    _, cues, change = block_parts(model, scene, cue)
    for part in PARTS:
        with keeping(model, part):
            kept[part] = block_parts(model, scene, cue)[2]
    everything, near, away, nothing = kept.values()
    assert torch.equal(everything, change) and torch.equal(near + away, change)
    assert not nothing.any() and near.any() and away.any()
    assert torch.equal(near[:, cues[0] > 0.01], change[:, cues[0] > 0.01])
    assert not near[:, cues[0] < 1e-6].any()
    with pytest.raises(ZeroDivisionError), keeping(model, "nothing"):
        1 / 0  # noqa: B018
    assert torch.equal(block_parts(model, scene, cue)[2], change)


def test_the_change_is_what_the_network_adds(model, scene):
    cue, seen = Cue.point(*scene.middle(0)), []
    crop, _, change = block_parts(model, scene, cue)
    hook = model.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with hook:
        cue_frame(model, scene, cue, hops=1)
    assert torch.allclose(seen[0], crop + change, atol=1e-4)


def test_the_change_has_a_mark_at_the_cue_and_is_not_confined_to_it(model, scene):
    _, _, without = block_parts(model, scene, None)
    _, cues, change = block_parts(model, scene, Cue.point(*scene.middle(0)))
    mark, away = (change - without).abs(), cues[0] < 1e-3
    assert mark[:, cues[0] > 0.5].mean() > 10 * mark[:, away].mean()
    assert (change[:, away] ** 2).sum() > (change[:, ~away] ** 2).sum()


def test_the_figure_shows_crop_sum_and_signed_channels():
    spec, crop, change = HintPose(**SMALL).spec, torch.zeros(3, 8, 6), torch.zeros(3, 8, 6)
    change[0], change[2] = 4.0, -4.0
    axis = change_figure(spec, crop, {"here": change, "none": change * 0}).axes[0]
    array = np.asarray(axis.images[0].get_array())
    assert array.shape == (16, 30, 3)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["here", "none"]
    top, mean = array[0, 3::6], np.array(spec.mean)
    assert top[0] == pytest.approx(mean, abs=1e-6)
    assert top[1] == pytest.approx((mean + [0.916, 0, -0.9]).clip(0, 1), abs=1e-6)
    assert top[2][0] > top[2][2] and top[4][2] > top[4][0]  # more is orange, less is purple
    assert np.ptp(top[3]) < 0.02 and np.array_equal(top[3], array[8, 15])  # nothing is white


def test_the_lab_follows_its_controls_and_tells_its_errors(model, scene):
    lab = BlockLab(model, scene)
    assert not lab.errors and repr(lab) == "BlockLab()" and "kept: everything" in lab.status.value
    whole, shown = lab.added, lab.change.value
    lab.controls.keep.value = "only near the cue"
    assert not torch.equal(lab.added, whole) and lab.change.value != shown
    assert "only near the cue" in lab.status.value and "only near the cue" in lab.change.value
    shown = lab.change.value
    lab.controls.gain.value = 4
    assert lab.change.value != shown
    lab.set(keep="nothing")
    assert not lab.added.any()
    lab.set(keep="everything", cued=False, hops=1)
    assert lab.frame.place is None and torch.equal(lab.added, block_parts(model, scene, None)[2])
    assert not lab.errors
    lab.model = load_model("crowd-tiny-nocue")
    lab.refresh()
    assert "error: AttributeError" in lab.status.value and len(lab.errors) == 1
