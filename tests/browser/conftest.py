"""JupyterLab on a free port over a temporary copy of the notebooks, a browser that opens them, and
the gallery of photographs on loopback.

Without a browser these tests are skipped; with HINTPOSE_BROWSER=1 (as in CI) that is a failure.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT.parent / "shared" / "data" / "people" / "val" / "images"
ERROR = '[data-mime-type$="jupyter.error"], [data-mime-type$="jupyter.stderr"]'
OUTPUT, STATUS = ".jp-OutputArea-output", "[role=status]"
# JupyterLab drops the alt texts of stored pictures (test_notebooks.py asks for them).
SCANNED = f"{OUTPUT}:not(.jp-RenderedImage)"
KNOWN: list[str] = []
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a made-up film
# Notes every second and more in which nothing on the page changes, and the cell that is running: a
# bar changes the page, and so does every output. A `Moving` bar moves without changing it.
SILENCE = """() => {
    const done = () => [...document.querySelectorAll(".jp-CodeCell")].findIndex(
        cell => cell.querySelector(".jp-InputPrompt")?.textContent === "[*]:");
    const moves = () => document.querySelector(".jp-OutputArea progress:not([value])") !== null;
    const start = performance.now();
    let last = start, running = 0, moving = false;
    window.silences = [];
    window.seconds = () => (last - start) / 1000;
    new MutationObserver(() => {
        const now = performance.now();
        if (now - last > 1000 && running >= 0 && !moving)
            window.silences.push([running, (now - last) / 1000]);
        last = now; running = done(); moving = moves();
    }).observe(document.querySelector(".jp-NotebookPanel .jp-Notebook"),
               {subtree: true, childList: true, characterData: true, attributes: true});
}"""
SETTINGS = {  # no questions that cover the page; every cell in the document, also out of sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"}}


def missing(what: str):
    """Skips, or fails where a browser is promised."""
    give_up = pytest.fail if os.environ.get("HINTPOSE_BROWSER") == "1" else pytest.skip
    give_up(f"no browser tests: {what}")


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install playwright)")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        if not Path(path).is_file():
            missing("there is no chromium (apt install chromium, or playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def photographs(files_of, tmp_path_factory):
    """The gallery's photographs on loopback: their address, whether they are there (else nothing
    is, as without a network), and what was served."""
    handler, served = files_of(PICTURES if PICTURES.is_dir() else
                               tmp_path_factory.mktemp("empty"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}", served=served,
                          there=PICTURES.is_dir())
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def lab(browser, photographs, tmp_path_factory):
    """JupyterLab over copies of the notebooks without outputs: its url, its token, and
    ask(method, path). The token keeps others out; the user's settings are neither read nor written.
    """
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks" / "stored", home / "notebooks" / "stored")
    for source in (ROOT / "notebooks").glob("*.ipynb"):
        book = nbformat.read(source, 4)
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(book, home / "notebooks" / source.name)
    for name, values in SETTINGS.items():
        file = home / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    folders = {name: str(home / name) for name in [
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
        "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = SimpleNamespace(url=f"http://127.0.0.1:{port}", token=secrets.token_hex(16))

    def ask(method: str, path: str):
        request = urllib.request.Request(f"{lab.url}/api/{path}", method=method, headers={
            "Authorization": f"token {lab.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    lab.ask, end = ask, time.monotonic() + 120
    with open(home / "log.txt", "w") as log:
        server = subprocess.Popen(  # it ends by itself, should nobody be left to end it
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
             f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.root_dir=.",
             "--ServerApp.shutdown_no_activity_timeout=1200"],
            env={**os.environ, **folders, "JUPYTER_TOKEN": lab.token, "OMP_NUM_THREADS": "1",
                 "HINTPOSE_GALLERY": photographs.address, "HINTPOSE_CACHE": str(home / "cache")},
            stdout=log, stderr=subprocess.STDOUT, cwd=home / "notebooks")
        try:
            while not listening(port):
                if server.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"no JupyterLab:\n{(home / 'log.txt').read_text()[-2000:]}")
                time.sleep(0.3)
            yield lab
        finally:
            server.terminate()  # and with it its kernels
            server.wait(60)


@pytest.fixture
def opened(browser, lab, tmp_path):
    """opened(path) gives the page of a chapter after Run > Run All Cells; on a failure a picture of
    it is kept."""
    @contextmanager
    def page_of(path: Path):
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        try:
            page.goto(f"{lab.url}/lab/tree/{path.name}?token={lab.token}&reset")
            page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
            page.get_by_text("(ipykernel) | Idle").wait_for()
            page.evaluate(SILENCE)
            page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
            page.locator('[data-command="runmenu:run-all"]').click()
            page.wait_for_function(
                """error => document.querySelector(error) ||
                [...document.querySelectorAll(".jp-CodeCell .jp-InputArea .jp-InputPrompt")]
                .every(prompt => /^\\[\\d+\\]:$/.test(prompt.textContent))""",
                arg=ERROR, timeout=900_000)
            yield page
        except BaseException:
            page.screenshot(path=tmp_path / "failed.png", full_page=True)
            print("a picture of the page:", tmp_path / "failed.png")
            raise
        finally:
            page.close()
            for session in lab.ask("GET", "sessions"):
                lab.ask("DELETE", f"sessions/{session['id']}")

    return page_of


@pytest.fixture
def faults():
    """faults(page): error outputs, labs without a picture, and what axe-core calls serious in the
    outputs."""
    def found_on(page) -> list[str]:
        from axe_playwright_python.sync_playwright import Axe
        found = page.locator(ERROR).all_inner_texts()
        labs = page.locator(OUTPUT, has=page.locator(STATUS))
        found += [f"{one.locator(STATUS).inner_text()}: no picture" for one in labs.all() if not one
                  .locator("img").evaluate_all("all => all.some(image => image.naturalWidth > 9)")]
        for rule in Axe().run(page, SCANNED).response["violations"]:
            if rule["impact"] in ("serious", "critical") and rule["id"] not in KNOWN:
                found += [f"{rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]
        return found

    return found_on
