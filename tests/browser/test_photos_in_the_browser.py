"""Chapters 00 and 08 in a real JupyterLab: no cue gives a chimera, a photograph comes from the
gallery, from a file and from the camera, and two clicks give two poses."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
OUTPUT, PAD, STATUS = ".jp-OutputArea-output", "[role=application]", "[role=status]"
TALLEST = 645  # pixels of a lab that fit below the menus at 1400 x 1000


def keep(page, lab, name: str):
    """Keeps a picture of a lab in the folder HINTPOSE_PICTURES, where that is given."""
    if folder := os.environ.get("HINTPOSE_PICTURES"):
        lab.screenshot(path=Path(folder) / f"{name}.png")


def labs(page) -> list:
    """The labs of a page; each must fit into the window."""
    found = page.locator(OUTPUT, has=page.locator(STATUS)).all()
    for lab in found:
        lab.scroll_into_view_if_needed()
        assert lab.bounding_box()["height"] <= TALLEST, lab.locator(STATUS).inner_text()
    return found


def click(page, lab, place):
    """Clicks on a place of a lab's picture, each coordinate from 0 to 1."""
    lab.locator("img").scroll_into_view_if_needed()
    box = lab.locator("img").bounding_box()
    page.mouse.click(box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"])


def says(lab, text: str):
    lab.locator(STATUS).filter(has_text=re.compile(text)).wait_for()


def test_no_cue_gives_a_chimera_and_a_photograph_comes_when_it_is_called(opened, faults,
                                                                         photographs):
    before = len(photographs.served)
    with opened(NOTEBOOKS / "00_setup_check.ipynb") as page:
        cue_lab, photo_lab = labs(page)
        says(cue_lab, "person A's.*joints: 16 of A's, 0 of B's")
        cue_lab.get_by_label("with a cue").uncheck()
        says(cue_lab, "a chimera.*joints: 8 of A's, 8 of B's")
        keep(page, cue_lab, "chimera")
        cue_lab.get_by_label("with a cue").check()
        says(cue_lab, "person A's")

        assert len(photographs.served) == before, "nothing is fetched without a click"
        fetch = photo_lab.get_by_role("button", name="fetch a photograph")
        assert "166 kB, from 127.0.0.1, CC BY 2.0, author: https" in fetch.inner_text()
        says(photo_lab, "clicked on: 0")
        keep(page, photo_lab, "drawn")
        fetch.click()
        if not photographs.there:
            says(photo_lab, "stays as it is")
            pytest.skip("the photographs are not beside this checkout")
        photo_lab.get_by_text("Photograph: https").wait_for()
        assert len(photographs.served) == before + 1
        click(page, photo_lab, (0.43, 0.32))
        says(photo_lab, "clicked on: 1; pose 1")
        click(page, photo_lab, (0.12, 0.47))
        says(photo_lab, "clicked on: 2; pose 1.*pose 2")
        keep(page, photo_lab, "photograph")
        assert len(labs(page)) == 2 and not faults(page)


def test_two_clicks_give_two_poses_on_the_drawing_a_file_and_the_camera(opened, faults, tmp_path):
    from hintpose_lite.labs.photo_lab import drawn_photo
    photo = drawn_photo()
    a, b = ([(v + 0.5) / 480 for v in photo.middle(person)] for person in (0, 1))
    Image.fromarray(photo.picture[:360]).save(tmp_path / "mine.png")
    with opened(NOTEBOOKS / "08_your_photo.ipynb") as page:
        lab, = labs(page)
        says(lab, "clicked on: 0")
        click(page, lab, a)
        says(lab, "clicked on: 1; pose 1")
        click(page, lab, b)
        says(lab, "clicked on: 2; pose 1.*pose 2")
        keep(page, lab, "two")
        lab.locator(PAD).press("ArrowDown")
        says(lab, "clicked on: 2")
        lab.get_by_role("button", name="undo").click()
        says(lab, "clicked on: 1; pose 1")

        with page.expect_file_chooser() as chooser:
            lab.get_by_role("button", name="your own").click()
        chooser.value.set_files(tmp_path / "mine.png")
        lab.get_by_text("Your picture.").wait_for()
        says(lab, "clicked on: 0")
        click(page, lab, (a[0], 0.7))
        says(lab, "clicked on: 1; pose 1")
        keep(page, lab, "own")
        before = lab.locator("img").get_attribute("src")
        lab.get_by_role("button", name="camera").click()
        says(lab, "clicked on: 0")
        assert lab.locator("img").get_attribute("src") != before
        keep(page, lab, "camera")
        page.get_by_label(re.compile("^A pose where nobody is")).check()
        page.get_by_text("found: 1 of 8").wait_for()
        assert len(labs(page)) == 1 and not faults(page)
