"""COCO's masks, as polygons or run lengths, as arrays."""

import numpy as np
from pycocotools import mask as rle

from ..errors import DataError


def decode_mask(segmentation: list | dict | None, width: int, height: int) -> np.ndarray | None:
    """A COCO segmentation (polygons; RLE, compressed or not) as (height, width) bool; None if there
    is nothing to draw. ValueError or TypeError if it is damaged."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [height, width]:
            raise ValueError(f"RLE of size {segmentation.get('size')}, not {[height, width]}")
        runs = counts if isinstance(counts, list) else _unpack(counts)
        if sum(runs) != height * width or not all(type(run) is int and run >= 0 for run in runs):
            raise ValueError("RLE counts do not add up to the picture")
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # zeros first, down the columns
        return np.ascontiguousarray(pixels.reshape(width, height).T)
    try:
        polygons = [np.array(points, float) for points in segmentation or []]
    except OverflowError as error:
        raise ValueError(f"a number is too large: {error}") from error
    if not all(p.ndim == 1 and len(p) % 2 == 0 and (np.abs(p) < 1e6).all() for p in polygons):
        raise ValueError("a polygon is not a flat list of finite x, y pairs")
    polygons = [p.tolist() for p in polygons if len(p) >= 6]  # fewer corners have no area
    if not polygons:
        return None
    pixels = rle.decode(rle.merge(rle.frPyObjects(polygons, height, width)))
    return np.ascontiguousarray(pixels).view(bool)  # row after row: OpenCV would copy it each time


def usable_mask(segmentation: list | dict | None, size: tuple[int, int], where
                ) -> np.ndarray | None:
    """`decode_mask` of a picture of size = (width, height), with DataError, which says `where`."""
    try:
        return decode_mask(segmentation, *size)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: damaged segmentation ({error}); repair or remove it") from error


def box_of_mask(segmentation) -> list[float] | None:
    """The box x, y, w, h of an RLE mask, which knows its size; None for anything else."""
    try:
        mask = decode_mask(segmentation, *segmentation["size"][::-1])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    if mask is None or not mask.any():
        return None
    y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(v) for v in (x[0], y[0], x[-1] - x[0] + 1, y[-1] - y[0] + 1)]


def _unpack(counts: str) -> list[int]:
    """Run lengths of COCO's compressed RLE (format: pycocotools, maskApi.c, rleToString): digits of
    5 bits, the lowest first, with a sixth bit while more follow; from the fourth run on, the
    difference to the run before the previous one. pycocotools' own decoder returns uninitialised
    memory for a string that is cut off."""
    text = counts.encode("ascii") if isinstance(counts, str) else b""
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = (digits & 32) == 0
    if not text or not last[-1] or digits.min() < 0 or digits.max() > 63:
        raise ValueError("RLE counts are neither a list nor a whole compressed string")
    first = np.flatnonzero(np.append(True, last[:-1]))
    place = 5 * (np.arange(len(digits)) - first[np.cumsum(last) - last])
    values = np.add.reduceat((digits & 31) << place, first)
    values -= ((digits[last] & 16) > 0) << (place[last] + 5)  # the top bit is the sign
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return values.tolist()
