"""HintPose: starts as its HRNet, learns, runs any number of hops, refuses what makes no sense."""

import itertools
import json
from dataclasses import asdict, replace

import pytest
import torch

from hintpose_lite.errors import CheckpointError, ConfigError
from hintpose_lite.model.hintpose import Ensemble, HintPose, Spec, as_hintpose
from hintpose_lite.model.hrnet import HRNet

SMALL = {"width": 4, "stem": 8, "modules": (1, 1, 1), "blocks": 1}
SWITCHES = [{"cue_level": level, "detach": detach}
            for level, detach in itertools.product(("image", "stem"), (True, False))]
CORRECTIONS = ("input_refinement.correct", "recurrent_refinement.update")


def small(**settings) -> HintPose:
    torch.manual_seed(0)
    return HintPose(joints=3, **{**SMALL, "input_size": (64, 64), **settings})


def batch(n=2):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(n, 3, 64, 64, generator=generator),
            torch.rand(n, 1, 64, 64, generator=generator))


def trained(**settings) -> HintPose:
    """Like a trained one: the corrections are no longer zero, nor the statistics fresh."""
    net = small(**settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.startswith(CORRECTIONS) or name.startswith("final_layer"):
                value.normal_(0, 0.1, generator=generator)
        for name, value in net.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1, generator=generator)
    return net.eval()


# ------------------------------------------------------------------ a fresh one is its HRNet

@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_fresh_equals_hrnet_bit_for_bit_at_every_hop(switches):
    net = small(**switches).eval()
    plain = HRNet(joints=3, **SMALL).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if "refinement" not in k})
    images, cues = batch()
    expected = plain(images)
    assert expected.any()
    for heatmaps in net(images, cues, hops=3):
        assert torch.equal(heatmaps, expected)


def test_hrnet_names_are_a_subset():
    plain, net = HRNet(joints=3, **SMALL), small()
    additions = set(net.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) < set(net.state_dict())
    assert all("refinement" in name for name in additions)


def test_same_seed_same_backbone_whatever_the_additions():
    both, baseline = small(), small(cue=False, hops=1)
    state = both.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in baseline.state_dict().items())


# ------------------------------------------------------------------ and it learns

@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_corrections_learn_at_the_first_step_and_extract_after_one(switches):
    net = small(**switches)
    with torch.no_grad():  # heatmaps of a size that makes gradients easy to see
        net.final_layer.weight.normal_(generator=torch.Generator().manual_seed(3))
    images, cues = batch()
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def gradients():
        optimizer.zero_grad()
        ((net(images, cues) - target) ** 2).mean().backward()
        return {name: p.grad.abs().max().item() for name, p in net.named_parameters()}

    first = gradients()
    optimizer.step()
    second = gradients()
    for correction in CORRECTIONS:
        assert first[f"{correction}.weight"] > 0 and first[f"{correction}.bias"] > 0
    for embedding in ("input_refinement.embed.0.weight", "recurrent_refinement.extract.0.weight"):
        assert first[embedding] == 0 and second[embedding] > 0


def test_cue_and_hops_matter_once_trained():
    net = trained()
    images, cues = batch()
    told, untold = net(images, cues), net(images)
    assert not torch.allclose(told[0], untold[0])
    assert not torch.allclose(told[0], told[1]) and not torch.allclose(told[1], told[2])
    assert torch.equal(untold, net(images, torch.zeros_like(cues)))  # no cue is a map of zeros
    louder = trained(cue_amplitude=2.0)
    assert torch.equal(louder(images, cues), net(images, cues * 2))


@pytest.mark.parametrize("settings", [{}, {"cue_level": "stem"}, {"cue": False}], ids=str)
def test_one_picture_answers_several_questions(settings):
    net = trained(**settings)
    images, cues = batch()
    rows = torch.tensor([1, 0, 1])
    cues = cues[[0, 0, 1]] if net.spec.cue else None
    torch.testing.assert_close(net(images, cues, rows=rows), net(images[rows], cues))
    if net.spec.cue:
        with pytest.raises(ConfigError):
            net(images, cues[:2], rows=rows)


def test_detach_cuts_the_feedback_and_nothing_else():
    images, cues = batch()
    for detach in (True, False):
        net = trained(detach=detach, hops=2)
        given = {}
        net.recurrent_refinement.register_forward_pre_hook(
            lambda _, inputs, given=given: given.update(zip(("features", "heatmaps"), inputs)))
        net(images, cues)
        features, heatmaps = given["features"], given["heatmaps"]
        assert features.requires_grad and heatmaps.requires_grad is not detach


# ------------------------------------------------------------------ hops

@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_any_number_of_hops_and_fewer_are_a_prefix(switches):
    net = trained(**switches)
    images, cues = batch()
    five = net(images, cues, hops=5)
    assert five.shape == (5, 2, 3, 16, 16)
    for hops in (1, 3):
        assert torch.equal(net(images, cues, hops=hops), five[:hops])
    assert len(net(images, cues)) == net.spec.hops == 3


def test_first_hop_reads_f_without_update():
    net = trained()
    images, cues = batch()
    expected = net.final_layer(net.head(net.stem_features(images, cues)))
    assert torch.equal(net(images, cues, hops=3)[0], expected)


