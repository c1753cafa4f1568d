"""Finds pictures that an annotation file names a little otherwise than they are called."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ..errors import DataError


def find_pictures(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The file, relative to the folder, of every name that can be found; others are missing.

    A name that is no file is looked for with other slashes, without the folders before it, in
    folders below and in the folder above, in another Unicode form, with URL escapes, and with
    another case; but only if exactly one file fits. Raises DataError for an unreadable folder.
    """
    try:
        here = set(os.listdir(folder))
    except OSError as error:
        raise DataError(f"cannot list the picture folder: {error}; give the right one") from error
    found = {name: name for name in names if name in here or (
        os.path.dirname(name) and (folder / name).is_file())}
    missing = [name for name in names if name not in found]
    if missing:
        index = _index(folder) or _index(folder.parent, prefix="..")
        for name in missing:
            if (file := _best(_parts(name), index)) is not None:
                found[name] = file
    return found


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a name, as they are compared."""
    text = unquote(name.replace("\\", "/"))
    return PurePosixPath(unicodedata.normalize("NFC", text).casefold()).parts


def _index(folder: Path, prefix: str = "") -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """All files below a folder by their last part: (parts, relative name)."""
    index = defaultdict(list)
    for place, _, files in os.walk(folder):
        for file in files:
            name = os.path.join(os.path.relpath(place, folder), file).removeprefix("./")
            index[_parts(file)[-1]].append((_parts(name), os.path.join(prefix, name)))
    return index


def _best(parts: tuple[str, ...], index) -> str | None:
    """The file whose path agrees with most of the last parts of a name, if it is the only one."""
    files = index.get(parts[-1], []) if parts else []

    def common(path: tuple[str, ...]) -> int:
        return next((i for i, (a, b) in enumerate(zip(path[::-1], parts[::-1], strict=False))
                     if a != b), min(len(path), len(parts)))

    most = max((common(path) for path, _ in files), default=0)
    best = [file for path, file in files if common(path) == most]
    return best[0] if len(best) == 1 else None


def what_lies_in(folder: Path) -> str:
    """What a folder holds, in a few words, for messages."""
    files = sorted(os.listdir(folder))
    return f"{len(files)} entries such as {', '.join(files[:3])}" if files else "nothing"
