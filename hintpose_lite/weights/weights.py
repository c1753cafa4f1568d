"""Saving networks, loading them, and giving new ones their first weights. Loading is strict: an
unknown entry is an error, and so is a missing one, except for parts that start anew by design."""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import save

from ..errors import CheckpointError, ConfigError, FetchError
from ..files import write_whole
from ..inputs.entries import few
from ..model.hintpose import HintPose, Spec, as_hintpose
from ..model.hrnet import HRNet
from .fetch import cache_folder, fetch
from .published import StoredWeights, read_state, translate

SHIPPED = ("crowd-tiny", "crowd-tiny-nocue", "crowd-cues", "people-small", "people-small-nocue",
           "people-cues")

# Addresses and file names as mmpose lists them (its hrnet_coco.yml, tables and configurations).
# The eight digits in a file name are the first of its content's SHA-256.
MMPOSE = "https://download.openmmlab.com/mmpose/"
LARGE, UDP = {"input_size": (288, 384), "target_sigma": 3.0}, {"codec": "udp"}
PUBLIC = {
    "hrnet-w32-coco": ("top_down/hrnet/hrnet_w32_coco_256x192-c78dce93_20200708.pth", {}),
    "hrnet-w48-coco": ("top_down/hrnet/hrnet_w48_coco_256x192-b9e0b3ab_20200708.pth", {}),
    "hrnet-w32-coco-384": ("top_down/hrnet/hrnet_w32_coco_384x288-d9f0d786_20200708.pth", LARGE),
    "hrnet-w48-coco-384": ("top_down/hrnet/hrnet_w48_coco_384x288-314c8528_20200708.pth", LARGE),
    "hrnet-w32-coco-udp": ("top_down/udp/hrnet_w32_coco_256x192_udp-aba0be42_20210220.pth", UDP),
    "hrnet-w48-coco-udp": ("top_down/udp/hrnet_w48_coco_256x192_udp-2554c524_20210223.pth", UDP),
}
IMAGENET = {32: "pretrain_models/hrnet_w32-36af842e.pth",
            48: "pretrain_models/hrnet_w48-8ef0771d.pth"}


def save_model(model: HRNet, path: str | Path, *, half: bool = False,
               overwrite: bool = False) -> Path:
    """Writes weights and spec to a safetensors file, all of it or nothing; returns its path.

    half: convolutions as 16 bit floats, which halves the file (variances of batch norms can leave
    their range). Raises CheckpointError if the file exists (and not `overwrite`) or is not called
    .safetensors, and WriteError.
    """
    path, model = Path(path), as_hintpose(model)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: give it a name that ends in .safetensors")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists: choose another name, or pass overwrite=True")
    state = {name: (value.half() if half and value.ndim == 4 else value).cpu().contiguous()
             for name, value in model.state_dict().items()}
    about = json.dumps({**asdict(model.spec), "trained_on": model.trained_on})
    # A single entry beside the tensors, since safetensors writes several in any order.
    write_whole(path, lambda name: name.write_bytes(save(state, {"spec": about})))
    return path


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu",
               **settings) -> HintPose:
    """Loads a trained network, in eval mode.

    name_or_path: one of SHIPPED; one of PUBLIC, downloaded once to $HINTPOSE_CACHE or
    ~/.cache/hintpose_lite; or a file as in `published`. settings: fields of `Spec`, for files
    without one. Raises CheckpointError, ConfigError, FetchError.
    """
    path, known = _locate(name_or_path)
    found = read_state(path)
    if found.kind == "backbone":
        raise CheckpointError(f"{path} has no final layer for joints, it can only be trained "
                              f"from: initialise(model, {str(path)!r})")
    if found.spec is not None and settings:
        raise ConfigError(f"{path} has its settings stored in it: leave out {', '.join(settings)}")
    if known:
        _same_family(known["codec"], settings.get("codec", known["codec"]), name_or_path)
    if found.spec is None and not known and not settings:
        known = settings_in_name(path)
        warnings.warn(f"{path} does not say how it is used; it is taken as a network for "
                      f"{known.get('input_size', (192, 256))} pixels (width, height) and the codec "
                      f"{known.get('codec', 'quarter')!r}. If that is wrong, give load_model "
                      "input_size= and codec=", stacklevel=2)
    spec = found.spec or Spec(**{**found.architecture(), "cue": False, "hops": 1, **known,
                                 **settings})
    with torch.random.fork_rng(devices=[]):  # loading leaves the caller's random numbers alone
        model = HintPose.from_spec(spec)
    load_weights(model, found)
    model.trained_on = found.trained_on
    return model.to(device).eval()


