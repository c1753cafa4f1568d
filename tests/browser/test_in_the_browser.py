"""Every chapter in a real JupyterLab: it runs, its labs answer the mouse and the keyboard."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
FIRST, *CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ERROR = '[data-mime-type$="jupyter.error"], [data-mime-type$="jupyter.stderr"]'
OUTPUT = ".jp-OutputArea-output"
# JupyterLab drops the alt texts of stored pictures (test_notebooks.py asks for them).
SCANNED = f"{OUTPUT}:not(.jp-RenderedImage)"
KNOWN: list[str] = []
PAD, STATUS = "[role=application]", "[role=status]"


@contextmanager
def opened(browser, lab, path: Path, folder: Path):
    """The page of a chapter after Run > Run All Cells; on a failure a picture of it is kept."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    try:
        page.goto(f"{lab.url}/lab/tree/{path.name}?token={lab.token}&reset")
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
        page.get_by_text("(ipykernel) | Idle").wait_for()
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        page.locator('[data-command="runmenu:run-all"]').click()
        page.wait_for_function(
            """error => document.querySelector(error) ||
            [...document.querySelectorAll(".jp-CodeCell .jp-InputArea .jp-InputPrompt")]
            .every(prompt => /^\\[\\d+\\]:$/.test(prompt.textContent))""",
            arg=ERROR, timeout=300_000)
        yield page
    except BaseException:
        page.screenshot(path=folder / "failed.png", full_page=True)
        print("a picture of the page:", folder / "failed.png")
        raise
    finally:
        page.close()
        for session in lab.ask("GET", "sessions"):
            lab.ask("DELETE", f"sessions/{session['id']}")


def faults(page) -> list[str]:
    """Error outputs, labs without a picture, and what axe-core calls serious in the outputs."""
    from axe_playwright_python.sync_playwright import Axe
    found = page.locator(ERROR).all_inner_texts()
    labs = page.locator(OUTPUT, has=page.locator(STATUS))
    found += [f"{lab.locator(STATUS).inner_text()}: no picture" for lab in labs.all() if not
              lab.locator("img").evaluate_all("all => all.some(image => image.naturalWidth > 9)")]
    for rule in Axe().run(page, SCANNED).response["violations"]:
        if rule["impact"] in ("serious", "critical") and rule["id"] not in KNOWN:
            found += [f"{rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_its_labs_show_pictures(browser, lab, path, tmp_path):
    with opened(browser, lab, path, tmp_path) as page:
        assert not faults(page)
        stored = re.findall(r'"\w+Lab\(\)"', path.read_text(encoding="utf-8"))
        assert page.locator(OUTPUT, has=page.locator(STATUS)).count() == len(stored)


def test_the_cue_follows_mouse_keys_and_sliders(browser, lab, tmp_path):
    from hintpose_lite.labs.scene import chimera_scene, place_in_crop
    from hintpose_lite.photos.draw import panel_size
    from hintpose_lite.weights.weights import load_model
    scene, size = chimera_scene(), panel_size(load_model("crowd-tiny").spec)
    a, b = (place_in_crop(scene, size, scene.middle(person)) for person in (0, 1))

    with opened(browser, lab, FIRST, tmp_path) as page:
        pad, image = page.locator(PAD).first, page.locator(f"{PAD} img").first
        said = page.locator(OUTPUT, has=pad).locator(STATUS)
        slider = page.locator(".widget-hslider", has_text="cue, across")
        readout = slider.locator(".widget-readout")
        image.wait_for()
        image.scroll_into_view_if_needed()

        def at(place):
            box = image.bounding_box()
            return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

        def settled(place):  # the answer to the last of several moves: one pixel off is fine
            nearby = "|".join(f"{place[0] + 0.01 * off:.2f}" for off in (-1, 0, 1))
            readout.filter(has_text=re.compile(nearby)).wait_for()

        @contextmanager
        def new_picture():
            before = image.get_attribute("src")
            yield
            page.wait_for_function("([image, before]) => image.src != before",
                                   arg=[image.element_handle(), before])

        assert not faults(page) and "person A's" in said.inner_text()
        with new_picture():
            page.mouse.move(*at(a))
            page.mouse.down()
            page.mouse.move(*at(b), steps=8)
            page.mouse.up()
        settled(b)
        said.filter(has_text="person B's").wait_for()
        with new_picture():
            page.mouse.click(*at(a))
        settled(a)
        said.filter(has_text="person A's").wait_for()
        if path := os.environ.get("HINTPOSE_PICTURE"):  # the README's picture of the lab
            page.locator(OUTPUT, has=pad).screenshot(path=path)
        across = float(readout.inner_text())
        for pressed, key, step in (pad, "ArrowRight", 0.02), (
                slider.locator("[role=slider]"), "ArrowLeft", 0.01):
            with new_picture():
                pressed.press(key)
            readout.filter(has_text=f"{across + step:.2f}").wait_for()
        pad.evaluate("""pad => { for (let i = 0; i < 4; i++)
            pad.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"})); }""")
        readout.filter(has_text=f"{across + 0.01 + 4 * 0.02:.2f}").wait_for()
