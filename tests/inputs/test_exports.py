"""COCO files as the labelling tools' own code wrote them (the README lists tools and versions), cut
to few people; each stands for a kind of file, of which other members are tried too."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import DataError
from hintpose_lite.pose.skeleton import COCO17

WIDTH, HEIGHT = 320, 240
NAMES = list(COCO17.names)
WHOLE = [v for j in range(17) for v in (60.5 + 3 * j, 38.65 + 11 * j, 2)]
PART = [0, 0, 0] * 5 + [v for j in range(12) for v in (220.0 + 2 * j, 57.5 + 13 * j, 2)]
BOX = [50.5, 30.25, 72.0, 198.0]


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that writes a tool's file beside its pictures, and reads both."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("img")
    for name in ("Bild 1.jpg", "grün.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(f"img/{name}")

    def written(content, **settings):
        Path("ann.json").write_text(json.dumps(content))
        return CocoPersons("ann.json", "img", **settings)
    return written


def pictures(first=1, folder="", **changes):
    size = {"width": WIDTH, "height": HEIGHT}
    return [{"id": first + i, "file_name": folder + name} | size | changes
            for i, name in enumerate(("Bild 1.jpg", "grün.jpg"))]


def person(name="person", **changes):
    return {"id": 1, "name": name, "supercategory": "", "keypoints": NAMES,
            "skeleton": []} | changes


def datumaro():
    """Datumaro, coco_person_keypoints: the second person has a polygon."""
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}], "info": {"description": "", "year": ""},
        "categories": [person()], "images": pictures(license=0, coco_url="", date_captured=0),
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [], "area": 14256.0,
             "bbox": BOX, "iscrowd": 0, "keypoints": WHOLE, "num_keypoints": 17},
            {"id": 2, "image_id": 2, "category_id": 1, "area": 6400.0,
             "segmentation": [[210.0, 50.0, 250.0, 50.0, 250.0, 210.0, 210.0, 210.0]],
             "bbox": [210.0, 50.0, 40.0, 160.0], "iscrowd": 0, "keypoints": PART,
             "num_keypoints": 12}]}


def sleap(v=2):
    """sleap-io, save_coco: v is 2 for joints that have a place, or 1 (visibility_encoding)."""
    people = [([*WHOLE], [60.5, 38.65, 48.0, 176.0]), ([*PART], [220.0, 57.5, 22.0, 143.0])]
    for joints, _ in people:
        joints[2::3] = [v if old else 0 for old in joints[2::3]]
    return {
        "images": pictures(),
        "annotations": [
            {"id": 1 + i, "image_id": 1 + i, "category_id": 1, "keypoints": joints,
             "num_keypoints": 17 - 5 * i, "bbox": box,
             "area": box[2] * box[3], "iscrowd": 0} for i, (joints, box) in enumerate(people)],
        "categories": [{"id": 1, "name": "Skeleton-0", "keypoints": NAMES, "skeleton": []}]}


def label_studio():
    """label-studio-sdk, COCO: joints have a category of their own, and so have the boxes."""
    rounded = [int(round(value)) for value in WHOLE]
    return {
        "images": pictures(first=0, folder="/data/local-files/"),
        "categories": [{"id": 9, "name": "person"}, person("default", id=10)],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 9, "segmentation": [], "bbox": BOX,
             "ignore": 0, "iscrowd": 0, "area": 14256.0},
            {"id": 1, "image_id": 0, "category_id": 10, "keypoints": rounded,
             "num_keypoints": 17, "bbox": [60, 39, 49, 176], "iscrowd": 0}],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"}}


def fiftyone(visible=2):
    """FiftyOne's COCO exporter with Keypoints: there are no boxes, and no areas."""
    joints = [*map(int, WHOLE)]
    joints[2::3] = [visible] * 17
    return {
        "info": {"url": "https://voxel51.com/fiftyone"}, "licenses": [],
        "categories": [{"id": 1, "name": "person", "supercategory": None, "keypoints": NAMES}],
        "images": pictures(license=None, coco_url=None),
        "annotations": [{"id": 1 + i, "image_id": 1 + i, "category_id": 1, "keypoints": joints,
                         "num_keypoints": 17, "iscrowd": 0} for i in range(2)]}


def deeplabcut(absent):
    """DeepLabCut, materialize(framework="coco") after a conversion table: -1 for what has no
    counterpart. Names are absolute, and the category is the first individual's."""
    joints = [absent] * 15 + PART[15:]
    return {
        "images": pictures(first=0, folder="/data/project/images/"),
        "annotations": [{"image_id": 1, "num_keypoints": 17, "keypoints": joints, "id": 1,
                         "category_id": 0, "area": 20115.625, "bbox": [200.0, 37.5, 62.0, 183.0],
                         "iscrowd": 0}],
        "categories": [person("person1", id=0, supercategory="animal")]}


