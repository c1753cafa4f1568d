"""Downloading with resume, checked length and hash; unpacking without trusting the archive."""

import hashlib
import http.client
import os
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from ..errors import FetchError
from ..files import write_whole

CHUNK, TIMEOUT = 1 << 18, 30  # bytes; seconds without an answer
PAUSES = (1, 2, 4)  # seconds before each new attempt; any progress starts the count again
CUT = (ConnectionError, TimeoutError, http.client.HTTPException)
BUSY = {408, 429, 500, 502, 503, 504}  # HTTP answers that may be better the next time
MAX_RATIO = 100  # of unpacked to packed bytes: JSON has 10, a zip made to fill disks 1000 and more


def fetch(url: str, path: str | Path, sha256: str | None = None, *,
          progress: bool | Callable[[int], None] = True) -> Path:
    """Download url to path and return path; an existing file is checked and kept. Of several
    processes that want the same path, one downloads it and the others wait.

    An interrupted download leaves path.part, where the next call continues. sha256: the first 8 or
    more hex digits. progress: whether to show a bar; or a function that is called after every chunk
    with the number of bytes so far, and ends the download if it raises. Raises FetchError.
    """
    path, digest = Path(path), (sha256 or "").lower()
    _refuse_bad_address(url)
    if sha256 is not None and not re.fullmatch("[0-9a-f]{8,64}", digest):
        raise FetchError(f"{sha256!r} is no SHA-256: give at least its first 8 hex digits")
    part, lock = (path.with_name(path.name + end) for end in (".part", ".lock"))
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if not path.exists():
                    _download(url, part, bool(digest), progress)
                    if not _matches(part, digest):
                        _forget(part)
                        raise FetchError(f"{url}: the SHA-256 of what came does not start with "
                                         f"{digest}. It was thrown away; try again, or get {path} "
                                         "from elsewhere")
                    os.replace(part, path)
                    _forget(part)
                    return path
        if not _matches(path, digest):
            raise FetchError(f"{path} exists, but its SHA-256 does not start with {digest}, so it "
                             f"is not the file at {url}: move it away, then try again")
    except (OSError, http.client.HTTPException) as error:
        kept = f" {_size(part)} bytes stay in {part}, the next try continues there." * part.exists()
        raise FetchError(f"{url} could not be downloaded: {getattr(error, 'reason', error)}. Look "
                         f"at the address, the network and the space on the disk.{kept} Or get "
                         f"the file another way and put it at {path}") from error
    finally:
        with suppress(OSError):  # a process that has waited for it finds the file
            lock.unlink()
    return path


def cache_folder() -> Path:
    """Where downloaded files are kept: $HINTPOSE_CACHE or ~/.cache/hintpose_lite."""
    return Path(os.environ.get("HINTPOSE_CACHE") or Path.home() / ".cache" / "hintpose_lite")


def remote_size(url: str) -> int | None:
    """How many bytes the server says url has; None if it does not say. FetchError if it has no such
    file. Other refusals are left to `fetch`, which tries again."""
    _refuse_bad_address(url)
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length", "")
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", None) in (404, 410):
            raise FetchError(f"{url}: {error}. Look at the address") from error
        return None
    return int(length) if length.isdecimal() else None


