"""Context crops on the disk, for data sets whose windows do not fit into memory.

A cache is a folder that belongs to one annotation file. It holds

* shard-00000.bin and so on, each of 1,000 pictures: their windows as JPEGs, their people's masks
  (packed bits, deflated; nothing where unknown), then length and CRC-32 of each of these as int64;
* info.json: what the cache is made of, each shard's length and the CRC-32 of its index, and whether
  all are there. It is replaced after every shard, so a build that was killed goes on where it was.

The rest comes from the annotations when the cache is opened: keypoints, boxes, and who looks at
which window. A checksum makes sure that it is what the shards were written for.
"""

import io
import json
import os
import shlex
import shutil
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import ConfigError, DataError
from ..files import write_whole
from .coco import CocoPersons
from .crops import MASK_STRIDE, Crops, Layout

VERSION = 1
SHARD = 1000  # pictures; a build that was killed has to do no more than these again
NAME = "shard-{:05}.bin"
KEYS = ["version", "size", "quality", "sha256", "layout", "made_of", "complete", "shards"]


class _Plan(Layout):
    """What a cache of these people holds, and in which order. Calling it with the rows of a picture
    makes the picture's part of the cache: JPEGs by window, deflated masks by row."""

    def __init__(self, persons: CocoPersons, size: int, quality: int):
        if not (1 <= quality <= 100 and 2 <= size <= 4096):
            raise ConfigError(f"a crop cache has a size of 2 to 4096, not {size}, and a quality of "
                              f"1 to 100, not {quality}")
        super().__init__(persons, size)
        self.order = np.concatenate(self.pictures)  # of the people, and so of their masks
        layout = 0
        for array in (persons.annotation_ids, self.window_of.numpy(),
                      self.labels["matrices"].numpy(), self.order):
            layout = zlib.crc32(array, layout)
        self.settings = {"version": VERSION, "size": size, "quality": quality,
                         "sha256": persons.sha256, "layout": layout}

    def __call__(self, rows: list[int]) -> tuple[list[bytes], list[bytes]]:
        windows, masks = self.cut(rows)
        return ([_jpeg(window, self.settings["quality"]) for window in windows],
                [b"" if mask is None else zlib.compress(np.packbits(mask)) for mask in masks])


def estimate_cache(persons: CocoPersons, size: int = 384, quality: int = 92, *,
                   workers: int | None = None, sample: int = 64) -> tuple[int, float]:
    """Bytes and seconds that `build_cache` will take, from `sample` pictures of the data set."""
    plan = _Plan(persons, size, quality)
    places, start = np.linspace(0, len(plan.pictures) - 1, sample), time.perf_counter()
    chosen = [plan.pictures[place] for place in np.unique(places.astype(int))]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        window, mask = (np.mean([len(blob) + 16 for blobs in part for blob in blobs])
                        for part in zip(*pool.map(plan, chosen), strict=True))
    seconds = (time.perf_counter() - start) * len(plan.pictures) / len(chosen)
    return int(window * plan.window_count + mask * len(persons)), seconds


def build_cache(persons: CocoPersons, folder: str | Path, size: int = 384, *, quality: int = 92,
                workers: int | None = None, progress: bool = True, rebuild: bool = False
                ) -> "CropCache":
    """Writes the windows (size, size) and masks of all people into a folder, and opens it.

    quality: of the JPEGs, 1 to 100. workers: threads (default: the number of cores); the files do
    not depend on it. A build that was stopped is continued. rebuild: start anew, whatever cache is
    there. DataError for too little space, a folder of something else, or an unreadable picture.
    """
    if workers is not None and workers < 1:
        raise DataError(f"workers={workers}: give a whole number of at least 1")
    folder, plan = Path(folder), _Plan(persons, size, quality)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        halves = {*folder.glob(".info.part.json"), *folder.glob(".shard-?????.part.bin")}
        info_file, ours = folder / "info.json", halves.copy()
        if info_file.exists() and (not rebuild or _is_ours(info_file)):  # written before any shard
            ours |= {info_file, *folder.glob("shard-?????.bin")}
        if strangers := set(folder.iterdir()) - ours:
            raise DataError(f"{min(strangers)} belongs to no crop cache: give the name of a new or "
                            "empty folder")
        for path in halves:  # of a build that was killed
            path.unlink()
        if info_file.exists() and not rebuild:
            info = _read_info(folder, persons)
            _require(info, plan, folder)
        else:
            info = {**plan.settings, "made_of": persons.annotations.name, "complete": False,
                    "shards": []}
            _note(folder, info)
        if not info["complete"]:
            _fill(folder, info, plan, workers, progress)
    except OSError as error:
        raise DataError(f"cannot write the crop cache {folder}: {error.__cause__ or error}. Make "
                        "room, or choose another folder; started again, a build goes on where it "
                        "was") from error
    return CropCache(folder, persons)


