"""Finding and removing what this package generated, and nothing else."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path


def clean(root: Path, ask: bool = True):
    """Show the generated folders of a working folder, and remove them if the user says yes."""
    folders = generated(root)
    for folder in folders:
        size = sum(file.lstat().st_size for file in folder.rglob("*"))
        print(f"{size / 1e6:10.1f} MB  {folder}")
    if folders and ask:
        print("Remove all of these? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            folders = []
    for folder in folders:
        shutil.rmtree(folder)
    print(f"removed {len(folders)} generated folder(s) under runs and data")


def generated(root: Path) -> list[Path]:
    """The folders below root/runs and root/data that this package wrote; follows no links."""
    found = []
    for start in (root / "runs", root / "data"):
        for name, inside, _ in os.walk(start) if not start.is_symlink() else ():
            if Path(name) != start and _is_ours(Path(name)):
                found.append(Path(name))
                inside.clear()  # it goes as a whole
    return sorted(found)


def _is_ours(folder: Path) -> bool:
    """A training run, or scenes (finished or not) that name our generator."""
    if (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file():
        return True
    for path in (folder / "annotations.json", folder / "unfinished.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            info = json.loads(path.read_text(encoding="utf-8"))["info"]
            return str(info["settings"]["generator"]).startswith("crowd-")
    return False
