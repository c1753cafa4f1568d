"""A crop cache of COCO's size, of crowd scenes: what was told beforehand, and what it took.

    python benchmarks/cache.py --people 150000

Scenes are drawn first, with all cores, and are not part of the times; they need 0.2 GB for every
10,000 people in the temporary folder, and the cache another 0.05. "A person" is what training reads
of one from the cache, in batches of 64: at its start, at its end, and anywhere in it.
"""

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.data.cache import CropCache, build_cache, estimate_cache

WINDOW, BATCH, BATCHES = 192, 64, 30
PEOPLE_A_SCENE = 3.0


def microseconds(cache: CropCache, batches: np.ndarray) -> float:
    """Median time of a person in batches of rows (n, BATCH)."""
    times = []
    for rows in batches:
        start = time.perf_counter()
        cache.take(torch.from_numpy(rows))
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times)) / BATCH


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--people", type=int, default=150_000)
    options = options.parse_args()
    if options.people < 2 * BATCHES * BATCH:
        raise SystemExit(f"--people: at least {2 * BATCHES * BATCH}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        persons = make_crowd(folder / "scenes", round(options.people / PEOPLE_A_SCENE), seed=1)
        told, told_seconds = estimate_cache(persons, WINDOW)
        start = time.perf_counter()
        build_cache(persons, folder / "cache", WINDOW)
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in (folder / "cache").iterdir())
        start = time.perf_counter()
        cache = CropCache(folder / "cache", persons)
        opened = time.perf_counter() - start
        ends = np.arange(BATCHES * BATCH).reshape(BATCHES, BATCH)
        anywhere = np.random.default_rng(0).integers(0, len(persons), ends.shape)
        times = [microseconds(cache, rows) for rows in
                 (ends, len(persons) - 1 - ends, anywhere)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"python {platform.python_version()}, {platform.machine()}, "
              f"{torch.get_num_threads()} threads: {len(persons):,} people of "
              f"{len(np.unique(persons.image_ids)):,} scenes, windows of {WINDOW} pixels. Told: "
              f"{told / 1e9:.2f} GB in {told_seconds:.0f} s; taken: {size / 1e9:.2f} GB in "
              f"{seconds:.0f} s. Opened in {opened:.1f} s; a person takes {times[0]:.0f} us at the "
              f"start, {times[1]:.0f} us at the end, {times[2]:.0f} us anywhere. Memory of this "
              f"process at its highest: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
