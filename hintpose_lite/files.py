"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: str | Path, write: Callable):
    """write(name) makes a file under another name beside `path`, which then takes its place at
    once: nobody ever sees half of it, and a failure leaves what was there. Returns what `write`
    returns."""
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        result = write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return result
