"""Weights files: every known layout, what may be missing, and everything that is refused."""

import json
import sys
from collections import OrderedDict
from dataclasses import asdict
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hintpose_lite.errors import CheckpointError, ConfigError, FetchError, WriteError
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.weights import weights
from hintpose_lite.weights.published import read_state, translate
from hintpose_lite.weights.weights import initialise, load_model, load_weights, save_model

SMALL = {"width": 4, "stem": 8, "modules": (1, 1, 1), "blocks": 1}
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def pose_net(**settings) -> HRNet:
    torch.manual_seed(1)
    return HRNet(**{"joints": 3, **SMALL, **settings}).eval()


def hint_net(**settings) -> HintPose:
    torch.manual_seed(2)
    return HintPose(joints=3, input_size=(64, 64), **{**SMALL, **settings}).eval()


# ------------------------------------------------------------------ layouts, made from a network

def official(state):
    return dict(state)


def parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


def training_state(state):
    return {"epoch": 3, "model": "pose_hrnet", "state_dict": parallel(state),
            "optimizer": {"state": {}, "param_groups": []}}


def mmpose(head):
    def layout(state):
        names = {n: n.replace("final_layer", f"{head}.final_layer") if n.startswith("final_layer")
                 else f"backbone.{n}" for n in state}
        renamed = OrderedDict((names[name], value) for name, value in state.items())
        if head == "head":
            renamed["data_preprocessor.mean"] = torch.zeros(3, 1, 1)
        return {"meta": {"config": "model = ...", "epoch": 210}, "state_dict": renamed}
    return layout


def without_counters(state):
    return {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}


def whole_coarse_outputs(state):
    """Classifiers fuse into all four resolutions at the end."""
    full = dict(state)
    for target in (1, 2, 3):
        full[f"stage4.0.fuse_layers.{target}.0.0.0.weight"] = torch.zeros(8, 4, 3, 3)
    return {n: v for n, v in full.items() if not n.startswith("final_layer")}


def classifier(state):
    return {**whole_coarse_outputs(state),
            "incre_modules.0.0.conv1.weight": torch.zeros(2, 4, 1, 1),
            "downsamp_modules.0.0.bias": torch.zeros(2), "final_layer.0.weight": torch.zeros(2),
            "classifier.weight": torch.zeros(5, 2)}


def imagenet_head(state):
    """The layout of hrnet_w32-36af842e and hrnet_w48-8ef0771d."""
    return {**without_counters(whole_coarse_outputs(state)),
            "head.0.0.0.conv1.weight": torch.zeros(2, 4, 1, 1),
            "head.0.0.0.downsample.1.running_var": torch.zeros(2),
            "head.1.0.0.weight": torch.zeros(2), "classifier.bias": torch.zeros(5)}


def mmpretrain(state):
    body = {f"backbone.{n}": v for n, v in whole_coarse_outputs(state).items()}
    return {"state_dict": {**body, "head.fc.weight": torch.zeros(5, 2),
                           "neck.final_layer.conv.weight": torch.zeros(2)}}


POSE = [official, parallel, training_state, mmpose("head"), mmpose("keypoint_head"),
        without_counters]
BACKBONE = [classifier, imagenet_head, mmpretrain]


def test_a_wide_last_convolution_is_read_off_its_shape(tmp_path):
    net = pose_net(final_kernel=3)
    torch.save(net.state_dict(), tmp_path / "wide.pth")
    model = load_model(tmp_path / "wide.pth", input_size=(64, 64))
    assert model.spec.final_kernel == 3 and torch.equal(model(IMAGES)[0], net(IMAGES))
    refused(pose_net(), net.state_dict(), "final_kernel 3 where this network has 1")


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 5), (3, 4, 1, 3)])
def test_another_last_layer_is_no_pose_network_of_ours(shape, tmp_path):
    torch.save({**pose_net().state_dict(), "final_layer.weight": torch.zeros(shape)},
               tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="odd.pth"):
        load_model(tmp_path / "odd.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", POSE)
