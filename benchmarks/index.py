"""Time and memory to open an annotation file of COCO's size, and memory of a loader's workers.

    python benchmarks/index.py --people 150000

Writes crowd-like annotations with COCO's counts (per picture 2.6 people and 1.8 more without
keypoints, with polygons), opens them with `CocoPersons`, and times single records at the start and
at the end. Memory is the growth of the process's peak. Then forks as many workers as a training on
a GPU does, each of which reads every record once, and adds up what they and this process hold
(their proportional set sizes). Linux only.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.pose.skeleton import COCO17


def write(path: Path, people: int, seed: int = 0) -> None:
    """A COCO keypoint file with `people` labelled people."""
    rng, images, annotations = np.random.default_rng(seed), [], []
    while len(annotations) < people * 1.7:
        number = len(images) + 1
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 640,
                       "height": 480})
        for _ in range(1 + rng.poisson(3.4)):
            x, y, w, h = rng.uniform((0, 0, 20, 40), (500, 300, 140, 180)).round(2).tolist()
            labelled = rng.random() < 0.59
            points = rng.uniform((x, y), (x + w, y + h), (17, 2)).round()
            v = rng.choice([0, 1, 2], 17, p=[0.4, 0.07, 0.53]) * labelled
            v[0] = 2 * labelled
            outline = rng.uniform((x, y), (x + w, y + h), (20, 2)).round(2).ravel().tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [x, y, w, h], "area": w * h * 0.6, "segmentation": [outline],
                "keypoints": np.column_stack([points, v]).astype(int).ravel().tolist(),
                "num_keypoints": int((v > 0).sum())})
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [
        {"id": 1, "name": "person", "keypoints": COCO17.names}]}))


def held() -> int:
    """KiB that this process holds; what several share is divided among them."""
    rows = dict(line.split()[:2] for line in Path("/proc/self/smaps_rollup").read_text()
                .splitlines()[1:])
    return int(rows["Pss:"])


def read_all(persons: CocoPersons, barrier, sizes, place: int) -> None:
    for row in range(len(persons)):
        persons[row].segmentation  # noqa: B018 (looking at it is the point)
    barrier.wait()
    sizes[place] = held()
    barrier.wait()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--people", type=int, default=150_000)
    options.add_argument("--workers", type=int, default=8)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        # Written in a process of its own, so that this process's peak is that of reading.
        writer = multiprocessing.get_context("spawn").Process(target=write,
                                                              args=(path, options.people))
        writer.start()
        writer.join()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        persons = CocoPersons(path, folder, check_pictures=False)
        seconds = time.perf_counter() - start
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
        times = []
        for first in (0, len(persons) - 1000):
            start = time.perf_counter()
            [persons[row] for row in range(first, first + 1000)]
            times.append((time.perf_counter() - start) * 1e3)
        print(f"python {platform.python_version()}, {platform.machine()}, one thread: "
              f"{len(persons):,} people of {path.stat().st_size / 2**20:.0f} MiB opened in "
              f"{seconds:.1f} s, {memory:.2f} GiB more memory at the highest; a record takes "
              f"{times[0]:.1f} us at the start and {times[1]:.1f} us at the end")
        fork = multiprocessing.get_context("fork")
        barrier = fork.Barrier(options.workers + 1)
        sizes = fork.Array("l", options.workers + 1)
        workers = [fork.Process(target=read_all, args=(persons, barrier, sizes, place))
                   for place in range(options.workers)]
        for worker in workers:
            worker.start()
        barrier.wait()
        sizes[options.workers] = held()
        barrier.wait()
        print(f"{options.workers} workers that have read every record, and this process: "
              f"{sum(sizes) / 2**20:.2f} GiB in all")


if __name__ == "__main__":
    main()
