"""Crowd scenes: what is annotated is what is painted, the scenes are hard, and they repeat."""

import hashlib
import json
import math
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as rle
from pycocotools.coco import COCO

from hintpose_lite.crowd import figures
from hintpose_lite.crowd import folder as crowd_folder
from hintpose_lite.crowd import scenes as crowd
from hintpose_lite.crowd.folder import GENERATOR, make_crowd
from hintpose_lite.crowd.scenes import draw_scene
from hintpose_lite.errors import ConfigError, DataError, HintPoseError
from hintpose_lite.pose.skeleton import COCO17

SEED, SCENES = 11, 120


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(SEED, index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def people(scenes):
    return [person for _, scene in scenes for person in scene]


@pytest.fixture(scope="module")
def pairs(scenes):
    """(person, the one of its scene it overlaps most, box IoU) for every labelled person."""
    found = []
    for _, scene in scenes:
        boxes = np.array([person["bbox"] for person in scene], float).reshape(-1, 4)
        iou = np.array(rle.iou(boxes, boxes, [0] * len(boxes))) * (1 - np.eye(len(boxes)))
        found += [(person, scene[row.argmax()], row.max())
                  for person, row in zip(scene, iou) if person["num_keypoints"]]
    return found


def joints(person):
    return np.array(person["keypoints"]).reshape(17, 3)


def figure(yaw=0.0, pose="stand", seed=0, **changes):
    rng = np.random.default_rng(seed)
    body = figures.sample_body(rng, 120)
    for name, value in {"hair": "short", "prop": "", "hat": "", **changes}.items():
        setattr(body, name, value)
    made = figures.Figure(figures.sample_look(rng), body, figures.sample_pose(rng, pose), yaw)
    made.origin = np.array([96.0, 170])
    return made


# -- annotations ------------------------------------------------------------------------------


def test_box_and_area_are_the_masks_own(people):
    for person in people:
        mask = rle.decode(person["segmentation"]).astype(bool)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, w, h = person["bbox"]
        assert (x, y) == (columns[0], rows[0])
        assert (x + w - 1, y + h - 1) == (columns[-1], rows[-1])
        assert person["area"] == mask.sum()


def test_no_pixel_has_two_owners(scenes):
    for picture, scene in scenes:
        masks = np.array([rle.decode(person["segmentation"]) for person in scene])
        assert picture.size == (192, 192) and masks.sum(0).max() <= 1


def test_visibility_is_read_off_the_picture(people):
    for person in people:
        mask, points = rle.decode(person["segmentation"]), joints(person)
        assert person["num_keypoints"] == (points[:, 2] > 0).sum()
        for x, y, v in points:
            if v == 0:
                assert x == y == 0
            else:
                column, row = round(x), round(y)
                assert 0 <= column < 192 and 0 <= row < 192
                assert v == 1 or mask[row, column]


def test_all_kinds_of_visibility_occur(people):
    counts = Counter(v for person in people if person["num_keypoints"]
                     for v in joints(person)[:, 2])
    shares = {v: count / counts.total() for v, count in counts.items()}
    assert shares[2] > .45 and shares[1] > .1 and shares[0] > .2


def test_hidden_joints_are_labelled_where_a_neighbour_shows(people):
    for person in people:
        v = joints(person)[:, 2]
        assert not (v[:5] == 1).any()
        for k in np.flatnonzero(v == 1):
            assert any(v[a + b - k] == 2 for a, b in COCO17.limbs if k in (a, b))


def test_labelled_if_a_fifth_is_visible():
    """Recomputed with every silhouette painted on a canvas that holds all of it."""
    seen = Counter()
    for index in range(45):
        rng = np.random.default_rng(np.random.SeedSequence([SEED, index]))
        whole = {}
        for person, extra in crowd.arrange(rng, 192, True):
            canvas = Image.new("1", (1000, 1000))
            for layer in person.layers(1):
                for outline, _, solid in layer.shapes if layer.part else ():
                    if solid:
                        ImageDraw.Draw(canvas).polygon([v / 2 + 300 for v in outline], 1)
            whole[extra["group"], extra["depth"]] = np.asarray(canvas).sum()
        for person in draw_scene(SEED, index)[1]:
            share = person["area"] / whole[person["group"], person["depth"]]
            if abs(share - .2) > .01:  # the two rasters differ by a few pixels
                assert (person["num_keypoints"] > 0) == (share >= .2)
                seen[share >= .2] += 1
    assert seen[False] >= 3 and seen[True] > 80


def test_left_is_the_persons_left():
    for yaw, sign in ((0, 1), (math.pi, -1)):
        points, _ = figure(yaw).keypoints()
        for left, right in ((5, 6), (11, 12), (1, 2), (3, 4)):
            assert sign * (points[left, 0] - points[right, 0]) > 1, COCO17.names[left]


def test_back_of_the_head_hides_the_face():
    for yaw, visible in ((0, [True] * 5), (math.pi, [False] * 3 + [True] * 2)):
        made = figure(yaw, seed=3)
        made.pose.head = (0.0, 0.0, 0.0)
        made.pose.torso = (0.0, 0.0, 0.0)
        made = figures.Figure(made.look, made.body, made.pose, yaw)
        assert made.keypoints()[1][:5].tolist() == visible


def test_joints_lie_in_a_lone_person():
    for seed in range(12):
        made = figure(seed=seed, hair="short")
        canvas = Image.new("L", (384, 384))
        for layer in sorted(made.layers(1), key=lambda layer: layer.depth):
            for outline, _, solid in layer.shapes:
                if solid and layer.part:
                    ImageDraw.Draw(canvas).polygon(outline, layer.part)
        parts = np.asarray(canvas)[::2, ::2]
        x, y = made.keypoints()[0][5:].round().astype(int).T
        assert (parts[y, x] > 0).all()
        labelled = crowd.keypoints(made, parts + np.uint8(8) * (parts > 0), 1)[5:, 2] > 0
        assert labelled.sum() >= 10  # one arm behind the back may be out of sight altogether


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2 ** 32 - 1), st.floats(.02, 3))
def test_bones_keep_their_length(seed, reach):
    target, pole = np.random.default_rng(seed).normal(size=(2, 4, 3))
    target *= reach
    middle, end = figures.bend(np.zeros((4, 3)), target, pole)
    upper, lower = figures.UPPER[:, 0], figures.LOWER[:, 0]
    assert np.linalg.norm(middle, axis=1) == pytest.approx(upper)
    assert np.linalg.norm(end - middle, axis=1) == pytest.approx(lower)
    length = np.linalg.norm(target, axis=1)
    near = (length > upper - lower + .02) & (length < (upper + lower) * .998)
    assert end[near] == pytest.approx(target[near])  # what can be reached is reached


