"""Copies of the notebooks to work in, so that the tracked ones stay as they are.

`make lab` calls `python -m hintpose_lite.runs.copies notebooks work` before it opens JupyterLab.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

from ..files import write_whole

RECORD = ".copies.json"  # what was copied last: name -> SHA-256
KINDS = (".ipynb", ".json")
UNASKED = re.compile(rb'"You have not chosen[.] .*(?:\n +".*)*')  # answers of `Predict`, as stored


def refresh(source: Path, target: Path) -> list[str]:
    """Brings `target` up to date with the notebooks of `source`; returns lines to print.

    New files are copied without answers to questions that the reader has not been asked yet, and
    copies that nobody has changed follow their original. A copy that was changed stays; where its
    original has changed since, that is put beside it as NAME.new.ipynb.
    """
    record = target / RECORD
    copied = json.loads(record.read_text()) if record.exists() else {}
    said, fresh = [], 0
    for file in sorted(path for path in source.rglob("*") if path.suffix in KINDS
                       and ".ipynb_checkpoints" not in path.parts):
        name = file.relative_to(source).as_posix()
        content = UNASKED.sub(b'"Choose above, and run this cell."', file.read_bytes())
        place, now = target / name, _digest(content)
        if now == copied.get(name) and place.exists():
            continue
        if place.exists() and _digest(place.read_bytes()) not in (copied.get(name), now):
            beside = place.with_suffix(f".new{place.suffix}")
            said.append(f"{place} has your work in it and stays; its new version is {beside}")
            place = beside
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        copied[name], fresh = now, fresh + 1
    write_whole(record, lambda part: part.write_text(json.dumps(copied, indent=1)))
    if fresh:
        said.append(f"{fresh} files of {source}/ were copied to {target}/: work there, and the "
                    "originals stay as they are")
    return said


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    originals, copies = map(Path, sys.argv[1:])
    copies.mkdir(exist_ok=True)
    for line in refresh(originals, copies):
        print(line)
