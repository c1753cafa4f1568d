"""Time and memory of training steps, inference and hops, side by side in one process.

    python benchmarks/steps.py                       # a GPU if there is one: W32 and W48
    python benchmarks/steps.py --preset crowd-quick  # any preset, on any machine

"plain" is a straight float32 training loop without compilation, channels_last, fused optimiser or
autocast, on the same batches. Rows "hops" compare one to three hops of one network, and feeding
the heatmaps back after layer1 with running the whole network again. Batches lie on the device, so
the loader is not measured here (`loader.py` does that). Medians of alternating rounds. Memory is
the peak on a GPU; on a CPU it is what the forward pass keeps for the backward pass, without
the weights, but with autocast's copies of them. The last table shows the most expensive operations
of a step.
"""

import argparse
import platform
import statistics
import time
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

from hintpose_lite.data.batches import Batch
from hintpose_lite.model.device import autocast
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.pose.heatmaps import encode
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.step import Trainer, heatmap_loss


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


def our_step(config: TrainConfig, batch: Batch, device, again: bool = False):
    """A step as the trainer takes it, without its loader; again: with recurrence the costly way."""
    trainer = Trainer(config, SimpleNamespace(skeleton=COCO17), device)
    if again:
        trainer.eager = Again(trainer.model)
        trainer.forward = torch.compile(trainer.eager) if config.compile else trainer.eager
    weights = torch.ones(config.spec.hops, device=device)

    def step():
        loss = heatmap_loss(trainer._outputs(batch, config.spec.hops), batch, weights)
        trainer.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        trainer.optimiser.step()
    return step


class Again(nn.Module):
    """An expensive recurrence: stem and layer1 run again for every hop."""

    def __init__(self, model: HintPose):
        super().__init__()
        self.model = model

    def forward(self, images, cues, hops=None):
        outputs = []
        for _ in range(hops or self.model.spec.hops):
            f = self.model.stem_features(images, cues)
            if outputs:
                f = f + self.model.recurrent_refinement(f, outputs[-1].detach())
            outputs.append(self.model._run_hop(f))
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


def kept(step) -> float:
    """MiB that the forward pass of a step keeps for its backward pass, without the parameters."""
    sizes = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(sizes.values()) / 2**20


def profile(config: TrainConfig, batch: Batch, device: str, steps: int = 5, rows: int = 10):
    """Prints the operations that take most of the time of a training step."""
    step = our_step(config, batch, device)
    for _ in range(2):
        step()
    with torch.profiler.profile() as seen:
        for _ in range(steps):
            step()
        wait(device)
    clock = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    kernels = torch.autograd.DeviceType.CUDA  # on a GPU operations would count their kernels again
    found = sorted(((getattr(entry, clock), entry.key) for entry in seen.key_averages()
                    if device != "cuda" or entry.device_type == kernels), reverse=True)
    total = sum(time for time, _ in found)
    print("\n### where a training step's time goes\n\n| operation | per cent |\n|---|---:|")
    for time_taken, name in found[:rows]:
        print(f"| `{name}` | {100 * time_taken / total:.1f} |")


def measure(title: str, ways: dict, people: int, device: str, rounds: int, repeat: int,
            warm: int = 3):
    """Prints crops per second, the speed relative to the first row, and memory."""
    memory = {}
    for name, step in ways.items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(warm):
            step()
        wait(device)
        memory[name] = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else kept(step)
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, step in ways.items():
            start = time.perf_counter()
            for _ in range(repeat):
                step()
            wait(device)
            seconds[name].append((time.perf_counter() - start) / repeat)
    first = statistics.median(seconds[next(iter(ways))])
    print(f"\n### {title}\n\n| way | crops/s | times as fast | memory, MiB |\n|---|---:|---:|---:|")
    for name, values in seconds.items():
        middle = statistics.median(values)
        room = f"{memory[name]:.0f}" if memory[name] else "–"
        print(f"| {name} | {people / middle:.3g} | {first / middle:.2f} | {room} |", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--preset", nargs="+", default=["w32-256x192", "w48-384x288"])
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--batch", type=int)
    options.add_argument("--no-compile", action="store_true")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--repeat", type=int, default=5, help="steps in each round")
    options = options.parse_args()
    device, compiled = options.device, not options.no_compile
    much = options.rounds, options.repeat
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
                    config.batch, device, *much)
        costs = {f"{hops} hop(s)": our_step(config.override({"hops": hops}), batch, device)
                 for hops in (1, 2, 3)}
        costs["3 hops, checkpointed"] = our_step(
            config.override({"hops": 3, "checkpoint_hops": True, "compile": False}), batch,
            device)
        costs["3 hops, whole network again"] = our_step(config.override({"hops": 3}), batch, device,
                                                        again=True)
        measure(f"{preset}, hops in training", costs, config.batch, device, *much)
        model = HintPose.from_spec(config.spec)
        ways = {"eager": inference(model, config, batch, device, False)}
        if compiled:
            ways["compiled"] = inference(model, config, batch, device, True)
        ways["whole network again for each hop"] = inference(Again(model), config, batch, device,
                                                             False)
        measure(f"{preset}, inference, {config.spec.hops} hops", ways, config.batch, device, *much)
        profile(config, batch, device)


if __name__ == "__main__":
    main()
