"""Top-down human pose estimation that can be told whom to look at.

The public names below are loaded on first use, so that `import hintpose_lite`, `hintpose --help`
and `hintpose check` are instant, and still work where torch does not.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "COCO17": "pose.skeleton",
    "CocoPersons": "data.coco",
    "Cue": "cues.cue",
    "HRNet": "model.hrnet",
    "HintPose": "model.hintpose",
    "PoseEstimator": "photos.estimator",
    "TrainConfig": "runs.presets",  # which fills the table of TrainConfig.preset
    "evaluate": "evaluation.evaluate",
    "load_model": "weights.weights",
    "make_crowd": "crowd.folder",
    "save_model": "weights.weights",
    "train": "training.loop",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'hintpose_lite' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next access does not come here any more
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