def need_space(needed: float, folder: Path, what: object):
    """Raises FetchError unless `needed` bytes are free on the disk of folder, which must exist."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(f"{what} needs {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} "
                         "GB are free: make room, or choose another folder")


def _refuse_bad_address(url: str):
    try:
        parts = urlsplit(url)
        (parts.path + parts.query).encode("ascii")  # as a request has it; a server's name may not
    except ValueError as error:
        raise FetchError(f"{url!r} is no address ({error}). Look at the address") from error
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"cannot download {url!r}: the address must start with http(s)://")


def _download(url: str, part: Path, hashed: bool, progress):
    failures, furthest = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, hashed, progress)
        except (OSError, http.client.HTTPException) as error:
            if _size(part) > furthest:  # a server that always starts anew gains nothing
                failures, furthest = 0, _size(part)
            reason = getattr(error, "reason", error)  # what urllib wraps
            if failures == len(PAUSES) or not (getattr(error, "code", None) in BUSY
                                               or isinstance(reason, CUT)):
                raise
            time.sleep(PAUSES[failures])
            failures += 1


def _attempt(url: str, part: Path, hashed: bool, progress):
    """One connection: continue part where it ends, or start anew where that is not safe."""
    tag = _tag(part).read_text() if _tag(part).exists() else ""
    start = _size(part) if hashed or tag else 0  # else two versions could be mixed unnoticed
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and tag:
        headers["If-Range"] = tag
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:  # 416: there is nothing after the bytes that we have
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        _forget(part)
        raise ConnectionError("the partial file is longer than the server's") from error
    with response:
        given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and not (given and int(given[1]) == start):
            raise ConnectionError(f"the server did not send the bytes from {start} on")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        need_space((total or 0) - start, part.parent, url)
        etag = response.headers.get("ETag", "")
        _tag(part).write_text("" if etag.startswith("W/") else etag)  # weak: not equal bytes
        _receive(response, part, start, total, progress)
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection was cut after {_size(part)} of {total} bytes")


def _receive(response, part: Path, start: int, total: int | None, progress):
    with part.open("r+b" if start else "wb") as file, \
            tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True,
                 disable=progress is not True) as bar:
        file.seek(start)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            if callable(progress):
                progress(file.tell())


def _matches(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return not digest or hashlib.file_digest(file, "sha256").hexdigest().startswith(digest)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag(part: Path) -> Path:
    """Beside a partial file: the server's name for the version that it is a part of."""
    return part.with_name(part.name + ".tag")


def _forget(part: Path):
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def unpack(archive: str | Path, folder: str | Path, *, members: Collection[str] | None = None,
           progress: bool = True) -> Path:
    """Extract a zip archive into folder and return folder; call it again to continue.

    members: names in the archive, to extract no others; those that are not in it are passed over.
    Before anything is written, names that lead outside folder, links and other special files are
    refused, and so is what grows more than MAX_RATIO times or than the disk can take. A file that
    is there is kept if its content is the member's, and replaced if it is empty; else FetchError.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as source:
            listed = source.infolist()
            for member in listed:
                _refuse_unsafe(member, archive)
            if sum(m.file_size for m in listed) > MAX_RATIO * archive.stat().st_size:
                raise FetchError(f"{archive} would grow more than {MAX_RATIO} times, as no honest "
                                 "archive does. Nothing was unpacked; do not trust this file")
            wanted = [m for m in listed if members is None or m.filename in members]
            missing = [m for m in wanted if not _is_there(m, folder / m.filename)]
            need_space(sum(m.file_size for m in missing), folder, archive)
            for member in tqdm(missing, archive.name, disable=not progress):
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, lambda part, m=member: part.write_bytes(source.read(m)))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
        raise FetchError(f"{archive} could not be unpacked into {folder}: {error}. If it is no "
                         "whole, plain zip file, delete it and download it again") from error
    return folder


def _refuse_unsafe(member: zipfile.ZipInfo, archive: Path):
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    outside = name.startswith("/") or ".." in name.split("/") or set(name) & set("\\:\0")
    if outside or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FetchError(f"{archive}: member {name!r} leads outside the folder it is unpacked "
                         "into, or is a link. Nothing was unpacked; do not trust this file")


def _is_there(member: zipfile.ZipInfo, target: Path) -> bool:
    if member.is_dir() or not target.exists():
        return member.is_dir()
    if _size(target) == 0 < member.file_size:
        return False
    if target.is_file() and zlib.crc32(target.read_bytes()) == member.CRC:
        return True
    raise FetchError(f"{target} exists with another content than in the archive: move it away, or "
                     "unpack into another folder")
