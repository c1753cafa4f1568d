"""JupyterLab on a free port over a temporary copy of the notebooks, and a browser that opens them.

Without a browser these tests are skipped; with HINTPOSE_BROWSER=1 (as in CI) that is a failure.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
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
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(browser, tmp_path_factory):
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
            env={**os.environ, **folders, "JUPYTER_TOKEN": lab.token, "OMP_NUM_THREADS": "1"},
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
