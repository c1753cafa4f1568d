"""The crop cache holds what `build_crops` holds, survives kills, and notices what does not fit."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from hintpose_lite.cues.training import CueMix
from hintpose_lite.data import cache as module
from hintpose_lite.data.batches import Augment, make_batch
from hintpose_lite.data.cache import CropCache, build_cache, estimate_cache
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.data.crops import build_crops
from hintpose_lite.data.loader import prefetch
from hintpose_lite.errors import ConfigError, DataError
from hintpose_lite.model.hintpose import Spec
from hintpose_lite.pose.skeleton import COCO17

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64  # smaller than the pictures, so that not everybody shares a window
SETTINGS = dict(workers=1, progress=False)


@pytest.fixture(scope="module")
def people(crowd, tmp_path_factory):
    """The crowd with ids in disorder, as COCO has them, and the first person without a mask."""
    content = json.loads(crowd.annotations.read_text())
    rng = np.random.default_rng(0)
    for entry, number in zip(content["annotations"], rng.permutation(999), strict=False):
        entry["id"] = int(number)
    labelled = [entry for entry in content["annotations"] if any(entry["keypoints"][2::3])]
    min(labelled, key=lambda entry: entry["id"])["segmentation"] = []
    path = tmp_path_factory.mktemp("people") / "annotations.json"
    path.write_text(json.dumps(content))
    return CocoPersons(path, crowd.images)


@pytest.fixture(scope="module")
def crops(people):
    return build_crops(people, SIZE, workers=1, progress=False)


@pytest.fixture(scope="module")
def built(people, tmp_path_factory):
    """A cache in three shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD", 3)
        return build_cache(people, tmp_path_factory.mktemp("caches") / "whole", SIZE, **SETTINGS)


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built.folder, tmp_path / "copy")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_cache_equals_crops_in_memory_up_to_jpeg(people, crops, built):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(people), generator=generator)
    small, places = built.take(rows)
    assert len(built) == len(crops)
    assert places.tolist() == list(range(len(rows)))
    for name in {f.name for f in fields(small)} - {"windows", "window_of", "sigmas"}:
        found, expected = getattr(small, name), getattr(crops, name)[rows]
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    assert torch.equal(small.sigmas, crops.sigmas)
    found, expected = small.windows[small.window_of], crops.windows[crops.window_of[rows]]
    errors = (found.float() - expected.float()).abs().mean((1, 2, 3))
    assert found.shape == expected.shape and errors.max() < 5, "these pictures are noisy"
    others = (found.float() - expected.float().roll(1, 0)).abs().mean((1, 2, 3))
    assert others.median() > 4 * errors.median()
    assert not small.masks[(rows == 0).nonzero()].any() and small.masks.any((1, 2)).sum() > 10


