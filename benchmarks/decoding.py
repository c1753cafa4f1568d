"""Compares batched decoding and OKS-NMS with loops over people and joints.

    python benchmarks/decoding.py

The loops follow the official formulas: argmax and a quarter pixel for every map, and greedy
suppression that compares pose with pose. One thread; median of alternating rounds. The script also
checks that both ways agree.
"""

import platform
import statistics
import time

import numpy as np
import torch

from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.oks import oks_nms
from hintpose_lite.pose.skeleton import COCO17

ROUNDS, PEOPLE, PICTURES = 7, 640, 64
SIGMAS = np.array(COCO17.sigmas)


def decode_loop(maps):
    points = np.zeros((*maps.shape[:2], 2), np.float32)
    for n in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            m = maps[n, k]
            y, x = np.unravel_index(m.argmax(), m.shape)
            points[n, k] = x, y
            if 1 < x < m.shape[1] - 1 and 1 < y < m.shape[0] - 1:
                slope = [m[y, x + 1] - m[y, x - 1], m[y + 1, x] - m[y - 1, x]]
                points[n, k] += 0.25 * np.sign(slope)
    return points * 4


def oks_of(a, b, area):
    value = 0.0
    for k in range(len(SIGMAS)):
        square = (a[k, 0] - b[k, 0]) ** 2 + (a[k, 1] - b[k, 1]) ** 2
        value += np.exp(-square / (2 * area * (2 * SIGMAS[k]) ** 2))
    return value / len(SIGMAS)


def nms_loop(points, scores, areas, images, threshold=0.9):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        rivals = [j for j in kept if images[j] == images[i]]
        if all(oks_of(points[i], points[j], (areas[i] + areas[j]) / 2) <= threshold
               for j in rivals):
            kept.append(i)
    return kept


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(PEOPLE, 17, 64, 48, generator=generator)
    people = torch.rand(PEOPLE // 2, 17, 2, generator=generator) * 100
    near = people + torch.randn(people.shape, generator=generator)  # everybody found twice
    points = torch.cat([people, near])
    scores = torch.rand(PEOPLE, generator=generator)
    areas = torch.full((PEOPLE,), 4000.0)
    images = torch.arange(PEOPLE) % PICTURES

    def loops():
        found = decode_loop(maps.numpy())
        return found, nms_loop(points.numpy(), scores.numpy(), areas.numpy(), images.numpy())

    def ours():
        found = decode(maps, (192, 256), "quarter")[0]
        return found, oks_nms(points, scores, areas, COCO17.sigmas, images=images)

    (a, kept_a), (b, kept_b) = loops(), ours()
    np.testing.assert_allclose(a, b.numpy(), atol=1e-4)
    assert set(map(int, kept_a)) == set(kept_b.tolist())
    seconds = {"loops": [], "ours": []}
    for _ in range(ROUNDS):
        for name, run in (("loops", loops), ("ours", ours)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    slow, fast = (statistics.median(seconds[name]) for name in ("loops", "ours"))
    print(f"python {platform.python_version()}, torch {torch.__version__}, "
          f"numpy {np.__version__}, {platform.machine()}; 1 thread, median of {ROUNDS} rounds\n")
    print(f"{PEOPLE} people in {PICTURES} pictures, heatmaps 64 x 48, {len(kept_b)} poses kept\n")
    print(f"| way | ms | times |\n|---|---:|---:|\n| loops | {1000 * slow:.1f} | 1.0 |\n"
          f"| ours | {1000 * fast:.1f} | {slow / fast:.1f} |")


if __name__ == "__main__":
    main()