# -- difficulty -------------------------------------------------------------------------------


def test_most_people_overlap_and_share_a_palette(pairs):
    overlap = np.array([iou for *_, iou in pairs])
    close = [(person, other) for person, other, iou in pairs if iou > .3]
    assert (overlap > .3).mean() > .6
    assert all((np.histogram(overlap, [0, .1, .3, .5, 1.01])[0]) > 10)
    assert np.mean([person["palette"] == other["palette"] for person, other in close]) > .7


def test_front_left_and_size_tell_nothing(pairs):
    """Of two people who overlap, these three are close to independent coin tosses."""
    coins = []
    for person, other, iou in pairs:
        if iou > .3:
            a, b = person["bbox"], other["bbox"]
            coins.append((person["depth"] > other["depth"], a[0] + a[2] / 2 < b[0] + b[2] / 2,
                          a[3] > b[3]))
    front, left, bigger = np.array(coins).T
    for share in (front == left, left == bigger, front == bigger, front, left):
        assert .35 < share.mean() < .65


def test_easy_scenes_are_easy():
    found = [len({person["palette"] for person in scene}) == len(scene)
             for _, scene in (draw_scene(SEED, index, 96, False) for index in range(40))]
    assert np.mean(found) > .7


# -- files ------------------------------------------------------------------------------------


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowd") / "made"
    make_crowd(folder, images=40, seed=3, size=64, workers=1)
    return folder


def test_any_number_of_workers_writes_the_same_bytes(made, tmp_path):
    make_crowd(tmp_path / "two", images=40, seed=3, size=64, workers=2)
    assert content(tmp_path / "two") == content(made)
    assert len(content(made)) == 41


def test_scene_i_does_not_depend_on_the_count(made, tmp_path):
    make_crowd(tmp_path / "few", images=3, seed=3, size=64, workers=1)
    few = content(tmp_path / "few")
    assert all(content(made)[name] == few[name] for name in few if name.endswith("jpg"))


def test_no_scene_is_shared_between_seeds():
    hashes = [hashlib.sha256(draw_scene(seed, index, 64)[0].tobytes()).digest()
              for seed in (0, 1, 2, 2 ** 32 - 1) for index in range(25)]
    assert len(set(hashes)) == len(hashes)


