"""CocoPersons: what is listed, how people relate, what is skipped and why, what is refused."""

import json
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from hintpose_lite.data.coco import CocoPersons, PersonRecord
from hintpose_lite.errors import DataError
from hintpose_lite.inputs.people import Skipped
from hintpose_lite.pose.skeleton import COCO17, Skeleton

SIZE = 100
PERSON = {"id": 1, "name": "person"}
DOG = {"id": 2, "name": "dog"}


def image(identity=1, **changes):
    name = f"{identity}.png"
    return {"id": identity, "file_name": name, "width": SIZE, "height": SIZE} | changes


def person(identity, box=(10, 10, 20, 20), picture=1, joints=((15, 15, 2),), **changes):
    """An annotation whose first joints are the given ones, and the rest unlabelled."""
    keypoints = [number for joint in joints for number in joint]
    keypoints += [0] * (51 - len(keypoints))
    entry = {"id": identity, "image_id": picture, "category_id": 1, "iscrowd": 0, "area": 100.0,
             "bbox": list(box), "keypoints": keypoints, "segmentation": []} | changes
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.fixture
def load(tmp_path):
    """A function that writes annotations and pictures, and reads them with CocoPersons."""
    def write(*people, images=None, categories=(PERSON, DOG), pictures=("1.png",), **options):
        for name in pictures:
            Image.new("RGB", (SIZE, SIZE)).save(tmp_path / name)
        content = {"images": images or [image()], "annotations": list(people),
                   "categories": list(categories)}
        (tmp_path / "a.json").write_text(json.dumps(content))
        return CocoPersons(tmp_path / "a.json", tmp_path, **options)
    return write


# What is listed

def test_records_come_in_the_order_of_their_annotation_ids(load, tmp_path):
    joints = [(11.5, 12, 2), (13, 14, 1)]
    shape = [[1, 1, 5, 1, 5, 5]]
    persons = load(person(7, box=(1.5, 2, 3, 4)), person(3, joints=joints, segmentation=shape))
    assert len(persons) == 2 and persons.annotation_ids.tolist() == [3, 7]
    first, second = persons
    assert isinstance(first, PersonRecord)
    assert (first.image_id, first.annotation_id, first.area) == (1, 3, 100.0)
    assert first.image_size == (SIZE, SIZE) and first.path == tmp_path / "1.png"
    assert first.keypoints.shape == (17, 3) and first.keypoints.dtype == np.float32
    assert first.keypoints[:3].tolist() == [[11.5, 12, 2], [13, 14, 1], [0, 0, 0]]
    assert second.box.tolist() == [1.5, 2, 3, 4] and second.box.dtype == np.float32
    assert [ring.tolist() for ring in first.segmentation] == shape and second.segmentation is None
    assert first.mask().shape == (SIZE, SIZE) and first.mask().any() and second.mask() is None
    assert persons[-1].annotation_id == 7 and persons[np.int64(1)].annotation_id == 7
    assert persons.read(0).shape == (SIZE, SIZE, 3)
    with pytest.raises(IndexError):
        persons[2]


def test_a_changed_record_changes_nothing_else(load):
    persons = load(person(1))
    persons[0].box[:] = 0
    persons[0].keypoints[:] = 0
    assert persons.boxes[0].tolist() == [10, 10, 20, 20] and persons[0].keypoints[0, 2] == 2


def test_array_types(load):
    persons = load(person(1), person(2))
    kinds = {name: (getattr(persons, name).dtype.kind, getattr(persons, name).shape) for name in
             ("boxes", "keypoints", "areas", "overlap", "partner", "contested", "image_ids")}
    assert kinds == {"boxes": ("f", (2, 4)), "keypoints": ("f", (2, 17, 3)), "areas": ("f", (2,)),
                     "overlap": ("f", (2,)), "partner": ("i", (2,)), "contested": ("b", (2,)),
                     "image_ids": ("i", (2,))}
    assert persons.boxes.dtype == persons.keypoints.dtype == np.float32


def test_it_survives_the_way_to_a_worker_process(load):
    persons = pickle.loads(pickle.dumps(load(person(1), person(2))))
    assert persons[1].annotation_id == 2 and persons.partner.tolist() == [1, 0]


def test_another_skeleton(load):
    skeleton = Skeleton(("head", "hip"), (), ((0, 1),), (0.1, 0.1))
    category = {"id": 5, "name": "person", "keypoints": ["head", "hip"]}
    entry = person(1, category_id=5, keypoints=[1, 2, 2, 0, 0, 0])
    persons = load(entry, categories=[category], skeleton=skeleton)
    assert persons.keypoints.shape == (1, 2, 3)


