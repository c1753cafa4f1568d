"""Crowd scenes in a folder in COCO format, drawn once and opened again later."""

import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ..data.coco import CocoPersons
from ..errors import ConfigError, DataError, WriteError
from ..files import write_whole
from ..pose.skeleton import COCO17
from .scenes import draw_scene

GENERATOR = "crowd-2"  # to be changed with every change of the pictures
DESCRIPTION = "procedural crowd scenes"
HELD_OUT = 1_000_000  # added to a seed for scenes that no training run sees
CHUNK = 32  # scenes that a process draws per task
FILE, MARKER = "annotations.json", "unfinished.json"  # the latter only while pictures are drawn


def make_crowd(folder: str | Path, images: int = 200, seed: int = 0, size: int = 192,
               workers: int | None = None, hard: bool = True, progress=None) -> CocoPersons:
    """Writes `images` scenes as folder/annotations.json and folder/images/*.jpg, and opens them.

    seed: 0 to 2**32 - 1; no two seeds share a scene, and scene i of a seed is the same whatever
    `images` is. size: side of the square pictures in pixels, 64 to 4096. workers: number of
    processes, None for one per core; the files do not depend on it. hard: most people overlap and
    look alike, else most stand apart in clothes of their own. progress: as for `evaluate`, steps
    are scenes; None: a bar in the terminal for 500 scenes and more. A folder of exactly these
    scenes is opened as it is, an unfinished one is completed. Raises ConfigError for numbers out of
    these ranges, and DataError if the folder holds anything else or cannot be written.
    """
    settings = {"generator": GENERATOR, "seed": seed, "images": images, "size": size,
                "hard": bool(hard)}
    _check(settings, workers)
    folder = Path(folder)
    try:
        if not _complete(folder, settings):
            _generate(folder, settings, workers or os.cpu_count() or 1, progress)
    except OSError as error:
        reason = error.__cause__ if isinstance(error, WriteError) else error
        raise DataError(f"cannot write crowd scenes to {folder}: {reason}; free some space or give "
                        "another folder, and call again") from error
    return CocoPersons(folder / FILE, folder / "images")


def _check(settings: dict, workers: int | None) -> None:
    given = settings | {"workers": 1 if workers is None else workers}
    # A larger seed would take two words of the SeedSequence, where it could meet a smaller one.
    for name, low, high in (("seed", 0, 2 ** 32 - 1), ("images", 1, 10 ** 9), ("size", 64, 4096),
                            ("workers", 1, 1024)):
        if type(given[name]) is not int or not low <= given[name] <= high:
            raise ConfigError(f"{name} = {given[name]!r}: give a whole number, {low} to {high}")


def _complete(folder: Path, settings: dict) -> bool:
    """True if the folder holds exactly these scenes, False if they are still to be drawn there."""
    if not folder.exists() or not any(path for path in folder.rglob("*") if not path.is_dir()):
        return False
    unfinished, advice = (folder / MARKER).exists(), "give another folder, or delete this one"
    there = folder / (MARKER if unfinished else FILE)
    try:
        found = json.loads(there.read_text())["info"]["settings"]
    except FileNotFoundError:
        raise DataError(f"{folder} is not empty and holds no crowd scenes; {advice}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{there} was not written by make_crowd; {advice}") from None
    if found != settings:
        raise DataError(f"{folder} holds other scenes, {found}, not {settings}; {advice}")
    if unfinished:
        return False
    names = {_name(i) for i in range(settings["images"])}
    if missing := names - {path.name for path in (folder / "images").glob("*")}:
        raise DataError(f"{len(missing)} pictures are missing from {folder / 'images'}, the first "
                        f"is {min(missing)}; {advice}")
    return True


GUARD = """Or the script that calls make_crowd has no guard: new processes read it again, so write

    if __name__ == "__main__":
        make_crowd(...)

or draw with workers=1"""


def _generate(folder: Path, settings: dict, workers: int, progress) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    info = {"description": DESCRIPTION, "version": GENERATOR, "settings": settings}
    write_whole(folder / MARKER, lambda name: name.write_text(json.dumps({"info": info})))
    count, side = settings["images"], settings["size"]
    workers = min(workers, math.ceil(count / CHUNK))
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        mapper = partial(pool.map, chunksize=CHUNK) if pool else map
        made = mapper(partial(_write_scene, folder, settings), range(count))
        bar = progress(count) if progress else tqdm(total=count, unit="scene", disable=count < 500)
        scenes = []
        try:
            for scene in made:
                scenes.append(scene)
                bar.update(1)
            bar.close()
        except BrokenProcessPool as error:
            raise DataError(f"a process that draws scenes for {folder} was killed, perhaps for "
                            f"lack of memory: call again with fewer workers. {GUARD}") from error
    pictures = [{"id": i + 1, "file_name": _name(i), "width": side, "height": side, "license": 1}
                for i in range(count)]
    people = [{"image_id": i + 1, **person} for i, scene in enumerate(scenes) for person in scene]
    content = {
        "info": info, "licenses": [{"id": 1, "name": "as the program that made them", "url": ""}],
        "images": pictures, "annotations": [{"id": i, **p} for i, p in enumerate(people, 1)],
        "categories": [{"id": 1, "name": "person", "supercategory": "person",
                        "keypoints": COCO17.names,
                        "skeleton": [[a + 1, b + 1] for a, b in COCO17.limbs]}]}
    write_whole(folder / FILE, lambda name: name.write_text(json.dumps(content)))
    (folder / MARKER).unlink(missing_ok=True)


def _name(index: int) -> str:
    return f"{index + 1:012d}.jpg"


def _write_scene(folder: Path, settings: dict, index: int) -> list[dict]:
    """Writes the picture of a scene; returns its people's annotations, without ids."""
    picture, people = draw_scene(settings["seed"], index, settings["size"], settings["hard"])
    part = folder / "images" / f"{_name(index)}.{os.getpid()}.part"
    picture.save(part, "JPEG", quality=92)
    os.replace(part, folder / "images" / _name(index))
    return people


def crowd_scenes(images: int, size: int, seed: int) -> CocoPersons:
    """Crowd scenes in a folder under data/ named after their settings, drawn if not there yet."""
    folder = Path("data") / f"crowd-{images}x{size}-seed{seed}"
    Path("data").mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):  # only one of several processes draws
        return make_crowd(folder, images, seed, size)
