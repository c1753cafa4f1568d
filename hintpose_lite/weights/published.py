"""Reading weights files, ours and those that others published, into one naming.

The layout is recognised by the names inside the file (of its own name only .safetensors counts).
Known are our safetensors, with the network's `Spec`; pose HRNets of the authors, of mmpose 0.x and
of mmpose 1.x; and HRNets trained to classify ImageNet (authors, timm, mmpretrain, and the layout
whose head is called `head.0.0.0.`), which fill all of a pose network but its final layer.

Pickles are read with torch's `weights_only`, so that a file can't run code.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..inputs.entries import few, stand_in
from ..model.hintpose import Spec

# What classifiers, and mmpose beside its weights, have and a pose network has no place for.
CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.", "head.",
              "neck.")
PREPROCESSOR = "data_preprocessor."


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """What a file holds, under HRNet's official names. kind: "hintpose" (ours, with its spec),
    "pose", or "backbone" (no final layer for joints). trained_on: the data set, or ""."""

    source: str
    kind: str
    state: dict[str, Tensor]
    spec: Spec | None = None
    trained_on: str = ""

    def architecture(self) -> dict:
        """HRNet's settings, from names and shapes. CheckpointError if the file holds no HRNet."""
        try:
            settings = {"width": self.state["transition1.0.0.weight"].shape[0],
                        "stem": self.state["conv1.weight"].shape[0],
                        "modules": tuple(_count(self.state, f"stage{i}") for i in (2, 3, 4)),
                        "blocks": _count(self.state, "layer1")}
        except KeyError as error:
            raise CheckpointError(f"{self.source} does not hold an HRNet: nothing in it is called "
                                  f"{error}; it begins with {few(self.state)}") from error
        if (final := self.state.get("final_layer.weight")) is not None:
            if final.shape[2:] not in ((1, 1), (3, 3)):
                raise CheckpointError(f"{self.source} ends in final_layer.weight of shape "
                                      f"{tuple(final.shape)}, not in a 1x1 or 3x3 convolution: "
                                      "take a pose network's file")
            settings |= {"joints": final.shape[0], "final_kernel": final.shape[-1]}
        return settings


def read_state(path: str | Path) -> StoredWeights:
    """Reads a weights file of any layout listed above. Raises CheckpointError."""
    path, spec = Path(path), None
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                spec = (file.metadata() or {}).get("spec")
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            with torch.serialization.safe_globals(IGNORED):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything on its way through
        with open(path, "rb") as file:
            what = stand_in(file.read(200)) or ("it is damaged, incomplete or another program's "
                                                f"({type(error).__name__}); get it anew")
        raise CheckpointError(f"{path} cannot be read as weights: {what}") from error
    if spec is None:
        return translate(content, str(path))
    try:
        values = json.loads(spec)
        trained_on = values.pop("trained_on", "") if isinstance(values, dict) else ""
        return StoredWeights(str(path), "hintpose", content, Spec.from_dict(values),
                             trained_on=trained_on)
    except (json.JSONDecodeError, CheckpointError) as error:
        raise CheckpointError(f"{path} holds a spec that cannot be used: {error}") from error


def translate(content: Mapping, source: str = "these weights") -> StoredWeights:
    """Brings what a pickle held, or a state dictionary, to HRNet's official names; unknown ones are
    kept, for the user to refuse. CheckpointError if it holds no named weights."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in content.items()):
        raise CheckpointError(f"{source} does not hold a dictionary of named weights; export "
                              f"the network's state_dict() in the program it comes from")
    prefix, state = _prefix(content), {}
    for name, value in content.items():
        name = name.removeprefix(prefix)
        name = re.sub(r"^(keypoint_)?head\.final_layer\.", "final_layer.", name)  # mmpose's
        state[name.removeprefix("backbone.")] = value
    kind = "pose" if "final_layer.weight" in state else "backbone"
    unused = (PREPROCESSOR,) if kind == "pose" else (PREPROCESSOR, *CLASSIFIER)
    last = _count(state, "stage4", least=0) - 1
    # Classifiers use four resolutions of the last module's output, pose networks the finest.
    coarse = tuple(f"stage4.{last}.fuse_layers.{i}." for i in (1, 2, 3))
    return StoredWeights(source, kind, {name: value for name, value in state.items()
                                        if not name.startswith((*unused, *coarse))})


def _prefix(names) -> str:
    """What a program put before all names, such as "module." or "_orig_mod."; perhaps several."""
    first = min((name for name in names if name.endswith("conv1.weight")), key=len, default="")
    prefix = first.removesuffix("conv1.weight").removesuffix("backbone.")
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _count(state: Mapping, part: str, least: int = 1) -> int:
    """How many children, which are numbered from 0, a part has; KeyError if under `least`."""
    matches = [re.match(rf"{part}\.(\d+)\.", name) for name in state]
    count = max((int(match[1]) + 1 for match in matches if match), default=0)
    if count < least:
        raise KeyError(f"{part}.0")
    return count


class _Nothing:
    """Takes any arguments and does nothing. Read as this one, the classes of the log that mmpose
    1.x stores beside its weights run no code."""

    def __init__(self, *args):
        pass

    __setstate__ = __init__


IGNORED = [(_Nothing, name) for name in (
    "mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr", "numpy.ndarray",
    "numpy.dtype", *(f"numpy.{core}.multiarray.{function}" for core in ("core", "_core")
                     for function in ("_reconstruct", "scalar")))]
