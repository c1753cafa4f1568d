"""What the COCO presets cost: operations and memory, counted without a GPU; hours, estimated.

    python benchmarks/cost.py [--people 149813]

Operations (a multiply-add is two) and the bytes that the backward pass needs are counted on tensors
without content, so nothing is computed. Hours follow from an assumed share of a device's peak
(--used, of NVIDIA's figure for dense bf16): they are no measurement.
"""

import argparse

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.runs.presets import TrainConfig

PRESETS = ("w32-baseline", "w48-baseline", "w32-256x192", "w48-384x288", "w32-finetune")
PEAK = {"A100": 312e12, "H200": 989e12}  # operations per second, dense bf16 (NVIDIA's data sheets)


def of_step(config: TrainConfig, hops: int, batch: int) -> tuple[float, float]:
    """Operations per crop, forward and backward, and saved bytes per crop, of steps in bf16."""
    saved, (width, height) = {}, config.spec.input_size

    def keep(tensor):
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            saved[id(storage)] = storage, storage.nbytes()
        return tensor

    with FakeTensorMode():
        model = HintPose.from_spec(config.spec).train()
        images = torch.empty(batch, 3, height, width)
        cues = torch.empty(batch, 1, height, width) if config.spec.cue else None
        counter = FlopCounterMode(display=False)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with counter, hooks:
            with torch.autocast("cpu", torch.bfloat16):
                outputs = model(images, cues, hops)
            outputs.float().square().mean().backward()
    return counter.get_total_flops() / batch, sum(size for _, size in saved.values()) / batch


def mean_hops(config: TrainConfig) -> dict[int, float]:
    """The share of steps for each number of hops."""
    most, late = config.spec.hops, 1 - config.hops_after
    shares = {1: config.hops_after, most: 0.0}
    shares[most] = shares.get(most, 0.0) + late * (1 - config.hop_dropout * (most > 1))
    for fewer in range(1, most):
        shares[fewer] = shares.get(fewer, 0.0) + late * config.hop_dropout / (most - 1)
    return shares


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--people", type=int, default=149_813, help="people of an epoch")
    options.add_argument("--used", type=float, default=0.15, help="assumed share of the peak")
    options = options.parse_args()
    print("| preset | epochs | batch | GFLOP per crop, by hops | GB saved for backward, by hops | "
          + " | ".join(f"hours, {name}" for name in PEAK) + " |", flush=True)
    print("|---|---:|---:|---|---|" + "---:|" * len(PEAK))
    for name in PRESETS:
        config = TrainConfig.preset(name)
        costs = {hops: of_step(config, hops, 2) for hops in range(1, config.spec.hops + 1)}
        total = options.people * config.epochs * sum(
            share * costs[hops][0] for hops, share in mean_hops(config).items())
        hours = [f"{total / (peak * options.used) / 3600:.0f}" for peak in PEAK.values()]
        flops = " / ".join(f"{cost / 1e9:.0f}" for cost, _ in costs.values())
        memory = " / ".join(f"{config.batch * size / 1e9:.0f}" for _, size in costs.values())
        print(f"| `{name}` | {config.epochs:g} | {config.batch} | {flops} | {memory} | "
              + " | ".join(hours) + " |", flush=True)


if __name__ == "__main__":
    main()
