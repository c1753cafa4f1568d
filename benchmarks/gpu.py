"""Measures all that needs a GPU, in one run; no part begins after eight minutes.

    python benchmarks/gpu.py --out gpu.md [--data ANNOTATIONS IMAGES --val ANNOTATIONS IMAGES]
    python benchmarks/gpu.py --tiny            # the same on a CPU, small: a rehearsal

Steps of W32 (batch 128) and W48 (64) beside a plain eager float32 loop, one to three hops and their
memory, compiled inference, the loader's share of a step, and, with data, a short training of
people-small and its exam. Every part prints its rows at once, into --out as well. If a part fails,
its traceback is printed and the next one begins; the output names each part that was left out.
"""

import argparse
import contextlib
import io
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from steps import batch_of, inference, measure, our_step, plain_step, wait

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.loop import train
from hintpose_lite.training.step import Trainer
from hintpose_lite.weights.weights import load_model

TINY = {"width": 4, "stem": 4, "modules": (1, 1, 1), "blocks": 1, "input_size": (32, 64),
        "cue_channels": 4, "batch": 4, "steps": 8, "warmup": 1}


def config_of(preset: str, options, **changes) -> TrainConfig:
    """A preset without downloads, small if asked for."""
    changes = {"init": "none", "compile": not options.tiny, **changes,
               **(TINY if options.tiny else {})}
    return TrainConfig.preset(preset, **changes)


def training_steps(options, device: str) -> None:
    """Ours beside the plain loop, for one and three hops."""
    for preset in ("w32-256x192", "w48-384x288"):
        for hops in (1, 3):
            config = config_of(preset, options, hops=hops)
            batch = batch_of(config, device)
            measure(f"{preset}, training step, {hops} hop(s), batch {config.batch}", {
                "plain": plain_step(config, batch, device), "ours": our_step(config, batch, device),
            }, config.batch, device, rounds=3, repeat=2, warm=2)


def hops_and_memory(options, device: str) -> None:
    """One to three hops of W32, and three that compute their inside again."""
    base = config_of("w32-256x192", options)
    batch = batch_of(base, device)
    ways = {f"{hops} hop(s)": our_step(base.override({"hops": hops}), batch, device)
            for hops in (1, 2, 3)}
    ways["3 hops, checkpointed"] = our_step(
        base.override({"hops": 3, "checkpoint_hops": True, "compile": False}), batch, device)
    measure("w32-256x192, hops in training", ways, base.batch, device, 3, 2, warm=2)


def networks_in_use(options, device: str) -> None:
    """Eager and compiled inference of W32."""
    config = config_of("w32-256x192", options)
    batch, model = batch_of(config, device), HintPose.from_spec(config.spec)
    ways = {"eager": inference(model, config, batch, device, False)}
    if config.compile:
        ways["compiled"] = inference(model, config, batch, device, True)
    measure("w32-256x192, inference, 3 hops", ways, config.batch, device, 3, 3, warm=2)


def loader_share(options, device: str) -> None:
    """Steps with the loader, and with a batch that lies on the device."""
    config = config_of("w32-256x192", options, steps=60, hops_after=0.0, hop_dropout=0.0)
    trainer = Trainer(config, people_of(options)[0], device)
    batch = batch_of(config, device)
    fixed = our_step(config, batch, device)
    seconds = {}
    for name, step in (("with the loader", trainer.run_step), ("batch on the device", fixed)):
        step()
        wait(device)
        start, count = time.perf_counter(), 4 if options.tiny else 20
        for _ in range(count):
            step()
        wait(device)
        seconds[name] = (time.perf_counter() - start) / count
    print("\n### the loader's share of a step, w32-256x192\n\n| step | ms |\n|---|---:|")
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.1f} |")


def real_training(options, device: str) -> None:
    """A short training of people-small, and its exam in own and in shared boxes."""
    people, held_out = people_of(options)
    config = config_of("people-small", options, batch=64, compile=False,
                       validate_every=10_000, steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        out = train(config, Path(folder) / "run", people, held_out, device=device, progress=False)
        seconds = time.perf_counter() - start
        model = load_model(out / "model.safetensors", device)
        print(f"\n### people-small from nothing, {config.steps} steps of {config.batch}: "
              f"{seconds:.0f} s, {len(held_out)} held-out people\n\n| boxes | people | AP | right |"
              "\n|---|---:|---:|---:|")
        for protocol in ("own", "shared"):
            report = evaluate(model, held_out, protocol=protocol)
            print(f"| {protocol} | {report.people} | {100 * (report.ap or 0):.1f} | "
                  f"{100 * (report.identity['accuracy'] or 0):.1f} |")


def people_of(options) -> tuple[CocoPersons, CocoPersons]:
    """The people of --data and --val, or drawn ones."""
    if options.data:
        return CocoPersons(*options.data), CocoPersons(*(options.val or options.data))
    folder = Path(options.scratch)
    return (make_crowd(folder / "train", 12 if options.tiny else 600, seed=0, size=96),
            make_crowd(folder / "val", 12, seed=2_000_000, size=96))


PARTS = (hops_and_memory, training_steps, networks_in_use, loader_share, real_training)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--tiny", action="store_true", help="small networks, on the CPU")
    options.add_argument("--out", type=Path)
    options.add_argument("--data", nargs=2)
    options.add_argument("--val", nargs=2)
    options.add_argument("--steps", type=int, default=1500, help="steps of the short training")
    options.add_argument("--minutes", type=float, default=8.0)
    options = options.parse_args()
    device = "cpu" if options.tiny or not torch.cuda.is_available() else "cuda"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    said, failed, start = io.StringIO(), 0, time.monotonic()

    class Both:
        def write(self, text):
            said.write(text)
            sys.__stdout__.write(text)

        def flush(self):
            sys.__stdout__.flush()

    with contextlib.redirect_stdout(Both()), tempfile.TemporaryDirectory() as scratch:
        options.scratch = scratch
        print(f"python {platform.python_version()}, torch {torch.__version__}, {name}")
        for part in PARTS:
            if time.monotonic() - start > 60 * options.minutes:
                print(f"\n{part.__name__}: left out, the time is over")
                continue
            try:
                part(options, device)
            except Exception:
                failed += 1
                print(f"\n{part.__name__} failed:\n\n{traceback.format_exc(limit=-3)}")
            print(f"\n({part.__name__}: {time.monotonic() - start:.0f} s since the start)",
                  flush=True)
            if options.out:
                options.out.write_text(said.getvalue())
    return failed


if __name__ == "__main__":
    sys.exit(main())
