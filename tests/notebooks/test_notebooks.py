"""What readers on the web, and the next person who runs them, need of every notebook.

`problems` says what is wrong with one; every complaint is tried on a notebook that deserves it.
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb")
               if ".ipynb_checkpoints" not in path.parts)

# Memory addresses, and paths that exist on one machine only.
UNSTABLE = re.compile(r" at 0x[0-9a-f]{6,}|\b[A-Z]:\\(?:Users|Windows)|"
                      r"(?<![\w.\-/])/(?:tmp|work|root|home|Users|private|var/folders)/")
RANDOM_ID = re.compile(r"(?:^|-)(?=[a-f]*\d)[0-9a-f]{8,}(?:-|$)")
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|ipynb|md))`")


def source(cell: dict) -> str:
    return "".join(cell["source"])


def of_kind(book: dict, kind: str) -> list[dict]:
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def is_exercise(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool(re.search(r"\bexercise\(", source(cell)))


def problems(book: dict, path: Path) -> Iterator[str]:
    """What is wrong with a notebook (the parsed file) that lies, or would lie, at that path."""
    yield from file_problems(book)
    yield from text_problems(book, path.parent)
    for cell in of_kind(book, "code"):
        yield from code_problems(cell)
    if path.parent.name != "solutions":
        yield from chapter_problems(book, path)


def file_problems(book: dict) -> Iterator[str]:
    if len(json.dumps(book, ensure_ascii=False).encode()) >= 1_000_000:
        yield "size: a megabyte or more"
    if book["metadata"]["kernelspec"]["name"] != "python3":
        yield "kernel: not python3"
    if "widgets" in book["metadata"]:
        yield "widgets: their state is stored"
    counts = [cell["execution_count"] for cell in of_kind(book, "code")]
    if counts != list(range(1, len(counts) + 1)):
        yield f"order: the cells were run as {counts}"
    ids = [cell.get("id", "") for cell in book["cells"]]
    for name in ids:
        if not re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name) or RANDOM_ID.search(name):
            yield f"id: {name} is not readable"
        if ids.count(name) > 1:
            yield f"id: {name} is not unique"


def text_problems(book: dict, folder: Path) -> Iterator[str]:
    text = re.sub(r"(?ms)^(```+|~~~+).*?^\1", "",
                  "\n\n".join(map(source, of_kind(book, "markdown"))))
    levels = [len(marks) for marks in re.findall(r"(?m)^ {0,3}(#{1,6})[ \t]", text)]
    if levels[:1] != [1] or levels.count(1) != 1:
        yield "headings: one title, at the top"
    for above, below in zip(levels, levels[1:]):
        if below > above + 1:
            yield f"headings: level {below} below level {above}"
    for tag in re.findall(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"])[^>]*>", text):
        yield f"alt: none in {tag}"
    for link in LINK.findall(text):
        if not re.match("https?://|#", link) and not (folder / link.split("#")[0]).is_file():
            yield f"link: no {link}"
    for name in FILE.findall(text):
        if not any((start / name).is_file() for start in (folder, ROOT)):
            yield f"link: no {name}"
    yield from (f"machine: {hit[0]}" for hit in UNSTABLE.finditer(text))


def code_problems(cell: dict) -> Iterator[str]:
    texts = [source(cell)]
    for output in cell["outputs"]:
        if output["output_type"] == "error" or output.get("name") == "stderr":
            yield f"error: in the output of {cell['id']}"
        for kind, data in {"": output.get("text", ""), **output.get("data", {})}.items():
            if not kind.startswith("image/"):
                texts.append("".join(data) if isinstance(data, list) else str(data))
            elif not output["metadata"].get(kind, {}).get("alt", "").strip():
                yield f"alt: none in the output of {cell['id']}"
    yield from (f"machine: {hit[0]}" for text in texts for hit in UNSTABLE.finditer(text))
    hidden = cell["metadata"].get("jupyter", {}).get("source_hidden")
    if re.search(r"\bPredict\(", source(cell)) and not hidden:
        yield f"answer: {cell['id']} shows it before it is asked for"
    marks = " ".join([*cell["metadata"].get("tags", []), *re.findall("# *NBVAL_", source(cell))])
    if "nbval" in marks.lower() and not cell["metadata"].get("reason", "").strip():
        yield f"reason: none why {cell['id']} is not compared"


def chapter_problems(book: dict, path: Path) -> Iterator[str]:
    """What only a chapter has to have: a recap, and with exercises hints and solutions."""
    if not any(re.search("(?m)^## Recap", source(cell)) for cell in of_kind(book, "markdown")):
        yield "recap: none"
    if not any(map(is_exercise, book["cells"])):
        return
    if not (path.parent / "solutions" / path.name).is_file():
        yield f"solution: no solutions/{path.name}"
    waiting = None
    for cell in [*book["cells"], {"cell_type": "code", "source": "exercise()", "id": "end"}]:
        if is_exercise(cell):
            if waiting:
                yield f"hint: none after {waiting}"
            waiting = cell["id"]
        elif re.search(r"<details>\s*<summary>", source(cell)):
            waiting = None


def test_there_are_notebooks():
    assert BOOKS


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_notebook_is_as_its_readers_need_it(path):
    found = list(problems(json.loads(path.read_text(encoding="utf-8")), path))
    assert not found


IMAGE = {"output_type": "display_data", "data": {"image/png": "iVBO"},
         "metadata": {"image/png": {"alt": "A pose."}}}
GOOD = {"metadata": {"kernelspec": {"name": "python3"}}, "cells": [
    {"cell_type": "markdown", "id": "title", "source": "# T\n```\n#### x\n```\n## Recap\n"
     "[a](00_setup_check.ipynb#lab) and `hintpose_lite/cues/cue.py`"},
    {"cell_type": "code", "id": "try-2", "source": "exercise(f)", "execution_count": 1,
     "metadata": {"tags": ["nbval-ignore-output"], "reason": "seconds"}, "outputs": [IMAGE]},
    {"cell_type": "markdown", "id": "hint", "source": "<details><summary>A hint</summary>"}]}


@pytest.mark.parametrize("complaint, cell, change", [
    ("size", 0, {"source": "x" * 1_000_000}), ("kernel", None, {"kernelspec": {"name": "mine"}}),
    ("widgets", None, {"widgets": {}}), ("id", 0, {"id": "3f6c1b2a"}), ("id", 0, {"id": "try-2"}),
    ("id", 0, {"id": "b1946ac9-2e5d"}), ("headings", 0, {"source": "# A\n### B"}),
    ("headings", 2, {"source": "# B"}), ("order", 1, {"execution_count": 2}),
    ("error", 1, {"outputs": [{"output_type": "error"}]}),
    ("error", 1, {"outputs": [{"output_type": "stream", "name": "stderr", "text": "no"}]}),
    ("alt", 0, {"source": "# T\n![](a.png)"}), ("alt", 0, {"source": '<img src="a" alt="">'}),
    ("alt", 1, {"outputs": [IMAGE | {"metadata": {"image/png": {"alt": " "}}}]}),
    ("hint", 2, {"source": "A hint"}), ("recap", 0, {"source": "# T"}), ("solution", 0, {}),
    ("hint", 2, {"cell_type": "code", "execution_count": 2, "metadata": {}, "outputs": [],
                 "source": "exercise(g)"}),
    ("reason", 1, {"metadata": {"tags": ["nbval-skip"]}}),
    ("reason", 1, {"metadata": {}, "source": "# NBVAL_SKIP"}),
    ("answer", 1, {"source": "Predict('?', ['a', 'b'], right=0, why='')"}),
    ("machine", 0, {"source": "see /" + "home/me"}), ("machine", 1, {"source": "open('/tmp/a')"}),
    ("machine", 1, {"outputs": [{"output_type": "stream", "text": ["<f at 0x7f00aa11>"]}]}),
    ("link", 0, {"source": "[a](gone.ipynb)"}), ("link", 0, {"source": "`tests/gone.py`"})])
def test_a_bad_notebook_is_caught(complaint, cell, change):
    path, book = ROOT / "notebooks" / "99_no_such_chapter.ipynb", copy.deepcopy(GOOD)
    assert list(problems(book, path)) == [f"solution: no solutions/{path.name}"]
    (book["metadata"] if cell is None else book["cells"][cell]).update(change)
    assert [found for found in problems(book, path) if found.startswith(f"{complaint}: ")]


def test_only_times_are_left_out_of_the_comparison():
    text = "3 hops, 17 joints, 2 scenes: 0.97 in 1.25 s, 150 ms, 3 min, 12 seconds"
    for pattern, replacement in get_sanitize_patterns(
            (Path(__file__).parent / "sanitize.cfg").read_text(encoding="utf-8")):
        text = re.sub(pattern, replacement, text)
    assert text == "3 hops, 17 joints, 2 scenes: 0.97 in TIME, TIME, TIME, TIME"
