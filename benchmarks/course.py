"""Counts what is in the course: what learners write, figures, exercises, questions, labs.

    python benchmarks/course.py
    HINTPOSE_SILENCES=silences.jsonl python -m pytest tests/browser
    python benchmarks/course.py silences.jsonl    # how long chapters run, and how long in silence

Lines that a learner writes are counted in the solutions: the bodies of those functions and classes
that have a comment with "your" or "yours" in the chapter, without blank lines, comments and
docstrings.
"""

import ast
import json
import re
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def sources(path: Path, kind: str) -> list[str]:
    book = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def stubs(path: Path) -> set[str]:
    """Names of functions and classes that a chapter leaves to the learner."""
    names = set()
    for cell in sources(path, "code"):
        lines = cell.splitlines()
        names |= {node.name for node in definitions(cell)
                  if re.search(r"# .*\byours?\b", "\n".join(
                      lines[node.lineno - 1:node.end_lineno + 1]))}
    return names


def figures(path: Path) -> int:
    """Pictures among the stored outputs; those of labs are not stored."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return sum(kind.startswith("image/") for cell in book["cells"]
               for output in cell.get("outputs", []) for kind in output.get("data", {}))


def definitions(code: str) -> list:
    return [node for node in ast.parse(re.sub(r"(?m)^[%!].*$", "", code)).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def body_lines(code: str, names: set[str]) -> int:
    """Lines of the bodies of the functions and classes of these names, without docstrings."""
    lines, count = code.splitlines(), 0
    for node in definitions(code):
        if node.name in names:
            first = node.body[1 if ast.get_docstring(node) else 0:]
            if first:
                text = lines[first[0].lineno - 1:node.end_lineno]
                count += sum(bool(line.strip()) and not line.strip().startswith("#")
                             for line in text)
    return count


def waits(file: Path) -> None:
    """Prints how long each chapter ran in the browser, and the gaps in which nothing changed."""
    print("| chapter | Run All, s | longest silence, s | in code cell | silences over 2 s |")
    print("|---|---:|---:|---:|---:|")
    for line in sorted(file.read_text(encoding="utf-8").splitlines()):
        entry = json.loads(line)
        cell, longest = max(entry["silences"], key=lambda gap: gap[1], default=(0, 0.0))
        over = sum(seconds > 2 for _, seconds in entry["silences"])
        print(f"| {entry['chapter'][:2]} | {entry['seconds']:.0f} | {longest:.1f} | {cell + 1} | "
              f"{over} |")


def main() -> None:
    if len(sys.argv) == 2:
        return waits(Path(sys.argv[1]))
    rows = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        code, text = sources(path, "code"), sources(path, "markdown")
        names = stubs(path)
        solved = NOTEBOOKS / "solutions" / path.name
        written = body_lines("\n".join(sources(solved, "code")), names) if solved.exists() else 0
        joined = "\n".join(code)
        rows.append((path.stem[:2], len(names), written,
                     len(re.findall(r"\bpiece\(|\bexercise\(", joined)),
                     len(re.findall(r"\bPredict\(", joined)),
                     len(re.findall(r"\w+Lab\(", joined)),
                     figures(path),
                     sum(len(re.findall(r"(?m)^##+ ", cell)) for cell in text)))
    print("| chapter | functions to write | lines to write | checks | questions | labs | figures | "
          "sections |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print("| all | " + " | ".join(str(sum(column)) for column in list(zip(*rows, strict=True))[1:])
          + " |")


if __name__ == "__main__":
    main()
