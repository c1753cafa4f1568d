"""ONNX files: they answer as PyTorch, say how they are used, and are all there or not at all."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite.errors import CheckpointError, ConfigError, WriteError
from hintpose_lite.model.hintpose import HintPose, Spec
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.pose.heatmaps import gaussians
from hintpose_lite.weights import onnx as export
from hintpose_lite.weights.onnx import export_onnx

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SMALL = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1)
USE = dict(input_size=(32, 64), cue_sigma=4.0)
ROOT = Path(__file__).resolve().parents[2]


def trained(**settings) -> HintPose:
    """Like a trained one: what starts at zero is random, so that cue and hops count."""
    torch.manual_seed(0)
    model = HintPose(**{**SMALL, **USE, "hops": 2, **settings}).eval()
    generator = torch.Generator().manual_seed(1)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if re.search(r"correct\.|update\.|final_layer\.|running_mean", name):
            torch.nn.init.normal_(value, std=0.1, generator=generator)
    torch.nn.init.constant_(model.final_layer.bias, 5.0)  # a positive peak for every joint
    return model


def batch(count: int, size=USE["input_size"]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 1, size[1], size[0])
    return {"images": torch.randn(shape, generator=generator).repeat(1, 3, 1, 1),
            "cues": torch.rand(shape, generator=generator) * 2 - 1}


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(session, inputs) -> torch.Tensor:
    feed = {name: value.numpy() for name, value in inputs.items()}
    return torch.from_numpy(session.run(None, feed)[0])


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return export_onnx(model, tmp_path_factory.mktemp("onnx") / "pose.onnx", 3)


@pytest.fixture(scope="module")
def session(path):
    return session_of(path)


@pytest.mark.parametrize("count", (1, 5))
@torch.inference_mode()
def test_the_file_answers_as_pytorch_for_any_batch(model, session, count):
    assert {i.name: i.shape[1:] for i in session.get_inputs()} == {"images": [3, 64, 32],
                                                                  "cues": [1, 64, 32]}
    assert [o.name for o in session.get_outputs()] == ["heatmaps"]
    expected = model(**batch(count), hops=3)
    assert expected.shape == (3, count, 17, 16, 8)
    assert_same(run(session, batch(count)), expected)


def test_cue_and_hops_count(session):
    inputs = batch(2)
    heatmaps = run(session, inputs)
    scale = heatmaps.abs().max()
    other = run(session, {**inputs, "cues": -inputs["cues"]})
    assert all((a - b).abs().max() > 0.01 * scale for a, b in zip(heatmaps, other))
    assert (heatmaps.diff(dim=0).abs().amax((1, 2, 3, 4)) > 0.01 * scale).all()
    first = {"images": inputs["images"], "cues": inputs["cues"].clone()}
    first["cues"][1] *= -1
    changed = (run(session, first) - heatmaps).abs().amax((0, 2, 3, 4)) > 0.01 * scale
    assert changed.tolist() == [False, True], "each crop has its own cue"


@torch.inference_mode()
def test_every_other_switch_is_exported_too(tmp_path):
    model = trained(cue_level="stem", detach=False, hops=3,
                    joints=5, cue_amplitude=2.0)
    session = session_of(export_onnx(model, tmp_path / "pose.onnx"))
    assert_same(run(session, batch(1)), model(**batch(1)))


@torch.inference_mode()
def test_networks_without_a_cue(tmp_path):
    images = {"images": batch(2)["images"]}
    cueless = trained(cue=False)
    session = session_of(export_onnx(cueless, tmp_path / "cueless.onnx", 2))
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert_same(run(session, images), cueless(**images))
    large = {"images": batch(1, (192, 256))["images"]}  # a plain HRNet goes by the default spec
    plain = HRNet(**SMALL)
    session = session_of(export_onnx(plain, tmp_path / "plain.onnx"))
    assert plain.training, "left as it is"
    assert_same(run(session, large), plain.eval()(**large)[None])


def test_the_model_is_left_as_it_is_and_only_one_line_is_said(tmp_path, capfd, recwarn):
    model = trained().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = []
    assert export_onnx(model, str(tmp_path / "a.onnx"), 1, say=said.append) == tmp_path / "a.onnx"
    assert model.training and "forward" not in vars(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(said) == 1 and re.search(r"1 hop\(s\), .* PyTorch \d\.\de-0[5-9]$", said[0])
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_the_file_says_how_it_is_used(model, session):
    about = session.get_modelmeta().custom_metadata_map
    assert Spec.from_dict(json.loads(about["hintpose_spec"])) == model.spec
    assert about["hintpose_hops"] == "3"


def test_nothing_is_overwritten_unasked(tmp_path):
    path, model = tmp_path / "pose.onnx", trained(cue=False, hops=1)
    path.write_text("mine")
    with pytest.raises(CheckpointError, match="overwrite=True"):
        export_onnx(model, path)
    assert path.read_text() == "mine"
    export_onnx(model, path, overwrite=True)
    assert session_of(path)
    with pytest.raises(WriteError):
        export_onnx(model, tmp_path / "missing" / "pose.onnx")


@pytest.mark.parametrize("package", ("onnx", "onnxruntime"))
def test_missing_packages_are_named(model, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=package):
        export_onnx(model, tmp_path / "pose.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ("weights", "nan", "cut"))
def test_a_file_that_answers_otherwise_is_not_left_behind(tmp_path, monkeypatch, wrong):
    path, trace = tmp_path / "pose.onnx", export._trace
    path.write_text("mine")
    model = trained(cue=False, hops=1)
    if wrong == "nan":
        torch.nn.init.constant_(model.final_layer.bias, torch.nan)
    elif wrong == "weights":  # as an exporter with a mistake would do
        def slightly_off(net, hops):
            with torch.no_grad():
                net.final_layer.bias[3] += 0.1
            return trace(net, hops)
        monkeypatch.setattr(export, "_trace", slightly_off)
    else:
        monkeypatch.setattr(export, "_trace", lambda net, hops: trace(net, hops)[:-9])
    with pytest.raises(Exception if wrong == "cut" else CheckpointError,
                       match=None if wrong == "cut" else "differ from PyTorch"):
        export_onnx(model, path, overwrite=True)
    assert path.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["pose.onnx"]


def test_what_cannot_be_exported_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="hops"):
        export_onnx(model, tmp_path / "pose.onnx", 0)
    with pytest.raises(ConfigError, match="2 hops"):
        export_onnx(trained(hops=1), tmp_path / "pose.onnx", 2)
    with pytest.raises(ConfigError, match="HRNet"):
        export_onnx(torch.nn.Identity(), tmp_path / "pose.onnx")
    assert not list(tmp_path.iterdir())


def test_the_example_in_the_readme_finds_the_peaks_that_pytorch_finds(model, path, tmp_path,
                                                                      monkeypatch):
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n### Export\n")[2]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert not re.search("torch|hintpose_lite", example)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "person.png")
    shutil.copy(path, tmp_path / "pose.onnx")
    monkeypatch.chdir(tmp_path)
    names = {"print": lambda joints: names.update(joints=joints)}
    exec(example, names)
    spec = model.spec
    image = (torch.from_numpy(pixels) / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    cues = gaussians(torch.tensor([[[16, 64 / 3]]]), (32, 64), spec.cue_sigma)
    heatmaps = model(image.permute(2, 0, 1)[None], cues, hops=3)[-1, 0]
    peaks = heatmaps.flatten(1).argmax(1)
    expected = 4 * torch.stack([peaks % 8, peaks // 8], 1)
    np.testing.assert_array_equal(names["joints"], expected)