def _fill(folder: Path, info: dict, plan: _Plan, workers: int | None, progress: bool) -> None:
    """Writes the shards that are missing."""
    done = len(info["shards"])
    for path in {*folder.glob("shard-?????.bin")} - {folder / NAME.format(i) for i in range(done)}:
        path.unlink()  # of another build
    left = plan.pictures[done * SHARD:]
    size, seconds = (value * len(left) / len(plan.pictures) for value in estimate_cache(
        plan.persons, info["size"], info["quality"], workers=workers))
    free = shutil.disk_usage(folder).free
    needs = f"{folder} needs about {size / 1e9:.3f} GB more, and {free / 1e9:.3f} GB are free"
    if size * 1.05 > free:
        raise DataError(f"the crop cache {needs}: make room, or choose another folder, a smaller "
                        "size or a lower quality")
    if progress:
        print(f"the crop cache {needs}; it takes about {seconds / 60:.0f} min")
    pool = ThreadPoolExecutor(workers or os.cpu_count())  # only decoding masks holds the GIL
    try:
        parts = iter(tqdm(pool.map(plan, left), "caching crops", len(left), unit="picture",
                          disable=not progress, mininterval=1))
        while batch := list(islice(parts, SHARD)):
            windows, masks = (sum(blobs, []) for blobs in zip(*batch, strict=True))
            blobs = windows + masks
            index = np.array([(len(blob), zlib.crc32(blob)) for blob in blobs], "<i8").tobytes()
            shard = b"".join([*blobs, index])
            write_whole(folder / NAME.format(len(info["shards"])),
                        lambda name, shard=shard: name.write_bytes(shard))
            info["shards"].append({"bytes": len(shard), "index_crc32": zlib.crc32(index),
                                   "windows": len(windows), "people": len(masks)})
            info["complete"] = len(info["shards"]) * SHARD >= len(plan.pictures)
            _note(folder, info)
    finally:
        pool.shutdown(cancel_futures=True)


