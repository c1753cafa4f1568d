"""Crops, cut from pictures that `inputs.pictures` has read."""

import cv2
import numpy as np

from ..inputs.pictures import as_picture, read_picture  # noqa: F401 (people look for them here)


def crop(picture: np.ndarray, matrix, size: tuple[int, int]) -> np.ndarray:
    """The crop (h, w[, 3]) of a picture (H, W[, 3]) that a matrix (2, 3) takes to size = (w, h).

    The picture is sampled bilinearly, and is black outside. Where it shrinks by two or more, whole
    blocks of its pixels are averaged first, so that nothing aliases.
    """
    (a, b, left), (c, d, top) = np.asarray(matrix, float).tolist()
    squeeze = a * d - b * c  # square crop pixels for each of the picture's
    if not 1e-30 < abs(squeeze) < 1e30:  # of a box far too large or small: nothing to see
        return np.zeros((*size[::-1], *picture.shape[2:]), picture.dtype)
    back = np.array([[d, -b, b * top - d * left], [-c, a, c * left - a * top]]) / squeeze
    width, height = size
    places = back[:, :2] @ [[-1, width, -1, width], [-1, -1, height, height]] + back[:, 2:]
    limits = np.array(picture.shape[1::-1])
    low = np.clip(places.min(1) - 2, 0, limits - 1).astype(int)
    high = np.clip(places.max(1) + 3, low + 1, limits).astype(int)
    part = picture[low[1]:high[1], low[0]:high[0]]
    factor = int(min(abs(squeeze) ** -0.5, *part.shape[:2]))
    back[:, 2] -= low
    if factor >= 2:
        rest = [-length % factor for length in part.shape[:2]]
        part = cv2.copyMakeBorder(part, 0, rest[0], 0, rest[1], cv2.BORDER_CONSTANT)
        part = cv2.resize(part, (part.shape[1] // factor, part.shape[0] // factor),
                          interpolation=cv2.INTER_AREA)
        back /= factor
        back[:, 2] -= (factor - 1) / (2 * factor)  # block i has its centre at factor (i + 0.5) - .5
    return cv2.warpAffine(part, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
