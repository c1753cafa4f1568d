"""The course as linked web pages: python notebooks/build_site.py notebooks build/html

They need no network: pictures lie inside, formulas are MathML. Files that a notebook links to, or
names as `code`, become pages too. Broken links and missing alt texts are errors.
"""

import re
import sys
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import unquote

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename

LIVE = "application/vnd.jupyter.widget-view+json"
NO_ALT = "No description has been provided for this image"  # nbconvert fills it in
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="{top}/style.css">
</head><body><nav aria-label="Course">{nav}</nav><main>{body}</main></body></html>
"""
STYLE = HtmlFormatter().get_style_defs(".highlight") + """
body { font: 17px/1.55 system-ui, sans-serif; max-width: 48rem; margin: auto; padding: 1rem }
pre { font-size: 13px; line-height: 1.4; padding: .6rem; white-space: pre-wrap }
.output { border-left: 3px solid #ccc; padding-left: .6rem } img { max-width: 100% }
nav a { margin-right: 1.5rem } td, th { padding: .2rem .7rem }
.anchor-link { margin-left: .4rem; opacity: 0 }
:hover > .anchor-link, .anchor-link:focus { opacity: 1 }
"""


class Renderer(IPythonRenderer):
    def inline_math(self, body, display="inline"):
        return convert(body, display=display)

    def block_math(self, body):
        return self.inline_math(body, "block")


class Site:
    """Pages in `out` of the notebooks in a folder and its solutions/, and of files they name."""

    def __init__(self, folder: Path, out: Path):
        self.folder, self.root, self.out = folder.resolve(), folder.resolve().parent, out
        self.chapters = sorted(self.folder.glob("*.ipynb"))
        self.books = self.chapters + sorted(self.folder.glob("solutions/*.ipynb"))
        self.files = set()

    def build(self) -> None:
        index = "# The course\n"
        for source in self.books:
            book, near = nbformat.read(source, 4), {"Chapter": self.folder / source.name}
            title, _, intro = book.cells[0].source.removeprefix("# ").partition("\n")
            if source in self.chapters:
                before, _, after = [None, *self.chapters, None][self.chapters.index(source):][:3]
                twin = self.folder / "solutions" / source.name
                near = {"Previous": before, "Next": after, "Solution": twin}
                goal = intro.partition("**Goal.** ")[2].partition("\n")[0]
                index += f"\n## [{title}]({source.stem}.html)\n\n{goal}\n"
            self.write(self.page(source), title, self.body(source, book), near)
        self.write(Path("index.html"), "The course", self.html(index, self.folder), {})
        for file in self.files:
            name = str(file.relative_to(self.root))
            code = highlight(file.read_text("utf-8"), get_lexer_for_filename(name), HtmlFormatter())
            self.write(self.page(file), name, f"<h1>{name}</h1>{code}", {})
        (self.out / "style.css").write_text(STYLE, encoding="utf-8")

    def page(self, target: Path) -> Path | None:
        """The page, below `out`, of a notebook or a file; None if there is no such thing."""
        if target in self.books:
            return target.relative_to(self.folder).with_suffix(".html")
        if target.is_file() and target.is_relative_to(self.root):
            self.files.add(target)
            return Path("files", f"{target.relative_to(self.root)}.html")

    def write(self, page: Path, title: str, body: str, near: dict[str, Path | None]) -> None:
        """A page with links to the contents, and to the notebooks near it that there are."""
        top = relpath(".", page.parent)
        links = {"Contents": "index.html"} | {
            name: self.page(book) for name, book in near.items() if book in self.books}
        nav = "".join(f'<a href="{top}/{to}">{name}</a>' for name, to in links.items())
        (self.out / page).parent.mkdir(parents=True, exist_ok=True)
        text = PAGE.format(title=escape(title), top=top, nav=nav, body=body)
        (self.out / page).write_text(text, encoding="utf-8")

    def html(self, text: str, folder: Path) -> str:
        """Markdown of a notebook in that folder as HTML."""
        return MarkdownWithMath(Renderer(False, embed_images=True, path=str(folder))).render(text)

    def body(self, source: Path, book) -> str:
        """A notebook as HTML, with the addresses of the site."""
        for output in sum((cell.get("outputs", []) for cell in book.cells), []):
            if LIVE in output.get("data", {}):
                name, question, choices = output.data["text/plain"].partition("Predict: ")
                said = question + choices or f"{name.split('(')[0]}: live when the notebook runs"
                output.data = {"text/html": f"<p><em>{'<br>'.join(said.splitlines())}</em></p>"}
        for cell in book.cells:  # as JupyterLab shows them
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata.transient = {"remove_source": True}
        exporter = HTMLExporter(
            template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True,
            filters={"markdown2html": lambda text: self.html(text, source.parent)})
        soup = BeautifulSoup(exporter.from_notebook_node(book)[0], "html.parser")
        for code in soup.select(".text_cell :not(pre, a) > code"):
            for named in (source.parent / code.text, self.root / code.text):
                if named.is_file() and not code.find_parent("a"):
                    code.wrap(soup.new_tag("a", href=relpath(named, source.parent)))
        for link in soup.select("a[href]"):
            name, mark, part = link["href"].partition("#")
            if page := self.page((source.parent / unquote(name)).resolve()):
                link["href"] = relpath(page, self.page(source).parent) + mark + part
        return str(soup)


def broken(out: Path) -> list[str]:
    """What is wrong with a site's pages: links that lead nowhere, pictures without alt text."""
    pages = {path: BeautifulSoup(path.read_text("utf-8"), "html.parser")
             for path in sorted(out.resolve().rglob("*.html"))}
    wrong = []
    for path, soup in pages.items():
        for tag in soup.select("[href], img"):
            url = unquote(tag.get("href") or tag["src"])
            name, _, part = ("", "", "") if re.match("https?:|data:", url) else url.partition("#")
            target = (path.parent / name).resolve() if name else path
            offered = [unquote(own["id"]) for own in pages.get(target, soup).select("[id]")]
            if not target.is_file() or (part and part not in offered):
                wrong.append(f"{path.name}: {url} leads nowhere")
            if tag.name == "img" and tag.get("alt", "") in ("", NO_ALT):
                wrong.append(f"{path.name}: a picture without alt text")
    return wrong


if __name__ == "__main__":
    Site(Path(sys.argv[1]), Path(sys.argv[2])).build()
    sys.exit("\n".join(broken(Path(sys.argv[2]))) or None)
