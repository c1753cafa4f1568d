"""`hintpose check`: reports whether everything that the package needs is here, and how to get it.

This module imports nothing heavy, so that it can report on a broken installation.
"""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MEMORY_GB = 4  # for two training runs at once
DISK_GB = 1  # for scenes and runs, without the installed packages
REINSTALL = "make a fresh environment: remove .venv, then `make check` (or see the README)"


@dataclass(frozen=True)
class Check:
    """One line of the report. status: "OK", "FAIL", or "--" if something optional is missing."""

    status: str
    name: str
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        hint = f"\n{'':7}-> {self.fix}" if self.fix else ""
        return f"{f'[{self.status}]':7}{self.name}: {self.detail}{hint}"


def run_checks(folder: str | Path = ".") -> Iterator[Check]:
    """The checks, each when it is done. folder: where data and runs will be written."""
    folder = Path(folder)
    yield from _packages()
    yield _attempt("torch computes", _torch_computes, REINSTALL)
    yield _attempt("torchvision fits torch", _torchvision_computes, "install both from one source")
    yield _attempt("pycocotools computes", _masks, "pip install --force-reinstall pycocotools")
    yield _attempt("device", _device, REINSTALL)
    yield _attempt("free disk", lambda: _enough(shutil.disk_usage(folder).free, DISK_GB),
                   "make room; `hintpose clean` removes generated runs and data")
    yield _attempt("free memory", _memory, "close other programs")
    yield _attempt("writing", lambda: _can_write(folder), "choose a folder that you may write to")
    yield _attempt("shipped weights", _shipped, "get the checkout again: a file of it is missing")


def main(folder: str | Path = ".") -> int:
    """Prints the report. Returns the exit status: 0 if nothing failed, else 1."""
    failed = 0
    for check in run_checks(folder):
        print(check, flush=True)
        failed += check.status == "FAIL"
    print(f"checks that failed: {failed}" if failed else "everything needed is here")
    return int(failed > 0)


def _attempt(name: str, probe: Callable[[], str], fix: str) -> Check:
    try:
        return Check("OK", name, probe())
    except Exception as error:  # whatever is broken, the report names it
        return Check("FAIL", name, f"{type(error).__name__}: {error}", fix)


def _packages() -> list[Check]:
    """Compares Python and the packages with the versions that pyproject.toml states."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
        about = metadata.metadata("hintpose-lite")
    except ImportError as error:
        return [Check("FAIL", "installation", str(error), "pip install -e . in the checkout")]
    checks = [_compare("Python", platform.python_version(), SpecifierSet(about["Requires-Python"]),
                       f"install such a Python, then {REINSTALL}")]
    for need in map(Requirement, about.get_all("Requires-Dist", [])):
        package = need.name, _version(need.name), need.specifier
        if not need.marker or need.marker.evaluate({"extra": ""}):
            checks.append(_compare(*package, f'pip install "{need}"'))
        elif need.marker.evaluate({"extra": "lab"}):  # the other extras are for developers only
            checks.append(_compare(*package, "for the notebooks: pip install -e '.[lab]'", "--"))
    return checks


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compare(name: str, version: str | None, needed, fix: str, otherwise: str = "FAIL") -> Check:
    """otherwise: the status if the package is missing or too old."""
    if version and needed.contains(version, prereleases=True):
        return Check("OK", name, f"{version} ({needed})")
    return Check(otherwise, name, f"{version or 'missing'}, {needed} is needed", fix)


def _torch_computes() -> str:
    import torch
    weight = torch.eye(3, requires_grad=True)
    (torch.arange(9.).reshape(3, 3) @ weight).sum().backward()
    return _computes("forward and backward", weight.grad.sum().item(), 108)


def _torchvision_computes() -> str:
    import torch
    from torchvision.ops import nms
    kept = nms(torch.tensor([[0., 0, 9, 9], [1, 1, 9, 9]]), torch.tensor([.5, .9]), .5)
    return _computes("non-maximum suppression", kept.tolist(), [1])


def _masks() -> str:
    import numpy as np
    from pycocotools import mask
    area = mask.area(mask.encode(np.asfortranarray(np.eye(5, dtype=np.uint8))))
    return _computes("encodes masks", area, 5)


def _computes(what: str, found, expected) -> str:
    if found != expected:
        raise ArithmeticError(f"{what}: {found} instead of {expected}")
    return what


def _device() -> str:
    import torch
    threads = f"CPU with {torch.get_num_threads()} threads for torch"
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()}), {threads}"
    return f"mps, {threads}" if torch.backends.mps.is_available() else f"{threads}, no GPU found"


def _enough(free: float, needed: int) -> str:
    if free < needed * 1e9:
        raise OSError(f"{free / 1e9:.1f} GB, {needed} GB are needed")
    return f"{free / 1e9:.1f} GB ({needed} GB needed)"


def _memory() -> str:
    """Available memory on Linux; elsewhere all installed memory, if the system reports it."""
    if (table := Path("/proc/meminfo")).exists():
        free = 1024 * float(re.search(r"MemAvailable: *(\d+)", table.read_text())[1])
        return _enough(free, MEMORY_GB)
    if os.name == "posix":
        return _enough(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), MEMORY_GB)
    return f"not known here ({MEMORY_GB} GB needed)"


def _can_write(folder: Path) -> str:
    with tempfile.TemporaryFile(dir=folder):
        return str(folder.resolve())


def _shipped() -> str:
    from ..weights.weights import load_model
    return f"crowd-tiny, {sum(p.numel() for p in load_model('crowd-tiny').parameters()):,} numbers"
