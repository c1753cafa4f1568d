"""The script that runs a detector over a data set: complete, resumable, readable by `evaluate`."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hintpose_lite.errors import FetchError
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.inputs.masks import decode_mask
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos.detectors import Detections, Detector, ResultFile

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "detect_people.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("detect_people", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def looked(crowd, monkeypatch):
    """A detector that knows the truth; lists the pictures it was shown, by image id."""
    ids, shown = {}, []
    for row, image_id in enumerate(crowd.image_ids.tolist()):
        ids[crowd.read(row).tobytes()] = image_id

    def detect(self, picture):
        shown.append(ids[picture.tobytes()])
        rows = np.flatnonzero(crowd.image_ids == shown[-1])
        scores = np.linspace(.9, .5, len(rows), dtype="f4")
        if self.kind == "masks":
            return Detections(crowd.boxes[rows], scores, np.stack([crowd[i].mask() for i in rows]))
        points = crowd.keypoints[rows].copy()
        points[..., 2] = points[..., 2] > 0
        return Detections(crowd.boxes[rows], scores, keypoints=points)

    monkeypatch.setattr(Detector, "detect", detect)
    return shown


def call(script, crowd, *arguments) -> int:
    return script.main([str(a) for a in (crowd.annotations, crowd.images, *arguments)])


def test_boxes_and_masks(script, crowd, looked, tmp_path, capsys):
    out = tmp_path / "boxes.json"
    call(script, crowd, out)
    found = json.loads(out.read_text())
    assert len(found) == len(crowd) and looked == sorted(crowd.pictures)
    assert {entry["category_id"] for entry in found} == {crowd.category}
    assert f"{len(crowd)} people; pictures read: 8, not: 0" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.json"]
    person = crowd[0]
    entry = next(e for e in found if e["bbox"] == person.box.tolist())
    assert np.array_equal(decode_mask(entry["segmentation"], *person.image_size), person.mask())
    source = ResultFile(out).of(person.image_id)
    (cue, *_), = source(None, [person.box])
    assert np.array_equal(cue.array > 0, person.mask())
    torch.manual_seed(0)
    model = HintPose(width=4, stem=8, modules=(1, 1, 1), blocks=1, hops=1, input_size=(32, 64))
    report = evaluate(model.eval(), crowd, protocol="detected", detections=out, flip=False)
    assert report.people == len(crowd)
    assert "people missed, without a detection" not in report.counts


def test_poses_go_to_a_file_of_their_own(script, crowd, looked, tmp_path):
    out, cues = tmp_path / "boxes.json", tmp_path / "poses.json"
    call(script, crowd, out, "--kind", "keypoints", "--cues", cues)
    boxes, poses = json.loads(out.read_text()), json.loads(cues.read_text())
    assert set(boxes[0]) == {"image_id", "category_id", "bbox", "score"}
    assert [{key: pose[key] for key in boxes[0]} for pose in poses] == boxes
    known = crowd.keypoints[0][crowd.keypoints[0][:, 2] > 0, :2]
    (cue, *_), = ResultFile(cues).of(int(crowd.image_ids[0]))(None, [crowd.boxes[0]])
    assert np.array_equal(cue.xy, known)


@pytest.mark.parametrize("cut", [b"", b'[999, [{"image_id": 99', b"[1"])
def test_a_stopped_run_is_continued(script, crowd, looked, tmp_path, monkeypatch, cut):
    out, whole, detect = tmp_path / "boxes.json", tmp_path / "whole.json", Detector.detect
    call(script, crowd, whole)
    looked.clear()
    for stop in (3, 5):
        def detect_until(self, picture, stop=stop):
            if len(looked) == stop:
                raise KeyboardInterrupt
            return detect(self, picture)

        monkeypatch.setattr(Detector, "detect", detect_until)
        assert call(script, crowd, out) == 130
        part, = tmp_path.glob("*.part")
        with part.open("ab") as log:
            log.write(cut)
    monkeypatch.setattr(Detector, "detect", detect)
    call(script, crowd, out)
    assert looked == sorted(crowd.pictures) and out.read_bytes() == whole.read_bytes()
    assert not [*tmp_path.glob("*.part")]
    call(script, crowd, tmp_path / "other.json")
    assert len(looked) == 8 + 8, "another file is begun from the start"


def test_settings_of_a_stopped_run_are_not_mixed(script, crowd, looked, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "results", lambda *_, **__: [][1])
    for arguments in ([], ["--score", .3], ["--kind", "keypoints"]):
        with pytest.raises(IndexError):
            call(script, crowd, tmp_path / "boxes.json", *arguments)
    assert len([*tmp_path.glob("*.part")]) == 3


def test_bad_pictures_are_listed(script, crowd, looked, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    names = [name for name, *_ in crowd.pictures.values()]
    for name in names[2:]:
        (images / name).write_bytes((crowd.images / name).read_bytes())
    (images / names[0]).write_bytes(b"no picture")
    script.main([str(crowd.annotations), str(images), str(tmp_path / "boxes.json")])
    said = capsys.readouterr().out
    assert "pictures read: 6, not: 2" in said and "no such picture" in said
    assert re.search(f"{names[0]}: not a readable picture", said) and len(looked) == 6


def test_nothing_is_overwritten_and_nothing_is_ambiguous(script, crowd, looked, tmp_path, capsys):
    out, cues = tmp_path / "boxes.json", tmp_path / "poses.json"
    for arguments, message in (((out, "--cues", cues), "--kind keypoints"),
                               ((out, "--kind", "keypoints", "--cues", out), "--cues"),
                               ((out, "--kind", "keypoints", "--cues", cues), "exist already")):
        cues.write_text("mine")
        with pytest.raises(SystemExit) as stopped:
            call(script, crowd, *arguments)
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert cues.read_text() == "mine" and not looked and not out.exists()


def test_a_detector_that_cannot_be_had_stops_it(script, crowd, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise FetchError("offline")
    monkeypatch.setattr(Detector, "detect", fail)
    assert call(script, crowd, tmp_path / "boxes.json") == 2
    assert capsys.readouterr().err.strip().endswith("error: offline")
    assert script.main(["missing.json", str(tmp_path), str(tmp_path / "boxes.json")]) == 2
    assert "missing.json" in capsys.readouterr().err
    assert not (tmp_path / "boxes.json").exists()
