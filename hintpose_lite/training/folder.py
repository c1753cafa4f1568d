"""A run's folder on disk: its lock, its settings, its metrics.

    config.json        the settings, and a digest of the people: a run resumes only if both match
    metrics.jsonl      a line for every checkpoint, and one for every validation
    last.pt            the state from which the run goes on
    model.safetensors  the weights of the last checkpoint, for use
    best.safetensors   the weights with the highest validation AP in own boxes
    lock               held by the process that trains
    stop               a file that you create to end the run
    train.log          the output of a run in a process of its own
"""

import json
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import HintPoseError, RunError
from ..files import write_whole

LOG = "train.log"


@contextmanager
def writing(what: str):
    """Turns failures to write into a RunError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter from torch
        raise RunError(f"cannot write {what}: {error.__cause__ or error}. Make room on the disk "
                       "and start the same command again: a run goes on from its last checkpoint"
                       ) from error


def open_folder(out: Path, wanted: dict) -> None:
    """Makes a run folder whose config.json is `wanted`, or checks that `out` is such a folder."""
    file = out / "config.json"
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it holds no settings")
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}): train into another folder") from error
        if different := _differences(found, wanted):
            raise RunError(f"{out} holds a run with other settings: {'; '.join(different)}. Train "
                           "into another folder, or use those settings to go on with it")
    else:
        refuse_others(out)
        with writing(f"to the run folder {out}"):
            out.mkdir(parents=True, exist_ok=True)
            write_whole(file, lambda name: name.write_text(json.dumps(wanted, indent=1)))


def refuse_others(out: Path) -> None:
    """Raises RunError if `out` is neither a run folder nor free to become one."""
    if out.exists() and not (out / "config.json").exists() and (
            not out.is_dir() or any(f.name not in (LOG, "lock") for f in out.iterdir())):
        raise RunError(f"{out} exists and is not a run folder; nothing in it is overwritten: give "
                       "the name of a new or empty folder")


def _differences(found, wanted, name: str = "") -> list[str]:
    """A sentence for each difference of two nested dictionaries."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [line for key in sorted(found.keys() | wanted) for line in _differences(
            found.get(key), wanted.get(key), f"{name}.{key}".strip("."))]
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


@contextmanager
def locked(out: Path):
    """Locks the run folder until the process ends, in whatever way, and removes config.json, which
    frees it, if the start fails before anything else is written."""
    try:
        lock = FileLock(out / "lock").acquire(timeout=1.0)  # `is_running` holds it for an instant
    except Timeout:
        raise RunError(f"another process is training in {out}: follow it with `hintpose watch "
                       f"{out}`, end it with --stop, or train into another folder") from None
    with lock:
        try:
            yield
        except HintPoseError:
            written = "last.pt", "metrics.jsonl", "model.safetensors"
            if not any((out / name).exists() for name in written):
                (out / "config.json").unlink(missing_ok=True)
            raise


def is_running(out: str | Path) -> bool:
    """Whether a process is training into the run folder at this moment."""
    if not Path(out, "lock").exists():
        return False  # locking would make the file
    try:
        with FileLock(Path(out, "lock"), timeout=0):
            return False
    except Timeout:
        return True


def is_validated(out: Path, step: int) -> bool:
    """Whether metrics.jsonl has a validation after that step."""
    return any(record["step"] == step and "ap" in record for record in read_metrics(out))


def read_metrics(folder: Path) -> list[dict]:
    """The entries of metrics.jsonl. Raises RunError if one of them is damaged."""
    path, records = folder / "metrics.jsonl", []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:  # text after the last newline is an unfinished entry
            record = json.loads(line)
            names = ("loss", "seconds", "lr") if "loss" in record else ("ap", "identity")
            optional = [name for name in ("own_ap", "own_ap_no_cue") if name in record]
            records.append({name: record[name] for name in ("step", *names, *optional)})
            if not (isinstance(record["step"], int) and all(
                    isinstance(value, int | float | None) for value in records[-1].values())):
                raise TypeError("not all values are numbers")
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}, line {number} is damaged ({error!r}): remove it") from error
    return records


def append_metrics(out: Path, record: dict) -> None:
    """Appends an entry to metrics.jsonl."""
    path = out / "metrics.jsonl"
    with writing(str(path)), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def trim_metrics(out: Path, step: int) -> None:
    """Removes entries of steps after the checkpoint, which will be run again."""
    kept = [json.dumps(record) + "\n" for record in read_metrics(out) if record["step"] <= step]
    with writing(f"{out}/metrics.jsonl"):
        write_whole(out / "metrics.jsonl", lambda name: name.write_text("".join(kept)))