def test_pose_files_give_the_same_heatmaps(layout, zipped, tmp_path):
    net = pose_net()
    path = tmp_path / "any_name.pth"
    torch.save(layout(net.state_dict()), path, _use_new_zipfile_serialization=zipped)
    model = load_model(path, input_size=(64, 64), codec="dark")
    assert torch.equal(model(IMAGES)[0], net(IMAGES)) and not model.training
    spec = model.spec
    assert (spec.width, spec.joints, spec.stem, spec.blocks) == (4, 3, 8, 1)
    assert spec.modules == (1, 1, 1)
    assert (spec.cue, spec.hops, spec.codec, spec.input_size) == (False, 1, "dark", (64, 64))
    assert all(value == 0 for name, value in model.state_dict().items()
               if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("layout", BACKBONE)
def test_backbones_fill_all_but_the_final_layer(layout, tmp_path):
    net, model = pose_net(), pose_net(joints=14)
    fresh = model.final_layer.weight.clone()
    torch.save(layout(net.state_dict()), tmp_path / "a.pth")
    missing = load_weights(model, tmp_path / "a.pth")
    assert {n for n in missing if not n.endswith("num_batches_tracked")} == {
        "final_layer.weight", "final_layer.bias"}
    assert torch.equal(model.final_layer.weight, fresh)
    expected = net.head(net.stem_features(IMAGES))
    assert torch.equal(model.head(model.stem_features(IMAGES)), expected)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "a.pth")


def test_hrnet_weights_go_into_a_hintpose_unchanged():
    net, model = pose_net(), hint_net()
    missing = load_weights(model, net.state_dict())
    assert {n.split(".")[0] for n in missing} == {"input_refinement", "recurrent_refinement"}
    assert all(torch.equal(heatmaps, net(IMAGES)) for heatmaps in model(IMAGES))


def test_what_mmpose_1_stores_beside_the_weights_is_read_over(tmp_path, monkeypatch):
    module = ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self._log, self._statistics = np.arange(3.0), {"min": HistoryBuffer.smallest}
            self._last = np.float64(2.0)

        def smallest(self):
            raise AssertionError("code from a weights file was run")

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.smallest.__module__ = module.__name__
    HistoryBuffer.smallest.__qualname__ = "HistoryBuffer.smallest"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    net = pose_net()
    content = mmpose("head")(net.state_dict())
    content["message_hub"] = {"log_scalars": {"train/loss": HistoryBuffer()}}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(Exception, match="Unsupported"):  # that is what the stand-in is for
        torch.load(tmp_path / "a.pth", weights_only=True)
    assert torch.equal(load_model(tmp_path / "a.pth")(IMAGES)[0], net(IMAGES))


# ------------------------------------------------------------------ our own files

@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded(half, tmp_path):
    net = hint_net(codec="udp", cue_sigma=5.0, mean=(0.5, 0.5, 0.5))
    torch.nn.init.normal_(net.input_refinement.correct.weight)
    state = torch.get_rng_state()
    model = load_model(save_model(net, tmp_path / "a.safetensors", half=half))
    assert torch.equal(torch.get_rng_state(), state)  # loading draws no random numbers
    assert model.spec == net.spec and not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())
    cues = torch.rand(1, 1, 64, 64)
    assert torch.allclose(model(IMAGES, cues), net(IMAGES, cues), atol=1e-3 if half else 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_halves_the_file_and_keeps_large_variances(tmp_path):
    net = hint_net(width=16)
    net.bn1.running_var.fill_(1e6)
    whole = save_model(net, tmp_path / "a.safetensors").stat().st_size
    small = save_model(net, tmp_path / "b.safetensors", half=True)
    assert small.stat().st_size < 0.65 * whole
    assert load_model(small).bn1.running_var[0] == 1e6


def test_an_hrnet_can_be_saved_too(tmp_path):
    net = pose_net()
    assert torch.equal(load_model(save_model(net, tmp_path / "a.safetensors"))(IMAGES)[0],
                       net(IMAGES))


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("precious")
    with pytest.raises(CheckpointError):
        save_model(hint_net(), path)
    assert path.read_text() == "precious"
    save_model(hint_net(), path, overwrite=True)
    load_model(path)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_model(hint_net(), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WriteError):
        save_model(hint_net(cue_sigma=3.0), path, overwrite=True)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "notes.txt").touch()
    with pytest.raises(WriteError):
        save_model(hint_net(), tmp_path / "notes.txt" / "m.safetensors")
    with pytest.raises(WriteError):
        save_model(hint_net(), tmp_path / "missing" / "a.safetensors")
    with pytest.raises(CheckpointError):
        save_model(hint_net(), tmp_path / "a.pth")


