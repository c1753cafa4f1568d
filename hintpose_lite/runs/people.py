"""Opens the people of a run: from files that the user names, or from drawn crowd scenes."""

from collections.abc import Sequence

from ..crowd.folder import HELD_OUT, crowd_scenes
from ..data.coco import CocoPersons
from ..errors import ConfigError, DataError
from ..training.config import TrainConfig


def open_data(config: TrainConfig, data=None, val=None) -> tuple[CocoPersons, CocoPersons]:
    """Training and validation people. Raises ConfigError, DataError.

    data, val: (annotations, images), CocoPersons or None. Without data, crowd scenes are drawn
    under `data/`, or opened again. Without val, a run on given data is validated on the same data,
    and a run on crowd scenes on scenes of another seed.
    """
    if data is None and not config.images:
        raise ConfigError("this preset is for photographs, and there are none: give --data "
                          "ANNOTATIONS IMAGES, or take crowd-quick for drawn scenes")
    persons = _open(data) or crowd_scenes(config.images, config.scene_size, config.data_seed)
    held_out = _open(val)
    if held_out is None and data is not None:
        print("no validation data were given: validating on the training people themselves")
        held_out = persons
    return persons, held_out or crowd_scenes(config.val_images, config.scene_size,
                                             config.data_seed + HELD_OUT)


def _open(source) -> CocoPersons | None:
    if source is None or isinstance(source, CocoPersons):
        return source
    if not isinstance(source, Sequence) or len(source) != 2:
        raise DataError("data must be (annotation file, picture folder) or CocoPersons, "
                        f"not {source!r}")
    return CocoPersons(*source)
