"""Crops per second and core: HRNet's per-sample path against ours, side by side in one process.

    python benchmarks/loader.py                           # crowd scenes
    python benchmarks/loader.py ANNOTATIONS IMAGES        # a COCO-format data set

"per sample" is HRNet's data set written down again: for every person decode the JPEG, warp it with
cv2, draw a Gaussian patch for each joint in a loop, normalise. "ours" is `PersonCrops`, which keeps
no decoded picture here (so every epoch is a cold one), and `make_batch`, which does the rest. On a
GPU's machine only the former is the processor's work: "ours, before the GPU"; "... pasted" is the
same with a second person pasted wherever that is possible. Neither draws cues, since HRNet has
none; both augment by scale, rotation and flip. One thread; people in random order;
the median of alternating rounds.
"""

import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.data.batches import make_batch
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.data.crops import Augment, PersonCrops, stack
from hintpose_lite.model.hintpose import Spec

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
ROUNDS, BATCH = 5, 32


def one_sample(persons, i, size, sigma, rng):
    """One person as HRNet's data set makes it: picture, targets, weights."""
    person = persons[i]
    picture = cv2.cvtColor(cv2.imread(str(person.path)), cv2.COLOR_BGR2RGB)
    x, y, w, h = person.box
    width = max(w, h * size[0] / size[1]) * 1.25 * np.clip(1 + 0.35 * rng.normal(), 0.65, 1.35)
    angle = np.clip(45 * rng.normal(), -90, 90) if rng.random() < 0.6 else 0
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), -angle, size[0] / width)
    matrix[:, 2] += np.array(size) / 2 - np.array([x + w / 2, y + h / 2])
    joints = person.keypoints.copy()
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
        joints[:, 0] = picture.shape[1] - 1 - joints[:, 0]
        joints = joints[list(persons.skeleton.mirror)]
    crop = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR)
    crop = ((crop.astype(np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)
    return torch.from_numpy(crop), *targets_in_a_loop(joints, matrix, size, sigma)


def targets_in_a_loop(joints, matrix, size, sigma):
    """A rounded Gaussian patch for each joint, pasted into its map."""
    small = (size[0] // 4, size[1] // 4)
    maps = np.zeros((len(joints), small[1], small[0]), np.float32)
    weights = (joints[:, 2] > 0).astype(np.float32)
    reach = int(3 * sigma)
    grid = np.arange(0, 2 * reach + 1, 1, np.float32)
    for k, (x, y, _) in enumerate(joints):
        place = matrix @ np.array([x, y, 1])
        cx, cy = int(place[0] / 4 + 0.5), int(place[1] / 4 + 0.5)
        if not (-reach <= cx < small[0] + reach and -reach <= cy < small[1] + reach):
            weights[k] = 0
            continue
        patch = np.exp(-((grid - reach) ** 2 + (grid[:, None] - reach) ** 2) / (2 * sigma**2))
        x0, x1 = max(0, cx - reach), min(small[0], cx + reach + 1)
        y0, y1 = max(0, cy - reach), min(small[1], cy + reach + 1)
        if weights[k] and x0 < x1 and y0 < y1:
            maps[k, y0:y1, x0:x1] = patch[y0 - cy + reach:y1 - cy + reach,
                                          x0 - cx + reach:x1 - cx + reach]
    return torch.from_numpy(maps), torch.from_numpy(weights)


def per_sample(persons, spec, rng, order):
    for rows in order:
        samples = [one_sample(persons, i, spec.input_size, spec.target_sigma, rng) for i in rows]
        [torch.stack(part) for part in zip(*samples, strict=True)]


def ours(crops, generator, order, on_device=True):
    for rows in order:
        crops.pictures.values.clear()
        items = stack([crops.item(0, row) for row in rows])
        if on_device:
            make_batch(items, crops.spec, crops.augment, crops.persons.skeleton, generator)


def measure(name, persons, spec):
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    people = rng.permutation(len(persons)).tolist()
    order = [people[start:start + BATCH] for start in range(0, len(people), BATCH)]
    crops = PersonCrops(persons, spec, Augment(light=0, shared=0, half_body=0), cached=0)
    pasted = PersonCrops(persons, spec, Augment(light=0, shared=0, half_body=0, paste=1), cached=0)
    pasted.paster.kept.limit = 1 << 28  # cut-outs are used again within an epoch
    ways = {"per sample": lambda: per_sample(persons, spec, rng, order),
            "ours": lambda: ours(crops, generator, order),
            "ours, before the GPU": lambda: ours(crops, generator, order, on_device=False),
            "ours, before the GPU, pasted": lambda: ours(pasted, generator, order, on_device=False)}
    seconds = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            start = time.process_time()
            run()
            seconds[way].append(time.process_time() - start)
    middle = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"\n{name}: {len(persons)} people, input {spec.input_size}\n")
    print("| way | crops per second and core | times per sample |\n|---|---:|---:|")
    for way, value in middle.items():
        print(f"| {way} | {len(persons) / value:.0f} | {middle['per sample'] / value:.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(f"python {platform.python_version()}, torch {torch.__version__}, cv2 {cv2.__version__}, "
          f"{platform.machine()}; 1 thread, median of {ROUNDS} rounds of processor time")
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]).name, CocoPersons(*sys.argv[1:]), Spec(cue=False, hops=1))
    else:
        with tempfile.TemporaryDirectory() as folder:
            scenes = make_crowd(Path(folder) / "crowd", 200, seed=7)
            measure("crowd scenes", scenes, Spec(cue=False, hops=1, input_size=(96, 128),
                                                 target_sigma=1.2))
