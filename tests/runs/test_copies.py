"""A learner's copies of the notebooks: nothing that was written in them is lost."""

import json

from hintpose_lite.runs.copies import refresh


def test_copies_follow_their_originals_unless_somebody_worked_in_them(tmp_path):
    source, target = tmp_path / "notebooks", tmp_path / "work"
    for folder in (source / "solutions", source / ".ipynb_checkpoints", target):
        folder.mkdir(parents=True)
    for name in ("00.ipynb", "01.ipynb", "solutions/00.ipynb", "build.py",
                 ".ipynb_checkpoints/00.ipynb"):
        (source / name).write_text("1")
    said = refresh(source, target)
    there = sorted(p.relative_to(target).as_posix() for p in target.rglob("*.ipynb"))
    assert there == ["00.ipynb", "01.ipynb", "solutions/00.ipynb"]
    assert len(said) == 1 and "3 files" in said[0]
    assert refresh(source, target) == []

    (target / "00.ipynb").write_text("mine")
    assert refresh(source, target) == [], "the originals have not changed"
    for name in ("00.ipynb", "01.ipynb"):
        (source / name).write_text("2")
    said = refresh(source, target)
    assert (target / "00.ipynb").read_text() == "mine"
    assert (target / "00.new.ipynb").read_text() == "2"
    assert (target / "01.ipynb").read_text() == "2"
    assert "00.ipynb" in said[0] and "2 files" in said[1]
    (target / "01.ipynb").unlink()
    refresh(source, target)
    assert (target / "01.ipynb").read_text() == "2", "a deleted copy comes back"


def test_a_copy_does_not_answer_before_the_learner_does(tmp_path):
    source, target = tmp_path / "notebooks", tmp_path / "work"
    source.mkdir(), target.mkdir()
    said = ["counted: 3\n", "You have not chosen. The answer: two.\n", "Because.\n"]
    cells = [{"source": [], "outputs": [{"name": "stdout", "text": said}, {"data": {}}]},
             {"source": ["Text."]}]
    (source / "00.ipynb").write_text(json.dumps({"cells": cells}, indent=1))
    refresh(source, target)
    first, second = json.loads((target / "00.ipynb").read_text())["cells"]
    assert first["outputs"][0]["text"][0] == "counted: 3\n" and second == cells[1]
    assert "two" not in str(first) and first["outputs"][1] == {"data": {}}
    assert refresh(source, target) == [], "such a copy counts as not changed"
    (source / "00.ipynb").write_text(json.dumps({"cells": cells[1:]}, indent=1))
    refresh(source, target)
    assert json.loads((target / "00.ipynb").read_text())["cells"] == cells[1:]
