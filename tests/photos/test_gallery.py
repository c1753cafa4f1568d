"""The gallery: its facts, and photographs that come from loopback, whole or not at all."""

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image

from hintpose_lite.errors import DataError, FetchError
from hintpose_lite.photos import gallery

PICTURES = Path(__file__).resolve().parents[3] / "shared" / "data" / "people" / "val" / "images"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HINTPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HINTPOSE_GALLERY", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def pictures(cache):
    """The folder of the real pictures, where they lie beside the checkout."""
    if not PICTURES.is_dir():
        pytest.skip("the pictures of COCO's val2017 are not beside this checkout")
    return PICTURES


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_the_facts_are_whole():
    known = gallery.photographs()
    assert len(known) == 10 and all(id == one.id for id, one in known.items())
    for one in known.values():
        assert len(bytes.fromhex(one.sha256)) == 32 and 50_000 < one.bytes < 500_000
        assert one.licence in gallery.LICENCES and one.page.startswith("https://")
        assert one.page in gallery.credit(one.id) and one.licence in gallery.credit(one.id)
        assert f"{one.bytes / 1000:.0f} kB" in gallery.offer(one.id)
        assert "images.cocodataset.org" in gallery.offer(one.id)
    assert len({one.title for one in known.values()}) == 10
    for function in (gallery.credit, gallery.offer, gallery.fetch):
        with pytest.raises(DataError, match="785"):
            function(785)


def test_the_facts_are_those_of_the_pictures(pictures):
    for one in gallery.photographs().values():
        content = (pictures / f"{one.id:012d}.jpg").read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one.bytes, one.sha256)


def test_a_photograph_comes_once_and_from_the_given_address(pictures, cache, serve, files_of,
                                                              monkeypatch):
    handler, served = files_of(pictures)
    base = address(serve(handler))
    id = next(iter(gallery.photographs()))
    picture = gallery.fetch(id, base)
    with Image.open(pictures / f"{id:012d}.jpg") as stored:
        assert picture.shape == (*stored.size[::-1], 3)
    assert (cache / "gallery" / f"{id:012d}.jpg").is_file()
    monkeypatch.setenv("HINTPOSE_GALLERY", f"{base}/")
    assert (gallery.fetch(id) == picture).all() and served == [f"/{id:012d}.jpg"]
    assert "from 127.0.0.1" in gallery.offer(id)
    gallery.fetch(448076)
    assert served[1:] == ["/000000448076.jpg"]


def test_other_bytes_and_no_answer_give_no_photograph(cache, serve):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"another picture")

        def log_message(self, *_):
            pass

    base = address(serve(Other))
    with pytest.raises(FetchError, match="SHA-256"):
        gallery.fetch(448076, base)
    with pytest.raises(FetchError, match="448076"):
        gallery.fetch(448076, "http://no-such-host.invalid")
    assert not [path for path in cache.rglob("*") if path.suffix == ".jpg"]
