"""What users of such tools reported: files as they really are, read rightly or refused clearly."""

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite import Cue
from hintpose_lite.cli import main
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import CheckpointError, DataError
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.evaluation.judge import score_results
from hintpose_lite.inputs.entries import is_crowd
from hintpose_lite.inputs.pictures import read_picture
from hintpose_lite.inputs.skeletons import SHIPPED, load_skeleton
from hintpose_lite.model.hintpose import HintPose, Spec
from hintpose_lite.photos.detectors import ResultFile
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.weights.weights import load_model

WIDTH, HEIGHT = 640, 480
PREDICT = ["predict", "img", "--model", "crowd-tiny", "--hops", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(n=2, people=2):
    """n pictures in img/ and their COCO content, with so many people each."""
    os.makedirs("img", exist_ok=True)
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [
        {"id": 1, "name": "person", "keypoints": list(COCO17.names)}]}
    for i in range(n):
        noise = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(f"img/p{i}.jpg")
        content["images"].append({"id": i + 1, "file_name": f"p{i}.jpg", "width": WIDTH,
                                  "height": HEIGHT})
        for k in range(people):
            x, y = 40 + 250 * k, 60 + 10 * k
            joints = [v for j in range(17) for v in (x + 20 + 9 * j % 130, y + 15 + 20 * j, 2)]
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": i + 1, "category_id": 1,
                "iscrowd": 0, "bbox": [x, y, 170, 360], "area": 30000.0, "keypoints": joints,
                "segmentation": [[x, y, x + 170, y, x + 170, y + 360, x, y + 360]]})
    return content


def put(content, name="ann.json"):
    Path(name).write_text(json.dumps(content))
    return name


def persons_of(content, **settings):
    return CocoPersons(put(content), "img", **settings)