def test_readers_accept_the_folder(made, capsys):
    persons = make_crowd(made, images=40, seed=3, size=64)
    assert len(persons) > 80 and not persons.skipped
    coco = COCO(made / "annotations.json")
    assert coco.cats[1]["keypoints"] == list(COCO17.names)
    for i in (0, len(persons) - 1):
        record = persons[i]
        assert np.array_equal(record.mask(), coco.annToMask(coco.anns[record.annotation_id]) > 0)
        assert persons.read(i).shape == (64, 64, 3)
    info = json.loads((made / "annotations.json").read_text())["info"]
    assert info["settings"] == {"generator": GENERATOR, "seed": 3, "images": 40, "size": 64,
                                "hard": True}


def test_the_same_scenes_are_not_made_again(made, monkeypatch):
    monkeypatch.setattr(crowd_folder, "_generate", None)
    make_crowd(made, images=40, seed=3, size=64)


@pytest.mark.parametrize("other", [{"seed": 4}, {"images": 41}, {"size": 65}, {"hard": False}])
def test_other_scenes_are_not_overwritten(made, other):
    before = content(made)
    with pytest.raises(DataError):
        make_crowd(made, **{"images": 40, "seed": 3, "size": 64, **other})
    assert content(made) == before


def test_an_interrupted_folder_is_completed(made, tmp_path, monkeypatch):
    def broken(seed, index, size, hard):
        if index == 35:
            raise KeyboardInterrupt
        return draw_scene(seed, index, size, hard)
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(crowd_folder, "draw_scene", broken)
        with pytest.raises(KeyboardInterrupt):
            make_crowd(folder, images=40, seed=3, size=64, workers=1)
    assert not (folder / "annotations.json").exists()
    with pytest.raises(DataError):
        make_crowd(folder, images=40, seed=5, size=64, workers=1)
    make_crowd(folder, images=40, seed=3, size=64, workers=1)
    assert content(folder) == content(made)


def test_foreign_folders_are_left_alone(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError):
        make_crowd(tmp_path, images=1)
    (tmp_path / "annotations.json").write_text('{"images": [')
    with pytest.raises(DataError):
        make_crowd(tmp_path, images=1)
    with pytest.raises(DataError):
        make_crowd(tmp_path / "notes.txt", images=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_missing_pictures_are_named(tmp_path):
    make_crowd(tmp_path / "a", images=3, size=64, workers=1)
    (tmp_path / "a" / "images" / "000000000002.jpg").unlink()
    with pytest.raises(DataError, match="000000000002.jpg"):
        make_crowd(tmp_path / "a", images=3, size=64, workers=1)
    (tmp_path / "a" / "images").rename(tmp_path / "b")
    with pytest.raises(DataError, match="3 pictures"):
        make_crowd(tmp_path / "a", images=3, size=64, workers=1)


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError):
        make_crowd(tmp_path / "a", images=2, size=64, workers=1)
    monkeypatch.undo()
    with monkeypatch.context() as patch:  # full at the very first file
        patch.setattr(Path, "write_text", full)
        with pytest.raises(HintPoseError):
            make_crowd(tmp_path / "b", images=2, size=64, workers=1)
    def of_a_worker(*_):  # where concurrent.futures gives a traceback's text as the cause
        raise OSError(28, "No space left on device") from RuntimeError("Traceback ...")
    with monkeypatch.context() as patch:
        patch.setattr(crowd_folder, "_generate", of_a_worker)
        with pytest.raises(DataError):
            make_crowd(tmp_path / "c", images=2, size=64)
    for name in "ab":
        assert len(make_crowd(tmp_path / name, images=2, size=64, workers=1).pictures) == 2


def test_a_killed_process_is_explained(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise BrokenProcessPool
    monkeypatch.setattr(crowd_folder, "_write_scene", killed)
    with pytest.raises(DataError):
        make_crowd(tmp_path / "a", images=2, size=64, workers=1)


@pytest.mark.parametrize("wrong", [{"size": 63}, {"size": 192.0}, {"images": 0}, {"seed": -1},
                                   {"seed": 2 ** 32}, {"workers": 0}, {"images": True}])
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_crowd(tmp_path / "a", **wrong)
    assert not (tmp_path / "a").exists()


def test_larger_pictures_show_larger_people():
    heights = [max(person["bbox"][3] for person in draw_scene(SEED, 0, size)[1])
               for size in (96, 192, 384)]
    assert np.diff(np.log2(heights)) == pytest.approx([1, 1], abs=.05)