def test_settings_beside_a_spec_are_refused(tmp_path):
    path = save_model(hint_net(), tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="codec"):
        load_model(path, codec="udp")


# ------------------------------------------------------------------ what is refused

def refused(model, state, match):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=match):
        load_weights(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_settings_are_named():
    state = pose_net().state_dict()
    refused(pose_net(width=8), state, "width 4")
    refused(pose_net(joints=14), state, "joints 3")
    refused(pose_net(stem=16, blocks=2), state, "stem 8")
    refused(pose_net(modules=(1, 2, 1)), state, r"modules \(1, 1, 1\)")


def test_missing_unknown_and_misshapen_entries_are_refused():
    state = pose_net().state_dict()
    less = {n: v for n, v in state.items() if n != "stage3.0.branches.2.0.bn2.running_mean"}
    refused(pose_net(), less, "stage3.0.branches.2.0.bn2.running_mean")
    headless = {n: v for n, v in state.items() if n != "final_layer.bias"}
    refused(pose_net(), headless, "final_layer.bias")
    refused(pose_net(), {**state, "extra.weight": torch.zeros(1)}, "extra.weight")
    refused(pose_net(), {**state, "bn1.bias": torch.zeros(3)}, "bn1.bias")


def test_additions_come_whole_or_not_at_all():
    state = hint_net().state_dict()
    refused(hint_net(cue=False, hops=1), state, "input_refinement")
    refused(hint_net(cue_channels=8), state, "input_refinement")
    part = {n: v for n, v in state.items() if n != "recurrent_refinement.update.bias"}
    refused(hint_net(), part, "recurrent_refinement.update.bias")


@pytest.mark.parametrize("content", [
    {"fc.weight": torch.zeros(2)}, {"conv1.weight": torch.zeros(8, 3, 3, 3)}])
def test_other_networks_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    for action in (load_model, lambda path: load_weights(pose_net(), path)):
        with pytest.raises(CheckpointError):
            action(tmp_path / "a.pth")
    refused(pose_net(), content, None)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {"state_dict": {}}, torch.zeros(3)])
def test_files_without_named_weights_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "a.pth")


class Bomb:
    def __reduce__(self):
        return (print, ("code from a weights file was run",))