def test_the_only_category_counts_as_person(load):
    assert len(load(person(1, category_id=9), categories=[{"id": 9, "name": "athlete"}])) == 1


def test_pictures_in_folders_and_with_meaningless_names(load, tmp_path):
    (tmp_path / "sub").mkdir()
    names = ["sub/000000000009.png", "no number.png"]
    images = [image(n, file_name=name) for n, name in enumerate([*names, "sub/gone.png"], 1)]
    persons = load(person(1), person(2, picture=2), person(3, picture=3), images=images,
                   pictures=names)
    assert [entry.path.name for entry in persons] == ["000000000009.png", "no number.png"]
    assert [entry.reason for entry in persons.skipped] == ["picture file is missing",
                                                           "image_id names no usable image"]


def test_pictures_need_not_be_there_unless_asked(load):
    assert len(load(person(1), pictures=(), check_pictures=False)) == 1
    with pytest.raises(DataError):
        load(person(1, picture=2), images=[image(2)])


def test_unlabelled_people_and_crowds_are_counted(load):
    persons = load(
        person(1), person(2, joints=[(15, 15, 0)]), person(3, keypoints=...),
        person(4, keypoints=[]), person(5, iscrowd=1), person(8, iscrowd=1, bbox=[0, 0, 0, 0]),
        person(6, category_id=2, keypoints=...), person(7, iscrowd=...),
        *(person(i) for i in range(9, 12)))
    assert persons.annotation_ids.tolist() == [1, 7, 9, 10, 11] and not persons.skipped
    assert persons.counts == {"unlabelled": 3, "crowd": 2, "other category": 1}


@pytest.mark.parametrize("category", [..., None, 3, "one", True])
def test_people_of_no_known_category_are_skipped(load, category):
    persons = load(person(1), person(2, category_id=category))
    assert persons.skipped == [Skipped("annotation", "annotations[1], id 2, image_id 1",
                                       "category_id names no category")]
    assert len(persons) == 1 and not persons.counts


# Overlap, partner, contested

def test_overlap_and_partner(load):
    persons = load(person(1, (0, 0, 20, 20)), person(2, (10, 0, 20, 20)),
                   person(3, (20, 0, 20, 20)), person(4, (60, 60, 5, 5)))
    assert persons.overlap.tolist() == [1 / 3, 1 / 3, 1 / 3, 0]
    assert persons.partner.tolist() == [1, 0, 1, -1]  # a tie goes to the lower id


def test_partners_need_not_be_mutual(load):
    persons = load(person(1, (0, 0, 20, 20)), person(2, (10, 0, 20, 20)),
                   person(3, (12, 0, 20, 20)))
    assert persons.partner.tolist() == [1, 2, 1]


def test_an_unlabelled_person_overlaps_but_is_no_partner(load):
    boxes = [(0, 0, 20, 20), (10, 0, 20, 20), (2, 0, 20, 20)]
    persons = load(person(1, boxes[0]), person(2, boxes[1]), person(3, boxes[2], keypoints=...))
    assert persons.overlap.tolist() == pytest.approx([18 / 22, 12 / 28])
    assert persons.partner.tolist() == [-1, -1]
    # With a labelled person just as near, that one is the partner, whatever the ids. And 3 has
    # no partner: it is the unlabelled person who has its very box.
    persons = load(person(1, boxes[2], keypoints=...), person(2, boxes[0]), person(3, boxes[2]))
    assert persons.partner.tolist() == [1, -1]
    assert persons.overlap.tolist() == pytest.approx([18 / 22, 1])


def test_the_skipped_for_keypoints_still_overlap(load):
    persons = load(person(1), person(2, keypoints=[1, 2]), person(3, (12, 10, 20, 20)))
    assert persons.overlap[0] == 1 and len(persons.skipped) == 1


def test_an_area_that_is_missing_is_taken_from_the_box(load):
    persons = load(person(1), person(2, area=...), person(3, area=nan), person(4, area=0),
                   person(5, area=0, segmentation={"size": [1, 1], "counts": "??"}))
    w, h = persons.boxes[1, 2:].tolist()
    assert persons.areas[1:].tolist() == pytest.approx([0.53 * w * h] * 4)
    assert sum(persons.repaired.values()) == 4 and "0.53" in persons.summary()


def test_crowds_and_other_pictures_and_categories_do_not_overlap(load):
    persons = load(person(1), person(2, picture=2), person(3, iscrowd=1), person(4, category_id=2),
                   images=[image(1), image(2)], pictures=["1.png", "2.png"])
    assert persons.overlap.tolist() == [0, 0] and persons.partner.tolist() == [-1, -1]


