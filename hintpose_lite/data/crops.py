"""Pictures become context crops once: small uint8 windows that hold what a network is shown.

Decoding a picture costs more than everything that follows, so each picture is decoded once. What is
kept of it is a square *window* around the person (and the partner, so that shared boxes can be cut
from it), with the matrix that takes picture points to window pixels. A picture that is no larger
than a window is kept whole and shared by all its people. Augmentation happens later, on the device.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import RunError
from ..pose.geometry import pad, union
from .coco import CocoPersons

MASK_STRIDE = 2  # masks are kept at half the window's resolution
CONTEXT = 1.25   # room for augmentation around the padded box; stronger draws show black there


@dataclass(frozen=True)
class View:
    """A square look at a picture: `size` pixels that show picture pixels left .. left + side."""

    left: float
    top: float
    side: float
    size: int

    @classmethod
    def around(cls, region, picture_size: tuple[int, int], size: int) -> "View":
        """The view of a region (x, y, w, h): shrunk where the region is larger than `size`, never
        enlarged, and the whole picture (w, h) where that fits."""
        if max(picture_size) <= size:
            return cls(0.0, 0.0, float(size), size)
        x, y, width, height = (float(value) for value in region)
        side = max(width, height, size)
        left, top = x + (width - side) / 2, y + (height - side) / 2
        if side == size:  # nothing shrinks, so with whole pixels nothing needs to be resampled
            left, top = round(left), round(top)
        return cls(float(left), float(top), float(side), size)

    def matrix(self) -> np.ndarray:
        """Takes picture points to pixels of the window (2, 3)."""
        scale = self.size / self.side
        # Pixel i covers i - 0.5 to i + 0.5, so an edge coordinate is a pixel coordinate plus 0.5.
        return np.array([[scale, 0, (0.5 - self.left) * scale - 0.5],
                         [0, scale, (0.5 - self.top) * scale - 0.5]], np.float32)

    def cut(self, picture: np.ndarray, stride: int = 1) -> np.ndarray:
        """The window (size, size[, 3]) of a picture (H, W[, 3]) uint8; black outside it."""
        size = self.size // stride
        scale = size / self.side
        window = np.zeros((size, size, *picture.shape[2:]), np.uint8)
        spans = []
        for start, extent in ((self.left, picture.shape[1]), (self.top, picture.shape[0])):
            first = max(0, int(np.ceil(-start * scale)))
            last = min(size, int(np.floor((extent - start) * scale)))
            spans.append((first, last, max(0.0, start + first / scale),  # rounding may step over
                          min(float(extent), start + last / scale)))  # the edge: Pillow refuses it
        (x0, x1, left, right), (y0, y1, top, bottom) = spans
        if x0 < x1 and y0 < y1:  # resizing averages over all pixels it drops, so nothing aliases
            if scale == 1:
                part = picture[int(top):int(bottom), int(left):int(right)]
            else:
                part = Image.fromarray(picture).resize(
                    (x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
            window[y0:y1, x0:x1] = np.asarray(part)
        return window


@dataclass(frozen=True)
class Crops:
    """All people of a data set as tensors, ready to be indexed on the device.

    windows (M, 3, S, S) uint8, window_of (N,) the window of each person, matrices (N, 2, 3) from
    picture to window; masks (N, S / 2, S / 2) bool, all False where unknown; keypoints and the
    partner's keypoints (N, K, 3), boxes (N, 4), areas (N,) and shared (N, 4), the union with the
    partner's box, in picture pixels; overlap (N,) with the partner; sigmas (K,) of OKS. Who has no
    partner has one whose joints all have v = 0, and an overlap of 0.
    """

    windows: Tensor
    window_of: Tensor
    matrices: Tensor
    masks: Tensor
    keypoints: Tensor
    partners: Tensor
    boxes: Tensor
    areas: Tensor
    shared: Tensor
    overlap: Tensor
    sigmas: Tensor

    def __len__(self):
        return len(self.boxes)

    def to(self, device, non_blocking: bool = False) -> "Crops":
        """The same crops on another device."""
        return Crops(**{f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
                        for f in fields(self)})

    def take(self, rows: Tensor) -> tuple["Crops", Tensor]:
        """Crops that hold the people `rows` (B,), and their rows there: here all is at hand."""
        return self, rows


class Layout:
    """Who is shown in which window: all of `Crops` that needs no picture.

    labels: the fields of `Crops` but windows, window_of and masks. views: the window of each person
    (both boxes lie in it, with room for augmentation). window_of (N,): windows are numbered picture
    by picture, and people who look at the same thing share one. pictures: the rows of each.
    """

    def __init__(self, persons: CocoPersons, size: int):
        self.persons = persons
        boxes, keypoints = torch.as_tensor(persons.boxes), torch.as_tensor(persons.keypoints)
        partner = torch.as_tensor(persons.partner)
        has_one, partner = partner >= 0, partner.clamp(min=0)
        shared = torch.where(has_one[:, None], union(boxes, boxes[partner]), boxes)
        regions = pad(union(pad(boxes), pad(shared)), aspect=1.0, padding=CONTEXT).numpy()
        self.views = [View.around(region, person.image_size, size)
                      for region, person in zip(regions, persons, strict=True)]
        rows_of: dict[int, list[int]] = {}
        for row, picture in enumerate(persons.image_ids.tolist()):
            rows_of.setdefault(picture, []).append(row)
        numbers: dict[tuple[int, View], int] = {}
        window_of = np.zeros(len(persons), np.int64)
        for picture, rows in rows_of.items():
            for row in rows:
                window_of[row] = numbers.setdefault((picture, self.views[row]), len(numbers))
        self.pictures, self.window_count = list(rows_of.values()), len(numbers)
        self.window_of = torch.from_numpy(window_of)
        matrices = np.stack([view.matrix() for view in self.views])
        self.labels = {"matrices": torch.from_numpy(matrices), "keypoints": keypoints,
                       "partners": keypoints[partner] * has_one[:, None, None],
                       "boxes": boxes, "shared": shared,
                       "areas": torch.as_tensor(persons.areas).float(),
                       "overlap": torch.as_tensor(persons.overlap).float() * has_one,
                       "sigmas": torch.tensor(persons.skeleton.sigmas)}

    def cut(self, rows: list[int], masks: bool = True
            ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Of the people `rows` of one picture: its windows (size, size, 3) uint8 by ascending
        number, and everybody's mask (size / 2, size / 2) bool, None where unknown or unwanted."""
        def visible(row: int) -> np.ndarray | None:
            mask = self.persons[row].mask() if masks else None
            return None if mask is None else (
                self.views[row].cut(mask.astype(np.uint8) * 255, MASK_STRIDE) > 127)

        picture = self.persons.read(rows[0])
        return ([view.cut(picture) for view in dict.fromkeys(self.views[row] for row in rows)],
                [visible(row) for row in rows])


