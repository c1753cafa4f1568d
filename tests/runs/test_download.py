"""A small COCO of our own on a loopback server that misbehaves; OCHuman-like files."""

import hashlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from hintpose_lite import cli
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import DataError, FetchError
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.runs import download
from hintpose_lite.weights import fetch

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "download_coco.py"
PICTURES = {"train": [9, 25, 30], "val": [139, 285]}
ANNOTATIONS, TRAIN, VAL = (f"/{path}.zip" for path in (
    "annotations/annotations_trainval2017", "zips/train2017", "zips/val2017"))


# The server

class Handler(BaseHTTPRequestHandler):
    """Serves plan.files; statuses and cuts (bytes until the end) are used up, one per GET."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        plan, path = self.server.plan, self.path
        begin = int((re.search(r"\d+", self.headers.get("Range", "")) or "0")[0])
        plan.requests.append((self.command, path, begin))
        if path not in plan.files:
            return self.send_error(404)
        if self.command == "GET" and plan.meeting:
            plan.meeting.wait(timeout=5)
        if self.command == "GET" and plan.statuses.get(path):
            return self.send_error(plan.statuses[path].pop())
        body = plan.files[path][begin:]
        self.send_response(206 if begin else 200)
        self.send_header("ETag", '"1"')
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/*")
        if plan.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            cuts = plan.cuts.get(path)
            self.wfile.write(body[:cuts.pop(0)] if cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running(serve):
    return serve(Handler)


@pytest.fixture
def server(running, content, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSES", (0, 0, 0))
    running.plan = SimpleNamespace(files=packed(content), statuses={}, cuts={}, lengths=True,
                                   meeting=None, requests=[])
    return running.plan


@pytest.fixture
def main(running, server, tmp_path, monkeypatch):
    """The script's main on tmp_path/coco and our server."""
    spec = importlib.util.spec_from_file_location("download_coco", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)
    base = f"http://127.0.0.1:{running.server_port}"
    return lambda *options: script.main(["coco", "--base", base, *options])


def asked(server, command="GET"):
    return sorted(path for what, path, _ in server.requests if what == command)


# A small COCO

@pytest.fixture(scope="module")
def content():
    """Member name -> bytes, archive by archive."""
    noise, archives = np.random.default_rng(0), {ANNOTATIONS: {}, TRAIN: {}, VAL: {}}
    for split, ids in PICTURES.items():
        for number in ids:
            jpeg = io.BytesIO()
            pixels = noise.integers(0, 256, (64, 80, 3), np.uint8)
            Image.fromarray(pixels).save(jpeg, "jpeg", quality=95)
            name = f"{split}2017/{number:012d}.jpg"
            archives[f"/zips/{split}2017.zip"][name] = jpeg.getvalue()
        text = json.dumps(coco_file([(number, f"{number:012d}.jpg") for number in ids]))
        for kind in ("person_keypoints", "instances", "captions"):
            archives[ANNOTATIONS][f"annotations/{kind}_{split}2017.json"] = text.encode()
    return archives


def coco_file(pictures, **changes):
    images = [{"id": number, "file_name": name, "width": 80, "height": 64}
              for number, name in pictures]
    people = [{"id": 10 * number + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
               "area": 600.5, "bbox": [10, 10, 30, 40], "keypoints": [20.5, 20, 2] * 17,
               "num_keypoints": 17, "segmentation": [[10, 10, 40, 10, 40, 50]]} | changes
              for number, _ in pictures]
    person = {"id": 1, "name": "person", "supercategory": "person", "skeleton": [[16, 14]],
              "keypoints": list(COCO17.names)}
    return {"images": images, "annotations": people, "categories": [person]}


def packed(content):
    return {path: archive(members) for path, members in content.items()}