INSIDE, OUTSIDE = (15, 15, 2), (90, 90, 2)


@pytest.mark.parametrize("others, contested", [
    ([[INSIDE] * 3], True),
    ([[INSIDE] * 2 + [OUTSIDE] * 5], False),
    ([[INSIDE] * 2, [INSIDE] * 2], False),                    # one other person must have them all
    ([[(15, 15, 1)] * 3], True),
    ([[(15, 15, 0)] * 3 + [OUTSIDE]], False),                 # unlabelled joints do not count
    ([[(10, 10, 2), (30, 30, 2), (10, 30, 2)]], True),        # the edge is inside
    ([[(10, 10, 2), (30, 30, 2), (30.01, 30, 2)]], False),
])
def test_contested(load, others, contested):
    # The others' boxes are far away: only their joints matter.
    people = [person(9, joints=[INSIDE] * 17)]
    people += [person(n, (80, 80, 5, 5), joints=joints) for n, joints in enumerate(others)]
    assert load(*people).contested[-1] == contested


def test_own_joints_contest_nothing(load):
    assert not load(person(1, joints=[INSIDE] * 17)).contested.any()


def brute_force(people):
    """Overlap (exact), partner and contested of {id: (picture, box, joints)}, one by one."""
    def iou(a, b):
        width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        return Fraction(common, a[2] * a[3] + b[2] * b[3] - common)

    answers = {}
    for p, (picture, box, joints) in people.items():
        if not any(v for _, _, v in joints):
            continue
        best, partner, contested = Fraction(0), None, False
        others = [q for q in people if q != p and people[q][0] == picture]
        best = max((iou(box, people[q][1]) for q in others), default=best)
        for q in sorted(others):
            labelled = [(x, y) for x, y, v in people[q][2] if v]
            if best and partner is None and labelled and iou(box, people[q][1]) == best:
                partner = q
            x0, y0, w, h = box
            inside = [x0 <= x <= x0 + w and y0 <= y <= y0 + h for x, y in labelled]
            contested |= sum(inside) >= 3
        answers[p] = (best, partner, contested)
    return answers


small = st.integers(0, 12)
some_box = st.tuples(small, small, st.integers(1, 12), st.integers(1, 12))
some_joints = st.lists(st.tuples(st.integers(1, 12), small, st.integers(0, 2)),
                       min_size=4, max_size=4)
some_people = st.dictionaries(st.integers(1, 99), st.tuples(st.integers(1, 3), some_box,
                                                            some_joints), min_size=1, max_size=9)


@settings(deadline=None, max_examples=200)
@given(some_people, st.randoms())
def test_relations_equal_brute_force(tmp_path_factory, people, random):
    expected = brute_force(people)
    entries = [person(p, box, picture, joints) for p, (picture, box, joints) in people.items()]
    random.shuffle(entries)
    path = tmp_path_factory.getbasetemp() / "people.json"
    path.write_text(json.dumps({"images": [image(3), image(1), image(2)], "annotations": entries,
                                "categories": [PERSON]}))
    if not expected:
        with pytest.raises(DataError):
            CocoPersons(path, path.parent, check_pictures=False)
        return
    persons = CocoPersons(path, path.parent, check_pictures=False)
    assert persons.annotation_ids.tolist() == sorted(expected)
    for row, p in enumerate(sorted(expected)):
        overlap, partner, contested = expected[p]
        assert persons.overlap[row] == pytest.approx(float(overlap), abs=1e-12)
        found = persons.partner[row]
        assert (None if found < 0 else persons.annotation_ids[found]) == partner
        assert persons.contested[row] == contested


# Bad entries: skipped, with the reason and the place

nan, inf = float("nan"), float("inf")
NUMBER = ("keypoints are not 51 numbers, as the skeleton's 17 joints need; for other joints, there "
          "is --skeleton")