def test_later_hops_are_as_documented():
    """The recurrence written down once more, without the class."""
    net = trained()
    images, cues = batch()
    update, extract = net.recurrent_refinement.update, net.recurrent_refinement.extract
    f1 = net.stem_features(images, cues)
    out1 = net.final_layer(net.head(f1))
    f2 = f1 + update(torch.cat([f1, extract(out1)], 1))
    out2 = net.final_layer(net.head(f2))
    out3 = net.final_layer(net.head(f1 + update(torch.cat([f1, extract(out2)], 1))))
    assert torch.allclose(net(images, cues), torch.stack([out1, out2, out3]), atol=1e-6)


def test_a_step_moves_shared_statistics_as_far_as_one_of_hrnet():
    net, plain = small(hops=3), small(cue=False, hops=1)
    images, _ = batch()
    for model in (net, plain):
        model(images)  # fresh: every hop sees the same features
    for part in ("bn1", "layer1.0.bn3", "stage3.0.branches.1.0.bn1"):
        ours, theirs = net.get_submodule(part), plain.get_submodule(part)
        assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
        assert torch.allclose(ours.running_var, theirs.running_var, atol=1e-5)
    kept = 1 - net.recurrent_refinement.extract[1].momentum
    assert kept ** 2 == pytest.approx(0.9)  # it runs between hops only: twice


# ------------------------------------------------------------------ what is refused

def test_impossible_calls_are_refused():
    images, cues = batch()
    baseline = small(cue=False, hops=1)
    assert not any("refinement" in name for name in baseline.state_dict())
    with pytest.raises(ConfigError):
        baseline(images, cues)
    with pytest.raises(ConfigError, match="hops=1"):
        baseline(images, hops=2)
    net = small()
    for hops in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match="hops"):
            net(images, cues, hops=hops)
    for wrong in (cues[:1], cues[:, 0], cues[..., :32]):
        with pytest.raises(ConfigError):
            net(images, wrong)
    with pytest.raises(ConfigError, match="32"):
        net(images[..., :50], cues[..., :50])


@pytest.mark.parametrize("settings", [
    {"codec": "heat"}, {"cue_level": "head"}, {"hops": 0},
    {"input_size": (190, 256)}, {"input_size": (192,)}, {"cue_sigma": 0}, {"cue": 1},
    {"mean": (0.5, float("nan"), 0.5)}, {"cue_amplitude": float("inf")}, {"target_sigma": "2"},
    {"detach": "yes"}, {"std": (1, 1, 0)}, {"mean": "imagenet"},
    {"cue_channels": 0}, {"width": 32.0}, {"modules": [1, 4]}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        HintPose(**{**SMALL, **settings})


def test_unknown_settings_are_named():
    with pytest.raises(ConfigError, match="sigma"):
        HintPose(sigma=3, **SMALL)


# ------------------------------------------------------------------ spec

def test_spec_survives_json_and_rebuilds_the_network():
    net = small(codec="udp", cue_level="stem", modules=[1, 1, 1], cue_sigma=3)
    stored = json.loads(json.dumps(asdict(net.spec)))
    spec = Spec.from_dict(stored)
    del stored["final_kernel"]  # as files have it from before there was one
    assert Spec.from_dict(stored) == spec
    assert Spec.from_dict({**stored, "feedback": "heatmaps", "base": "f"}) == spec
    assert spec == net.spec and isinstance(spec.cue_sigma, float) and hash(spec)
    assert HintPose.from_spec(spec).spec == spec
    with pytest.raises(AttributeError):
        net.spec.hops = 5


@pytest.mark.parametrize("change", [
    lambda d: d.pop("codec"), lambda d: d.update(colour=1), lambda d: d.update(hops="3"),
    lambda d: d.update(base="previous"), lambda d: d.update(feedback="both"),
    lambda d: d.update(input_size=[100, 100])])
def test_damaged_specs_are_refused(change):
    values = asdict(Spec())
    change(values)
    with pytest.raises(CheckpointError):
        Spec.from_dict(values)


def test_specs_that_are_no_dictionary_are_refused():
    with pytest.raises(CheckpointError):
        Spec.from_dict([1, 2])


def test_as_hintpose_shares_the_weights():
    plain = HRNet(joints=3, **SMALL).eval()
    net = as_hintpose(plain, input_size=(64, 64), codec="dark")
    images, _ = batch()
    assert torch.equal(net(images), plain(images)[None])
    assert net.spec.codec == "dark" and net.spec.hops == 1 and not net.training
    assert net.conv1.weight is plain.conv1.weight
    assert as_hintpose(net) is net


def test_an_ensemble_is_the_mean_of_its_networks():
    settings = dict(width=4, stem=4, modules=(1, 1, 1), blocks=1, input_size=(32, 64))
    nets = [HintPose(hops=hops, **settings).eval() for hops in (3, 2)]
    nets[0].spec = replace(nets[0].spec, calibration=(0.8, 0.6))  # of no use for a mean
    both, images = Ensemble(nets).eval(), torch.randn(2, 3, 64, 32)
    cues = torch.rand(2, 1, 64, 32)
    expected = (nets[0](images, cues, 2) + nets[1](images, cues, 2)) / 2
    torch.testing.assert_close(both(images, cues), expected)
    assert both.spec.hops == 2 and both.spec.calibration == (1, 0)
    assert as_hintpose(both) is both and not both.training
    with pytest.raises(ConfigError, match="codec"):
        Ensemble([nets[0], HintPose(codec="dark", **settings)])
