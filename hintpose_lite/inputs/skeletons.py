"""Skeletons of other data sets, and of the user's own, by name or from a JSON file."""

import json
from pathlib import Path

from ..errors import ConfigError
from ..pose.skeleton import COCO17, Skeleton
from .entries import plain


def _made(names: str, limbs: str, sigmas: tuple[float, ...]) -> Skeleton:
    names = tuple(names.split())
    return from_parts({"names": names, "limbs": [limb.split("-") for limb in limbs.split()],
                       "sigmas": sigmas, "swaps": [
                           (name, name.replace("left_", "right_")) for name in names
                           if name.startswith("left_")]})


def from_parts(parts: dict) -> Skeleton:
    """A skeleton from names, swaps (or mirror), limbs, sigmas and perhaps upper; joints are names
    or indices. ConfigError for an unknown name, KeyError, ValueError for parts that do not fit."""
    names = tuple(map(str, parts["names"]))
    place = {plain(name): i for i, name in enumerate(names)}

    def index(joint) -> int:
        if isinstance(joint, int):
            return joint
        if plain(joint) not in place:
            raise ConfigError(f"there is no joint {joint!r} in names: {', '.join(names)}")
        return place[plain(joint)]

    def pairs(key: str) -> tuple[tuple[int, int], ...]:
        return tuple((index(a), index(b)) for a, b in parts.get(key, ()))

    return Skeleton(names, pairs("swaps") or pairs("mirror"), pairs("limbs"),
                    tuple(map(float, parts["sigmas"])), tuple(map(index, parts.get("upper", ()))))


# Names in the order of the data sets' files. Constants: CrowdPose's crowdpose-api; those of AIC and
# MPII as mmpose lists them (its configs/_base_/datasets).
SHIPPED = {
    "coco": COCO17,
    "crowdpose": _made(
        "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip "
        "right_hip left_knee right_knee left_ankle right_ankle head neck",
        "left_ankle-left_knee left_knee-left_hip right_ankle-right_knee right_knee-right_hip "
        "left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip "
        "left_shoulder-right_shoulder left_shoulder-left_elbow right_shoulder-right_elbow "
        "left_elbow-left_wrist right_elbow-right_wrist head-neck",
        (.079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089, .079, .079)),
    "aic": _made(
        "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle head_top neck",
        "right_wrist-right_elbow right_elbow-right_shoulder left_wrist-left_elbow "
        "left_elbow-left_shoulder right_shoulder-neck left_shoulder-neck neck-head_top "
        "right_shoulder-right_hip left_shoulder-left_hip right_hip-left_hip right_hip-right_knee "
        "right_knee-right_ankle left_hip-left_knee left_knee-left_ankle",
        (.01388152, .01515228, .01057665, .01417709, .01497891, .01402144, .03909642, .03686941,
         .01981803, .03843971, .03412318, .02415081, .01291456, .01236173)),
    "mpii": _made(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck "
        "head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
        "right_ankle-right_knee right_knee-right_hip right_hip-pelvis pelvis-left_hip "
        "left_hip-left_knee left_knee-left_ankle pelvis-thorax thorax-upper_neck "
        "upper_neck-head_top right_wrist-right_elbow right_elbow-right_shoulder "
        "right_shoulder-thorax thorax-left_shoulder left_shoulder-left_elbow left_elbow-left_wrist",
        (.089, .083, .107, .107, .083, .089, .026, .026, .026, .026, .062, .072, .179, .179, .072,
         .062)),
}


def load_skeleton(name: str | Path | None) -> Skeleton:
    """A skeleton by name (coco, crowdpose, aic, mpii), or from a JSON file with names, swaps, limbs
    and sigmas. None: COCO's. Raises ConfigError."""
    if name is None or str(name) in SHIPPED:
        return SHIPPED[str(name or "coco")]
    example = ('{"names": ["head", "left_hand", "right_hand"], "swaps": [["left_hand", '
               '"right_hand"]], "limbs": [["head", "left_hand"]], "sigmas": [0.08, 0.06, 0.06]}')
    try:
        return from_parts(json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"skeleton {name}: neither a file ({error.strerror}) nor one of "
                          f"{', '.join(SHIPPED)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"skeleton {name} cannot be used ({error!r}); write it like {example}"
                          ) from error