class CropCache:
    """An opened cache; `take` reads the people of a batch.

    folder: made by `build_cache`; persons: of the same annotation file. The shards are mapped into
    memory, so nobody is slower to read than others, and what is read is checked against its CRC-32.
    Raises DataError, with the command to run, if it is unfinished, damaged or of other annotations.
    """

    def __init__(self, folder: str | Path, persons: CocoPersons):
        self.folder = Path(folder)
        info = _read_info(self.folder, persons)
        self.size, self._command = info["size"], _command(persons, self.folder, info)
        plan = _Plan(persons, info["size"], info["quality"])
        _require(info, plan, self.folder)
        if not info["complete"]:
            raise DataError(f"the crop cache {folder} is not finished ({len(info['shards'])} "
                            f"shards are written); complete it with: {self._command}")
        self.labels, self.window_of = plan.labels, plan.window_of
        # (shard, start, length, CRC-32) of each window (M, 4), and of each person's mask (N, 4)
        self._files, windows, masks = zip(*map(self._open, count(), info["shards"]), strict=True)
        self._windows, self._masks = np.concatenate(windows), np.empty((len(persons), 4), np.int64)
        self._masks[plan.order] = np.concatenate(masks)

    def __len__(self):
        return len(self._masks)

    def take(self, rows: Tensor) -> tuple[Crops, Tensor]:
        """Crops of just the people `rows` (B,) in that order, and their rows there: 0 to B - 1."""
        rows, side = rows.cpu(), self.size // MASK_STRIDE
        numbers, window_of = self.window_of[rows].unique(return_inverse=True)
        windows = np.empty((len(numbers), 3, self.size, self.size), np.uint8)
        for window, span in zip(windows, self._windows[numbers.numpy()], strict=True):
            # torchvision's decoder takes a fifth less time, but is announced to go away.
            window[:] = np.asarray(Image.open(io.BytesIO(self._read(span)))).transpose(2, 0, 1)
        masks = np.zeros((len(rows), side, side), bool)
        for mask, span in zip(masks, self._masks[rows.numpy()], strict=True):
            if len(blob := self._read(span)):
                bits = np.frombuffer(zlib.decompress(blob), np.uint8)
                mask[:] = np.unpackbits(bits, count=mask.size).reshape(mask.shape)
        labels = {name: value if name == "sigmas" else value[rows]
                  for name, value in self.labels.items()}
        crops = Crops(torch.from_numpy(windows), window_of, masks=torch.from_numpy(masks), **labels)
        return crops, torch.arange(len(rows))

    def check(self, progress: bool = True) -> None:
        """Reads everything; DataError names the first shard that is damaged."""
        spans = np.concatenate([self._windows, self._masks])
        for span in tqdm(spans, "checking", disable=not progress, mininterval=1):
            self._read(span)

    def _open(self, number: int, shard: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A shard's bytes, and where in them its windows and masks lie."""
        blobs = shard["windows"] + shard["people"]
        try:
            file = np.asarray(np.memmap(self.folder / NAME.format(number), np.uint8, mode="r"))
        except (OSError, ValueError) as error:
            raise self._damaged(number, error) from error
        index = file[-16 * blobs:]
        if len(file) != shard["bytes"] or zlib.crc32(index) != shard["index_crc32"]:
            raise self._damaged(number, f"{len(file)} bytes instead of {shard['bytes']}, or a "
                                        "wrong checksum of the index")
        index = index.view("<i8").reshape(blobs, 2)
        starts = index[:, 0].cumsum() - index[:, 0]
        spans = np.column_stack([np.full(blobs, number), starts, index])
        return file, spans[:shard["windows"]], spans[shard["windows"]:]

    def _read(self, span: np.ndarray) -> np.ndarray:
        number, start, length, checksum = span.tolist()
        blob = self._files[number][start:start + length]
        if zlib.crc32(blob) != checksum:
            raise self._damaged(number, f"what lies at byte {start} has a wrong checksum")
        return blob

    def _damaged(self, number: int, problem) -> DataError:
        return DataError(f"{self.folder / NAME.format(number)} is damaged ({problem}); build the "
                         f"cache anew: {self._command} --rebuild")


def _require(info: dict, plan: _Plan, folder: Path) -> None:
    """DataError unless a cache's info fits the plan."""
    different = [f"{key} is {info[key]} there, {value} here" for key, value
                 in plan.settings.items() if info[key] != value]
    if different:
        raise DataError(
            f"the crop cache {folder} is stale, or has other settings: it was made of "
            f"{info['made_of']}, and now you give {plan.persons.annotations} "
            f"({'; '.join(different)}). Give what it was made of, or another folder, or replace "
            f"it: {_command(plan.persons, folder, plan.settings)} --rebuild")


def _is_ours(path: Path) -> bool:
    """Whether an info.json is of a cache, perhaps a damaged one, and not of somebody else."""
    with suppress(ValueError):
        stored = json.loads(path.read_bytes())
        return isinstance(stored, dict) and {"made_of", "shards"} <= stored.keys()
    return True


def _read_info(folder: Path, persons: CocoPersons) -> dict:
    try:
        info = json.loads((folder / "info.json").read_bytes())
        if info["version"] != VERSION:
            raise ValueError(f"its version is {info['version']}, this is version {VERSION}")
        return {key: info[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no crop cache that can be used (info.json: {error!r}); "
                        f"make one with: {_command(persons, folder)} --rebuild") from error


def _jpeg(window: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(window).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _note(folder: Path, info: dict) -> None:
    write_whole(folder / "info.json", lambda name: name.write_text(json.dumps(info)))


def _command(persons: CocoPersons, folder: Path, settings: dict | None = None) -> str:
    options = [f"--{key}={settings[key]}" for key in ("size", "quality") if settings]
    return shlex.join(["python", "data_scripts/build_crop_cache.py", str(persons.annotations),
                       str(persons.images), str(folder), *options])
