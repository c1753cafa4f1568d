"""What a change of the training of people in photographs does, one at a time, in short trainings.

    python benchmarks/tries.py TRAIN VAL                  # all of them
    python benchmarks/tries.py TRAIN VAL --only default "weights averaged"

TRAIN and VAL are folders with people.json and images/, as `split.py` makes them.
Every row is preset people-quick, with a cue and three hops, from `crowd-tiny`, with fewer steps and
one thing changed; CHANGES holds the changes that are not settings. Own and shared boxes, no flip
test where nothing else is said. Prints Markdown, in per cent.
"""

import argparse
import platform
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from grow import grown
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from hintpose_lite.crowd.folder import crowd_scenes
from hintpose_lite.cues.training import KINDS, draw_cues
from hintpose_lite.data import batches
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.data.crops import PersonCrops
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.evaluation.report import percent
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training import step
from hintpose_lite.weights.weights import load_model

LIMBS = np.array([[5, 7, 9], [6, 8, 10], [11, 13, 15], [12, 14, 16]])  # arms and legs


@contextmanager
def averaged(trainer: step.Trainer, decay: float = 0.998):
    """A mean of the weights, exponentially weighted, which the model has after the block."""
    mean = AveragedModel(trainer.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    yield lambda: mean.update_parameters(trainer.model)
    trainer.model.load_state_dict(mean.module.state_dict())


@contextmanager
def partly_drawn(trainer: step.Trainer, scenes: int = 2000, every: int = 4):
    """A quarter of the crops are of drawn people."""
    people, config = crowd_scenes(scenes, 192, seed=5), trainer.config
    drawn = PersonCrops(people, config.spec, config.augment, config.cues, config.seed)

    def mixed(crops, places):
        return [drawn.item(epoch, row % len(people), turn) if i % every == 0 else
                crops.item(epoch, row, turn) for i, (epoch, row, turn) in enumerate(places)]
    with patch.object(PersonCrops, "__getitems__", mixed, create=True):
        yield


@contextmanager
def rough_masks(trainer: step.Trainer):
    """Masks as a detector gives them: thinner or thicker, moved, or with a part cut off."""
    cue_of = PersonCrops._cue

    def roughened(crops, person, kind, keypoints, matrix):
        kind, mask = cue_of(crops, person, kind, keypoints, matrix)
        random = np.random.default_rng(int(mask.sum()) + 1)
        side = int(random.integers(1, 9))
        change = (cv2.erode, cv2.dilate)[random.integers(2)]
        rough = change(mask, np.ones((side, side), np.uint8))
        rough = np.roll(rough, random.integers(-4, 5, 2), (0, 1))
        if random.random() < 0.3:
            rough[int(random.uniform(0.4, 1) * len(rough)):] = 0
        return kind, rough if rough.max() > 127 else mask
    with patch.object(PersonCrops, "_cue", roughened):
        yield


@contextmanager
def borrowed_limbs(trainer: step.Trainer):
    """Half of the poses that are cues have an arm or a leg of the neighbour."""
    def swapped(people, kinds, sigmas, size, sigma, generator, jitter=1.0):
        keypoints, posed = people.keypoints.clone(), kinds == KINDS.index("pose")
        for row in posed.nonzero()[:, 0].tolist():
            limb = LIMBS[row % 4]
            if row % 2 and (people.neighbours[row, limb, 2] > 0).all():
                keypoints[row, limb] = people.neighbours[row, limb]
        return draw_cues(people._replace(keypoints=keypoints), kinds, sigmas, size, sigma,
                         generator, jitter)
    with patch.object(batches, "draw_cues", swapped):
        yield


@contextmanager
def taught(trainer: step.Trainer, teacher: str = "people-small"):
    """Targets are half those of the labels, half the heatmaps of a larger network."""
    model, make = load_model(teacher), step.make_batch
    size = model.spec.input_size[::-1]

    @torch.no_grad()
    def with_teacher(*arguments):
        batch = make(*arguments)
        images, cues = (F.interpolate(given, size, mode="bilinear") for given in
                        (batch.images, batch.cues / trainer.config.augment.cue_height))
        found = F.interpolate(model(images, cues, 1)[-1], batch.targets.shape[2:], mode="bilinear")
        return replace(batch, targets=(batch.targets + found) / 2)
    with patch.object(step, "make_batch", with_teacher):
        yield


@contextmanager
def larger(trainer: step.Trainer):
    """The network of the settings starts as a larger `crowd-tiny` that computes the same."""
    spec = trainer.model.spec
    start = grown(load_model("crowd-tiny"), width=spec.width, stem=spec.stem, modules=spec.modules)
    trainer.model.load_state_dict(start.state_dict())
    yield


DEFAULT = "default"
SOURCES = "coco=2 lspet=0.3 stanford40=0.6"  # how often each source is drawn where nothing is said
SETTINGS = {
    DEFAULT: {},
    "another seed": dict(seed=1),
    "nobody pasted": dict(paste=0.0),
    "everybody pasted": dict(paste=1.0),
    "a third of the crops shared": dict(shared=0.3),
    "nearly all crops shared": dict(shared=0.9),
    "contested people three times as often": dict(contested=3.0),
    "all sources alike": dict(sources=""),
    "COCO alone": dict(sources="coco=1 lspet=0 stanford40=0 mpii=0"),
    "more masks": dict(mask=0.3),
    "one hop": dict(hops=1),
    "input 128 x 160": dict(input_size=(128, 160), target_sigma=1.5, cue_sigma=6.7),
    "input 192 x 256": dict(input_size=(192, 256), target_sigma=2.0, cue_sigma=10.0),
    "width 24, grown from crowd-tiny": dict(init="none", width=24, stem=24),
    "modules (1, 3, 3), grown from crowd-tiny": dict(init="none", modules=(1, 3, 3)),
    "from random weights": dict(init="none"),
    "from random weights, width 24": dict(init="none", width=24, stem=24),
    "from random weights, modules (1, 3, 3)": dict(init="none", modules=(1, 3, 3)),
}
CHANGES = {  # what is no setting, for as long as the training runs
    "weights averaged": averaged,
    "rough masks": rough_masks,
    "poses with a limb of the neighbour": borrowed_limbs,
    "half of the targets from people-small": taught,
    "a quarter of the crops drawn": partly_drawn,
    "width 24, grown from crowd-tiny": larger,
    "modules (1, 3, 3), grown from crowd-tiny": larger,
}


def trained(config: TrainConfig, people: CocoPersons, change=None, name: str = ""):
    """A network after a training with these settings."""
    trainer = step.Trainer(config, people, "cpu")
    with change(trainer) if change else nullcontext() as after:
        for _ in tqdm(range(config.steps), desc=name, mininterval=10, leave=False):
            trainer.run_step()
            if after:
                after()
    return trainer.model.eval()


def figures(model, val: CocoPersons, flip: bool = False) -> str:
    """The columns of one row."""
    cells = []
    for protocol, cue in (("own", "joint"), ("own", "none"), ("shared", "joint"),
                          ("shared", "mask")):
        report = evaluate(model, val, protocol=protocol, cue=cue, flip=flip)
        cells += [report.ap] + [report.identity["accuracy"]] * (protocol == "shared")
    return " | ".join(map(percent, cells))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("train", type=Path)
    options.add_argument("val", type=Path)
    options.add_argument("--only", nargs="+", default=list(SETTINGS | CHANGES))
    options.add_argument("--steps", type=int, default=1000)
    options = options.parse_args()
    torch.set_num_threads(1)
    people, val = (CocoPersons(folder / "people.json", folder / "images")
                   for folder in (options.train, options.val))
    print(f"{options.steps} steps of 16, seed 0; {len(people)} people to learn from, "
          f"{len(val)} held out; python {platform.python_version()}, torch {torch.__version__}, "
          f"{platform.machine()}, one thread\n")
    columns = "own AP | own AP, no cue | shared AP, joint | right | shared AP, mask | right"
    print(f"| change | {columns} |\n|---|{'---:|' * 6}", flush=True)
    for name in options.only:
        settings = {"steps": options.steps, "init": "crowd-tiny", "sources": SOURCES,
                    **SETTINGS.get(name, {})}
        config = TrainConfig.preset("people-quick", **settings).resolve(len(people), 17, 1, "cpu")
        model = trained(config, people, CHANGES.get(name), name)
        print(f"| {name} | {figures(model, val)} |", flush=True)
        if name == DEFAULT:
            print(f"| {name}, with the flip test | {figures(model, val, flip=True)} |", flush=True)


if __name__ == "__main__":
    main()
