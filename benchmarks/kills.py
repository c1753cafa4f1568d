"""Ends and resumes a training run --kills times, and checks that the result is the same.

    python benchmarks/kills.py --kills 50 --steps 5000 --seed 0

Trains once undisturbed, and once in a process that is ended again and again after random times, by
SIGKILL or by SIGTERM, and restarted. Compares the weights bit by bit, and the losses of all entries
that cover the same steps in both. After SIGTERM the checkpoint must be of the last step in
metrics.jsonl, so that no step is lost. Linux; CPU, one thread.
"""

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hintpose_lite.runs.watch import read_metrics
from hintpose_lite.weights.weights import load_model

SETTINGS = ["--set", "width=4", "--set", "stem=8", "--set", "cue_channels=4", "--set",
            "input_size=(32, 64)", "--set", "scene_size=64", "--set",
            "images=60", "--set", "val_images=20", "--set", "batch=4", "--set",
            "checkpoint_every=20", "--set", "validate_every=100000"]


def start(folder: Path, out: str, steps: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "hintpose_lite", "train", "--preset", "crowd-quick", "--out",
               out, *SETTINGS, "--set", f"steps={steps}"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def step_of(run: Path) -> int:
    return max((record["step"] for record in read_metrics(run)), default=0)


def covered(run: Path) -> dict[tuple[int, int], float]:
    """The mean loss of each entry by the steps that it covers."""
    records = [record for record in read_metrics(run) if "loss" in record]
    ends = [0, *(record["step"] for record in records)]
    return {(first, last): record["loss"]
            for first, last, record in zip(ends, ends[1:], records, strict=False)}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        assert start(folder, "whole", options.steps).wait() == 0
        kills, terminated, early, lost = 0, 0, 0, 0
        while kills < options.kills:
            before, process = step_of(folder / "killed"), start(folder, "killed", options.steps)
            while process.poll() is None and step_of(folder / "killed") == before:
                time.sleep(0.05)  # a kill before the first step costs nothing
            time.sleep(moments.uniform(0, 1.5))
            if process.poll() is not None:
                break
            how = moments.choice((signal.SIGKILL, signal.SIGTERM))
            process.send_signal(how)
            process.wait()
            kills += 1
            if how == signal.SIGTERM:
                terminated += 1
                state = torch.load(folder / "killed" / "last.pt", weights_only=True)
                lost += state["step"] != step_of(folder / "killed")
            early += step_of(folder / "killed") < options.steps
        assert start(folder, "killed", options.steps).wait() == 0
        whole, killed = (load_model(folder / name / "model.safetensors").state_dict()
                         for name in ("whole", "killed"))
        same = all(torch.equal(value, killed[name]) for name, value in whole.items())
        one, other = covered(folder / "whole"), covered(folder / "killed")
        common = one.keys() & other.keys()
        losses = common and all(one[steps] == other[steps] for steps in common)
        print(f"python {platform.python_version()}, torch {torch.__version__}; {options.steps} "
              f"steps, seed {options.seed}: {kills} ends, {terminated} of them by SIGTERM, "
              f"{early} before the last step; weights {'equal bit for bit' if same else 'DIFFER'}; "
              f"losses of {len(common)} entries {'equal' if losses else 'DIFFER'}; steps lost "
              f"after SIGTERM: {lost} times")


if __name__ == "__main__":
    main()