def test_datumaro_s_people_are_read_as_they_are(read):
    persons = read(datumaro())
    assert not persons.odd and persons.keypoints.tolist() == np.reshape(
        [WHOLE, PART], (2, 17, 3)).astype("f4").tolist()
    assert persons.boxes[0].tolist() == BOX and persons.has_mask.tolist() == [False, True]


@pytest.mark.parametrize("name", ["person", "athlete"])
def test_a_category_per_joint_beside_the_people_s_is_no_error(read, name):
    content = datumaro()
    content["categories"] = [person(name)] + [
        {"id": 2 + i, "name": joint, "supercategory": name, "keypoints": [], "skeleton": []}
        for i, joint in enumerate(NAMES)]
    assert len(read(content)) == 2
    content["categories"][0]["keypoints"] = []  # as labelme2coco has it, without joints anywhere
    with pytest.raises(DataError, match="every joint"):
        read(content)


@pytest.mark.parametrize("crowd", [1, True])
def test_a_person_with_a_run_length_mask_is_no_crowd(read, crowd):
    content = datumaro()
    runs = [HEIGHT * 210 + 50, 160, HEIGHT * WIDTH - HEIGHT * 210 - 210]
    for entry in content["annotations"]:
        entry |= {"iscrowd": crowd, "segmentation": {"counts": runs, "size": [HEIGHT, WIDTH]}}
    persons = read(content)
    assert len(persons) == 2 and persons[1].mask().sum() == 160
    assert sum(persons.repaired.values()) == 2 and not persons.counts
    content["annotations"][0]["iscrowd"] = 0  # the other one may really be a crowd
    assert read(content).counts == {"crowd": 1}


def test_joints_that_are_all_hidden_are_suspected(read):
    assert any("suspicion" in remark for remark in read(sleap(v=1)).remarks)
    assert not any("suspicion" in remark for remark in read(sleap(v=2)).remarks)


@pytest.mark.parametrize("changes", [{"width": 0, "height": 0}, {"width": None, "height": None},
                                     {"height": "0"}])
def test_sizes_that_a_tool_did_not_know_are_the_pictures(read, changes):
    content = sleap()
    content["images"] = pictures(**changes)
    persons = read(content)
    assert len(persons) == 2 and persons[1].image_size == (WIDTH, HEIGHT) and persons.odd
    assert persons.read(0).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DataError):
        read(content, check_pictures=False)


def test_names_that_have_lost_their_folders_are_suspected(read):
    content = sleap()
    assert not any("suspicion" in remark for remark in read(content).remarks)
    content["images"][1]["file_name"] = "Bild 1.jpg"
    assert any("suspicion" in remark for remark in read(content).remarks)


def test_joints_may_be_in_another_category_than_the_boxes(read):
    persons = read(label_studio())
    assert len(persons) == 1 and persons.counts == {"other category": 1}
    assert any("default" in remark for remark in persons.remarks)
    assert persons.keypoints[0, 3].tolist() == [70, 72, 2]


@pytest.mark.parametrize("box", [..., None, []])
def test_people_without_boxes_get_one_around_their_joints(read, box):
    content = fiftyone()
    if box is not ...:
        content["annotations"][1]["bbox"] = box
    persons = read(content)
    x, y, w, h = persons.boxes[1]
    xy = persons.keypoints[1, :, :2]
    assert len(persons) == 2 and not persons.remarks
    assert ([x, y] < xy).all() and (xy < [x + w, y + h]).all()
    assert h == pytest.approx(1.2 * 176, 0.01)
    content["annotations"][1] |= {"keypoints": [5, 5, 2] + [0] * 48}  # a point has no extent
    assert len(read(content)) == 1


def test_without_boxes_joints_of_another_number_are_still_named(read):
    content = fiftyone()
    for entry in content["annotations"]:
        entry["keypoints"] = entry["keypoints"][:42]
    del content["categories"][0]["keypoints"]
    with pytest.raises(DataError, match="--skeleton"):
        read(content)


@pytest.mark.parametrize("absent", [-1, -1.0, "-1"])
def test_v_below_0_is_unlabelled(read, absent):
    persons = read(deeplabcut(absent))
    assert persons.keypoints[0].tolist() == np.reshape(PART, (17, 3)).tolist()
    assert sum(persons.repaired.values()) >= 5 and persons[0].path.name == "grün.jpg"


def test_joints_may_be_lists_of_their_own(read):
    content = deeplabcut(0)
    content["annotations"][0]["keypoints"] = np.reshape(PART, (17, 3)).tolist()
    assert read(content).keypoints[0].tolist() == np.reshape(PART, (17, 3)).tolist()
    content["annotations"][0]["keypoints"] = [[1, 2, 2]] * 16
    with pytest.raises(DataError, match="51 numbers"):
        read(content)
