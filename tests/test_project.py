"""Cheap guards over the checkout as a whole: size, imports, paths, public names."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

import hintpose_lite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hintpose_lite"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import from its own level and from those before it (see hintpose_lite/README.md).
ORDER = [("errors", "files", "settings"), ("pose",), ("inputs",), ("model",), ("weights",),
         ("cues",), ("data",), ("evaluation",), ("training",), ("crowd", "photos"), ("runs",),
         ("labs", "cli", "__init__", "__main__")]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# The largest number of lines. Raising one is a decision that belongs into the Package map.
CORE = ("pose", "model", "cues", "data", "evaluation", "training")
LIMITS = {"core": (CORE, 3640),  # aim: 2,400
          "rooms of their own, and the files beside them": (LEVEL.keys() - {*CORE, "labs"}, 5910),
          "labs": (("labs",), 1890)}

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


@pytest.mark.parametrize("part", LIMITS)
def test_the_package_stays_small_enough_to_be_read(part):
    rooms, limit = LIMITS[part]
    sizes = {path.relative_to(PACKAGE).as_posix(): lines(path) for path in FILES
             if room_of(path.relative_to(PACKAGE)) in rooms}
    assert sizes and sum(sizes.values()) <= limit, (sum(sizes.values()), sizes)


def test_every_file_of_the_package_lies_in_a_room():
    assert {room_of(path.relative_to(PACKAGE)) for path in FILES} == {*LEVEL}


def test_the_package_map_names_files_that_exist():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \| (.*?) \|", text, re.MULTILINE)
    assert {room for room, _ in rows} == {path.parent.name for path in FILES} - {PACKAGE.name}
    named = [PACKAGE / room / f"{name}.py" for room, names in rows
             for name in re.findall(r"`(\w+)`", names)]
    assert not [path for path in named if not path.is_file()]


def room_of(path: PurePath) -> str:
    """The room that a file of the package lies in, or its own name if it lies in the root."""
    return path.parts[0].removesuffix(".py")


def imported_rooms(source: str, path: PurePath) -> Iterator[str]:
    """The rooms that a file of the package imports from, in functions too, but not for types."""
    tree = ast.parse(source)
    for_types = {id(node) for block in ast.walk(tree)
                 if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
                 for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ["hintpose_lite", *path.parts[:-1]]
            above = package[:len(package) + 1 - node.level] if node.level else []
            start = [*above, node.module] if node.module else above
            modules = [".".join([*start, alias.name]) for alias in node.names]
        else:
            continue
        names = [module.split(".") for module in modules if id(node) not in for_types]
        yield from (name[1] for name in names if name[0] == "hintpose_lite" and len(name) > 1)


def wrong_imports(source: str, path: PurePath) -> list[str]:
    """The rooms that a file imports from although they come later than its own."""
    own = LEVEL[room_of(path)]
    return [room for room in imported_rooms(source, path) if LEVEL.get(room, own) > own]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rooms_import_only_what_comes_before_them(path):
    assert not wrong_imports(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE))


@pytest.mark.parametrize("path, source, found", [
    ("data/crops.py", "from ..crowd.scenes import draw_scene", ["crowd"]),
    ("training/loop.py", "def f():\n    from ..runs import study", ["runs"]),
    ("evaluation/judge.py", "from .. import photos, labs, pose", ["photos", "labs"]),
    ("pose/oks.py", "import hintpose_lite.model.hrnet", ["model"]),
    ("model/hrnet.py", "from hintpose_lite.weights.weights import load_model", ["weights"]),
    ("errors.py", "from .pose.oks import oks", ["pose"]),
    ("training/loop.py", "from ..weights.weights import load_model\nfrom .step import a", []),
    ("cues/cue.py", "if TYPE_CHECKING:\n    from ..data.coco import CocoPersons", []),
    ("labs/quiz.py", "from .. import __version__\nimport torch.nn, hintpose_lite", [])])
def test_a_wrong_import_is_caught(path, source, found):
    assert wrong_imports(source, PurePath(path)) == found


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
    with pytest.raises(AttributeError, match="nonsense"):
        hintpose_lite.nonsense  # noqa: B018


def test_versions_of_python_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"python{project['requires-python']}" in (ROOT / "environment.yml").read_text()
    assert project["requires-python"] == ">=3.11" and "(3, 11)" in (ROOT / "Makefile").read_text()
