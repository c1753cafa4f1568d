"""Two processes on the CPU that train one model."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import torch

from hintpose_lite.errors import ConfigError
from hintpose_lite.model.device import choose_device
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.processes import ProcessGroup, process_group
from hintpose_lite.training.step import Trainer

SETTINGS = {"width": 4, "stem": 8, "cue_channels": 4, "input_size": (32, 64),
            "steps": 4, "batch": 4, "warmup": 1, "lr": 1e-3, "checkpoint_every": 2,
            "validate_every": 4, "freeze_after": 0.0, "hops_after": 0.5, "precision": "float32"}
# Nothing in a batch is left to chance, so shares of it are the same people in the same crops.
CERTAIN = {"augment.rotate": 0.0, "augment.scale": 0.0, "augment.flip": 0.0, "augment.shift": 0.0,
           "augment.half_body": 0.0, "augment.light": 0.0, "augment.shared": 0.0,
           **{f"cues.{kind}": 0.0 for kind in (
               "joint", "any_joint", "interior", "centroid", "points", "box", "pose", "none")}}


def test_two_processes_do_what_one_does(crowd, tmp_path):
    changes = {**SETTINGS, **CERTAIN}
    arguments = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    people = [str(crowd.annotations), str(crowd.images)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "hintpose_lite", "train", "--preset", "crowd-quick", "--out",
               str(tmp_path / "run"), "--data", *people, "--val", *people, *arguments]
    done = subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, timeout=300,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    config = TrainConfig.preset("crowd-quick", **changes)
    alone = Trainer(config, crowd, "cpu")
    losses = [float(alone.run_step()) for _ in range(4)]
    records = [json.loads(line)
               for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    stored = [record["loss"] for record in records if "loss" in record]
    means = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    assert stored == pytest.approx(means, rel=1e-5), "each step is written down once"
    assert [r["step"] for r in records if "ap" in r] == [4]
    together = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    for mine, theirs in zip(alone.optimiser.state_dict()["state"].values(),
                            together["optimiser"]["state"].values(), strict=True):
        torch.testing.assert_close(theirs["exp_avg"], mine["exp_avg"], rtol=1e-5, atol=1e-7)


STARTER = """
import sys
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.loop import train
from hintpose_lite.weights import weights
weights.MMPOSE, weights.IMAGENET[4] = sys.argv[1], sys.argv[2]
people = CocoPersons(*sys.argv[4:6])
config = TrainConfig.preset("crowd-quick", width=4, stem=8, cue_channels=4, input_size=(32, 64),
                            steps=2, batch=24, warmup=1, hops=1, init="imagenet")
train(config, sys.argv[3], people, people, device="cpu", progress=False)
"""


@pytest.mark.parametrize("processes", [3])
def test_processes_start_from_an_empty_cache(crowd, tmp_path, processes):
    """The first one downloads the weights, once, and the others wait for it."""
    net = HRNet(4, 17, stem=8, modules=(1, 1, 1), blocks=1)
    state = {name: value for name, value in net.state_dict().items() if "final_layer" not in name}
    torch.save(state, tmp_path / "net.pth")
    digest = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "net.pth").rename(tmp_path / f"net-{digest}.pth")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_request(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "start.py").write_text(STARTER)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   f"--nproc-per-node={processes}", str(tmp_path / "start.py"),
                   f"http://127.0.0.1:{server.server_port}/", f"net-{digest}.pth",
                   str(tmp_path / "run"), str(crowd.annotations), str(crowd.images)]
        done = subprocess.run(command, timeout=600, capture_output=True, text=True, env={
            **os.environ, "CUDA_VISIBLE_DEVICES": "", "HINTPOSE_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1"})
        server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(asked) == 1 and (tmp_path / "run" / "model.safetensors").exists()


def test_a_batch_is_shared_out_without_rest_or_repetition():
    places = [(0, row) for row in range(12)]
    shares = [ProcessGroup(rank, 3).share(places) for rank in range(3)]
    assert sorted(sum(shares, [])) == places and len(set(map(len, shares))) == 1


@pytest.mark.parametrize("asked, rank, chosen", [
    (None, "1", "cuda:1"), ("cuda:2", "1", "cuda:2"), ("cpu", "1", "cpu")])
def test_each_process_uses_its_own_gpu_by_default(monkeypatch, asked, rank, chosen):
    used = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setenv("LOCAL_RANK", rank)
    with process_group(choose_device(asked)):
        pass
    assert used == [torch.device(chosen)] * (chosen != "cpu")


@pytest.mark.parametrize("size", ["2", "x", "-1"])
def test_a_world_size_that_torchrun_did_not_set_is_named(monkeypatch, size):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=f"WORLD_SIZE={size}"), process_group(torch.device("cpu")):
        pass