def build_crops(persons: CocoPersons, size: int, workers: int | None = None,
                progress: bool = True, masks: bool = True) -> Crops:
    """Decodes every picture once and cuts the windows (size, size) of its people.

    workers: threads that decode (default: the number of cores). masks: whether cues will be drawn,
    which need them; without, all are False. Windows take size^2 * 3 bytes a person, or a picture
    where pictures are no larger than `size`.
    """
    layout = Layout(persons, size)
    try:
        windows = np.zeros((layout.window_count, 3, size, size), np.uint8)
    except MemoryError as error:
        raise RunError(f"the crops of {len(persons)} people in windows of {size} pixels need "
                       f"{layout.window_count * 3e-9 * size ** 2:.0f} GB of memory: take smaller "
                       "windows, or a crop cache (--cache)") from error
    small = np.zeros((len(persons), size // MASK_STRIDE, size // MASK_STRIDE), bool)

    def cut(rows: list[int]) -> None:
        cut_windows, cut_masks = layout.cut(rows, masks)
        for number, window in enumerate(cut_windows, layout.window_of[rows[0]]):
            windows[number] = window.transpose(2, 0, 1)
        for row, mask in zip(rows, cut_masks, strict=True):
            small[row] = False if mask is None else mask

    pictures = layout.pictures
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(tqdm(pool.map(cut, pictures), "cutting crops", len(pictures), disable=not progress,
                  unit="picture", mininterval=1))
    return Crops(windows=torch.from_numpy(windows), window_of=layout.window_of,
                 masks=torch.from_numpy(small), **layout.labels)