@pytest.mark.parametrize("changes, reason", [
    ({"bbox": [nan, 0, 5, 5]}, "bbox is not four finite numbers"),
    ({"bbox": [0, 0, inf, 5]}, "bbox is not four finite numbers"),
    ({"bbox": [0, 0, 10**400, 5]}, "bbox is not four finite numbers"),
    ({"bbox": [0, 0, 5]}, "bbox is not four finite numbers"),
    ({"bbox": ["left", 0, 5, 5]}, "bbox is not four finite numbers"),
    ({"bbox": ..., "joints": []}, "bbox is not four finite numbers"),
    ({"bbox": [5, 5, 0, 5]}, "bbox has no width or no height"),
    ({"bbox": [5, 5, 1e-50, 5]}, "bbox has no width or no height"),
    ({"bbox": [5, 5, 5, -1]}, "bbox has no width or no height"),
    ({"bbox": [100, 0, 5, 5]}, "bbox lies outside the picture"),
    ({"bbox": [-5, 0, 5, 5]}, "bbox lies outside the picture"),
    ({"bbox": [0, 100, 5, 5]}, "bbox lies outside the picture"),
    ({"keypoints": [1, 2, 2]}, NUMBER),
    ({"keypoints": 51}, NUMBER),
    ({"keypoints": "51"}, NUMBER),
    ({"keypoints": [5, 5, 2, nan, 5, 2] + [0] * 45}, "keypoints are not finite numbers"),
    ({"keypoints": [5, -inf, 2] + [0] * 48}, "keypoints are not finite numbers"),
    ({"keypoints": [5, 5, 2, True, 5, 2] + [0] * 45}, "keypoints are not finite numbers"),
    ({"keypoints": [5, None, 2] + [0] * 48}, "keypoints are not finite numbers"),
    ({"keypoints": [5, 5, 3] + [0] * 48}, "a keypoint's v is not 0, 1 or 2"),
    ({"keypoints": [5, 5, 1.5] + [0] * 48}, "a keypoint's v is not 0, 1 or 2"),
    ({"image_id": 77}, "image_id names no usable image"),
    ({"image_id": [1]}, "image_id names no usable image"),
    ({"image_id": ...}, "image_id names no usable image"),
    ({"id": 1}, "duplicate id (the first is used)"),
    ({"id": "five"}, "no integer id"),
    ({"id": ...}, "no integer id"),
    ({"id": 2**63}, "no integer id"),
])
def test_bad_people_are_skipped(load, changes, reason):
    persons = load(person(1), person(**{"identity": 5} | changes))
    assert len(persons) == 1
    (skipped,) = persons.skipped
    assert isinstance(skipped, Skipped)
    assert (skipped.what, skipped.reason) == ("annotation", reason)
    assert skipped.where.startswith("annotations[1]")
    assert f"skipped annotations: 1 ({reason})" in persons.summary()


def test_where_names_the_ids(load):
    persons = load(person(1), person(5, bbox=[0, 0, 0, 0]))
    assert persons.skipped[0].where == "annotations[1], id 5, image_id 1"


def test_entries_that_are_no_objects(load):
    persons = load(person(1), "person", None, 7, images=[image(), "image", None])
    assert [entry.where for entry in persons.skipped] == [
        "images[1]", "images[2]", "annotations[1]", "annotations[2]", "annotations[3]"]
    assert {entry.reason for entry in persons.skipped} == {"no integer id"}


@pytest.mark.parametrize("changes, reason", [
    ({"id": None}, "no integer id"), ({"id": True}, "no integer id"),
    ({"id": 1.5}, "no integer id"),
    ({"id": 1}, "duplicate id (the first is used)"),
    ({"file_name": 7}, "no file_name, or no positive integer width and height"),
    ({"width": 0, "file_name": "a.json"}, "no width and height, and the picture cannot be read"),
    ({"file_name": "gone.png"}, "picture file is missing"),
    ({"file_name": "sub/gone.png"}, "picture file is missing"),
    ({"file_name": ""}, "picture file is missing"),
])
def test_bad_images_are_skipped(load, changes, reason):
    persons = load(person(1), images=[image(), image(2, file_name="1.png") | changes])
    (skipped,) = persons.skipped
    assert (skipped.what, skipped.reason) == ("image", reason)
    assert skipped.where.startswith("images[1]")


def test_two_pictures_with_one_id_are_refused(load):
    images = [image(), image(1, file_name="other.png", width=5, height=5)]
    with pytest.raises(DataError, match="other.png"):
        load(person(1), images=images)


def test_area_falls_back_to_the_mask(load):
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[10:20, 5:9] = 1
    packed = rle.encode(mask)
    packed["counts"] = packed["counts"].decode()
    persons = load(person(1, area=..., segmentation=packed), person(2, area=7))
    assert persons.areas.tolist() == [40, 7] and sum(persons.repaired.values()) == 1
    np.testing.assert_array_equal(persons[0].mask(), mask)


def test_a_damaged_mask_names_the_annotation(load):
    persons = load(person(31, segmentation={"size": [4, 4], "counts": [16]}))
    with pytest.raises(DataError, match="annotation 31 of image 1"):
        persons[0].mask()
    with pytest.raises(DataError, match="segmentation"):
        load(person(31, segmentation=[[10**400, 1, 2, 3, 4, 5]]))[0].mask()


