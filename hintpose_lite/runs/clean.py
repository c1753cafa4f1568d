"""Finds and removes what this package generated, and nothing else."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from ..training.folder import is_running

KNOWN = ("config.json", "metrics.jsonl", "last.pt", "model.safetensors", "best.safetensors",
         "report.json", "report-shared.json", "report-shared-*.json", "report-wrong.json",
         "report-own.json", "stop", "lock", "train.log", "table.md", "cost_of_hops.*", "*.part",
         "*.part.*", "annotations.json", "unfinished.json", "images/" + 12 * "[0-9]" + ".jpg",
         "info.json", "shard-?????.bin")


def clean(root: Path, ask: bool = True):
    """Lists the generated folders under root, and removes them; with `ask`, only on consent."""
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
    """Folders below root/runs and root/data that hold our files only; links are not followed."""
    found = []
    runs, data = root / "runs", root / "data"
    live = [lock.parent for start in (runs, data) for lock in start.rglob("lock")
            if _is_ours(lock.parent) and is_running(lock.parent)]
    for start in (runs, data):
        for name, inside, _ in os.walk(start) if not start.is_symlink() else ():
            folder = Path(name)
            if folder != start and _is_ours(folder):
                inside.clear()  # the folder is removed as a whole
                if strange := [path for path in folder.rglob("*") if not any(
                        map(path.match, KNOWN)) and (path.is_symlink() or not path.is_dir())]:
                    print(f"kept {folder}: not all of it was generated, such as {strange[0].name}")
                elif any(run.is_relative_to(folder) for run in live):
                    print(f"kept {folder}: a process is training there")
                elif live and start == data:
                    print(f"kept {folder}: a process is training, and may need it")
                else:
                    found.append(folder)
    return sorted(found)


def _is_ours(folder: Path) -> bool:
    """True for a training run, a study, a crop cache, or our own scenes (finished or not)."""
    for name in ("config.json", "info.json", "annotations.json", "unfinished.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            stored = json.loads((folder / name).read_text(encoding="utf-8"))
            if name == "config.json":
                return isinstance(stored["config"]["spec"], dict) and "data" in stored
            if name == "info.json":
                return {"made_of", "shards", "complete"} <= stored.keys()
            return str(stored["info"]["settings"]["generator"]).startswith("crowd-")
    return False