def settings_in_name(path: Path) -> dict:
    """Input size and codec as fields of `Spec`, from "384x288" (height x width), "udp" or "dark" in
    the name of a published file."""
    found, name = {}, path.stem.lower()
    if size := re.search(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", name):
        high, wide = sorted(map(int, size.groups()), reverse=True)
        if high % 32 == wide % 32 == 0:
            found |= {"input_size": (wide, high), "target_sigma": wide / 96}
    codecs = [codec for codec in ("udp", "dark") if codec in name]
    return found | ({"codec": codecs[0]} if codecs else {})


def load_weights(model: HRNet, source: str | Path | Mapping | StoredWeights) -> tuple[str, ...]:
    """Fills a network from a file or a state dictionary; returns the names that the source lacks.

    The source may lack a backbone's final layer, HintPose's additions and batch counters. Anything
    else that is missing, unknown or of another shape raises CheckpointError, and changes nothing.
    """
    if isinstance(source, (str, Path)):
        source = read_state(source)
    found = source if isinstance(source, StoredWeights) else translate(source)
    stored, target = found.architecture(), model.architecture
    other = [f"{name} {stored[name]} where this network has {target[name]}"
             for name in stored if stored[name] != target[name]]
    if other:
        raise CheckpointError(f"{found.source} has {', '.join(other)}: build the network with "
                              f"the file's settings, or take another file")
    wanted = model.state_dict()
    missing = tuple(name for name in wanted if name not in found.state)
    problems = {
        "entries this network does not know": [n for n in found.state if n not in wanted],
        "no values for parts it needs": [n for n in missing if not _may_miss(n, found)],
        "entries of another shape": [n for n, value in found.state.items()
                                     if n in wanted and value.shape != wanted[n].shape]}
    for problem, names in problems.items():
        if names:
            raise CheckpointError(f"{found.source} has {problem}: {few(names)}; build the network "
                                  f"with the settings (cue, hops, ...) the file was trained with")
    model.load_state_dict(found.state, strict=False)  # nothing is left that strict could find
    return missing


def _may_miss(name: str, found: StoredWeights) -> bool:
    part = name.split(".")[0]
    if part in ("input_refinement", "recurrent_refinement"):
        return not any(stored.startswith(f"{part}.") for stored in found.state)
    return (name.endswith(".num_batches_tracked")
            or part == "final_layer" and found.kind == "backbone")


def initialise(model: HRNet, init: str | Path, say: Callable[[str], None] = print) -> None:
    """Gives a fresh network its first weights, and says which. init: "none" keeps the random ones;
    "imagenet" downloads a classifier of the same width (32 and 48 exist); else a name or path as
    for `load_model`. Raises CheckpointError, ConfigError, FetchError."""
    if init == "none":
        return say("weights: random, none were asked for (init='none')")
    if init == "imagenet":
        width = model.architecture["width"]
        if width not in IMAGENET:
            raise ConfigError(f"ImageNet weights exist for width 32 and 48, not {width}: "
                              f"take init='none' or the path of a file")
        path, known = _download(IMAGENET[width]), {}
    else:
        path, known = _locate(init)
        known = known or settings_in_name(path)
    found = read_state(path)
    if codec := found.spec.codec if found.spec else known.get("codec"):
        _same_family(codec, as_hintpose(model).spec.codec, path)
    present = {name.split(".")[0] for name in model.state_dict()}
    surplus = [part for part in ("input_refinement", "recurrent_refinement")
               if part not in present and any(n.startswith(f"{part}.") for n in found.state)]
    found = replace(found, state={name: value for name, value in found.state.items()
                                  if not name.startswith(tuple(surplus))})
    fresh = [n for n in load_weights(model, found) if not n.endswith(".num_batches_tracked")]
    parts = ", ".join(sorted({name.split(".")[0] for name in fresh}))
    say(f"weights: {path}" + (f"; not in it, so fresh: {parts}" if fresh else "")
        + (f"; not used, since this network has no such part: {', '.join(surplus)}"
           if surplus else ""))


def _same_family(stored: str, wanted: str, source: str | Path) -> None:
    """Raises ConfigError where one codec's heatmaps would be read as another's (see `heatmaps`)."""
    if (stored == "udp") != (wanted == "udp"):
        raise ConfigError(f"{source} was trained with codec {stored!r}, and {wanted!r} places "
                          f"keypoints otherwise: use codec={stored!r} with it")


def _locate(name_or_path: str | Path) -> tuple[Path, dict]:
    """Returns the file of a name or path, and the settings that are known but not stored in it."""
    if name_or_path in SHIPPED:
        return Path(str(files("hintpose_lite") / "shipped" / f"{name_or_path}.safetensors")), {}
    if name_or_path in PUBLIC:
        address, settings = PUBLIC[name_or_path]
        return _download(address), {"codec": "quarter", **settings}
    if (Path(name_or_path) / "model.safetensors").is_file():
        raise CheckpointError(f"{name_or_path} is a run folder: give "
                              f"{Path(name_or_path) / 'model.safetensors'}")
    if not Path(name_or_path).is_file():
        raise CheckpointError(f"{name_or_path} is neither a file nor a known network; those are "
                              f"{', '.join((*SHIPPED, *PUBLIC))}")
    return Path(name_or_path), {}


def _download(address: str) -> Path:
    name = address.rsplit("/", 1)[-1]
    try:
        return fetch(MMPOSE + address, cache_folder() / name,
                     re.search(r"-([0-9a-f]{8})[_.]", name)[1])
    except FetchError as error:
        raise FetchError(f"{error}. The environment variable HINTPOSE_CACHE names another folder "
                         "for such files") from error