def run(*arguments):
    """Exit status and everything that was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main([*arguments])
    return status, said.getvalue()


@pytest.mark.parametrize("area", [..., 0, None, "none"])
def test_without_areas_people_get_those_of_their_boxes(folder, area):
    content = make()
    for person in content["annotations"]:
        person["segmentation"] = []
        person["area"] = area
        if area is ...:
            del person["area"]
    persons = persons_of(content)
    assert persons.areas.tolist() == pytest.approx([0.53 * 170 * 360] * 4)
    assert sum(persons.repaired.values()) == 4 and persons.odd


@pytest.mark.parametrize("rename", [
    lambda n: "images\\" + n, lambda n: "img/" + n, lambda n: "C:\\Users\\X\\run 3\\" + n,
    lambda n: "/data/of/somebody/" + n, lambda n: "./" + n,
    lambda n: n.replace(".jpg", ".JPG"), lambda n: n.replace("p", "%70")])
def test_pictures_are_found_under_a_slightly_other_name(folder, rename):
    content = make()
    for picture in content["images"]:
        picture["file_name"] = rename(picture["file_name"])
    persons = persons_of(content)
    assert [persons[row].path.name for row in (0, 3)] == ["p0.jpg", "p1.jpg"]
    assert persons.read(0).shape == (HEIGHT, WIDTH, 3) and not persons.skipped


def test_names_are_compared_in_one_unicode_form(folder):
    content = make(1)
    os.rename("img/p0.jpg", unicodedata.normalize("NFD", "img/Größe.jpg"))
    content["images"][0]["file_name"] = unicodedata.normalize("NFC", "Größe.jpg")
    assert persons_of(content).read(0).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("given", [".", "img/empty"])
def test_the_folder_may_be_given_too_high_or_too_low(folder, given):
    content = make()
    os.makedirs("img/empty")
    persons = CocoPersons(put(content), given)
    assert persons.read(0).shape == (HEIGHT, WIDTH, 3)


def test_of_two_pictures_that_fit_none_is_taken(folder):
    content = make()
    for name in "ab":
        os.makedirs(f"img/{name}")
        Image.new("RGB", (WIDTH, HEIGHT)).save(f"img/{name}/p9.jpg")
    content["images"][0]["file_name"] = "old/p9.jpg"
    assert len(persons_of(content).skipped) == 3  # the picture and its two people
    content["images"][0]["file_name"] = "C:\\b\\p9.jpg"
    assert persons_of(content)[0].path == Path("img/b/p9.jpg")


def test_where_no_picture_is_found_the_message_says_what_lies_there(folder):
    content = make()
    os.makedirs("other/x")
    Path("other/x/readme.txt").write_text("")
    with pytest.raises(DataError, match="readme|x") as caught:
        CocoPersons(put(content), "other/x")
    assert "p0.jpg" in str(caught.value) and "other/x" in str(caught.value)


def test_one_person_per_picture_is_validated_in_own_boxes(folder):
    put(make(people=1))
    status, said = run("train", "--preset", "sample", "--out", "run", "--data", "ann.json", "img",
                       "--set", "steps=1", "--set", "batch=2")
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert status == 0 and last["ap"] is None and last["own_ap"] is not None
    assert "nobody" in said
    with pytest.raises(DataError):
        evaluate(load_model("crowd-tiny"), CocoPersons("ann.json", "img"), protocol="shared")


def test_names_of_joints_are_compared_without_case_and_hyphens(folder):
    content = make()
    names = [name.replace("_", "-").title() for name in COCO17.names]
    content["categories"][0]["keypoints"] = names
    assert len(persons_of(content)) == 4
    content["categories"][0]["keypoints"] = [*names, "spare one", "spare two"]
    persons = persons_of(content)
    assert len(persons) == 4 and any("spare one" in remark for remark in persons.remarks)


def test_other_joints_have_a_way_on_the_command_line(folder):
    content = make()
    names = ["Head", "left hand", "right hand"]
    content["categories"][0]["keypoints"] = names
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:9]
    put(content)
    status, said = run("evaluate", "--model", "crowd-tiny", "--data", "ann.json", "img")
    assert status == 2 and "--skeleton" in said
    Path("s.json").write_text(json.dumps({
        "names": ["head", "left_hand", "right_hand"], "swaps": [["left_hand", "right_hand"]],
        "limbs": [["head", "left_hand"], [0, 2]], "sigmas": [.08, .06, .06]}))
    small = [part for pair in ("width=4", "stem=4", "modules=(1,1,1)", "steps=1", "batch=2",
                               "input_size=(32,64)", "half_body=0") for part in ("--set", pair)]
    status, said = run("train", "--preset", "sample", "--out", "run", "--skeleton", "s.json",
                       "--data", "ann.json", "img", *small)
    assert status == 0, said
    status, said = run("evaluate", "--model", "run/model.safetensors", "--skeleton", "s.json",
                       "--data", "ann.json", "img", "--hops", "1")
    assert status == 0 and "people" in said
    status, said = run("predict", "img", "--model", "run/model.safetensors", "--skeleton",
                       "s.json", "--boxes", "ann.json", "--json", "poses.json", "--out", "drawn")
    assert status == 0 and len(json.loads(Path("poses.json").read_text())[0]["keypoints"]) == 9


@pytest.mark.parametrize("name, joints", [("crowdpose", 14), ("aic", 14), ("mpii", 16),
                                          ("coco", 17)])
def test_skeletons_of_other_data_sets_ship(name, joints):
    skeleton = load_skeleton(name)
    assert len(skeleton) == joints and len(skeleton.limbs) >= joints - 2
    for i, mirrored in enumerate(skeleton.mirror):
        sides = skeleton.names[i], skeleton.names[mirrored]
        assert (i == mirrored) == ("left_" not in sides[0] and "right_" not in sides[0])
        assert {part.removeprefix("left_").removeprefix("right_") for part in sides} != sides
    assert skeleton is SHIPPED[name]


def test_results_may_hold_numpy_numbers_and_text(folder):
    persons = persons_of(make())
    kinds = (lambda i: i, int, str, float)  # an id of numpy, and others
    for kind in kinds:
        results = [{"image_id": kind(image), "keypoints": points.ravel(), "score": np.float32(1)}
                   for image, points in zip(persons.image_ids, persons.keypoints, strict=True)]
        assert score_results(persons, results)["AP"] == 1
    with pytest.raises(DataError, match="first.jpg"):
        score_results(persons, [{"image_id": "first.jpg", "keypoints": [0] * 51, "score": 1}])


def test_boxes_are_enough_for_predict_and_not_for_training(folder):
    content = make()
    for person in content["annotations"]:
        del person["keypoints"]
    del content["categories"][0]["keypoints"]
    put(content)
    status, said = run(*PREDICT, "--boxes", "ann.json", "--json", "p.json")
    assert status == 0 and len(json.loads(Path("p.json").read_text())) == 4, said
    with pytest.raises(DataError, match="person_keypoints"):
        persons_of(content)


CONVENTIONS = {
    "x0, y0": lambda x, y, w, h: [x, y, x + w, y + h],
    "centre": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "0 to 1": lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT],
    "per cent": lambda x, y, w, h: [100 * x / WIDTH, 100 * y / HEIGHT, 100 * w / WIDTH,
                                    100 * h / HEIGHT],
    "y, x": lambda x, y, w, h: [y, x, h, w]}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_another_convention_of_boxes_is_suspected(folder, name):
    content = make(4)
    assert not any("suspicion" in remark for remark in persons_of(content).remarks)
    boxes = [person["bbox"] for person in content["annotations"]]
    for person, box in zip(content["annotations"], boxes, strict=True):
        person["bbox"] = CONVENTIONS[name](*box)
    assert name in persons_of(content).summary()
    content["annotations"] = make(4)["annotations"]
    persons = persons_of(content)
    detections = [{"image_id": person["image_id"], "category_id": 1, "score": .9,
                   "bbox": CONVENTIONS[name](*person["bbox"])} for person in content["annotations"]]
    with pytest.warns(UserWarning, match=name):
        evaluate(load_model("crowd-tiny"), persons, protocol="detected", detections=detections,
                 hops=1, flip=False)


def test_everything_as_fractions_is_suspected(folder):
    content = make()
    for person in content["annotations"]:
        person["bbox"] = CONVENTIONS["0 to 1"](*person["bbox"])
        person["keypoints"] = [value / (WIDTH, HEIGHT, 1)[i % 3]
                               for i, value in enumerate(person["keypoints"])]
    assert "suspicion" in persons_of(content).summary()


def test_joints_areas_and_repetitions_are_suspected(folder):
    def remarks(change):
        content = make(4)
        for person in list(content["annotations"]):
            change(content, person)
        return " ".join(persons_of(content).remarks)

    def turn(_, person):
        joints = person["keypoints"]
        joints[0::3], joints[1::3] = joints[1::3], joints[0::3]

    def repeat(content, person):
        content["annotations"].append({**person, "id": 100 + person["id"]})

    assert remarks(lambda *_: None) == ""
    assert "y, x" in remarks(turn)
    assert "areas" in remarks(lambda _, person: person.update(area=1.0))
    assert "4 people are annotated twice" not in remarks(lambda *_: None)
    assert "8 people are annotated twice" in remarks(repeat)


def test_a_car_is_no_person_and_a_mask_has_a_box(folder):
    mask = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 10 + 20, 40, HEIGHT * WIDTH
                                                 - HEIGHT * 10 - 60]}
    results = [{"image_id": 1, "category_id": k, "score": .9, "segmentation": mask}
               for k in (1, 3, 18)]
    found = ResultFile(results)
    assert found.others == 2 and found.of(1).boxes.tolist() == [[10, 20, 1, 40]]
    with pytest.raises(DataError, match="2 results"):
        ResultFile(results[1:])


def test_results_of_other_pictures_with_the_same_numbers_are_refused(folder):
    content = make(3)
    put(content)
    run(*PREDICT, "--json", "p.json")
    for i, picture in enumerate(content["images"]):
        picture["id"] = 3 - i
    for person in content["annotations"]:
        person["image_id"] = 4 - person["image_id"]
    put(content)
    status, said = run("evaluate", "--poses", "p.json", "--data", "ann.json", "img")
    assert status == 2 and "p0.jpg" in said and "p2.jpg" in said


def test_joints_at_0_0_are_unlabelled(folder):
    content = make()
    for person in content["annotations"]:
        person["keypoints"][-6:] = [0, 0, 2, 0, 0, 1]
    persons = persons_of(content)
    assert (persons.keypoints[:, -2:, 2] == 0).all() and sum(persons.repaired.values()) == 8


@pytest.mark.parametrize("nothing", [None, float("nan"), "NaN"])
def test_an_unlabelled_joint_needs_no_place(folder, nothing):
    content = make()
    for person in content["annotations"]:
        person["keypoints"][-3:] = [nothing, nothing, 0]
    persons = persons_of(content)
    assert len(persons) == 4 and (persons.keypoints[:, -1] == 0).all()


NET = Spec(width=4, stem=4, modules=(1, 1, 1), blocks=1, cue=False, hops=1)


@pytest.mark.parametrize("name, size, codec", [
    ("pose_hrnet_w32_384x288.pth", (288, 384), "quarter"),
    ("hrnet_w32_coco_256x192_udp.pth", (192, 256), "udp"),
    ("hrnet_w32_288x384_dark.pth", (288, 384), "dark"), ("mine.pth", (192, 256), "quarter")])
def test_a_file_name_tells_size_and_codec(folder, name, size, codec):
    torch.save(HintPose.from_spec(NET).state_dict(), name)
    with pytest.warns(UserWarning, match=f"{size[0]}, {size[1]}"):
        spec = load_model(name).spec
    assert (spec.input_size, spec.codec) == (size, codec)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "net.",
                                    "module._orig_mod.", "my.own.", "module.backbone."])
def test_any_prefix_of_all_names_goes(folder, prefix):
    net = HintPose.from_spec(NET)
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, "c.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_model("c.pth").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("text, word", [
    ("<!DOCTYPE html><title>Quota exceeded</title>", "web page"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:12", "git lfs pull"),
    ("nonsense", "damaged")])
def test_what_is_no_weights_file_is_named_for_what_it_is(folder, text, word):
    Path("w.pth").write_text(text)
    with pytest.raises(CheckpointError, match=word) as caught:
        load_model("w.pth")
    assert "weights_only" not in str(caught.value)


def test_a_broken_exif_block_is_passed_over(folder):
    make(1)
    Image.open("img/p0.jpg").save("img/p0.jpg", dpi=(300, 300))
    content = Path("img/p0.jpg").read_bytes()
    block = b"Exif\0\0" + bytes(16)
    Path("img/p0.jpg").write_bytes(content[:2] + b"\xff\xe1"
                                   + (len(block) + 2).to_bytes(2, "big") + block + content[2:])
    with pytest.warns(UserWarning, match="p0.jpg"):
        assert read_picture("img/p0.jpg").shape == (HEIGHT, WIDTH, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(*PREDICT)[0] == 0


def test_all_bad_pictures_are_named_at_once(folder):
    put(make(4))
    for i in (1, 3):
        path = Path(f"img/p{i}.jpg")
        path.write_bytes(path.read_bytes()[:5000])
    status, said = run("evaluate", "--model", "crowd-tiny", "--hops", "1", "--no-flip", "--data",
                       "ann.json", "img")
    assert status == 2 and "p1.jpg" in said and "p3.jpg" in said
    status, said = run("train", "--preset", "sample", "--out", "run", "--data", "ann.json", "img",
                       "--set", "steps=1")
    assert status == 2 and "p1.jpg" in said and "p3.jpg" in said
    status, said = run("evaluate", "--model", "crowd-tiny", "--hops", "1", "--no-flip", "--data",
                       "ann.json", "img", "--skip-bad", "--out", "report.json")
    assert status == 0 and "p1.jpg" in said and "p3.jpg" in said
    assert json.loads(Path("report.json").read_text())["people"] == 4
    status, said = run("check-data", "ann.json", "img", "--fix", "good.json")
    assert status == 1 and "p1.jpg" in said and "p3.jpg" in said
    assert len(CocoPersons("good.json", "img")) == 4
    assert run("check-data", "good.json", "img") == (0, CocoPersons(
        "good.json", "img").summary() + "\nnothing odd was found\n")


def test_masks_that_are_not_the_person_s_are_named(folder):
    content = make(1)
    first, second = content["annotations"]
    second["segmentation"] = [[270, 60, 440, 60, 440, 130, 270, 130]]  # in the box, off the joints
    put(content)
    status, said = run("check-data", "ann.json", "img")
    assert status == 1 and "annotation 2" in said and "annotation 1" not in said


@pytest.mark.parametrize("name", ["Person", "athlete", "Human Body"])
def test_the_category_that_has_keypoints_is_the_people_s(folder, name):
    content = make()
    content["categories"][0]["name"] = name
    content["categories"].append({"id": 2, "name": "ball"})
    persons = persons_of(content)
    assert len(persons) == 4
    assert name == "Person" or any(name in remark for remark in persons.remarks)
    content["annotations"][0]["category_id"] = 2
    content["categories"][0]["name"] = "athlete"
    with pytest.raises(DataError, match="--category"):
        persons_of(content)
    assert len(persons_of(content, category="Athlete")) == 3


def test_numbers_may_be_written_as_text_or_with_a_point(folder):
    content = make()
    content["images"][0]["width"], content["images"][1]["id"] = 640.0, "2"
    content["annotations"][3] |= {"image_id": 2.0, "id": "4", "bbox": ["290", 70, "170.0", 360]}
    persons = persons_of(content)
    assert len(persons) == 4 and persons.boxes[3].tolist() == [290, 70, 170, 360]


def test_pictures_that_are_not_read_are_listed(folder):
    make(1)
    Path("img/IMG_1.HEIC").write_bytes(b"\0\0\0\x24ftypheic" + bytes(99))
    os.makedirs("img/more")
    Image.new("RGB", (60, 80)).save("img/more/q.png")
    status, said = run(*PREDICT)
    assert status == 1 and "IMG_1.HEIC" in said and "--recursive" in said
    status, said = run(*PREDICT, "--recursive")
    assert "q.png" in said


def test_a_script_without_a_guard_gets_to_know_it(folder):
    Path("u.py").write_text(
        "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
        "from hintpose_lite import make_crowd\n"
        "make_crowd('scenes', images=300, size=96, workers=2)\n")
    done = subprocess.run([sys.executable, "u.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode and 'if __name__ == "__main__":' in done.stderr


def test_brackets_in_a_folder_s_name_are_no_pattern(folder):
    make(1)
    os.rename("img", "day [1]")
    assert run("predict", "day [1]/*.jpg", *PREDICT[2:])[0] == 0


def test_two_exports_with_the_same_ids_are_refused(folder):
    content = make()
    content["images"][1]["id"] = 1
    with pytest.raises(DataError, match="p1.jpg"):
        persons_of(content)


def test_detections_of_which_none_is_a_person_are_an_error(folder):
    content = make()
    put(content)
    put([{"image_id": person["image_id"], "category_id": 0, "score": .9, "bbox": person["bbox"]}
         for person in content["annotations"]], "det.json")
    status, said = run("evaluate", "--model", "crowd-tiny", "--data", "ann.json", "img",
                       "--protocol", "detected", "--detections", "det.json")
    assert status == 2 and "det.json" in said


def test_gzip_is_read_and_other_files_are_named_for_what_they_are(folder):
    content = json.dumps(make())
    Path("ann.json.gz").write_bytes(gzip.compress(content.encode()))
    assert len(CocoPersons("ann.json.gz", "img")) == 4
    for text, word in (("<html>", "web page"), ('{"a": 1}\n{"a": 2}\n', "JSON lines"),
                       ("version https://git-lfs.github.com/spec/v1\n", "git lfs"),
                       (content[:-9], "cut off")):
        Path("other.json").write_text(text)
        with pytest.raises(DataError, match=word):
            CocoPersons("other.json", "img")


@pytest.mark.parametrize(("crowd", "is_one"), [
    (None, False), (0, False), ("0", False), ("0.0", False), (False, False), ("false", False),
    ("", False), (1, True), ("1", True), (True, True), ("true", True)])
def test_crowds_may_be_marked_in_many_ways(crowd, is_one):
    assert is_crowd({"iscrowd": crowd}) == is_one and not is_crowd({})


def test_a_category_may_have_the_number_0(folder):
    content = make()
    content["categories"][0]["id"] = 0
    for person in content["annotations"]:
        person["category_id"] = 0
    assert len(persons_of(content)) == 4


def test_joints_with_places_and_v_0_everywhere_are_explained(folder):
    content = make()
    for person in content["annotations"]:
        person["keypoints"][2::3] = [0] * 17
    with pytest.raises(DataError, match="v = 0"):
        persons_of(content)


def test_a_category_for_every_joint_is_explained(folder):
    content = make()
    content["categories"] = [{"id": k + 1, "name": name, "keypoints": []}
                             for k, name in enumerate(COCO17.names)]
    with pytest.raises(DataError, match="every joint"):
        persons_of(content)


def test_a_point_may_be_a_pair():
    for cue in (Cue.point((150, 100)), Cue.point(150, 100), Cue.point(np.array([150, 100]))):
        assert cue.xy.tolist() == [[150, 100]]


def test_an_address_is_no_picture():
    with pytest.raises(DataError, match="address"):
        read_picture("https://example.org/p.jpg")


def test_an_unlisted_picture_stops_nothing_and_weak_poses_are_left_out(folder):
    put(make(2))
    Image.new("RGB", (60, 80)).save("img/unlisted.png")
    status, said = run(*PREDICT, "--boxes", "ann.json", "--json", "p.json")
    assert status == 1 and "unlisted.png" in said
    assert len(json.loads(Path("p.json").read_text())) == 4
    status, said = run(*PREDICT, "--boxes", "ann.json", "--min-score", "1")
    assert "4 " not in said.splitlines()[0] and "nothing was written" in said
