"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import WriteError


def write_whole(path: str | Path, write: Callable):
    """write(name) makes a file under another name beside `path`, which then takes its place at
    once: half a file is never visible, and a failure leaves what was there. Returns what `write`
    returns. Raises WriteError."""
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        result = write(part)
        os.replace(part, path)
    except OSError as error:
        raise WriteError(f"cannot write {path} ({error}): check that its folder exists, may be "
                         "written to, and has space on its disk") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return result
