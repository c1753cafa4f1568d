"""Picture files as arrays, and the crops that are cut from them."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..errors import DataError


def read_picture(path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture file (path or open file) as uint8 RGB (height, width, 3), upright by its EXIF tag.

    size: (width, height) of its annotations. If only the stored, unturned picture has that size,
    the annotations were made on that one, and it is not turned. Transparent pixels become white,
    16-bit grey is scaled to 8 bits, and of an animation the first frame is taken. Raises DataError
    for a file that is missing, damaged, of another size, or larger than Pillow's limit.
    """
    name = path if isinstance(path, (str, Path)) else "the file"
    if str(name).startswith(("http://", "https://", "ftp://")):
        raise DataError(f"{name}: that is an address; download the picture, and give its file")
    try:
        with open_picture(path) as stored:
            picture = _upright(stored)
            if size and stored.size == tuple(size) != picture.size:
                picture = stored
            if size and picture.size != tuple(size):
                raise DataError(f"{name} has size {picture.size}, but its annotations are made for "
                                f"{tuple(size)}; use the picture they belong to")
            return _to_rgb(picture)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such picture; check the name and the folder") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise DataError(f"{name}: not a readable picture ({type(error).__name__}: {error}); "
                        "replace it, or leave it out") from error


def open_picture(path) -> Image.Image:
    """`Image.open` without a warning of large pictures: Pillow refuses those of twice the size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def as_picture(picture) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a path, an open file, a PIL image (turned upright as the EXIF tag
    says), or uint8 RGB as an array (H, W, 3) or tensor (3, H, W). DataError for anything else."""
    if isinstance(picture, (str, Path)) or hasattr(picture, "read"):
        return read_picture(picture)
    if isinstance(picture, Image.Image):
        try:
            return _to_rgb(_upright(picture))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises nearly anything, as it does for files
            raise DataError("the PIL image cannot be used "
                            f"({type(error).__name__}: {error})") from error
    if isinstance(picture, Tensor) and picture.ndim == 3 and len(picture) == 3:
        picture = picture.cpu().permute(1, 2, 0).numpy()
    if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.size
            and picture.ndim == 3 and picture.shape[2] == 3):
        raise DataError("a picture is a path, a PIL image, or uint8 RGB as an array (H, W, 3) or a "
                        f"tensor (3, H, W), not {type(picture).__name__} of type "
                        f"{getattr(picture, 'dtype', '-')}, shape {getattr(picture, 'shape', '-')}")
    return np.ascontiguousarray(picture)


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag says, or itself (Pillow would copy it) if that is so."""
    try:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception as error:  # a damaged block raises nearly anything
        picture.load()  # raises if it is the picture that is damaged
        warnings.warn(f"{getattr(picture, 'filename', '') or 'a picture'} has a damaged EXIF block "
                      f"({error}); it is used as it is stored", stacklevel=4)
        return picture
    return ImageOps.exif_transpose(picture) if turned else picture


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey values do not fit into 16 bits")
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("floating-point pictures have no defined white")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


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