def test_batches_are_made_of_the_people_taken(people, crops, built):
    spec, rows = Spec(input_size=(32, 64), target_sigma=1.2, cue_sigma=4.0), torch.tensor([7, 2, 7])
    small, places = built.take(rows)
    one, two = (make_batch(source, which, CueMix().draw(3, torch.Generator().manual_seed(1)), spec,
                           Augment(), COCO17, torch.Generator().manual_seed(1))
                for source, which in ((small, places), crops.take(rows)))
    for name in ("cues", "targets", "weights", "points"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert (one.images - two.images).abs().mean() < 0.1
    assert crops.take(rows)[0] is crops


def test_people_who_look_at_the_same_thing_share_a_window(people, tmp_path):
    size = 128  # larger than the pictures
    cache = build_cache(people, tmp_path / "shared", size, **SETTINGS)
    crops = build_crops(people, size, workers=1, progress=False)
    assert len(crops.windows) == len(np.unique(people.image_ids)) < len(people)
    rows = torch.arange(len(people))
    small, _ = cache.take(rows)
    assert len(small.windows) == len(crops.windows)
    assert torch.equal(small.window_of, crops.window_of)
    row = int(crops.overlap.argmax())
    pair, _ = cache.take(torch.tensor([row, people.partner[row]]))
    assert len(pair.windows) == 1 and pair.window_of.tolist() == [0, 0]


def test_workers_do_not_change_the_files(people, built, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 3)
    other = build_cache(people, tmp_path / "parallel", SIZE, workers=4, progress=False)
    assert contents(other.folder) == contents(built.folder)
    shards = [f"shard-0000{number}.bin" for number in range(3)]
    assert sorted(contents(built.folder)) == ["info.json", *shards]


def test_a_failed_build_cannot_be_opened_and_goes_on_to_the_same_bytes(people, built, tmp_path,
                                                                       monkeypatch):
    monkeypatch.setattr(module, "SHARD", 3)
    monkeypatch.setattr(module, "estimate_cache", lambda *_, **__: (0, 0.0))
    folder, encode, calls = tmp_path / "failed", module._jpeg, []

    def failing(window, quality):
        calls.append(1)
        if len(calls) == limit:
            raise KeyboardInterrupt
        return encode(window, quality)

    limit = len(built.take(torch.arange(len(people)))[0].windows)  # within the last shard
    monkeypatch.setattr(module, "_jpeg", failing)
    with pytest.raises(KeyboardInterrupt):
        build_cache(people, folder, SIZE, **SETTINGS)
    with pytest.raises(DataError, match=f"2 shards.*build_crop_cache.py.*{folder} --size={SIZE}"):
        CropCache(folder, people)
    (folder / ".shard-00002.part.bin").write_bytes(b"half")
    limit, again = 0, len(calls)
    build_cache(people, folder, SIZE, **SETTINGS)
    assert contents(folder) == contents(built.folder)
    assert len(calls) - again < again / 2, "two shards of three were there"
    calls.clear()
    build_cache(people, folder, SIZE, **SETTINGS)
    assert not calls, "nothing was left to do"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("file", range(7))  # info.json, and thrice a shard and info.json
def test_a_build_that_ends_at_any_file_goes_on(people, built, tmp_path, monkeypatch, file, after):
    monkeypatch.setattr(module, "SHARD", 3)
    monkeypatch.setattr(module, "estimate_cache", lambda *_, **__: (0, 0.0))
    replace, count = os.replace, []

    def failing(part, path):
        count.append(path.name)
        if after:
            replace(part, path)
        if len(count) == file + 1:
            raise OSError("no space left")
        if not after:
            replace(part, path)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", failing)
        with pytest.raises(DataError, match="no space left. Make room.* goes on where it was"):
            build_cache(people, tmp_path / "cut", SIZE, **SETTINGS)
    if not (after and file == 6):
        with pytest.raises(DataError):
            CropCache(tmp_path / "cut", people)
    build_cache(people, tmp_path / "cut", SIZE, **SETTINGS)
    assert contents(tmp_path / "cut") == contents(built.folder)


def test_a_killed_build_goes_on_to_the_same_bytes(people, built, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 3)
    script = f"""
import os, signal, torch
torch.set_num_threads(1)
from hintpose_lite.data import cache
from hintpose_lite.data.coco import CocoPersons
note = cache._note
def dying(folder, info):
    note(folder, info)
    if info["shards"]:
        os.kill(os.getpid(), signal.SIGKILL)
cache.SHARD, cache._note = 3, dying
cache.estimate_cache = lambda *_, **__: (0, 0)
cache.build_cache(CocoPersons({str(people.annotations)!r}, {str(people.images)!r}), "cache", {SIZE},
                  workers=1, progress=False)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path,
                           env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert ended.returncode == -9, "killed before it was done"
    with pytest.raises(DataError, match="not finished"):
        CropCache(tmp_path / "cache", people)
    build_cache(people, tmp_path / "cache", SIZE, **SETTINGS)
    assert contents(tmp_path / "cache") == contents(built.folder)


def test_other_annotations_are_stale(people, built, copy, tmp_path):
    content = json.loads(people.annotations.read_text())
    content["annotations"][-1]["keypoints"][0] += 1
    (tmp_path / "moved.json").write_text(json.dumps(content))
    other = CocoPersons(tmp_path / "moved.json", people.images)
    for use in (lambda: CropCache(copy, other), lambda: build_cache(other, copy, SIZE)):
        with pytest.raises(DataError, match=r"stale.*annotations.json.*moved.json.*--rebuild"):
            use()
    assert contents(copy) == contents(built.folder)
    build_cache(other, copy, SIZE, rebuild=True, **SETTINGS)
    CropCache(copy, other).check(progress=False)
    assert sorted(contents(copy)) == ["info.json", "shard-00000.bin"], "old shards are gone"


def test_missing_pictures_are_noticed(people, built, tmp_path):
    pictures = shutil.copytree(people.images, tmp_path / "images")
    (pictures / people[0].path.name).unlink()
    with pytest.raises(DataError, match="layout is"):
        CropCache(built.folder, CocoPersons(people.annotations, pictures))


def test_other_settings_are_refused(people, copy):
    with pytest.raises(DataError, match=f"size is {SIZE} there, 32 here; .*--size=32"):
        build_cache(people, copy, 32, **SETTINGS)
    with pytest.raises(DataError, match="quality is 92 there, 50 here"):
        build_cache(people, copy, SIZE, quality=50, **SETTINGS)
    with pytest.raises(ConfigError, match="not 101"):
        build_cache(people, copy, SIZE, quality=101, **SETTINGS)


def test_a_changed_byte_is_found_wherever_it_is(people, copy):
    path = copy / "shard-00001.bin"
    content = path.read_bytes()

    def use():
        CropCache(copy, people).take(torch.arange(len(people)))

    for place in np.linspace(0, len(content) - 1, 15).astype(int):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        for read in (use, lambda: CropCache(copy, people).check(progress=False)):
            with pytest.raises(DataError, match="shard-00001.bin is damaged.*--rebuild"):
                read()
    path.write_bytes(bytes(len(content)))  # as a crash of the whole machine may leave it
    with pytest.raises(DataError, match="shard-00001.bin is damaged.*index"):
        CropCache(copy, people)
    path.write_bytes(content)
    CropCache(copy, people).check(progress=False)


def test_a_shard_cut_short_or_missing_is_found_at_opening(people, copy):
    path = copy / "shard-00002.bin"
    content = path.read_bytes()
    for part in (content[:-1], content[:5], b""):
        path.write_bytes(part)
        with pytest.raises(DataError, match="shard-00002.bin is damaged"):
            CropCache(copy, people)
    path.unlink()
    with pytest.raises(DataError, match="shard-00002.bin is damaged.*No such file"):
        CropCache(copy, people)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"version": 1}', '{"version": 9}'])
def test_a_damaged_info_is_refused(people, copy, text):
    (copy / "info.json").write_text(text)
    for use in (lambda: CropCache(copy, people), lambda: build_cache(people, copy, SIZE)):
        with pytest.raises(DataError, match=r"info.json: .*\); make one with"):
            use()


def test_no_workers_are_refused(people, tmp_path):
    with pytest.raises(DataError, match="workers=-1"):
        build_cache(people, tmp_path / "cache", SIZE, workers=-1)
    assert not (tmp_path / "cache").exists()


def test_folders_that_are_no_cache_are_left_alone(people, tmp_path):
    with pytest.raises(DataError, match="no crop cache"):
        CropCache(tmp_path / "nothing", people)
    (tmp_path / "thesis.txt").write_text("mine")
    for rebuild in (False, True):
        with pytest.raises(DataError, match="thesis.txt belongs to no crop cache"):
            build_cache(people, tmp_path, SIZE, rebuild=rebuild, **SETTINGS)
    with pytest.raises(DataError, match="cannot write"):
        build_cache(people, tmp_path / "thesis.txt", SIZE, **SETTINGS)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_halves_of_a_killed_build_are_ours_and_another_info_is_not(people, built, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in (".shard-00000.part.bin", ".info.part.json"):
        (folder / name).write_text("half")
    build_cache(people, folder, SIZE, **SETTINGS)
    assert sorted(contents(folder)) == ["info.json", "shard-00000.bin"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "info.json").write_text('{"mine": "precious"}')
    with pytest.raises(DataError, match="belongs to no crop cache"):
        build_cache(people, other, SIZE, rebuild=True, **SETTINGS)
    assert "precious" in (other / "info.json").read_text()
    (other / "info.json").rename(other / "shard-00000.bin")  # ours never lie without an info.json
    with pytest.raises(DataError, match="shard-00000.bin belongs to no crop cache"):
        build_cache(people, other, SIZE, **SETTINGS)
    (folder / "shard-00000.bin.bak").write_text("mine")
    with pytest.raises(DataError, match="bak belongs to no crop cache"):
        build_cache(people, folder, SIZE, **SETTINGS)
    assert "precious" in (other / "shard-00000.bin").read_text()


def test_the_estimate_is_near_and_too_small_a_disk_refused(people, built, tmp_path, monkeypatch):
    size, seconds = estimate_cache(people, SIZE, workers=1)
    real = sum(path.stat().st_size for path in built.folder.glob("shard-*.bin"))
    assert size == pytest.approx(real, rel=0.001), "eight pictures, and all of them were tried"
    assert 0 < seconds < 60
    assert estimate_cache(people, SIZE, workers=1, sample=4)[0] == pytest.approx(real, rel=0.3)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(1, 1, real // 2))
    with pytest.raises(DataError, match=r"about 0\.\d+ GB more, and 0\.\d+ GB are free: make"):
        build_cache(people, tmp_path / "full", SIZE, **SETTINGS)
    assert not list((tmp_path / "full").glob("shard*"))


def test_the_script(people, tmp_path, capsys):
    from runpy import run_path
    main = run_path(str(ROOT / "data_scripts" / "build_crop_cache.py"))["main"]
    arguments = [str(people.annotations), str(people.images), str(tmp_path / "out")]
    assert main([*arguments, "--check"]) == 2
    assert "no crop cache" in capsys.readouterr().err
    assert main([*arguments, "--size=32", "--workers=1"]) == 0
    assert "GB are free; it takes about 0 min" in capsys.readouterr().out
    assert main([*arguments, "--check"]) == 0
    assert f"{len(people)} people, complete, undamaged" in capsys.readouterr().out


# --- prefetch -----------------------------------------------------------------------------------

def batches(people, count=6):
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(len(people), (4,), generator=generator) for _ in range(count)]


def test_prefetched_batches_come_in_order(people, built):
    class Uneven:
        """Later batches are ready first."""
        take = staticmethod(lambda rows: (time.sleep(next(naps)), built.take(rows))[1])

    naps = iter([0.2, 0, 0.1, 0, 0, 0])
    found = list(prefetch(Uneven(), batches(people), depth=3))
    assert len(found) == 6
    for rows, (crops, places) in zip(batches(people), found, strict=True):
        assert torch.equal(crops.keypoints[places], built.take(rows)[0].keypoints)
        assert torch.equal(crops.windows, built.take(rows)[0].windows)


def test_an_error_comes_out_at_its_turn_and_names_the_rows(people, copy):
    cache, rows = CropCache(copy, people), torch.tensor([5, 3, len(people) + 7])
    coming = prefetch(cache, [torch.tensor([1]), rows, torch.tensor([2])])
    assert torch.equal(next(coming)[0].boxes, torch.as_tensor(people.boxes[[1]]))
    with pytest.raises(RuntimeError, match=rf"people of rows \[5, 3, {len(people) + 7}\]"):
        next(coming)
    with open(copy / "shard-00000.bin", "r+b") as file:
        file.write(b"spoilt")
    with pytest.raises(DataError, match=r"shard-00000.bin is damaged.*rows \[0\]"):
        next(prefetch(CropCache(copy, people), [torch.tensor([0])]))


def test_closing_ends_the_threads_and_draws_no_more(people, built):
    before, drawn = set(threading.enumerate()), []
    coming = prefetch(built, (drawn.append(1) or rows for rows in batches(people, 100)), depth=2)
    next(coming)
    assert set(threading.enumerate()) - before
    assert len(drawn) <= 3
    coming.close()
    assert not set(threading.enumerate()) - before and len(drawn) <= 3


def test_crops_in_memory_cost_nothing(people, crops):
    before = threading.active_count()
    coming = prefetch(crops, batches(people))
    for rows, (found, places) in zip(batches(people), coming, strict=True):
        assert found.windows.data_ptr() == crops.windows.data_ptr()
        assert torch.equal(rows, places) and threading.active_count() == before
