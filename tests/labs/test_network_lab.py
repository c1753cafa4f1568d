"""The diagram's shapes, what is cut from the block's change, and the lab by its values."""

import numpy as np
import pytest
import torch
from torch import nn

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.cues.cue import Cue
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.labs.network_lab import (
    PARTS,
    BlockLab,
    block_parts,
    block_runner,
    change_figure,
    cueless_floor,
    gradient_sizes,
    keeping,
    near_cue,
    network_figure,
    network_shapes,
)
from hintpose_lite.labs.quiz import piece
from hintpose_lite.labs.scene import cue_frame, pair_scene
from hintpose_lite.model.hintpose import HintPose, InputRefinement
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
    everything, close, mark, repainting, nothing = kept.values()
    assert torch.equal(everything, change) and torch.allclose(mark + repainting, change)
    assert torch.equal(repainting, block_parts(model, scene, None)[2]) and not nothing.any()
    assert torch.equal(close[:, cues[0] > 0.01], change[:, cues[0] > 0.01])
    assert close.any() and not close[:, cues[0] < 1e-6].any()
    with pytest.raises(ZeroDivisionError), keeping(model, "nothing"):
        1 / 0  # noqa: B018
    assert torch.equal(block_parts(model, scene, cue)[2], change)


def test_near_is_two_pixels_from_what_can_be_seen_of_the_cue():
    cues = torch.zeros(2, 1, 9, 7)
    cues[0, 0, 4, 3], cues[1, 0, 0, 0], cues[1, 0, 8, 6] = 1, -1, 0.009
    near = near_cue(cues)
    assert near[0, 0].sum() == 25 and near[0, 0, 2:7, 1:6].all()
    assert near[1, 0].sum() == 9 and near[1, 0, :3, :3].all()


def test_the_change_is_what_the_network_adds(model, scene):
    cue, seen = Cue.point(*scene.middle(0)), []
    crop, _, change = block_parts(model, scene, cue)
    hook = model.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with hook:
        cue_frame(model, scene, cue, hops=1)
    assert torch.allclose(seen[0], crop + change, atol=1e-4)


@pytest.mark.parametrize("number", range(3))
def test_the_lesson_repainted_everywhere_marked_near_the_cue(model, number):
    scene = pair_scene(number)
    _, _, without = block_parts(model, scene, None)
    for person in (0, 1):
        _, cues, change = block_parts(model, scene, Cue.point(*scene.middle(person)))
        mark, away = change - without, ~near_cue(cues[None])[0]
        assert away.float().mean() > 0.85
        assert ((change * away) ** 2).sum() > 0.8 * (change ** 2).sum()
        assert (mark ** 2).sum() < 0.1 * (change ** 2).sum()
        assert (mark * away).abs().max() < 0.01 * mark.abs().max()


def test_the_lesson_the_mark_says_who_and_the_repainting_is_needed(model, tmp_path):
    crowd, found = make_crowd(tmp_path / "crowd", images=24, seed=7, workers=1), {}
    for part in PARTS[:4]:
        with keeping(model, part):
            found[part] = evaluate(model, crowd, protocol="shared", flip=False, hops=1).identity
    everything, near, mark, repainting = found.values()
    assert everything["accuracy"] > 0.8 and near["accuracy"] > 0.65
    assert mark["meant"] > mark["other"] and abs(repainting["accuracy"] - 0.5) < 0.1
    assert everything["ap"] > 2 * max(row["ap"] for row in (near, mark, repainting))


def test_a_block_of_ones_own_is_run_like_the_packages():
    class Mine(InputRefinement):
        pass

    trained, features = InputRefinement(4, 2), torch.randn(2, 4, 8, 8)
    nn.init.normal_(trained.correct.weight)
    fresh = 4, 2, None, features, torch.rand(2, 1, 8, 8)
    loaded = 4, 2, trained.state_dict(), *fresh[3:]
    run = block_runner(Mine)
    assert run.__name__ == "Mine" and not run(*fresh).any()
    assert torch.equal(run(*loaded), trained.eval()(*fresh[3:]))
    assert piece(run, block_runner(InputRefinement), {"both": loaded}).make is Mine

    class Unwritten(nn.Module):
        def __init__(self, channels, hidden):
            super().__init__()

        def forward(self, features, cues):
            ...

    assert piece(block_runner(Unwritten), block_runner(InputRefinement),
                 {"a": loaded}).make is InputRefinement


def test_gradients_are_compared_by_their_largest_value():
    net, x = nn.Linear(1, 1), torch.tensor([[1.0], [3.0]])
    net.weight.data.fill_(2.0), net.bias.data.zero_()
    expected = (2 * (2 * x - 1) * x).mean()  # of (w x - 1)^2
    assert gradient_sizes(net, (x,), torch.ones(2, 1)).tolist() == pytest.approx([expected.item()])
    assert net.weight.grad is None


def test_the_floor_is_what_no_common_answer_gets_below():
    targets = torch.rand(4, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    labelled = torch.tensor([[1., 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]])
    answer = torch.zeros(2, 3, 5, 4, requires_grad=True)
    optimiser = torch.optim.LBFGS([answer], max_iter=100, tolerance_grad=1e-9)

    def loss():
        optimiser.zero_grad()
        errors = (answer.repeat_interleave(2, 0) - targets) ** 2 * labelled[..., None, None]
        found = 0.5 * errors.mean()
        (1000 * found).backward()
        return found

    optimiser.step(loss)
    assert cueless_floor(targets, labelled).item() == pytest.approx(loss().item(), rel=1e-3)


def test_the_figure_shows_crop_sum_and_signed_green():
    spec, crop, change = HintPose(**SMALL).spec, torch.zeros(3, 8, 6), torch.zeros(3, 8, 6)
    change[0], change[1, :4], change[1, 4:] = 4.0, 4.0, -4.0
    pictures = change_figure(spec, crop, {"here": change, "none": change * 0}).axes[:4]
    titles = [axis.get_title() for axis in pictures]
    assert titles == ["crop + here", "crop + none", "here: added to green", "none: added to green"]
    here, plain, shades, white = (np.asarray(axis.images[0].get_array()) for axis in pictures)
    mean = np.array(spec.mean)
    assert plain[0, 0] == pytest.approx(mean, abs=1e-6)
    assert here[0, 0] == pytest.approx((mean + [0.916, 0.896, 0]).clip(0, 1), abs=1e-6)
    assert shades[0, 0, 0] > shades[0, 0, 2] and shades[7, 0, 2] > shades[7, 0, 0]
    assert np.ptp(white[0, 0, :3]) < 0.02
    assert len(change_figure(spec, crop, {"here": change}).axes) == 3  # two, and the colour bar


def test_the_lab_follows_its_controls_and_tells_its_errors(model, scene):
    lab = BlockLab(model, scene)
    assert not lab.errors and repr(lab) == "BlockLab()" and "kept: everything" in lab.status.value
    whole, shown = lab.added, lab.change.value
    lab.controls.keep.value = "near the cue"
    assert not torch.equal(lab.added, whole) and lab.change.value != shown
    assert "near the cue" in lab.status.value and "near the cue" in lab.change.value
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
