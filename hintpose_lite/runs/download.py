"""COCO 2017 for human pose: the person keypoint annotations and the pictures.

    OUT/annotations/person_keypoints_train2017.json, OUT/train2017/    118,287 pictures, 19.3 GB
    OUT/annotations/person_keypoints_val2017.json, OUT/val2017/        5,000 pictures, 0.8 GB

The zip archives are removed as soon as every picture that the annotations name is unpacked; until
then the disk holds both. After an interruption the next call continues: it appends to an unfinished
archive (if the server sends an ETag, or a SHA-256 is given), and unpacks missing pictures only.

OCHuman (val and test), whose people overlap heavily, is not downloaded here: its authors share it
through the form or link on https://github.com/liruilong940607/OCHumanApi. Its COCO-format files can
be opened as they are: CocoPersons("ochuman_coco_format_val_range_0.00_1.00.json", "images").
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from os import scandir
from pathlib import Path
from threading import Event

from tqdm import tqdm

from ..errors import FetchError
from ..inputs.entries import read_annotations
from ..weights.fetch import fetch, need_space, remote_size, unpack

BASE = "http://images.cocodataset.org"
ANNOTATIONS = "annotations_trainval2017.zip"
# Bytes, from TensorFlow Datasets (url_checksums/coco.txt), for servers that do not report them.
SIZES = {ANNOTATIONS: 252_907_541, "train2017.zip": 19_336_861_798, "val2017.zip": 815_585_330}
UNPACKED = 1.02  # of an archive's bytes: ZIP hardly shrinks JPEGs, and disk blocks waste some room


def download_coco(out: str | Path, splits: Sequence[str] = ("train", "val"), *, base: str = BASE,
                  sha256: dict[str, str] | None = None, jobs: int = 4, keep: bool = False,
                  progress: bool = True) -> dict[str, list[str]]:
    """Downloads these splits into the folder `out`, and returns the missing pictures of each split.

    sha256: archive name -> expected hex digest. jobs: parallel downloads. keep: keeps the archives.
    Files that are already in `out` are kept; if nothing is missing, no server is contacted. Raises
    FetchError (server, disk, archive) and DataError (damaged annotation file)."""
    out = Path(out)
    names = {split: _named(out, split) for split in splits if (out / _json(split)).exists()}
    todo = [ANNOTATIONS] * (len(names) < len(splits)) + [
        f"{split}2017.zip" for split in splits if split not in names or _missing(out, split, names)]
    if not todo:
        print(f"{out}: everything is there already")
        return {split: [] for split in splits}
    there, total = _plan(out, base, todo)
    with tqdm(desc="download", total=total, initial=sum(there.values()), unit="B",
              unit_scale=True, disable=not progress) as bar:
        get = partial(_fetch, out, base, sha256 or {}, jobs, there, bar)
        if ANNOTATIONS in todo:  # they come first: they list the pictures
            get([ANNOTATIONS])
            unpack(out / ANNOTATIONS, out, progress=False,
                   members=[_json(split) for split in splits if split not in names])
            names = {split: names.get(split) or _named(out, split) for split in splits}
            if not keep:
                (out / ANNOTATIONS).unlink()
        get([f"{split}2017.zip" for split in splits if _missing(out, split, names)])
    for split in splits:
        if members := {f"{split}2017/{name}" for name in _missing(out, split, names)}:
            unpack(out / f"{split}2017.zip", out, members=members, progress=progress)
            if not (keep or _missing(out, split, names)):
                (out / f"{split}2017.zip").unlink()
    return {split: _missing(out, split, names) for split in splits}


def _json(split: str) -> str:
    return f"annotations/person_keypoints_{split}2017.json"


def _named(out: Path, split: str) -> list[str]:
    """The file names of the pictures that the annotation file lists."""
    if not (path := out / _json(split)).exists():
        raise FetchError(f"{out / ANNOTATIONS} holds no {_json(split)}: it is not COCO's. Delete "
                         "it, and download it from another address")
    return [entry["file_name"] for entry in read_annotations(path)["images"]
            if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)]


def _missing(out: Path, split: str, names: dict[str, list[str]]) -> list[str]:
    sizes = _sizes(out / f"{split}2017")
    return [name for name in names[split] if not sizes.get(name)]


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in scandir(folder)} if folder.is_dir() else {}


def _plan(out: Path, base: str, todo: list[str]) -> tuple[dict[str, int], int | None]:
    """Checks that the disk has room. Returns the bytes of each archive that are already here, and
    the bytes of all archives (None: not reported)."""
    out.mkdir(parents=True, exist_ok=True)
    sizes = _sizes(out)
    there = {name: sizes.get(name, sizes.get(f"{name}.part", 0)) for name in todo}
    known = {name: sizes.get(name) or remote_size(_url(base, name)) for name in todo}
    likely = {name: known[name] or SIZES[name] for name in todo}
    load = sum(max(likely[name] - there[name], 0) for name in todo)
    unpacked = sum(max(UNPACKED * size - sum(_sizes(out / name.removesuffix(".zip")).values()), 0)
                   for name, size in likely.items())
    print(f"{', '.join(todo)}: {load / 1e9:.2f} GB to download, {unpacked / 1e9:.2f} GB to unpack")
    need_space(load + unpacked, out, f"COCO, {load / 1e9:.2f} GB of archives and what is in them,")
    return there, None if None in known.values() else sum(known.values())


def _url(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{'annotations' if name == ANNOTATIONS else 'zips'}/{name}"


def _fetch(out: Path, base: str, sha256: dict, jobs: int, there: dict, bar, archives: list[str]):
    """Downloads in parallel; the bar shows the sum of `there`, the bytes of each archive."""
    stop = Event()

    def update(name: str, count: int):  # runs in the threads
        there[name] = count
        if stop.is_set():
            raise FetchError("stopped")

    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(fetch, _url(base, name), out / name, sha256.get(name),
                             progress=partial(update, name)) for name in archives]
        try:
            while wait(tasks, timeout=0.2).not_done:
                bar.update(sum(there.values()) - bar.n)
        finally:  # on Ctrl-C: the threads end after their next chunk
            stop.set()
            bar.update(sum(there.values()) - bar.n)
    if errors := [task.exception() for task in tasks if task.exception()]:
        raise FetchError("\n".join(map(str, errors))) from errors[0]
