"""Training steps, inference and hops, side by side in one process: time, memory, and the ratio.

    python benchmarks/steps.py                       # a GPU if there is one: W32 and W48
    python benchmarks/steps.py --preset crowd-quick  # any preset, on whatever there is

"plain" is a straight float32 training loop without compilation, channels_last, fused optimiser or
autocast, on the same batches. Rows "hops" compare one to three hops of one network, and feeding
the heatmaps back after layer1 with running the whole network again. Batches lie on the device, so
the loader is not measured here (`loader.py` does that). Medians of alternating rounds.
"""

import argparse
import platform
import statistics
import time
from dataclasses import replace

import torch
from torch import nn

from hintpose_lite.config import TrainConfig
from hintpose_lite.data.batches import Batch
from hintpose_lite.heatmaps import encode
from hintpose_lite.nets.hintpose import HintPose
from hintpose_lite.trainer import Trainer, autocast, heatmap_loss

ROUNDS = 7


def batch_of(config: TrainConfig, device) -> Batch:
    """A random batch that lies on the device."""
    spec, generator = config.spec, torch.Generator(device).manual_seed(0)
    width, height = spec.input_size
    draw = dict(generator=generator, device=device)
    points = torch.rand(config.batch, spec.joints, 2, **draw) * torch.tensor([width, height],
                                                                            device=device)
    return Batch(torch.randn(config.batch, 3, height, width, **draw),
                 torch.rand(config.batch, 1, height, width, **draw) if spec.cue else None,
                 encode(points, spec.input_size, spec.target_sigma, spec.codec),
                 torch.ones(config.batch, spec.joints, device=device), points)


def plain_step(config: TrainConfig, batch: Batch, device):
    """The straight loop: float32, eager, default Adam."""
    model = HintPose.from_spec(config.spec).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    weights = torch.ones(config.spec.hops, device=device)

    def step():
        loss = heatmap_loss(model(batch.images, batch.cues), batch, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return step


def our_step(config: TrainConfig, batch: Batch, device):
    """A step as the trainer takes it, without its loader."""
    trainer = Trainer(config, None, None, device)
    weights = torch.ones(config.spec.hops, device=device)

    def step():
        loss = heatmap_loss(trainer._outputs(batch, config.spec.hops), batch, weights)
        trainer.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        trainer.optimiser.step()
    return step


class Again(nn.Module):
    """Recurrence the costly way: stem and layer1 run again for every hop."""

    def __init__(self, model: HintPose):
        super().__init__()
        self.model = model

    def forward(self, images, cues):
        hint, outputs = None, []
        for _ in range(self.model.spec.hops):
            f = self.model.stem_features(images, cues)
            if hint is not None:
                f = f + self.model.recurrent_refinement(f, hint)
            heatmaps, hint = self.model._look(f)
            outputs.append(heatmaps)
        return torch.stack(outputs)


def inference(model: nn.Module, config: TrainConfig, batch: Batch, device, compiled: bool):
    """A forward pass with autocast; compiled or eager."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    run = torch.compile(model) if compiled else model
    images = batch.images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def step():
        with autocast(config.precision, torch.device(device)):
            run(images, batch.cues)
    return step


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(title: str, ways: dict, people: int, device: str, warm: int = 3, repeat: int = 5):
    """A table of crops a second, of what share of the first row's, and of peak memory."""
    memory = {}
    for name, step in ways.items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(warm):
            step()
        wait(device)
        memory[name] = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, step in ways.items():
            start = time.perf_counter()
            for _ in range(repeat):
                step()
            wait(device)
            seconds[name].append((time.perf_counter() - start) / repeat)
    first = statistics.median(seconds[next(iter(ways))])
    print(f"\n### {title}\n\n| way | crops/s | times as fast | peak memory, GiB |\n"
          "|---|---:|---:|---:|")
    for name, values in seconds.items():
        middle = statistics.median(values)
        peak = "–" if memory[name] is None else f"{memory[name]:.1f}"
        print(f"| {name} | {people / middle:.0f} | {first / middle:.2f} | {peak} |", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--preset", nargs="+", default=["w32-256x192", "w48-384x288"])
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--batch", type=int)
    options.add_argument("--no-compile", action="store_true")
    options = options.parse_args()
    device, compiled = options.device, not options.no_compile
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"python {platform.python_version()}, torch {torch.__version__}, {name}, "
          f"{torch.get_num_threads()} CPU threads")
    for preset in options.preset:
        config = TrainConfig.preset(preset, init="none", compile=compiled)
        config = replace(config, batch=options.batch or config.batch)
        batch = batch_of(config, device)
        for hops in (1, 3):
            row = config.override({"hops": hops})
            measure(f"{preset}, training step, {hops} hop(s), batch {config.batch}",
                    {"plain": plain_step(row, batch, device), "ours": our_step(row, batch, device)},
                    config.batch, device)
        costs = {f"{hops} hop(s)": our_step(config.override({"hops": hops}), batch, device)
                 for hops in (1, 2, 3)}
        costs["3 hops, checkpointed"] = our_step(
            config.override({"hops": 3, "checkpoint_hops": True}), batch, device)
        measure(f"{preset}, hops in training", costs, config.batch, device)
        model = HintPose.from_spec(config.spec)
        ways = {"eager": inference(model, config, batch, device, False)}
        if compiled:
            ways["compiled"] = inference(model, config, batch, device, True)
        ways["whole network again for each hop"] = inference(Again(model), config, batch, device,
                                                             False)
        measure(f"{preset}, inference, {config.spec.hops} hops", ways, config.batch, device)


if __name__ == "__main__":
    main()