def test_a_picture_of_another_size_is_refused_when_read(load, tmp_path):
    persons = load(person(1))
    Image.new("RGB", (SIZE, 9)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png"):
        persons.read(0)


# Files that cannot be used: refused

def test_missing_files(tmp_path, load):
    with pytest.raises(DataError, match=r"nobody\.json"):
        CocoPersons(tmp_path / "nobody.json", tmp_path)
    with pytest.raises(DataError):
        CocoPersons(tmp_path, tmp_path)
    load(person(1))
    with pytest.raises(DataError, match="nowhere"):
        CocoPersons(tmp_path / "a.json", tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00x", b"[" * 100_000,
                                     b'{"images": [], "annotations": [{"id": 1, "im'])
def test_what_is_no_whole_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    place = rf"a\.json \({len(content)} bytes\) is not whole JSON"
    with pytest.raises(DataError, match=place):
        CocoPersons(tmp_path / "a.json", tmp_path)


def test_a_cut_off_file_says_where(load, tmp_path):
    load(person(1))
    path = tmp_path / "a.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="line 1 column"):
        CocoPersons(path, tmp_path)


@pytest.mark.parametrize("content, missing", [
    ([], "images, annotations, categories"), ("text", "images, annotations, categories"),
    ({"images": [], "annotations": {}}, "annotations, categories")])
def test_what_is_not_coco(tmp_path, content, missing):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=missing):
        CocoPersons(tmp_path / "a.json", tmp_path)


@pytest.mark.parametrize("categories", [[], [DOG, {"id": 3, "name": "cat"}], ["person"],
                                        [DOG, {"id": 4, "name": "cow"}]])
def test_no_single_person_category(load, categories):
    with pytest.raises(DataError):
        load(person(1), categories=categories)


def test_keypoints_of_other_names_or_order(load):
    category = PERSON | {"keypoints": list(COCO17.names)}
    assert len(load(person(1), categories=[category])) == 1
    mirrored = replace(COCO17, names=tuple(COCO17.names[i] for i in COCO17.mirror))
    for skeleton in (mirrored, Skeleton(("head",), (), (), (0.1,))):
        with pytest.raises(DataError):
            load(person(1), categories=[category], skeleton=skeleton)


def test_a_file_of_another_skeleton(load):
    people = [person(n, keypoints=[5, 5, 2] * 14) for n in range(3)]
    with pytest.raises(DataError, match="51 numbers"):
        load(*people)


@pytest.mark.parametrize("people", [[], [person(1, keypoints=...)], [person(1, iscrowd=1)]])
def test_nothing_usable(load, people):
    with pytest.raises(DataError, match="0 labelled people in 1 pictures"):
        load(*people)


def test_summary(load):
    persons = load(person(1, (0, 0, 20, 20), joints=[INSIDE] * 3), person(2, (10, 0, 20, 20)),
                   person(3, (60, 60, 5, 5)), person(4, bbox=[0, 0, 0, 0]),
                   person(5, bbox=[0, 0, 0, 0]), person(6, iscrowd=1))
    lines = persons.summary().splitlines()
    assert lines[0].startswith("3 labelled people in 1 pictures of ")
    v = persons.keypoints[..., 2]
    assert lines[1] == (f"  joints: {(v == 2).mean():.0%} visible, {(v == 1).mean():.0%} hidden, "
                        "the rest without a label")
    assert lines[2:] == ["  contested: 1; by overlap: [0, .1): 1, [.1, .3): 0, "
                        "[.3, .5): 2, [.5, 1]: 0",
                         "  crowd: 1", "  skipped annotations: 2 (bbox has no width or no height)"]


# The real sample

@pytest.mark.parametrize("split, pictures, people, contested, crowds", [
    ("train", 125, 360, 95, 11), ("val", 94, 351, 111, 2)])
def test_real_pictures(coco_sample, split, pictures, people, contested, crowds):
    persons = CocoPersons(coco_sample / f"{split}.json", coco_sample / "images")
    assert len(persons) == people and persons.contested.sum() == contested
    assert f"in {pictures} pictures" in persons.summary()
    assert persons.counts["crowd"] == crowds and not persons.skipped
    for row, record in enumerate(persons):
        mask, partner = record.mask(), persons.partner[row]
        assert mask is None or mask.shape[::-1] == record.image_size
        if mask is not None:  # COCO's own area, of its polygons' exact outline
            assert abs(mask.sum() - record.area) <= 0.05 * record.area + 60
        assert partner < 0 or persons.image_ids[partner] == record.image_id
    assert persons.read(0).shape[1::-1] == persons[0].image_size
