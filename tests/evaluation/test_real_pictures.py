"""The same commands on real pictures: a small network learns sixteen people by heart."""

import json

import numpy as np

from hintpose_lite.cli import main
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.weights.weights import load_model

STILL = ["rotate", "scale", "flip", "half_body", "shift", "shared", "light"]


def sixteen_people(sample, path):
    """An annotation file with 16 well-labelled people of the sample."""
    everybody = CocoPersons(sample / "train.json", sample / "images")
    labelled = (everybody.keypoints[..., 2] > 0).sum(1)
    rows = np.flatnonzero((labelled >= 10) & (everybody.areas > 64**2))[:16]
    chosen = set(everybody.annotation_ids[rows].tolist())
    content = json.loads((sample / "train.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["id"] in chosen]
    used = {a["image_id"] for a in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in used]
    path.write_text(json.dumps(content))
    return CocoPersons(path, sample / "images")


def test_hintpose_train_overfits_sixteen_real_people(coco_sample, tmp_path):
    persons = sixteen_people(coco_sample, tmp_path / "few.json")
    settings = {**dict.fromkeys(STILL, 0), "hops": 1, "steps": 200, "warmup": 20,
                "checkpoint_every": 100, "validate_every": 10_000}
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", "--preset", "crowd-quick", "--out", str(tmp_path / "run"), "--data",
                 str(persons.annotations), str(persons.images), *changes]) == 0
    model = load_model(tmp_path / "run" / "model.safetensors")
    report = evaluate(model, persons, flip=False)
    assert report.ap > 0.9
    assert report.groups["contested"]["people"] + report.groups["uncontested"]["people"] == 16
