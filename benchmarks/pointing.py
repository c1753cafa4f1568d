"""From a click to a pose: how long it takes, and what it gains to ask for many people at once.

    python benchmarks/pointing.py
    OMP_NUM_THREADS=1 python benchmarks/pointing.py

The picture is decoded already. "click" is `PoseEstimator` with one box and one point; "lab" what a
dragged cue costs in the notebooks: pose, heatmap and both drawings, as JPEG. Then people of one
picture in one call against one call each, in turn. Medians; the ratios are what can be compared.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch

from hintpose_lite import Cue, PoseEstimator, load_model
from hintpose_lite.show.labs import cue_frame, pair_scene
from hintpose_lite.show.widgets import encoded


def seconds(calls: dict, rounds: int) -> dict[str, float]:
    """Median time of each call, all of them in turn in every round."""
    taken = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="crowd-tiny")
    options.add_argument("--people", type=int, default=64)
    options.add_argument("--rounds", type=int, default=15)
    options = options.parse_args()
    model, scene = load_model(options.model), pair_scene()
    plain, tested = PoseEstimator(model, flip=False), PoseEstimator(model)
    cue, box = Cue.point(*scene.middle(0)), scene.box[None]

    def lab():
        frame = cue_frame(model, scene, cue)
        return encoded(frame.picture), encoded(frame.heat)

    print(f"{options.model}; python {platform.python_version()}, torch {torch.__version__}, "
          f"{platform.machine()}, {torch.get_num_threads()} threads, {options.rounds} rounds\n")
    print("| | milliseconds |\n|---|---:|")
    for name, value in seconds({
            "click, one hop, no flip test": lambda: plain(scene.picture, box, [cue], hops=1),
            "click, three hops, no flip test": lambda: plain(scene.picture, box, [cue]),
            "click, three hops, flip test": lambda: tested(scene.picture, box, [cue]),
            "lab: three hops, flip test, drawn": lab}, options.rounds).items():
        print(f"| {name} | {1000 * value:.0f} |")

    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (480, 640, 3), np.uint8)
    corners = random.uniform(0, [540, 340], (options.people, 2))
    boxes = np.concatenate([corners, np.full((options.people, 2), (90, 130))], 1)
    cues = [Cue.point(x + 45, y + 65) for x, y in corners]
    both = seconds({"together": lambda: tested(picture, boxes, cues),
                    "one by one": lambda: [tested(picture, boxes[i:i + 1], cues[i:i + 1])
                                           for i in range(len(boxes))]}, 3)
    print(f"\n{options.people} people of one 640x480 picture, three hops, flip test: "
          f"{1000 * both['together'] / options.people:.1f} ms a person together, "
          f"{1000 * both['one by one'] / options.people:.1f} one by one, ratio "
          f"{both['one by one'] / both['together']:.2f}")


if __name__ == "__main__":
    main()
