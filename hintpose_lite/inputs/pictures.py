"""Picture files, and what else users call a picture, as arrays."""

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..errors import DataError

# Pillow refuses pictures of twice the size that it warns of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
        with Image.open(path) as stored:
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


def picture_size(path) -> tuple[int, int]:
    """(width, height) of a picture file, upright by its EXIF tag. Raises what Pillow raises."""
    with Image.open(path) as stored:
        return _upright(stored).size


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