def test_pickles_cannot_run_code(tmp_path, capsys):
    torch.save({**pose_net().state_dict(), "bomb": Bomb()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "a.pth")
    assert not capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("cut", [0, 10, 0.5, -1])
def test_truncated_files_are_refused(suffix, cut, tmp_path):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(pose_net().state_dict(), path)
    else:
        save_model(hint_net(), path)
    content = path.read_bytes()
    path.write_bytes(content[:int(cut * len(content)) if cut == 0.5 else cut])
    with pytest.raises(CheckpointError, match="a\\."):
        load_model(path)


@pytest.mark.parametrize("spec", ["{", "[]", json.dumps({"width": 4})])
def test_files_with_a_bad_spec_are_refused(spec, tmp_path):
    path = save_model(hint_net(), tmp_path / "a.safetensors")
    save_file(load_file(path), tmp_path / "b.safetensors", {"spec": spec})
    with pytest.raises(CheckpointError, match="spec"):
        load_model(tmp_path / "b.safetensors")


def test_a_spec_of_another_network_is_refused(tmp_path):
    path = save_model(hint_net(), tmp_path / "a.safetensors")
    spec = json.dumps(asdict(hint_net(width=8).spec))
    save_file(load_file(path), tmp_path / "b.safetensors", {"spec": spec})
    with pytest.raises(CheckpointError, match="width 4"):
        load_model(tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["nonsense", "runs/missing.safetensors"])
def test_unknown_names_list_the_known_ones(name):
    for action in (load_model, lambda name: initialise(pose_net(), name)):
        with pytest.raises(CheckpointError, match=name):
            action(name)


# ------------------------------------------------------------------ names, downloads, first weights

@pytest.fixture
def server(tmp_path, monkeypatch):
    """Stands in for the downloader: writes what it holds, notes what it was asked for."""
    asked = {}

    def fetch(url, path, sha256=None):
        asked.update(url=url, path=path, sha256=sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(asked["content"], path)
        return path

    monkeypatch.setattr(weights, "fetch", fetch)
    monkeypatch.setenv("HINTPOSE_CACHE", str(tmp_path / "cache"))
    return asked


@pytest.mark.parametrize("name", weights.PUBLIC)
def test_public_names(name, server, tmp_path):
    server["content"] = mmpose("keypoint_head")(pose_net().state_dict())
    spec = load_model(name).spec
    large = name.endswith("-384")
    assert spec.input_size == ((288, 384) if large else (192, 256))
    assert spec.target_sigma == (3.0 if large else 2.0)
    assert spec.codec == ("udp" if name.endswith("udp") else "quarter")
    assert len(server["sha256"]) == 8 and f"-{server['sha256']}_" in server["url"]
    assert server["path"].parent == tmp_path / "cache"
    assert server["path"].name == server["url"].rsplit("/", 1)[-1]


def test_a_download_that_fails_names_the_cache(monkeypatch, tmp_path):
    def fetch(*_):
        raise FetchError("no answer")
    monkeypatch.setattr(weights, "fetch", fetch)
    with pytest.raises(FetchError, match="HINTPOSE_CACHE"):
        load_model("hrnet-w32-coco")


def test_a_codec_of_the_other_family_is_refused(server, tmp_path):
    server["content"] = mmpose("keypoint_head")(pose_net().state_dict())
    assert load_model("hrnet-w32-coco", codec="dark").spec.codec == "dark"
    for name, codec in (("hrnet-w32-coco-udp", "quarter"), ("hrnet-w32-coco", "udp")):
        with pytest.raises(ConfigError, match="codec"):
            load_model(name, codec=codec)
        with pytest.raises(ConfigError, match="codec"):
            initialise(hint_net(codec=codec, cue=False, hops=1), name)
    path = save_model(hint_net(codec="udp"), tmp_path / "udp.safetensors")
    initialise(hint_net(codec="udp"), path, lambda _: None)
    with pytest.raises(ConfigError, match="udp"):
        initialise(hint_net(codec="dark"), path)
    torch.save(mmpose("keypoint_head")(pose_net().state_dict()), tmp_path / "hrnet_udp.pth")
    with pytest.raises(ConfigError, match="udp"):  # by its name
        initialise(hint_net(codec="dark", cue=False, hops=1), tmp_path / "hrnet_udp.pth")


def test_imagenet_is_fetched_for_its_width(server, monkeypatch):
    monkeypatch.setitem(weights.IMAGENET, 4, weights.IMAGENET[32])
    server["content"] = imagenet_head(pose_net().state_dict())
    said, net = [], hint_net()
    initialise(net, "imagenet", said.append)
    assert torch.equal(net.conv1.weight, pose_net().conv1.weight)
    assert server["sha256"] == "36af842e"
    assert len(said) == 1 and "36af842e" in said[0]
    assert said[0].endswith("fresh: final_layer, input_refinement, recurrent_refinement")
    with pytest.raises(ConfigError, match="8"):
        initialise(pose_net(width=8), "imagenet")


def test_initialise_says_what_it_does(tmp_path, capsys):
    net = pose_net()
    before = net.conv1.weight.clone()
    initialise(net, "none")
    assert "random" in capsys.readouterr().out and torch.equal(net.conv1.weight, before)
    path = save_model(hint_net(cue=False, hops=1), tmp_path / "a.safetensors")
    initialise(net, path)
    assert str(path) in capsys.readouterr().out
    assert torch.equal(net.conv1.weight, hint_net(cue=False, hops=1).conv1.weight)


def test_shipped_names_lead_into_the_package():
    for name in weights.SHIPPED:
        path, settings = weights._locate(name)
        assert path.parts[-3:] == ("hintpose_lite", "shipped", f"{name}.safetensors")
        assert settings == {}


def test_translating_leaves_the_callers_dictionary_alone():
    state = classifier(pose_net().state_dict())
    names = list(state)
    translate(state)
    assert list(state) == names


def test_a_file_says_what_it_was_trained_on(tmp_path):
    model = HintPose(width=4, stem=4, modules=(1, 1, 1), blocks=1)
    for words in ("", "people of the moon"):
        model.trained_on = words
        path = save_model(model, tmp_path / "m.safetensors", overwrite=True)
        assert load_model(path).trained_on == words and load_model(path).spec == model.spec