def archive(members):
    """A zip as bytes; as in COCO's, pictures are only stored."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, data in members.items():
            text = str(getattr(name, "filename", name)).endswith((".json", "zeros"))
            target.writestr(name, data, zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED)
    return file.getvalue()


def found(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def expected(content, *splits):
    members = {name: data for part in content.values() for name, data in part.items()}
    return {name: data for name, data in members.items() for split in splits
            if name.startswith((f"{split}2017/", f"annotations/person_keypoints_{split}2017"))}


def last_command(capsys):
    """The printed command, as `hintpose` itself understands it."""
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[0] == "hintpose"
    return cli.parser().parse_args(words[1:])


# From nothing to everything

def test_everything_arrives_and_nothing_else_stays(main, server, content, tmp_path, capsys):
    assert main() == 0
    assert found(tmp_path) == {f"coco/{name}": data
                               for name, data in expected(content, "train", "val").items()}
    assert asked(server) == asked(server, "HEAD") == [ANNOTATIONS, TRAIN, VAL]
    command = last_command(capsys)
    assert command.run is cli.train
    assert len(CocoPersons(*command.data)) == 3 and len(CocoPersons(*command.val)) == 2


def test_a_complete_folder_is_left_alone(main, server, tmp_path, capsys):
    assert main("--keep-archives") == 0
    assert {path.name for path in Path("coco").glob("*.zip")} == {
        "annotations_trainval2017.zip", "train2017.zip", "val2017.zip"}
    server.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert main() == 0
    assert server.requests == [] and "everything is there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_only_val_asks_for_no_train_file(main, server, content, tmp_path, capsys):
    assert main("--only", "val") == 0
    assert asked(server) == asked(server, "HEAD") == [ANNOTATIONS, VAL]
    assert found(tmp_path / "coco") == expected(content, "val")
    command = last_command(capsys)
    assert command.run is cli.evaluate and len(CocoPersons(*command.data)) == 2
    assert main("--only", "train") == 0
    assert found(tmp_path / "coco") == expected(content, "train", "val")
    command = last_command(capsys)
    assert command.val is None and len(CocoPersons(*command.data)) == 3
    assert asked(server) == [ANNOTATIONS, ANNOTATIONS, TRAIN, VAL]


def test_pictures_that_are_there_already_are_not_downloaded(main, server, content, tmp_path):
    for name, data in content[TRAIN].items():
        path = tmp_path / "coco" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert main() == 0
    assert asked(server) == [ANNOTATIONS, VAL]


def test_only_what_is_missing_is_brought_back(main, server, content):
    assert main() == 0
    first, second, third = (Path("coco", name) for name in content[TRAIN])
    first.unlink()
    second.write_bytes(b"")  # as a power failure may leave it
    third.write_bytes(b"changed by the user")
    server.requests.clear()
    assert main() == 0
    assert asked(server) == [TRAIN] and third.read_bytes() == b"changed by the user"
    assert [first.read_bytes(), second.read_bytes()] == list(content[TRAIN].values())[:2]


def test_an_annotation_file_of_the_users_own_is_kept(main, server, content, tmp_path):
    own = tmp_path / "coco" / "annotations" / "person_keypoints_val2017.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(coco_file([(139, "000000000139.jpg")])))
    before = own.read_bytes()
    assert main() == 0
    assert own.read_bytes() == before
    assert set(found(tmp_path / "coco" / "val2017")) == {"000000000139.jpg"}


# Interrupted

def test_a_cut_download_continues_where_it_ended(main, server, content, tmp_path, capsys):
    server.cuts[TRAIN] = [20_000, 0, 0, 0]
    assert main() == 2
    error = capsys.readouterr().err
    assert "train2017.zip could not be downloaded" in error and "20000 bytes stay" in error
    assert (tmp_path / "coco" / "val2017.zip").exists(), "the others are finished"
    server.requests.clear()
    assert main() == 0
    assert server.requests == [("HEAD", TRAIN, 0), ("GET", TRAIN, 20_000)]
    assert found(tmp_path / "coco") == expected(content, "train", "val")


def test_cuts_and_busy_servers_are_lived_through(main, server, content, tmp_path):
    server.cuts = {path: [3000, 5000, 1] for path in server.files}
    server.statuses = {path: [503, 503] for path in server.files}
    assert main() == 0
    assert found(tmp_path / "coco") == expected(content, "train", "val")


def test_ctrl_c_ends_the_threads_and_keeps_what_came(main, server, monkeypatch, tmp_path):
    server.files[TRAIN] += bytes(10_000_000)
    reached = threading.Event()
    monkeypatch.setattr(fetch, "CHUNK", 1000)
    plain, wait = Handler.answer, download.wait

    def slow(handler):
        if (handler.command, handler.path) != ("GET", TRAIN):
            return plain(handler)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.files[TRAIN])))
        handler.end_headers()
        handler.wfile.write(server.files[TRAIN][:5000])
        reached.set()
        for _ in range(100):  # ten seconds, unless the other side leaves
            handler.wfile.write(bytes(1000))
            handler.wfile.flush()
            threading.Event().wait(0.1)

    def interrupted(tasks, timeout):
        if len(tasks) < 2:  # the annotations
            return wait(tasks, timeout)
        assert reached.wait(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(Handler, "answer", slow)
    monkeypatch.setattr(download, "wait", interrupted)
    threads = threading.active_count()
    assert main() == 130
    assert 1 <= (tmp_path / "coco" / "train2017.zip.part").stat().st_size < 50_000
    assert threading.active_count() <= threads + 3  # the server's own
    assert not (tmp_path / "coco" / "train2017").exists()


def test_archives_come_at_the_same_time(main, server, tmp_path):
    main("--only", "val", "--keep-archives")  # annotations; then both pictures must meet
    shutil.rmtree(tmp_path / "coco" / "val2017")
    (tmp_path / "coco" / "val2017.zip").unlink()
    server.meeting = threading.Barrier(2)
    server.files.pop(ANNOTATIONS)
    assert main() == 0
    server.meeting.reset()


def test_one_job_is_one_after_the_other(main, server):
    assert main("--jobs", "1") == 0
    assert [path for what, path, _ in server.requests if what == "GET"] == [ANNOTATIONS, TRAIN, VAL]


@pytest.mark.parametrize("lengths", [True, False])
def test_one_bar_counts_all_archives(running, server, monkeypatch, tmp_path, lengths):
    bars, server.lengths = [], lengths

    class Bar(download.tqdm):
        def __init__(self, **options):
            bars.append((self, options))
            super().__init__(**options)

    monkeypatch.setattr(download, "tqdm", Bar)
    (tmp_path / "val2017.zip.part").write_bytes(server.files[VAL][:700])
    (tmp_path / "val2017.zip.part.tag").write_text('"1"')
    whole = sum(map(len, server.files.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e12))
    download.download_coco(tmp_path, base=f"http://127.0.0.1:{running.server_port}/")
    (bar, options), = bars
    assert (options["initial"], options["total"], bar.n) == (700, whole if lengths else None, whole)


# Refused

@pytest.mark.parametrize("where", [ANNOTATIONS, VAL])
@pytest.mark.parametrize("kind", ["up", "absolute", "windows", "link", "bomb"])
def test_hostile_archives_write_nothing(main, server, content, tmp_path, capsys, where, kind):
    link = zipfile.ZipInfo("val2017/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    evil = {"up": "../evil", "absolute": f"{tmp_path}/evil", "windows": "..\\evil", "link": link,
            "bomb": "val2017/zeros"}[kind]
    members = content[where] | {evil: bytes(6_000_000) if kind == "bomb" else b"../../evil"}
    server.files[where] = archive(members)
    assert main("--only", "val") == 2
    path = tmp_path / "coco" / Path(where).name
    assert f"coco/{path.name}" in (error := capsys.readouterr().err)
    assert "do not trust this file" in error
    assert not any(name.startswith(("coco/val2017/", "coco/annotations/")) and where == ANNOTATIONS
                   or "evil" in name or "zeros" in name or "link" in name
                   for name in found(tmp_path))
    assert not (tmp_path / "coco" / "val2017").exists() and not (tmp_path.parent / "evil").exists()


def test_too_little_room_is_said_before_anything_comes(main, server, monkeypatch, tmp_path, capsys):
    needed = int(2.02 * sum(map(len, server.files.values()))) + 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 10))
    assert main() == 2
    assert re.search(r"needs \d.\d\d GB in coco, where 0.00 GB are free: make room",
                     capsys.readouterr().err)
    assert asked(server) == [] and found(tmp_path) == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert main() == 0


def test_what_is_there_needs_no_room_a_second_time(main, server, content, monkeypatch, capsys):
    assert main("--keep-archives") == 0
    lost = Path("coco", min(content[TRAIN]))
    lost.unlink()
    room = 1.02 * len(server.files[TRAIN]) - sum(map(len, content[TRAIN].values()))
    room += len(content[TRAIN][min(content[TRAIN])])
    for free, status in ((room - 1, 2), (room + 1, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert main("--keep-archives") == status
    assert lost.exists()


def test_without_lengths_the_usual_sizes_count(main, server, content, monkeypatch, capsys):
    server.lengths = False
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=41.2e9))
    assert main() == 2
    assert "20.41 GB of archives and what is in them, needs 41.22 GB" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=41.3e9))
    assert main() == 0


def test_a_file_that_is_not_on_the_server_is_said_first(main, server, tmp_path, capsys):
    server.files.pop(VAL)
    assert main() == 2
    assert "val2017.zip: HTTP Error 404" in capsys.readouterr().err
    assert asked(server) == [] and found(tmp_path) == {}


def test_all_failures_are_named(main, server, capsys):
    server.statuses = {TRAIN: [403], VAL: [403]}
    assert main() == 2
    error = capsys.readouterr().err
    assert "train2017.zip could not" in error and "val2017.zip could not" in error


def test_hashes_are_checked_where_given(main, server, tmp_path, capsys):
    digest = hashlib.sha256(server.files[VAL]).hexdigest()
    assert main("--sha256", f"val2017.zip={digest}", "--sha256", "train2017.zip=00000000") == 2
    assert "train2017.zip: the SHA-256 of what came does not start" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "coco").glob("*.zip*")} == {
        "val2017.zip"}
    assert main("--sha256", f"val2017.zip={digest[:8]}") == 0


@pytest.mark.parametrize("options", [
    ["--sha256", "val2017.zip=xyz"], ["--sha256", "x.zip=00000000"], ["--jobs", "0"],
    ["--only", "test"]])
def test_options_that_make_no_sense(main, server, options):
    with pytest.raises(SystemExit):
        main(*options)
    assert server.requests == []


def test_other_schemes_are_refused(main, capsys):
    assert main("--base", "file:///etc") == 2
    assert "must start with http" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "page", "bit"])
def test_a_corrupt_archive_is_named_with_what_to_do(main, server, content, tmp_path, monkeypatch,
                                                    capsys, damage):
    whole = server.files[VAL]
    middle = len(whole) // 3
    server.files[VAL] = {"cut": whole, "page": b"<html>Please log in</html>",
                         "bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:],
                         }[damage]
    if damage == "cut":  # without a length, no one can tell
        server.lengths, server.cuts[VAL] = False, [middle]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e12))
    assert main("--only", "val") == 2
    error = capsys.readouterr().err
    assert "coco/val2017.zip could not be unpacked" in error
    assert "delete it and download it again" in error
    (tmp_path / "coco" / "val2017.zip").unlink()
    server.files[VAL] = whole
    assert main("--only", "val") == 0
    assert found(tmp_path / "coco") == expected(content, "val")


def test_missing_pictures_are_counted(main, server, content, tmp_path, capsys):
    names = list(content[TRAIN])
    server.files[TRAIN] = archive({names[0]: content[TRAIN][names[0]], names[1]: b""})
    assert main() == 1
    said = capsys.readouterr().out
    assert f"train2017: 2 picture(s) missing or empty {names[1][10:]} {names[2][10:]}\n" in said
    assert "val2017: no picture(s) missing or empty\n" in said
    assert re.search("train2017.zip lacks them. Get each from http.*/train2017/NAME", said)
    assert (tmp_path / "coco" / "train2017.zip").exists(), "not again 19 GB for nothing"
    for name in names[1:]:
        Path("coco", name).write_bytes(content[TRAIN][name])
    server.requests.clear()
    assert main() == 0 and server.requests == []


def test_an_archive_without_keypoints_is_named(main, server, content, capsys):
    server.files[ANNOTATIONS] = archive({"annotations/instances_val2017.json": b"{}"})
    assert main("--only", "val") == 2
    assert re.search("annotations_trainval2017.zip holds no annotations/person_keypoints_val.*"
                     "Delete it", capsys.readouterr().err)


def test_a_damaged_annotation_file_is_named(main, capsys):
    assert main() == 0
    path = Path("coco", "annotations", "person_keypoints_val2017.json")
    path.write_bytes(path.read_bytes()[:100])
    assert main() == 2
    assert "person_keypoints_val2017.json (100 bytes) is not whole JSON" in capsys.readouterr().err


def test_the_help_says_where_ochuman_is(main, capsys):
    with pytest.raises(SystemExit):
        main("--help")
    assert "github.com/liruilong940607/OCHumanApi" in capsys.readouterr().out


# OCHuman

def test_ochuman_like_files_are_read(tmp_path):
    """As its authors' COCO-format files: integer boxes, compressed RLE; here also without area."""
    shape = np.zeros((64, 80), np.uint8, order="F")
    shape[10:50, 10:40] = 1
    code = rle.encode(shape)
    segmentation = {"size": code["size"], "counts": code["counts"].decode()}
    for split, ids in {"val": [1, 817, 2500], "test": [2501, 4731]}.items():
        pictures = [(number, f"{number:06d}.jpg") for number in ids]
        for _, name in pictures:
            Image.new("RGB", (80, 64)).save(tmp_path / name)
        file = coco_file(pictures, segmentation=segmentation)
        for entry in file["annotations"][1:]:
            del entry["area"]
        bare = file["annotations"][0] | {"id": 9000, "segmentation": []}
        bare.pop("area")
        path = tmp_path / f"ochuman_coco_format_{split}_range_0.00_1.00.json"
        path.write_text(json.dumps(file | {"annotations": [*file["annotations"], bare]}))
        persons = CocoPersons(path, tmp_path)
        whole = persons.annotation_ids != 9000
        assert persons.image_ids[whole].tolist() == ids
        assert persons.areas[whole].tolist() == [600.5] + [1200.0] * (len(ids) - 1)
        assert sum(persons.repaired.values()) == len(ids), "a mask or a box gives the area"
        assert [person.mask().sum() for person in persons
                if person.annotation_id != 9000] == [1200] * len(ids)
        assert persons.read(0).shape == (64, 80, 3)
        assert persons.overlap[0] == 1 and not persons.skipped  # the bare one has the same box


def test_failures_are_errors_of_the_family(running, server, tmp_path):
    base = f"http://127.0.0.1:{running.server_port}"
    with pytest.raises(FetchError):
        download.download_coco(tmp_path, base=base + "/elsewhere", progress=False)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text("[")
    with pytest.raises(DataError):
        download.download_coco(tmp_path, ["val"], base=base, progress=False)
