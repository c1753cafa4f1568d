"""`hintpose predict` on real files: what is found, numbered, drawn, written, and what is bad."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hintpose_lite import CocoPersons, HintPose, PoseEstimator, load_model
from hintpose_lite.cli import main
from hintpose_lite.cues.cue import Cue
from hintpose_lite.errors import ConfigError, DataError
from hintpose_lite.evaluation.judge import score_results
from hintpose_lite.photos.files import (
    Photo,
    add_boxes,
    add_sources,
    describe,
    find_photos,
    predict_photos,
)


@pytest.fixture(scope="module")
def estimator():
    return PoseEstimator(load_model("crowd-tiny"), flip=False, hops=1)


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a text file, and a folder with a third one."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8))
    (tmp_path / "deeper").mkdir()
    for name in ("b.JPG", "a.png", "deeper/c.png"):
        picture.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_folders_patterns_and_files_are_pictures_each_once(folder):
    def names(*wanted):
        return [str(photo.path.relative_to(folder)) for photo in find_photos(
            [str(folder / name) for name in wanted])]
    assert names("") == ["a.png", "b.JPG"] and names("*/*.png") == ["deeper/c.png"]
    assert names("b.JPG", "*.*G", "", "missing.jpg") == ["b.JPG", "a.png", "missing.jpg"]
    for nothing in ("*.gif", "deeper/*.jpg"):
        with pytest.raises(DataError):
            names(nothing)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=".jpeg"):
        names("empty")


def test_drawings_of_the_same_name_are_refused(folder):
    names = [str(folder / "a.png"), str(folder / "deeper" / "a.jpg")]
    with pytest.raises(ConfigError):
        find_photos(names, out=folder / "drawn")
    assert find_photos(names[:1], out=folder)[0].drawing == folder / "a_poses.png"
    (folder / "a_poses.png").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(ConfigError):
        find_photos([str(folder)], out=folder)


def test_a_name_with_brackets_is_a_file_if_there_is_one(folder):
    (folder / "a.png").rename(folder / "a[1].png")
    assert find_photos([str(folder / "a[1].png")])[0].path.name == "a[1].png"


def test_results_are_numbered_scored_and_drawn(crowd, estimator, tmp_path, capsys):
    """Own boxes from the annotations: COCO's figures equal those of `evaluate`'s result file."""
    photos = find_photos([str(crowd.images)])
    add_boxes(photos, crowd.annotations)
    found = list(predict_photos(estimator, photos, None, failed := []))
    assert not failed and len(found) == len(crowd)
    assert "bbox" not in found[0] and set(found[0]) >= {"image_id", "category_id", "score"}
    assert {entry["image_id"] for entry in found} == set(crowd.image_ids.tolist())
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(found))
    expected = score_results(crowd, found)["AP"]
    assert main(["evaluate", "--poses", str(path), "--data", str(crowd.annotations),
                 str(crowd.images)]) == 0
    assert f"{100 * expected:.1f}" in capsys.readouterr().out
    box = crowd.boxes[crowd.image_ids == found[0]["image_id"]][0]
    assert found[0]["box"] == pytest.approx(box.tolist())


def test_pictures_without_a_number_are_counted(folder, estimator):
    photos = find_photos([str(folder)])
    assert [r["image_id"] for r in predict_photos(estimator, photos, None, [])] == [1, 2]


BAD = {"text.jpg": b"no picture at all", "empty.png": b"", "torn.png": None}


def test_a_bad_picture_stops_nothing_and_is_listed(folder, tmp_path, capsys):
    for name, content in BAD.items():
        (folder / name).write_bytes((folder / "a.png").read_bytes()[:200] if content is None
                                    else content)
    out, poses = tmp_path / "drawn", tmp_path / "poses.json"
    command = ["predict", str(folder), str(folder / "missing.jpg"), "--model", "crowd-tiny",
               "--hops", "1", "--out", str(out), "--json", str(poses)]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "4 of 6 pictures could not be used or drawn" in said.err
    assert all(name in said.err for name in (*BAD, "missing.jpg"))
    assert said.err.count("not meant for photographs") == 1
    assert sorted(path.name for path in out.iterdir()) == ["a_poses.png", "b_poses.png"]
    results = json.loads(poses.read_text())
    assert [entry["file_name"] for entry in results] == ["a.png", "b.JPG"]
    assert said.out.count("1 pose(s), scores") == 2
    assert main(command) == 2  # nothing is overwritten without being asked for
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 1
    assert main(["predict", str(folder / "text.jpg"), "--model", "crowd-tiny"]) == 2
    capsys.readouterr()
    assert main([*command[:4], "crowd-tiny", "--out", str(poses)]) == 2  # a file, no folder
    assert "give another place" in capsys.readouterr().err


def test_a_drawing_that_cannot_be_written_costs_no_pose(folder, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")
    (folder / "out").mkdir()
    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["predict", str(folder / "a.png"), str(folder / "b.JPG"), "--model", "crowd-tiny",
                 "--out", str(folder / "out"), "--json", str(folder / "poses.json")]) == 2
    said = capsys.readouterr().err
    assert said.count("No space left") == 2 and "cannot write" in said and "a_poses.png" in said
    assert len(json.loads((folder / "poses.json").read_text())) == 2


def test_clicks_boxes_and_tiny_or_moving_pictures(folder, capsys):
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    frames = [Image.new("P", (40, 40), color) for color in (1, 2)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    for arguments, status, words in (
            (["a.png", "--click", "10,20"], 0, "1 pose(s)"),
            (["a.png", "--click", "10,20"], 0, "a.png: cue 0 has no box"),
            (["one.png"], 0, "1 pose(s)"),
            (["moving.gif"], 0, "1 pose(s)"), (["a.png", "--click", "50,20"], 2, "lies outside"),
            (["a.png", "--box", "60,0,5,5"], 2, "lies outside"),
            (["a.png", "--box", "0,0,0,5"], 2, "no area")):
        name, *rest = arguments
        assert main(["predict", str(folder / name), "--model", "crowd-tiny", *rest]) == status
        said = capsys.readouterr()
        assert words in said.out + said.err


def test_a_click_alone_asks_the_network_for_photographs_and_says_so_once(folder, tmp_path, capsys):
    assert main(["predict", str(folder / "a.png"), str(folder / "b.JPG"), "--click", "40,50",
                 "--json", str(tmp_path / "poses.json")]) == 0
    assert capsys.readouterr().err.count(load_model("people-small").trained_on) == 1
    poses = json.loads((tmp_path / "poses.json").read_text())
    assert len(poses) == 2 and len(poses[0]["keypoints"]) == 51
    assert PoseEstimator().model.trained_on == load_model("people-small").trained_on


def test_clicks_mean_different_people(folder):
    asked = []

    class Asked:
        detector = None

        def __call__(self, picture, **settings):
            asked.append(settings)
            return []
    clicks = [Cue.point(10, 20), Cue.point(11, 20)]
    assert list(predict_photos(Asked(), [Photo(folder / "a.png")], clicks, [])) == []
    assert asked == [{"boxes": None, "cues": clicks, "apart": True, "scores": None}]


def test_pictures_that_the_annotations_do_not_list_are_told_before_the_work(folder, crowd):
    with pytest.raises(DataError, match="a.png"):
        add_boxes(find_photos([str(folder)]), crowd.annotations)


def test_boxes_of_another_convention_are_suspected(crowd, tmp_path, capsys):
    content = json.loads(crowd.annotations.read_text())
    photos = find_photos([str(crowd.images)])
    add_boxes(photos, crowd.annotations)
    assert "suspicion" not in capsys.readouterr().err
    for person in content["annotations"]:
        x, y, w, h = person["bbox"]
        person["bbox"] = [x, y, x + w, y + h]
    (tmp_path / "corners.json").write_text(json.dumps(content))
    add_boxes(photos, tmp_path / "corners.json")
    assert "x0, y0, x1, y1" in capsys.readouterr().err


def test_cues_come_from_networks_and_result_files(folder, crowd, tmp_path, capsys):
    photos = find_photos([str(folder)])
    assert add_sources(photos, None, False, None) is None and photos[0].source is None
    assert add_sources(photos, None, True, None).kind == "keypoints" and photos[0].source is None
    detector = add_sources(photos, "masks", False, None)
    assert detector.kind == "masks" and photos[1].source == detector.cues
    assert add_sources(photos, "network", False, None) is None and callable(photos[0].source)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": i, "score": 1, "keypoints": [9, 9, 1, 12, 12, 1]
                                 + [0] * 45} for i in (5, 8)]))
    with pytest.raises(ConfigError, match="2 pictures"):
        add_sources(photos, str(path), False, None)
    with pytest.raises(ConfigError, match="--image-id"):
        add_sources(photos, str(path), False, [5])
    add_sources(photos, str(path), True, [8, 5])
    assert [photo.image_id for photo in photos] == [8, 5] and photos[0].source is None
    assert photos[0].results.image_ids == [5, 8]
    assert "note" not in capsys.readouterr().err
    with pytest.raises(ConfigError, match="7"):
        add_sources(find_photos([str(folder)]), str(path), False, [9, 7])
    named = [dict(entry, file_name="images/z.png") for entry in json.loads(path.read_text())]
    (tmp_path / "named.json").write_text(json.dumps(named))
    with pytest.raises(ConfigError, match=r"z\.png"):
        add_sources(find_photos([str(folder)]), str(tmp_path / "named.json"), False, [8, 5])
    path.write_text(json.dumps([{"image_id": i, "score": 1, "keypoints": 51 * [0]} for i in (5, 8)]
                               + [{"image_id": 5, "score": 1, "keypoints": 17 * [9, 9, 1],
                                   "bbox": [1, 2, 3, 4]}]))
    add_sources(photos[:1], str(path), False, None)
    assert f"{path}: 2 result(s) without area" in capsys.readouterr().err


def test_people_of_a_result_file_are_asked_for(crowd, tmp_path, estimator):
    person, image = crowd[0], int(crowd.image_ids[0])
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": image, "score": 1, "category_id": 1,
                                 "keypoints": person.keypoints.ravel().tolist()}]))
    photos = find_photos([str(person.path)])
    add_sources(photos, str(path), False, None)
    asked = []

    class Asked:
        detector = None

        def __call__(self, picture, boxes, cues, apart, scores):
            assert not apart and len(scores) == len(boxes)
            asked.append((boxes, self.source(picture, boxes)))
            return []
    assert list(predict_photos(Asked(), photos, None, [])) == []
    (boxes, cues), = asked
    known = person.keypoints[person.keypoints[:, 2] > 0, :2]
    assert boxes[0] == pytest.approx([*known.min(0), *np.ptp(known, axis=0)])
    assert cues[0][0].kind == Cue.pose(known).kind and len(cues[0][0].xy) == len(known)


def test_weights_say_what_they_were_trained_on():
    model = HintPose(width=4, stem=4, modules=(1, 1, 1), blocks=1)
    assert "people-small" in describe(load_model("crowd-tiny"), "crowd-tiny")
    assert "people-small" not in describe(model, "runs/mine/model.safetensors")
    model.trained_on = "procedural crowd scenes"
    assert "people-small" in describe(model, "runs/mine/model.safetensors")
    model.trained_on = "photographs of mine"
    assert "photographs of mine" in describe(model, "runs/mine/model.safetensors")


def test_crowd_scenes_say_what_they_are(crowd):
    assert isinstance(crowd, CocoPersons) and crowd.description == "procedural crowd scenes"


def listed(tmp_path, names, size=(50, 60)):
    """An annotation file of one person with a box of its own in each picture, and one unlabelled.
    """
    person = {"category_id": 1, "iscrowd": 0, "area": 100.0, "keypoints": [5, 5, 2] * 17}
    people = [{**person, "id": i, "image_id": i, "bbox": [i, i, 20, 30]} for i in range(len(names))]
    nobody = {**person, "id": 99, "image_id": 0, "bbox": [1, 1, 9, 9], "keypoints": [0] * 51}
    path = tmp_path / "people.json"
    path.write_text(json.dumps({
        "images": [{"id": i, "file_name": name, "width": size[0], "height": size[1]}
                   for i, name in enumerate(names)],
        "annotations": [*people, nobody], "categories": [{"id": 1, "name": "person"}]}))
    return path


def test_pictures_of_one_name_are_told_apart_by_their_folders(folder, estimator, capsys):
    (folder / "deeper" / "a.png").write_bytes((folder / "a.png").read_bytes())
    ann = listed(folder, ["deeper/a.png", "other/a.png"])
    photos = find_photos([str(folder / "deeper" / "a.png")])
    add_boxes(photos, ann)
    assert photos[0].image_id == 0 and photos[0].boxes.tolist() == [[0, 0, 20, 30]]
    assert "unlabelled: 1" in capsys.readouterr().err, "who is left out is counted"
    with pytest.raises(DataError):
        add_boxes(find_photos([str(folder / "a.png")]), ann)


def test_boxes_of_another_size_of_the_picture_are_refused(folder, estimator):
    photos = find_photos([str(folder / "a.png")])
    add_boxes(photos, listed(folder, ["a.png"], size=(500, 600)))
    assert not [*predict_photos(estimator, photos, None, failed := [])]
    assert "made for (500, 600)" in failed[0]


def test_what_cannot_start_replaces_nothing(folder, tmp_path):
    poses, picture = tmp_path / "poses.json", str(folder / "a.png")
    command = ["predict", picture, "--model", "crowd-tiny-nocue", "--json", str(poses)]
    assert main([*command, "--click", "5,5"]) == 2 and not poses.exists()
    poses.write_text("mine")
    assert main([*command, "--click", "5,5", "--overwrite"]) == 2
    assert main([*command[:-1], str(folder), "--overwrite"]) == 2  # a folder, before the work
    assert poses.read_text() == "mine"


def test_a_name_that_the_terminal_cannot_show_stops_nothing(folder):
    odd = os.fsencode(folder) + b"/caf\xe9.png"
    os.rename(folder / "a.png", odd)
    ended = subprocess.run([sys.executable, "-m", "hintpose_lite", "predict", folder, "--model",
                            "crowd-tiny", "--hops", "1"], capture_output=True,
                           env={**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0 and ended.stdout.count(b"1 pose(s)") == 2
