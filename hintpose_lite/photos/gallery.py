"""Ten photographs with two and more people, fetched one by one, and only when one is called for.

They are pictures of COCO's val2017 whose authors allow copies (CC BY or CC BY-SA). The package has
none of them, only the facts of `shipped/gallery.json`: id, title, length, SHA-256, licence and the
page that leads to the author. Show the `credit` wherever you show a picture.
"""

import json
import os
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlsplit

import numpy as np

from ..errors import DataError
from ..inputs.pictures import read_picture
from ..weights.fetch import cache_folder
from ..weights.fetch import fetch as fetch_file

BASE = "http://images.cocodataset.org/val2017"  # $HINTPOSE_GALLERY replaces it
LICENCES = {"CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
            "CC BY-SA 2.0": "https://creativecommons.org/licenses/by-sa/2.0/"}


@dataclass(frozen=True)
class Photograph:
    """What is known of a photograph before it is fetched; page: address of its page, which leads to
    the author; bytes: length of its file."""

    id: int
    title: str
    bytes: int
    licence: str
    page: str
    sha256: str


def photographs() -> dict[int, Photograph]:
    """The photographs of the gallery by their COCO id, the best one to begin with first."""
    facts = (files("hintpose_lite") / "shipped" / "gallery.json").read_text(encoding="utf-8")
    return {entry["id"]: Photograph(**entry) for entry in json.loads(facts)}


def fetch(id: int, base: str | None = None) -> np.ndarray:
    """A photograph (H, W, 3) uint8, downloaded once to $HINTPOSE_CACHE or ~/.cache/hintpose_lite.

    base: the address of the folder of pictures; the default is $HINTPOSE_GALLERY or `BASE`.
    DataError for an id that the gallery does not have, FetchError if the download fails.
    """
    photograph, name = _known(id), f"{id:012d}.jpg"
    address = f"{(base or address_base()).rstrip('/')}/{name}"
    return read_picture(fetch_file(address, cache_folder() / "gallery" / name, photograph.sha256,
                                   progress=False))


def credit(id: int) -> str:
    """The line that belongs under a photograph: the author's page and the licence."""
    photograph = _known(id)
    return (f"Photograph: {photograph.page}, {photograph.licence} "
            f"({LICENCES[photograph.licence]}), COCO val2017 {id}")


def offer(id: int) -> str:
    """Says what would be fetched: length of the file, server, licence, and the author's page."""
    photograph = _known(id)
    return (f"fetch a photograph: {photograph.bytes / 1000:.0f} kB, from "
            f"{urlsplit(address_base()).hostname}, {photograph.licence}, author: {photograph.page}")


def address_base() -> str:
    """The address of the folder of pictures."""
    return os.environ.get("HINTPOSE_GALLERY") or BASE


def _known(id: int) -> Photograph:
    known = photographs()
    if id not in known:
        raise DataError(f"the gallery has no photograph {id!r}; it has {[*known]}")
    return known[id]
