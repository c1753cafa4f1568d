"""Downloads from a local server that misbehaves in every way we expect to meet; hostile zips."""

import hashlib
import random
import re
import shutil
import socket
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hintpose_lite.errors import FetchError
from hintpose_lite.weights import fetch as module
from hintpose_lite.weights.fetch import fetch, remote_size, unpack

CONTENT = random.Random(0).randbytes(50_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.content; each entry of server.cuts ends one answer after so many bytes."""

    def do_HEAD(self):
        plan = self.server.plan
        if plan.statuses:
            return self.send_error(plan.statuses.pop(0))
        self.send_response(200)
        if plan.claim != "":
            self.send_header("Content-Length", str(plan.claim or len(plan.content)))
        self.end_headers()

    def do_GET(self):
        plan = self.server.plan
        plan.requests.append(dict(self.headers))
        if plan.statuses:
            return self.send_error(plan.statuses.pop(0))
        body, start = plan.content, 0
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range", plan.etag) == plan.etag
        if asked and plan.ranges and fresh:
            start = int(asked[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if plan.etag:
            self.send_header("ETag", plan.etag)
        self.send_header("Content-Length", str(plan.claim or len(body) - start))
        self.end_headers()
        end = start + plan.cuts.pop(0) if plan.cuts else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running(serve):
    return serve(Handler)


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0, 0, 0))
    running.plan = SimpleNamespace(content=CONTENT, ranges=True, etag='"v1"', cuts=[], statuses=[],
                                   claim=None, requests=[])
    running.plan.url = f"http://127.0.0.1:{running.server_port}/weights.bin"
    return running.plan


def get(server, path, sha256=None):
    return fetch(server.url, path, sha256, progress=False)


def leftovers(folder):
    return sorted(p.name for p in folder.rglob("*") if ".part" in p.name)


def test_downloads_once_and_then_keeps_the_file(server, tmp_path):
    path = tmp_path / "new" / "weights.bin"
    assert get(server, path, DIGEST[:8]) == path
    assert path.read_bytes() == CONTENT and leftovers(tmp_path) == []
    get(server, path, DIGEST.upper())
    get(server, path)
    assert len(server.requests) == 1


def test_one_of_several_downloads_a_file_and_the_others_wait(server, tmp_path):
    path = tmp_path / "weights.bin"
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: get(server, path, DIGEST), range(4))] == [path] * 4
    assert len(server.requests) == 1 and [*tmp_path.iterdir()] == [path]


@settings(deadline=None, max_examples=15,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 20_000), max_size=6), hashed=st.booleans(),
       etag=st.booleans())
def test_every_pattern_of_cuts_gives_the_same_file(server, tmp_path_factory, cuts, hashed, etag):
    server.cuts, server.etag = list(cuts), '"v1"' if etag else None
    path = tmp_path_factory.mktemp("cut") / "weights.bin"
    if not (hashed or etag):  # nothing to tell versions apart by: no resume, so limited tries
        del server.cuts[3:]
    get(server, path, DIGEST if hashed else None)
    assert path.read_bytes() == CONTENT and leftovers(path.parent) == []


def test_continues_in_the_next_call_where_the_last_one_ended(server, tmp_path):
    path = tmp_path / "weights.bin"
    server.cuts = [20_000, 0, 0, 0]
    with pytest.raises(FetchError, match="20000 of 50000"):
        get(server, path)
    assert not path.exists() and leftovers(tmp_path) == ["weights.bin.part", "weights.bin.part.tag"]
    server.requests.clear()
    get(server, path)
    assert server.requests[0]["Range"] == "bytes=20000-"
    assert path.read_bytes() == CONTENT and leftovers(tmp_path) == []


def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_half(server, tmp_path):
    path = tmp_path / "weights.bin"
    server.cuts = [20_000, 0, 0, 0]
    with pytest.raises(FetchError):
        get(server, path)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    assert get(server, path).read_bytes() == CONTENT[::-1]


def test_a_weak_version_mark_is_no_reason_to_resume(server, tmp_path):
    server.etag, server.cuts = 'W/"v1"', [20_000]
    assert get(server, tmp_path / "weights.bin").read_bytes() == CONTENT
    assert all("Range" not in request for request in server.requests)


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges, server.cuts = False, [30_000, 10_000]
    assert get(server, tmp_path / "weights.bin", DIGEST).read_bytes() == CONTENT


def test_a_server_that_always_cuts_is_given_up(server, tmp_path):
    server.ranges, server.cuts = False, [30_000] * 50
    with pytest.raises(FetchError, match="30000 of 50000"):
        get(server, tmp_path / "weights.bin", DIGEST)
    assert len(server.requests) < 10


def test_a_whole_partial_file_is_only_renamed(server, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(CONTENT)
    assert get(server, tmp_path / "weights.bin", DIGEST).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_partial_file_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path / "weights.bin", DIGEST).read_bytes() == CONTENT


def test_wrong_hash_is_refused_and_removed(server, tmp_path):
    with pytest.raises(FetchError, match="00000000"):
        get(server, tmp_path / "weights.bin", "0" * 8)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_other_file_is_not_overwritten(server, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"mine")
    with pytest.raises(FetchError, match="SHA-256"):
        get(server, path, DIGEST)
    assert path.read_bytes() == b"mine" and server.requests == []


@pytest.mark.parametrize("sha256", ["", "1234567", "g" * 64, "0" * 65])
def test_a_malformed_hash_is_refused(server, tmp_path, sha256):
    with pytest.raises(FetchError, match="SHA-256"):
        get(server, tmp_path / "weights.bin", sha256)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "weights.bin", "ftp://127.0.0.1/x"])
def test_only_web_addresses(tmp_path, url):
    with pytest.raises(FetchError, match="http"):
        fetch(url, tmp_path / "x")


@pytest.mark.parametrize("url", ["http://[bad", "http://127.0.0.1:1/\u00fc"])
def test_addresses_that_are_none(tmp_path, url):
    for ask in (lambda: fetch(url, tmp_path / "x"), lambda: remote_size(url)):
        with pytest.raises(FetchError):
            ask()


def test_missing_on_the_server_is_said_at_once(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(FetchError, match="Not Found"):
        get(server, tmp_path / "weights.bin")
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    assert get(server, tmp_path / "weights.bin").read_bytes() == CONTENT


def test_offline_says_what_to_do(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    monkeypatch.setattr(socket, "create_connection", no_network)
    with pytest.raises(FetchError, match="weights.bin"):
        fetch("http://weights.invalid/w", tmp_path / "weights.bin", progress=False)


def test_more_than_fits_on_the_disk_is_refused_before_it_starts(server, tmp_path):
    server.claim = 10**18
    with pytest.raises(FetchError):
        get(server, tmp_path / "weights.bin")


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError):
        get(server, tmp_path / "file" / "weights.bin")


def test_the_size_is_known_without_a_download(server):
    assert remote_size(server.url) == len(CONTENT)
    server.claim = ""
    assert remote_size(server.url) is None
    for status, size in ((503, None), (405, None)):
        server.statuses = [status]
        assert remote_size(server.url) is size
    server.statuses = [404]
    with pytest.raises(FetchError, match="404"):
        remote_size(server.url)
    with pytest.raises(FetchError, match="http"):
        remote_size("file:///etc/hostname")
    assert remote_size("http://127.0.0.1:9/nobody-listens") is None


def test_a_function_is_told_of_the_progress_and_may_end_it(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 20_000)
    path, told = tmp_path / "weights.bin", []

    def stop(count):
        told.append(count)
        if len(told) == 2:
            raise FetchError("enough")

    with pytest.raises(FetchError):
        fetch(server.url, path, progress=stop)
    assert leftovers(tmp_path) == ["weights.bin.part", "weights.bin.part.tag"]
    fetch(server.url, path, progress=stop)
    assert path.read_bytes() == CONTENT and told == [20_000, 40_000, 50_000]


FILES = {"images/1.jpg": b"one" * 1000, "images/2.jpg": b"two" * 1000, "a.json": b"{}"}


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*") if p.is_file()}


def test_unpack_and_continue(tmp_path):
    archive, folder = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    assert content(unpack(archive, folder, progress=False)) == FILES
    kept = (folder / "a.json").stat().st_mtime_ns
    (folder / "images" / "2.jpg").unlink()
    (folder / "images" / ".2.part.jpg").write_bytes(b"half")
    assert content(unpack(archive, folder, progress=False)) == FILES
    assert (folder / "a.json").stat().st_mtime_ns == kept


def test_unpack_overwrites_nothing(tmp_path):
    archive, folder = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    folder.mkdir()
    (folder / "a.json").write_bytes(b"[]")
    with pytest.raises(FetchError, match="a.json"):
        unpack(archive, folder, progress=False)
    assert content(folder) == {"a.json": b"[]"}


@pytest.mark.parametrize("name", ["../evil", "images/../../evil", "/evil", "C:evil", "..\\evil",
                                  "images/.."])
def test_names_that_lead_outside_are_refused(tmp_path, name):
    archive = zipped(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(FetchError):
        unpack(archive, tmp_path / "deep" / "out", progress=False)
    assert content(tmp_path / "deep") == {} and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path, kind):
    member = zipfile.ZipInfo("link")
    member.external_attr = (kind | 0o777) << 16
    archive = zipped(tmp_path / "a.zip", {member: "/etc/passwd", "good": b"1"})
    with pytest.raises(FetchError):
        unpack(archive, tmp_path / "out", progress=False)
    assert content(tmp_path / "out") == {}


def test_a_zip_bomb_is_refused_before_it_is_written(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"good": b"1", "zeros": bytes(1_000_000)})
    assert archive.stat().st_size < 10_000
    for members in (None, ["good"]):
        with pytest.raises(FetchError, match="a.zip"):
            unpack(archive, tmp_path / "out", members=members, progress=False)
    assert content(tmp_path / "out") == {}


def test_more_than_the_disk_takes_is_not_unpacked(tmp_path, monkeypatch):
    archive, room = zipped(tmp_path / "a.zip", FILES), sum(map(len, FILES.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room - 1))
    with pytest.raises(FetchError):
        unpack(archive, tmp_path / "out", progress=False)
    assert content(tmp_path / "out") == {}
    unpack(archive, tmp_path / "out", members=["a.json", "images/1.jpg"], progress=False)
    unpack(archive, tmp_path / "out", progress=False)  # the rest of it
    assert content(tmp_path / "out") == FILES


def test_only_the_named_members_are_unpacked(tmp_path):
    archive, folder = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    unpack(archive, folder, members=["images/2.jpg", "nowhere.jpg"], progress=False)
    assert content(folder) == {"images/2.jpg": FILES["images/2.jpg"]}
    hostile = zipped(tmp_path / "b.zip", FILES | {"../evil": b"1"})
    with pytest.raises(FetchError):
        unpack(hostile, folder, members=["a.json"], progress=False)


def test_an_empty_file_gives_way_and_an_empty_member_does_not_matter(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"full": b"1", "empty": b""})
    (tmp_path / "full").touch()
    for _ in range(2):
        unpack(archive, tmp_path, progress=False)
        assert (tmp_path / "full").read_bytes() == b"1"
        assert (tmp_path / "empty").read_bytes() == b""
    (tmp_path / "empty").write_bytes(b"mine")
    with pytest.raises(FetchError, match="empty"):
        unpack(archive, tmp_path, progress=False)


def test_damaged_archives_are_named(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES)
    whole = archive.read_bytes()
    for damaged in (b"", b"<html>", whole[:-30], whole[:60] + b"\xff" * 8 + whole[68:]):
        archive.write_bytes(damaged)
        with pytest.raises(FetchError, match="a.zip"):
            unpack(archive, tmp_path / "out", progress=False)
    with pytest.raises(FetchError):
        unpack(tmp_path / "none.zip", tmp_path / "out", progress=False)
