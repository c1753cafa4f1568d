"""Cheap guards over the checkout as a whole: size, paths, public names."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import hintpose_lite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "hintpose_lite").rglob("*.py"))

# Stated here a second time on purpose: notebooks and other people's scripts rely on these.
CONTRACT = ["COCO17", "CocoPersons", "Cue", "HRNet", "HintPose", "PoseEstimator", "TrainConfig",
            "evaluate", "load_model", "make_crowd", "save_model", "train"]

MACHINE_PATH = re.compile(r"(?<![\w.\-/])/(work|root|home|Users)/")
REGISTRY = re.compile("|".join(map(re.escape, [
    "pypi" ".org", "pythonhosted" ".org", "pytorch" ".org/whl", "debian" ".org", "npmjs" ".org",
    "npmjs" ".com", "anaconda" ".org", "anaconda" ".com"])))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def committed() -> list[Path]:
    """Text files that are, or would be, in the repository."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list of the project's files")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:4096]]


def test_the_package_stays_small_enough_to_be_read_whole():
    sizes = {path.relative_to(ROOT).as_posix(): lines(path) for path in PACKAGE}
    labs = sum(size for name, size in sizes.items() if name.endswith("_lab.py"))
    assert len(sizes) > 10
    assert sum(sizes.values()) - labs < 9000, sizes  # an eighth of it draws crowd scenes
    assert labs < 1100, sizes
    assert not {name: size for name, size in sizes.items() if size > 350 and "figures" not in name}


def test_no_machine_and_no_registry_is_named():
    found = [f"{path.relative_to(ROOT)}: {hit[0]}" for path in committed()
             for pattern in (MACHINE_PATH, REGISTRY)
             for hit in pattern.finditer(path.read_text(encoding="utf-8"))]
    assert not found


@pytest.mark.parametrize("name", CONTRACT)
def test_public_names_exist(name):
    assert getattr(hintpose_lite, name) is not None


def test_public_names_are_listed():
    assert sorted(hintpose_lite.__all__) == sorted(CONTRACT)
    assert set(CONTRACT) <= set(dir(hintpose_lite))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hintpose_lite.nonsense  # noqa: B018


def test_versions_of_python_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"python{project['requires-python']}" in (ROOT / "environment.yml").read_text()
    assert project["requires-python"] == ">=3.11" and "(3, 11)" in (ROOT / "Makefile").read_text()
