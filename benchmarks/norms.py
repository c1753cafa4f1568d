"""How much accuracy the hops lose because they share the batch norms' running statistics.

    python benchmarks/norms.py runs/switches/hops-from-the-start-0/model.safetensors

In training every hop is normalised by its own batch; in evaluation all hops share one running
average. Evaluates networks hop by hop on held-out scenes: with their running statistics, and with
those of batches of 64 people. The latter only shows what is lost: a person's pose then depends on
the other people in the batch. Prints Markdown, in per cent; no flip test.
"""

import argparse
import platform
import tempfile

import torch
from shipped import SEED
from torch import nn

from hintpose_lite.crowd.folder import GENERATOR, make_crowd
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.weights.weights import load_model


def use_batch_statistics(model: nn.Module) -> None:
    """Normalises by the present batch, and keeps the running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0


def main():
    options = argparse.ArgumentParser()
    options.add_argument("models", nargs="+")
    options.add_argument("--images", type=int, default=200)
    options = options.parse_args()
    print(f"{options.images} scenes of {GENERATOR}, seed {SEED}; python "
          f"{platform.python_version()}, torch {torch.__version__}, {platform.machine()}\n")
    print("| network | statistics | people | " + " | ".join(
        f"hop {hop}: {what}" for hop in (1, 2, 3) for what in ("AP", "right")) + " |")
    print("|---|---|" + "---:|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        people = make_crowd(folder, options.images, SEED)
        for name in options.models:
            for statistics in ("running", "of the batch"):
                model = load_model(name)
                if statistics != "running":
                    use_batch_statistics(model)
                report = evaluate(model, people, protocol="shared", flip=False)
                print(f"| {name} | {statistics} | {report.people} | " + " | ".join(
                    f"{100 * hop[figure]:.1f}" for hop in report.per_hop
                    for figure in ("ap", "accuracy")) + " |", flush=True)


if __name__ == "__main__":
    main()
