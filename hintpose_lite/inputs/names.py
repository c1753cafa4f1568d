"""Finds pictures whose names in an annotation file differ a little from their file names."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ..errors import DataError


def find_pictures(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Maps every name that can be found to its file, relative to the folder.

    If no file has that name, files are compared with it regardless of slashes, leading folders,
    Unicode form, URL escapes and case, in subfolders, or in the parent folder if there are no files
    below; one is taken only if no other fits as well. Raises DataError for an unreadable folder.
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
    """The file whose path shares the most trailing parts with a name, if only one file does."""
    found = [(len(os.path.commonprefix([path[::-1], parts[::-1]])), file)
             for path, file in (index.get(parts[-1], []) if parts else [])]
    most = max((common for common, _ in found), default=0)
    best = [file for common, file in found if common == most]
    return best[0] if len(best) == 1 else None


def what_lies_in(folder: Path) -> str:
    """What a folder holds, in a few words, for messages."""
    files = sorted(os.listdir(folder))
    return f"{len(files)} entries such as {', '.join(files[:3])}" if files else "nothing"
