"""Which device is taken, and where networks compute in bf16."""

import pytest
import torch

from hintpose_lite.errors import ConfigError
from hintpose_lite.model.device import autocast, choose_device


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize("count, asked, rank, chosen", [
    (0, None, None, "cpu"), (1, None, None, "cuda:0"), (3, "cuda", None, "cuda:0"),
    (3, None, "1", "cuda:1"), (3, "cuda", "1", "cuda:1"), (3, "cuda:2", "1", "cuda:2"),
    (3, torch.device("cuda:2"), None, "cuda:2"), (3, "cpu", None, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, count, asked, rank, chosen):
    gpus(monkeypatch, count)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(asked) == torch.device(chosen)


@pytest.mark.parametrize("count, asked", [
    (0, "cuda"), (0, "cuda:0"), (2, "cuda:9"), (2, "gpu"), (2, "cuda:"), (0, "meta")])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(monkeypatch, count, asked):
    gpus(monkeypatch, count)
    with pytest.raises(ConfigError, match=asked) as refused:
        choose_device(asked)
    assert ("cuda:1" in str(refused.value)) == (count == 2)


def test_a_rank_without_a_gpu_is_refused(monkeypatch):
    gpus(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="cuda:2"):
        choose_device()


@pytest.mark.parametrize("precision, device, capability, bf16", [
    ("auto", "cuda", (7, 5), False), ("auto", "cuda", (8, 0), True), ("auto", "cuda", (9, 0), True),
    ("bf16", "cuda", (7, 5), True), ("float32", "cuda", (9, 0), False)])
def test_auto_takes_bf16_from_ampere_on(monkeypatch, precision, device, capability, bf16):
    """A T4 has capability (7, 5), and PyTorch says that it supports bf16."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda *given: asked.append(given))
    autocast(precision, torch.device(device))
    assert asked == [("cuda", torch.bfloat16)] * bf16


@pytest.mark.parametrize("precision, fast, bf16", [
    ("auto", True, True), ("auto", False, False), ("bf16", False, True), ("float32", True, False)])
def test_auto_takes_bf16_on_cpus_that_have_it(monkeypatch, precision, fast, bf16):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    with autocast(precision, torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == bf16


def test_a_precision_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="fp16"):
        autocast("fp16", torch.device("cpu"))
