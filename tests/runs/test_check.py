"""`hintpose check`: says what is wrong and what to do, and is never the thing that breaks."""

import shutil
import subprocess
import sys
from email.message import Message
from importlib import metadata
from types import SimpleNamespace

import pytest

from hintpose_lite.runs import check as module
from hintpose_lite.runs.check import Check, main, run_checks

NEEDS = ["torch>=2.11", "pillow>=10", "jupyterlab>=4.2; extra == 'lab'",
         "pytest>=8; extra == 'test'"]


@pytest.fixture
def sound(monkeypatch):
    """A complete installation, whatever this one is; tests break one thing in it."""
    about = Message()
    about["Requires-Python"] = ">=3.11"
    for need in NEEDS:
        about["Requires-Dist"] = need
    monkeypatch.setattr(metadata, "metadata", lambda _: about)
    versions = {"torch": "2.15.0+cpu", "pillow": "13.0", "jupyterlab": "4.2"}
    monkeypatch.setattr(module, "_version", versions.get)
    monkeypatch.setattr(module, "_shipped", lambda: "crowd-tiny")
    return versions


def by_name(folder):
    return {check.name: check for check in run_checks(folder)}


def test_a_sound_installation(sound, tmp_path, capsys):
    checks = by_name(tmp_path)
    assert {check.status for check in checks.values()} == {"OK"}
    assert "pytest" not in checks  # a user needs no test tools
    assert main(tmp_path) == 0
    assert capsys.readouterr().out.endswith("everything needed is here\n")
    assert list(tmp_path.iterdir()) == []


def test_too_old_and_missing_packages_are_named_with_the_fix(sound, tmp_path, capsys):
    sound["torch"], sound["pillow"] = "2.10.1", None
    checks = by_name(tmp_path)
    assert checks["torch"] == Check("FAIL", "torch", "2.10.1, >=2.11 is needed",
                                    'pip install "torch>=2.11"')
    assert checks["pillow"].detail == "missing, >=10 is needed"
    assert main(tmp_path) == 1
    out = capsys.readouterr().out
    assert '[FAIL] torch: 2.10.1, >=2.11 is needed\n       -> pip install "torch>=2.11"' in out
    assert "checks that failed: 2" in out


def test_the_notebooks_tools_are_optional(sound, tmp_path):
    sound["jupyterlab"] = None
    assert by_name(tmp_path)["jupyterlab"].status == "--"
    assert main(tmp_path) == 0


def test_an_old_python(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.10.4")
    assert by_name(tmp_path)["Python"].status == "FAIL"


def test_not_installed_at_all(sound, tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, "metadata", missing)
    first = next(run_checks(tmp_path))
    assert first.status == "FAIL" and first.fix == "pip install -e . in the checkout"


@pytest.mark.parametrize("package, lines", [
    ("torch", {"torch computes", "torchvision fits torch", "device"}),
    ("torchvision.ops", {"torchvision fits torch"}),
    ("pycocotools", {"pycocotools computes"}),
])
def test_a_package_that_does_not_import(sound, tmp_path, monkeypatch, package, lines):
    monkeypatch.setitem(sys.modules, package, None)
    failed = {check.name for check in run_checks(tmp_path) if check.status == "FAIL"}
    assert failed == lines


def test_wrong_results_fail(sound, tmp_path, monkeypatch):
    import torchvision.ops
    from pycocotools import mask
    monkeypatch.setattr(torchvision.ops, "nms", lambda *_: SimpleNamespace(tolist=lambda: [0, 1]))
    monkeypatch.setattr(mask, "area", lambda _: 6)
    checks = by_name(tmp_path)
    assert checks["torchvision fits torch"].status == "FAIL"
    assert checks["pycocotools computes"].status == "FAIL"


def test_disk_memory_and_folder(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0.2e9))
    disk = by_name(tmp_path)["free disk"]
    assert disk.status == "FAIL" and disk.detail == "OSError: 0.2 GB, 1 GB are needed"
    assert by_name(tmp_path / "nowhere")["writing"].status == "FAIL"
    monkeypatch.setattr(module, "MEMORY_GB", 10**6)
    assert by_name(tmp_path)["free memory"].status == "FAIL"


def test_shipped_weights_that_do_not_load(sound, tmp_path, monkeypatch):
    def broken():
        raise ValueError("damaged")
    monkeypatch.setattr(module, "_shipped", broken)
    assert by_name(tmp_path)["shipped weights"].detail == "ValueError: damaged"


def test_nothing_heavy_is_imported_with_the_module():
    code = "import sys, hintpose_lite.runs.check; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
