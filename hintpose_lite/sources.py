"""Where a run's people come from: files the user names, or crowd scenes made on the spot."""

from collections.abc import Sequence
from pathlib import Path

from .config import TrainConfig
from .data.coco import CocoPersons
from .data.crowd import make_crowd
from .errors import DataError

HELD_OUT = 1_000_000  # added to a seed for scenes that no training run sees


def open_data(config: TrainConfig, data=None, val=None) -> tuple[CocoPersons, CocoPersons]:
    """Training and validation people.

    data, val: (annotations, images), CocoPersons or None. Without data, crowd scenes are made (or
    found again) under `data/`; without val, crowd scenes of another seed, or for given data those.
    """
    persons = _open(data) or crowd_scenes(config.images, config.scene_size, config.data_seed)
    held_out = _open(val)
    if held_out is None and data is not None:
        print("no validation data were given: validating on the training people themselves")
        held_out = persons
    return persons, held_out or crowd_scenes(config.val_images, config.scene_size,
                                             config.data_seed + HELD_OUT)


def crowd_scenes(images: int, size: int, seed: int) -> CocoPersons:
    """Crowd scenes in the folder that their settings name, made if they are not there yet."""
    return make_crowd(Path("data") / f"crowd-{images}x{size}-seed{seed}", images, seed, size)


def _open(source) -> CocoPersons | None:
    if source is None or isinstance(source, CocoPersons):
        return source
    if not isinstance(source, Sequence) or len(source) != 2:
        raise DataError("data must be (annotation file, picture folder) or CocoPersons, "
                        f"not {source!r}")
    return CocoPersons(*source)
