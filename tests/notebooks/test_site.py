"""The course as web pages: what links to what, and what must not be published."""

import base64
import runpy
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

SCRIPT = Path(__file__).resolve().parents[2] / "notebooks" / "build_site.py"
DOT = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.fixture
def course(tmp_path, monkeypatch):
    """course(text, alt): two chapters, the first with that text, and a solution are made a site;
    returns what the script complained of, if it did, and the folder."""
    def build(text="", alt="A dot."):
        folder = tmp_path / "notebooks"
        (folder / "solutions").mkdir(parents=True)
        (tmp_path / "cues.py").write_text("def f(): return '<b>'\n")
        data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"},
                "text/plain": "CueLab()"}
        books = {"00_a": ["# A\n\n**Goal.** See.", "## To *B*\n\n[B](01_b.ipynb#The-end)", text],
                 "01_b": ["# B & C\n\n**Goal.** $x^2$", "## The end\n\n[code](../cues.py)",
                          "`solutions/00_a.ipynb`"], "solutions/00_a": ["# A, solved"]}
        for name, texts in books.items():
            picture = new_output("display_data", {"image/png": DOT}, metadata={
                "image/png": {"alt": alt if name == "00_a" else "A dot."}})
            code = new_code_cell("1", outputs=[picture, new_output("display_data", data)])
            nbformat.write(new_notebook(cells=[*map(new_markdown_cell, texts), code]),
                           folder / f"{name}.ipynb")
        monkeypatch.setattr("sys.argv", ["build_site.py", str(folder), str(tmp_path / "out")])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return end.value.code, tmp_path / "out"
    return build


def test_pages_are_linked_and_need_no_network(course):
    complaint, out = course("[the same](#To-B) and [far](https://example.com)")
    assert complaint is None
    pages = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*.html")}
    assert sorted(pages) == ["00_a.html", "01_b.html", "files/cues.py.html", "index.html",
                             "solutions/00_a.html"]
    soups = {name: BeautifulSoup(text, "html.parser") for name, text in pages.items()}
    for name, soup in soups.items():
        for tag in soup.select("[href], [src]"):
            url = (tag.get("href") or tag["src"]).split("#")[0]
            assert not url or url.startswith("data:") or url == "https://example.com" or (
                (out / name).parent / url).is_file()
        assert not soup.select("script") and soup.html["lang"] == "en"

    def navigation(name):
        return {a.text: a["href"] for a in soups[name].select("nav a")}
    assert navigation("00_a.html") == {"Contents": "./index.html", "Next": "./01_b.html",
                                       "Solution": "./solutions/00_a.html"}
    assert navigation("01_b.html") == {"Contents": "./index.html", "Previous": "./00_a.html"}
    assert navigation("solutions/00_a.html")["Chapter"] == "../00_a.html"
    assert [h.a.text for h in soups["index.html"].select("h2")] == ["A", "B & C"]
    assert soups["01_b.html"].title.text == "B & C" and soups["index.html"].select("main math")
    assert soups["00_a.html"].select('a[href="01_b.html#The-end"]')
    assert soups["01_b.html"].select('a[href="solutions/00_a.html"] code')
    assert soups["00_a.html"].img["alt"] == "A dot." and DOT in soups["00_a.html"].img["src"]
    assert "CueLab: live" in pages["00_a.html"] and "&lt;b&gt;" in pages["files/cues.py.html"]


@pytest.mark.parametrize("text, alt, said", [
    ("[x](02_gone.ipynb)", "A", "00_a.html: 02_gone.ipynb leads nowhere"),
    ("[x](01_b.ipynb#Gone)", "A", "00_a.html: 01_b.html#Gone leads nowhere"),
    ("[x](#Gone)", "A", "00_a.html: #Gone leads nowhere"),
    ("![alt](gone.png)", "A", "00_a.html: gone.png leads nowhere"),
    ("", "", "00_a.html: a picture without alt text")])
def test_what_is_broken_is_an_error_that_names_the_page(course, text, alt, said):
    assert course(text, alt)[0] == said
