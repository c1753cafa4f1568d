"""Top-down human pose estimation that can be told whom to look at.

The public names below are loaded on first use, so that `import hintpose_lite`, `hintpose --help`
and `hintpose check` are instant, and still work where torch does not.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "COCO17": "skeleton",
    "CocoPersons": "data.coco",
    "Cue": "cues",
    "HRNet": "nets.hrnet",
    "HintPose": "nets.hintpose",
    "PoseEstimator": "estimator",
    "TrainConfig": "config",
    "evaluate": "evaluation",
    "load_model": "nets.weights",
    "make_crowd": "data.crowd",
    "save_model": "nets.weights",
    "train": "training",
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
