"""Cheap guards over the checkout as a whole: size, paths, public names, notebooks."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import hintpose_lite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "hintpose_lite").rglob("*.py"))
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb")
                   if ".ipynb_checkpoints" not in p.parts)

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
    assert len(sizes) > 10
    assert sum(sizes.values()) < 8200, sizes  # a seventh of it draws crowd scenes
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


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_as_a_reader_on_the_web_needs_them(path):
    assert path.stat().st_size < 1_000_000
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in book["metadata"]
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    text = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown")
    outside_code = re.sub(r"(?ms)^```.*?^```", "", text)
    assert len(re.findall(r"(?m)^# ", outside_code)) == 1, "one title a notebook"
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1)), "run it in order"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"]
