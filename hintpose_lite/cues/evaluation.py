"""The cue of a labelled person, drawn from their annotation: what `evaluate` gives to a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from .cue import Cue, call_source
from .training import oks_jitter

if TYPE_CHECKING:
    from ..data.coco import CocoPersons, PersonRecord

CUES = ("joint", "any-joint", "interior", "centroid", "mask", "points", "box", "pose", "none",
        "centre", "wrong")


def person_cue(persons: CocoPersons, row: int, source: str, *, middle=None, seed: int = 0,
               radius: float = 0.0, counts: Counter | None = None) -> Cue:
    """The cue of one person; whatever is random about it depends on (seed, annotation id).

    source: "joint", a visible joint in the visible mask (else a hidden one); "any-joint", any
    labelled one; "interior", any mask pixel; "centroid", the mask's, or the mask pixel nearest to
    it; "mask"; "points", up to three such visible joints and, as a negative, one of the partner;
    "box", the person's own box; "pose", all labelled joints, each off by its OKS scale; "none", no
    cue; "centre", the `middle` (x, y) of the box that is cropped; "wrong", the partner's joint.
    radius: a joint is moved by radius * sqrt(area). counts: of replacements, such as a joint for a
    missing mask. ConfigError for an unknown source or a missing partner, DataError for a mask."""
    counts = Counter() if counts is None else counts
    person, partner = persons[row], persons.partner[row]
    if source not in CUES or (source == "wrong" and partner < 0):
        raise ConfigError(f"no cue {source!r} for person {row}, whose partner is {partner}; choose "
                          f"{', '.join(CUES)}")
    if source == "none":
        return Cue.none()
    if source == "centre":
        return Cue.point(*middle)
    if source == "box":
        return Cue.box(person.box)
    if source == "pose":
        generator = torch.Generator().manual_seed(int(_random(person, seed).integers(2**62)))
        joints, sigmas = torch.from_numpy(person.keypoints), torch.tensor(persons.skeleton.sigmas)
        moved = oks_jitter(joints[None, :, :2], torch.tensor([person.area]), sigmas, generator)[0]
        return Cue.pose(torch.cat([moved, joints[:, 2:]], 1))
    if source == "any-joint":
        labelled = np.flatnonzero(person.keypoints[:, 2])
        return Cue.point(*person.keypoints[_random(person, seed).choice(labelled), :2])
    if source in ("interior", "centroid", "mask"):
        return _mask_cue(person, source, seed, counts)
    if source == "points":
        own = _random(person, seed).permutation(_visible_joints(person, counts))[:3]
        if partner < 0:
            counts["people without a partner, no negative point"] += 1
            return Cue.points(own)
        negative = _joint(persons[partner], seed, counts)
        return Cue.points([*own, negative], [1] * len(own) + [-1])
    return Cue.point(*_joint(persons[partner] if source == "wrong" else person, seed, counts,
                             radius))


def nearest_cue(persons: CocoPersons, row: int, source: Callable, box: Tensor,
                counts: Counter) -> Cue:
    """Of the cues that a source finds in a box (4,), the one nearest to the person's centroid."""
    picture = persons.read(row)
    found, = call_source(source, picture, box[None])
    if not all(isinstance(cue, Cue) and (cue.kind != "mask" or cue.array.shape == picture.shape[:2])
               for cue in found):
        raise DataError("the cue source must return cues, masks of the picture's size, not "
                        f"[{found!r:.80}]")
    found = [cue for cue in found if cue.middle() is not None]
    if not found:
        counts["people in whose box the source finds nobody, run without a cue"] += 1
        return Cue.none()
    middle = person_cue(persons, row, "centroid").xy[0]
    return min(found, key=lambda cue: float(np.hypot(*(cue.middle() - middle))))


def _random(person: PersonRecord, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, person.annotation_id % 2**64])  # ids may be negative


def _joint(person: PersonRecord, seed: int, counts: Counter, radius: float = 0.0) -> np.ndarray:
    """A random one of the `_visible_joints` (2,), moved by radius * sqrt(area)."""
    random = _random(person, seed)
    joint, angle = random.choice(_visible_joints(person, counts)), random.uniform(0, 2 * np.pi)
    return joint + radius * np.sqrt(person.area) * np.array([np.cos(angle), np.sin(angle)])


def covered(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Which of the points (n, 2) lie on pixels of a mask (H, W) that are not 0: (n,) bool."""
    places = np.round(points).clip(-1, mask.shape[::-1]).astype(int)
    x, y = nearest = places.clip(0, np.array(mask.shape[::-1]) - 1).T
    return (nearest == places.T).all(0) & (mask[y, x] > 0)


def _visible_joints(person: PersonRecord, counts: Counter) -> np.ndarray:
    """Visible joints in the visible mask (n, 2), n at least 1; others where there is none."""
    xy, v, mask = person.keypoints[:, :2], person.keypoints[:, 2], person.mask()
    allowed = v == 2
    if mask is not None and mask.any():
        allowed &= covered(xy, mask)
    if not allowed.any():
        allowed = v == 1
        counts["cues from a hidden joint, there being no visible one"] += int(allowed.any())
    if not allowed.any():
        allowed = v == 2
        counts["cues from a visible joint outside the mask, there being no other"] += 1
    return xy[allowed]


def _mask_cue(person: PersonRecord, source: str, seed: int, counts: Counter) -> Cue:
    """A cue from the visible mask; without one, from a visible joint, which is counted."""
    mask = person.mask()
    if mask is None or not mask.any():
        counts[f"people without a mask, a joint for the cue {source!r}"] += 1
        return Cue.point(*_joint(person, seed, counts))
    if source == "mask":
        return Cue.mask(mask)
    pixels = np.argwhere(mask)[:, ::-1]  # x, y
    if source == "interior":
        return Cue.point(*_random(person, seed).choice(pixels))
    mean = pixels.mean(0)
    column, line = np.round(mean).astype(int)
    nearest = pixels[((pixels - mean) ** 2).sum(1).argmin()]
    return Cue.point(*(mean if mask[line, column] else nearest))
