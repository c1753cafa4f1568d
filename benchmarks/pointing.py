"""From a click to a pose: how long it takes, how much time batches of people save, and how accurate
clicks without boxes are.

    python benchmarks/pointing.py
    OMP_NUM_THREADS=1 python benchmarks/pointing.py

The picture is already decoded. "click" is `PoseEstimator` with one box and one point; "lab" is the
cost of a dragged cue in the notebooks: pose, heatmap and both drawings, as JPEG. Then the people of
one picture are estimated in one call, and in one call per person. Times are medians; only ratios
can be compared between machines. The last table is about people of held-out scenes, each with only
a point on a visible joint: the box is the whole picture, and several quick looks narrow it. There
is no flip test.
"""

import argparse
import platform
import statistics
import tempfile
import time
import warnings

import numpy as np
import torch

from hintpose_lite import Cue, PoseEstimator, evaluate, load_model, make_crowd
from hintpose_lite.cues.evaluation import person_cue
from hintpose_lite.evaluation.judge import judge
from hintpose_lite.labs.scene import cue_frame, pair_scene
from hintpose_lite.labs.widgets import encoded


def seconds(calls: dict, rounds: int) -> dict[str, float]:
    """Median time of each call; every round runs all calls in turn."""
    taken = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def without_boxes(model, images: int) -> None:
    """Prints person AP and identity by the number of looks, and with the people's own boxes."""
    with tempfile.TemporaryDirectory() as folder:
        people = make_crowd(folder, images, seed=2_000_000, workers=1)
        rows = np.flatnonzero((people.keypoints[..., 2] == 2).any(1))
        cues = {row: person_cue(people, row, "joint") for row in rows}
        print(f"\n{len(rows)} people of {images} scenes, a point each\n\n| box | person AP | right "
              "person |\n|---|---:|---:|")
        for looks in (0, 1, 2, 3, 5):
            estimator, poses = PoseEstimator(model, flip=False, looks=looks), {}
            for image in np.unique(people.image_ids[rows]):
                some = rows[people.image_ids[rows] == image]
                poses |= zip(some, estimator(people.read(some[0]), cues=[cues[r] for r in some]),
                             strict=True)
            found = judge(people, rows, torch.tensor(np.stack([poses[r].keypoints for r in rows])),
                          torch.tensor([poses[r].score for r in rows])).figures()
            print(f"| whole picture, {looks} looks | {100 * found['ap']:.1f} | "
                  f"{100 * found['accuracy']:.1f} |")
        own = evaluate(model, people, cue="joint", flip=False, rows=rows).identity
        print(f"| people's own | {100 * own['ap']:.1f} | {100 * own['accuracy']:.1f} |")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="crowd-tiny")
    options.add_argument("--people", type=int, default=64)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--images", type=int, default=60)
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # one for every cue without a box
    model, scene = load_model(options.model), pair_scene()
    plain, tested = PoseEstimator(model, flip=False), PoseEstimator(model, looks=2)
    quick = PoseEstimator(model, flip=False, looks=2)
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
            "click without a box, two looks, three hops, no flip test": lambda: quick(
                scene.picture, cues=[cue]),
            "the same with the flip test": lambda: tested(scene.picture, cues=[cue]),
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
          f"{1000 * both['together'] / options.people:.1f} ms per person together, "
          f"{1000 * both['one by one'] / options.people:.1f} one by one, ratio "
          f"{both['one by one'] / both['together']:.2f}")
    without_boxes(model, options.images)


if __name__ == "__main__":
    main()
