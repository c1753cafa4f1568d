"""Evaluation with predictors whose answers are known, on hand-made people and on real ones."""

import contextlib
import io
import json
from collections import Counter
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hintpose_lite.cli import parser
from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.training import KINDS, CueMix
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import ConfigError, DataError, WriteError
from hintpose_lite.evaluation import evaluate as evaluation
from hintpose_lite.evaluation import judge as scoring
from hintpose_lite.evaluation.evaluate import CUES, displacement_curve, evaluate, person_cue
from hintpose_lite.evaluation.predict import Poses
from hintpose_lite.evaluation.report import Report, compare
from hintpose_lite.inputs import detections
from hintpose_lite.inputs.results import read_results
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.model.hrnet import HRNet
from hintpose_lite.pose.skeleton import COCO17, Skeleton
from hintpose_lite.weights.weights import load_model

SIZE = 200, 160
SIDE_BY_SIDE = ([10, 10, 60, 100], [40, 10, 60, 100], [150, 20, 40, 90])  # IoU 1/3, 1/3, 0
FOURTEEN = Skeleton(names=tuple("abcdefghijklmn"), swaps=(), limbs=(),
                    sigmas=tuple(np.linspace(.03, .1, 14)))


def write(folder, pictures, skeleton=COCO17, seed=0, **changes):
    """A data set with one picture for each list of boxes; changes: annotation row -> new values."""
    rng = np.random.default_rng(seed)
    images, people = [], []
    for n, boxes in enumerate(pictures, 1):
        images.append(dict(id=n, file_name=f"{n}.png", width=SIZE[0], height=SIZE[1]))
        Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), np.uint8)).save(folder / f"{n}.png")
        for x, y, w, h in boxes:
            joints = rng.uniform(.1, .9, (len(skeleton), 2)) * (w, h) + (x, y)
            table = np.concatenate([joints.round(1), np.full((len(skeleton), 1), 2)], 1)
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            people.append(dict(id=10 * len(people) + 7, image_id=n, category_id=1, iscrowd=0,
                               bbox=[x, y, w, h], area=.6 * w * h, num_keypoints=len(skeleton),
                               keypoints=table.ravel().tolist(), segmentation=[outline]))
    for row, values in changes.items():
        people[int(row.strip("p"))].update(values)
    content = dict(images=images, annotations=people, categories=[
        dict(id=1, name="person", keypoints=list(skeleton.names))])
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return CocoPersons(path, folder, skeleton)


@pytest.fixture
def predictor(monkeypatch):
    """`predictor(answer, ...)` makes evaluate's predictor give answer(persons, person) (K, 2) for
    every box asked for, and returns the list of what it was asked. A detection's person is the one
    whose box it has."""
    def install(*answers, score=.8):
        asked, known, match = [], [], detections.match_detections

        def match_detections(persons, *found):
            known.append(persons)
            return match(persons, *found)

        def predict(self, source, rows, boxes, cues, *, batch=64, progress=None):
            persons = source.people
            rows = np.arange(len(source)) if source.entries is not None else source.person
            asked.append(SimpleNamespace(rows=rows, boxes=boxes, cues=cues and [*cues],
                                         flip=self.flip, hops=self.hops,
                                         pictures=source.image_ids))
            people = [np.abs(persons.boxes - box.numpy()).sum(1).argmin() for box in boxes]
            people = people if source.entries is not None else rows
            poses = np.array([[answer(persons, i) for i in people] for answer in answers])
            points = torch.from_numpy(poses.astype(np.float32))
            points = points.reshape(len(answers), len(rows), len(persons.skeleton), 2)
            return Poses(points, torch.full(points.shape[:-1], score))

        monkeypatch.setattr(evaluation.Predictor, "predict_people", predict)
        monkeypatch.setattr(detections, "match_detections", match_detections)
        monkeypatch.setattr(evaluation, "as_hintpose", lambda model: model)
        return asked
    return install


def right(persons, i):
    return persons.keypoints[i, :, :2]


def other(persons, i):
    return persons.keypoints[persons.partner[i], :, :2]


def nowhere(persons, i):
    return persons.keypoints[i, :, :2] + 9e3


def chimera(persons, i):
    """The even joints are the person's own, the odd ones the partner's."""
    odd = np.arange(len(persons.skeleton))[:, None] % 2 == 1
    return np.where(odd, other(persons, i), right(persons, i))


CUED = SimpleNamespace(spec=SimpleNamespace(cue=True, input_size=(192, 256)))
CUELESS = SimpleNamespace(spec=SimpleNamespace(cue=False, input_size=(192, 256)))


# --- figures --------------------------------------------------------------------------------------

def ap_by_pycocotools(predicted, scores, found, truth, areas, sigmas):
    """Every person a picture of its own, through COCOeval."""
    count = len(truth)
    people = [dict(id=i + 1, image_id=i + 1, category_id=1, iscrowd=0, area=float(areas[i]),
                   bbox=[0, 0, 50, 50], num_keypoints=int((truth[i, :, 2] > 0).sum()),
                   keypoints=truth[i].ravel().tolist()) for i in range(count)]
    results = [dict(image_id=i + 1, category_id=1, score=float(scores[i]),
                    keypoints=np.pad(predicted[i], ((0, 0), (0, 1))).ravel().tolist())
               for i in range(count) if found[i]]
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = dict(info={}, images=[dict(id=i + 1) for i in range(count)],
                          categories=[dict(id=1)], annotations=people)
        gt.createIndex()
        scorer = COCOeval(gt, gt.loadRes(results) if results else COCO(), "keypoints")
        scorer.params.kpt_oks_sigmas = np.array(sigmas)
        for step in (scorer.evaluate, scorer.accumulate, scorer.summarize):
            step()
    return scorer.stats[0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([17, 14]))
def test_person_ap_is_cocoevals(seed, count, joints):
    rng = np.random.default_rng(seed)
    sigmas = rng.uniform(.02, .1, joints)
    truth = np.concatenate([rng.uniform(0, 99, (count, joints, 2)),
                            rng.integers(0, 3, (count, joints, 1))], -1)
    truth[:, 0, 2] = 2
    areas = rng.uniform(400, 2e4, count)
    noise = rng.normal(0, 1, (count, joints, 2)) * rng.choice([0, 2, 6, 12, 40], (count, 1, 1))
    predicted, scores = truth[..., :2] + noise, rng.integers(0, 9, count) / 8  # many ties
    found = rng.random(count) < rng.choice([.7, 1])
    found[0] = True
    similarity = scoring.oks(*map(torch.from_numpy, (predicted, truth, areas)), sigmas).numpy()
    ours = scoring.average_precision(similarity[found], scores[found], count)
    theirs = ap_by_pycocotools(predicted, scores, found, truth, areas, sigmas)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_person_ap_of_nobody():
    nothing = np.zeros(0)
    assert scoring.average_precision(nothing, nothing, 0) is None
    assert scoring.average_precision(nothing, nothing, 3) == 0
    assert scoring.average_precision(np.ones(1), np.ones(1), 2) == pytest.approx(51 / 101)


def oks_of(pose, truth, joints, area, sigmas):
    return np.mean([np.exp(-((pose[j] - truth[j, :2]) ** 2).sum() / (8 * area * sigmas[j] ** 2))
                    for j in joints])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_identity_is_the_definition(seed):
    """A second, plain implementation of the definitions of identity and of joint swaps."""
    rng = np.random.default_rng(seed)
    n, k = 12, 17
    keypoints = np.concatenate([rng.uniform(0, 80, (n, k, 2)), rng.integers(0, 3, (n, k, 1))], -1)
    keypoints[:3, 2:, 2] = 0
    people = SimpleNamespace(keypoints=keypoints, areas=rng.uniform(1e3, 2e4, n), skeleton=COCO17,
                             partner=np.where(rng.random(n) < .8, rng.permutation(n), -1))
    people.partner[people.partner == np.arange(n)] = -1
    blend = rng.choice([0, .3, .45, .7, 1], (n, 1, 1))
    poses = blend * keypoints[..., :2] + (1 - blend) * keypoints[people.partner, :, :2]
    poses += rng.normal(0, rng.choice([0, 3, 60], (n, 1, 1)), (n, k, 2))
    poses[5] = np.nan
    verdicts = scoring.judge(people, np.arange(n), torch.from_numpy(poses), torch.ones(n))
    figures = verdicts.figures()

    count, separated, swapped = Counter(), 0, 0
    for p, q in enumerate(people.partner):
        labelled = np.flatnonzero(keypoints[p, :, 2])
        if p != 5 and len(labelled):
            own = oks_of(poses[p], keypoints[p], labelled, people.areas[p], COCO17.sigmas)
            assert verdicts.oks[p] == pytest.approx(own)
        both = [j for j in range(k) if keypoints[p, j, 2] > 0 and keypoints[q, j, 2] > 0]
        if q < 0 or len(both) < 3:
            count["alone" if q < 0 else "left_out"] += 1
            continue
        if p == 5:
            count["neither"] += 1
            continue
        area = (people.areas[p] + people.areas[q]) / 2
        a, b = (oks_of(poses[p], keypoints[i], both, area, COCO17.sigmas) for i in (p, q))
        count["neither" if max(a, b) < .1 else "meant" if a > b else "other"] += 1
        for j in both:
            a, b = keypoints[p, j, :2], keypoints[q, j, :2]
            if np.linalg.norm(a - b) > 2 * COCO17.sigmas[j] * area ** .5:
                separated += 1
                swapped += np.linalg.norm(poses[p, j] - b) < np.linalg.norm(poses[p, j] - a)
    for name in ("meant", "other", "neither", "left_out", "alone"):
        assert figures[name] == count[name]
    mutual = [(p, q) for p, q in enumerate(people.partner) if p < q and people.partner[q] == p
              and {verdicts.outcome[p], verdicts.outcome[q]} <= {"meant", "other", "neither"}]
    right = [verdicts.outcome[p] == verdicts.outcome[q] == "meant" for p, q in mutual]
    assert figures["pairs"] == len(mutual)
    assert figures["both"] == (np.mean(right) if mutual else None)
    assert np.flatnonzero(np.isnan(verdicts.oks)).tolist() == [5]
    everybody = count["meant"] + count["other"] + count["neither"]
    assert figures["counted"] == everybody and figures["separated"] == separated
    assert figures["accuracy"] == (count["meant"] / everybody if everybody else None)
    assert figures["swap_rate"] == (count["other"] / everybody if everybody else None)
    assert figures["joint_swap_rate"] == (swapped / separated if separated else None)


def test_a_pair_counts_once_and_only_if_both_are_asked_for():
    rng = np.random.default_rng(1)
    keypoints = np.concatenate([rng.uniform(0, 80, (4, 17, 2)), np.full((4, 17, 1), 2)], -1)
    people = SimpleNamespace(keypoints=keypoints, areas=np.full(4, 1e4), skeleton=COCO17,
                             partner=np.array([1, 0, 3, 2]))
    poses = torch.from_numpy(keypoints[:, :, :2])
    poses[3] = poses[2]
    figures = scoring.judge(people, np.arange(4), poses, torch.ones(4)).figures()
    assert (figures["pairs"], figures["both"]) == (2, 0.5)
    some = scoring.judge(people, np.array([0, 1, 2]), poses[:3], torch.ones(3)).figures()
    assert (some["pairs"], some["both"]) == (1, 1.0)


def test_a_tie_is_the_other_person(tmp_path):
    persons = write(tmp_path, [[[10, 10, 60, 100], [10, 10, 60, 100]]], seed=1)
    persons.keypoints[1] = persons.keypoints[0]
    pose = torch.from_numpy(persons.keypoints[:, :, :2])
    verdicts = scoring.judge(persons, np.arange(2), pose, torch.ones(2))
    assert verdicts.outcome.tolist() == ["other", "other"]


# --- evaluate -------------------------------------------------------------------------------------

def test_known_answers_give_known_figures(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE])
    asked = predictor(nowhere, other, chimera, right)
    report = evaluate(CUED, persons, protocol="shared", flip=False, hops=4)
    assert report.people == 4 and report.hops == 4 and report.picture_ap is None
    assert asked[0].rows.tolist() == [0, 1, 3, 4]
    assert asked[0].boxes.tolist() == [[10, 10, 90, 100]] * 4
    assert (asked[0].flip, asked[0].hops) == (False, 4)
    rates = [[hop[key] for key in ("hop", "accuracy", "swap_rate", "neither")]
             for hop in report.per_hop]
    assert rates[0] == [1, 0, 0, 4] and rates[1] == [2, 0, 1, 0] and rates[3] == [4, 1, 0, 0]
    swaps = [hop["joint_swap_rate"] for hop in report.per_hop]
    assert swaps[1] == 1 and .3 < swaps[2] < .7 and swaps[3] == 0
    aps = [hop["ap"] for hop in report.per_hop]
    assert aps[:2] == [0, 0] and aps[2] < .2 and aps[3] == report.ap == 1
    people = {label: row["people"] for label, row in report.strata.items()}
    assert people == {"[0, .1)": 0, "[.1, .3)": 0, "[.3, .5)": 4, "[.5, 1]": 0}
    assert report.strata["[.3, .5)"]["ap"] == 1 and report.strata["[.5, 1]"]["ap"] is None


def test_a_cue_source_is_asked_in_each_box_and_its_nearest_cue_taken(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    asked, boxes = predictor(right), []
    middles = [evaluation.person_cue(persons, row, "centroid").xy[0] for row in (0, 1)]

    class Source:
        def __call__(self, picture, box):
            assert picture.shape == persons.read(0).shape
            boxes.append(box.tolist())
            return [[] if len(boxes) > 2 else [Cue.point(*middle) for middle in middles]]

    source = Source()
    report = evaluate(CUED, persons, protocol="shared", cue=source)
    assert boxes == [[[10, 10, 90, 100]]] * 2 and report.cue == "nearest of Source"
    for cue, middle in zip(asked[0].cues, middles, strict=True):
        assert cue.xy[0] == pytest.approx(middle)
    report = evaluate(CUED, persons, protocol="shared", cue=source)
    assert [cue.kind for cue in asked[1].cues] == ["none", "none"]
    assert sum(report.counts.values()) == 2
    for nobody in (Cue.none(), Cue.points([(5, 5)], [-1])):  # they name nobody's place
        report = evaluate(CUED, persons, protocol="shared", cue=lambda *_, one=nobody: [[one]])
        assert [cue.kind for cue in asked[-1].cues] == ["none", "none"]
    for odd in (None, [], [None], [[(1, 2)]], [[Cue.mask(np.ones((10, 10)))]]):
        with pytest.raises(DataError):
            evaluate(CUED, persons, protocol="shared", cue=lambda *_, odd=odd: odd)


def test_strata_groups_and_whole_pictures(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE, [[10, 10, 60, 100], [60, 10, 60, 100]]])
    predictor(lambda persons, i: (other if i < 2 else right)(persons, i))
    report = evaluate(CUED, persons)
    assert report.people == 5 and report.identity["alone"] == 1
    assert report.strata["[.3, .5)"]["ap"] == 0 and report.strata["[0, .1)"]["ap"] == 1
    assert report.strata["[0, .1)"]["people"] == 3 and report.groups["overlap >= .3"]["people"] == 2
    assert report.groups["contested"]["people"] + report.groups["uncontested"]["people"] == 5
    assert report.groups["contested"]["people"] == persons.contested.sum() > 0
    # the two who are swapped are misses one by one, and two hits on the whole picture
    assert report.ap < .7 and report.picture_ap["AP"] == pytest.approx(1)
    some = evaluate(CUED, persons, rows=[4, 2])
    assert some.people == 2 and some.ap == 1 and some.picture_ap is None


def test_shared_boxes_need_five_joints_and_overlap(tmp_path, predictor):
    few = [10, 20, 2] * 4 + [0] * 39
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE, [[10, 10, 60, 100], [66, 10, 60, 100]]],
                    p1=dict(keypoints=few, num_keypoints=4))
    asked = predictor(right)
    assert evaluate(CUED, persons, protocol="shared").people == 2
    assert asked[0].rows.tolist() == [3, 4]


def test_a_wrong_cue_is_the_partners_cue(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    asked = predictor(lambda persons, i: (other if i else right)(persons, i))
    for protocol in ("own", "shared"):
        report = evaluate(CUED, persons, protocol=protocol, cue="wrong", seed=3)
        assert report.people == 2 and report.picture_ap is None
        assert report.identity["followed"] == .5
        assert asked[-1].rows.tolist() == [0, 1]
    cues = [person_cue(persons, i, "joint", seed=3) for i in (1, 0)]
    assert [c.xy.tolist() for c in asked[-1].cues] == [c.xy.tolist() for c in cues]
    assert evaluate(CUED, persons).identity["followed"] is None


def test_a_cueless_network_gets_no_cue_for_the_same_people(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    asked = predictor(right)
    twin = evaluate(CUELESS, persons, protocol="shared", cue="joint")
    assert twin.cue == "none (cueless network)" and twin.people == 2 and asked[-1].cues is None
    wrong = evaluate(CUELESS, persons, cue="wrong")
    assert wrong.people == 2 and wrong.identity["followed"] is None and asked[-1].cues is None
    assert evaluate(CUED, persons, cue="none").cue == "none" and asked[-1].cues is None


@pytest.mark.parametrize("wrong, message", [
    (dict(protocol="theirs"), "theirs"),
    (dict(cue="smell"), "smell"),
    (dict(protocol="detected"), "detections"), (dict(detections=[]), "detections"),
    (dict(protocol="detected", detections=[], cue="wrong"), "wrong"),
    (dict(cue="centroid", radius=.1), "centroid"), (dict(rows=[3]), "0 to 2"),
    (dict(rows=[True, False, True]), "rows"), (dict(rows=[0, "x"]), "rows"),
    (dict(rows=[0.7]), "rows"), (dict(radius=-1.0), "radius=-1.0"),
    (dict(seed=0.5), "seed=0.5"), (dict(seed=None), "seed=None"),
    (dict(batch=2.5), "batch=2.5")])
def test_settings_that_make_no_sense(tmp_path, predictor, wrong, message):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    predictor(right)
    with pytest.raises(ConfigError, match=message):
        evaluate(CUED, persons, **wrong)


def test_a_diverged_network_is_named(tmp_path, predictor):
    predictor(lambda persons, i: right(persons, i) * np.nan)
    with pytest.raises(DataError):
        evaluate(CUED, write(tmp_path, [SIDE_BY_SIDE]))


def test_real_networks_run_through_the_predictor(tmp_path):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE[:1]])
    tiny = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1)
    model = HintPose(**tiny, input_size=(32, 64), hops=2).eval()
    for cue in ("joint", "points", "box", "mask", "wrong", "none"):
        report = evaluate(model, persons, cue=cue, batch=3, flip=cue == "joint")
        assert report.hops == len(report.per_hop) == 2 and report.people == (2 if cue == "wrong"
                                                                             else 4)
    detections = [dict(image_id=2, bbox=[8, 8, 60, 100], score=.9)]
    assert evaluate(model, persons, protocol="detected", detections=detections).people == 4
    with pytest.raises(ConfigError):
        evaluate(HintPose(**tiny, hops=1).eval(), persons, hops=3)
    plain = evaluate(HRNet(**tiny).eval(), persons, protocol="shared", flip=False)
    assert plain.cue == "none (cueless network)" and plain.people == 2 and plain.hops == 1


# --- detections -----------------------------------------------------------------------------------

def test_detected_boxes_are_matched_missed_and_suppressed(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE[:1]])
    asked = predictor(right)
    detections = [
        dict(image_id=1, category_id=1, bbox=[12, 10, 60, 100], score=.6),   # person 0, second best
        dict(image_id=1, category_id=1, bbox=[10, 10, 60, 100], score=.9),   # person 0
        dict(image_id=1, category_id=1, bbox=[40, 10, 60, 100], score=.5),   # person 1
        dict(image_id=1, category_id=1, bbox=[150, 20, 40, 30], score=.9),   # person 2, IoU 1/3
        dict(image_id=1, category_id=3, bbox=[0, 0, 9, 9], score=.9),        # a car
        dict(image_id=9, category_id=1, bbox=[0, 0, 9, 9], score=.9),
        dict(image_id=1, category_id=1, bbox=[0, 0, 0, 9], score=.9)]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(detections))
    report = evaluate(CUED, persons, protocol="detected", detections=path, seed=5, cue="joint")
    assert "not comparable" in report.table()
    assert asked[0].pictures.tolist() == [1] * 4
    assert [cue.kind for cue in asked[0].cues] == ["none", "points", "points", "none"]
    assert asked[0].cues[2].xy.tolist() == person_cue(persons, 1, "joint", seed=5).xy.tolist()
    assert report.people == 4 and report.ap == pytest.approx(51 / 101)  # two of four found
    assert report.identity["meant"] == 2 and report.identity["alone"] == 2
    assert report.counts == {
        "results left out, of another category": 1, "results left out, their box has no area": 1,
        "results left out, on a picture that the data set lacks": 1,
        "detections that match nobody": 2,
        "people missed, without a detection": 2}
    # three hits of four: person 2 is found without a match; the double of person 0 is suppressed
    assert report.picture_ap["AP"] == pytest.approx(76 / 101)


def test_a_missed_person_is_neither(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    predictor(right)
    for found, ap in ([], 0), ([dict(image_id=1, bbox=[10, 10, 60, 100], score=.3)], 34 / 101):
        report = evaluate(CUED, persons, protocol="detected", detections=found)
        assert report.ap == pytest.approx(ap) and report.picture_ap["AP"] == pytest.approx(ap)
        assert report.identity["neither"] == 2 - len(found)
        assert report.identity["meant"] == len(found)
        assert (report.identity["separated"] > 0) == bool(found)


def test_detections_are_matched_one_to_one_by_score(tmp_path):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    boxes = np.array([[10, 10, 60, 100], [18, 10, 60, 100], [26, 10, 60, 100]], np.float32)
    ids = np.ones(3, int)

    def match(*scores):
        return detections.match_detections(persons, ids, boxes, np.array(scores)).tolist()
    assert match(.9, .8, .7) == [0, -1, 1]  # the second's IoU with person 1 is under .5
    assert match(.7, .9, .8) == [-1, 0, 1]
    assert match(.5, .5, .5) == [0, -1, 1]


def test_detections_give_their_own_cues(tmp_path, predictor):
    """Every detection has one, whether it is somebody's or not; by default there are none."""
    persons, asked = write(tmp_path, [SIDE_BY_SIDE]), predictor(right)
    mask = np.zeros(persons[0].image_size[::-1], np.uint8, order="F")
    mask[20:40, 10:30] = 1
    rle = coco_mask.encode(mask)
    pose = [v for k in range(17) for v in (10 + k, 20 + k, .5)]
    detections = [dict(image_id=1, bbox=[10, 10, 60, 100], score=.9, keypoints=pose,
                       segmentation={"size": rle["size"], "counts": rle["counts"].decode()}),
                  dict(image_id=1, bbox=[150, 90, 20, 10], score=.3, keypoints=pose,
                       segmentation=[[150, 90, 170, 90, 170, 100]])]
    report = evaluate(CUED, persons, protocol="detected", detections=detections)
    assert asked[-1].cues is None and report.cue == "none"
    assert "comparable" not in report.table()
    for word, kind in (("box", "box"), ("pose", "points"), ("mask", "mask")):
        report = evaluate(CUED, persons, protocol="detected", detections=detections, cue=word)
        assert [cue.kind for cue in asked[-1].cues] == [kind] * 2
        assert "comparable" not in report.table()
    assert np.array_equal(asked[-1].cues[0].array > 0, mask > 0)
    bare = [dict(image_id=1, keypoints=pose, score=.9)]  # its box is taken about the joints
    evaluate(CUED, persons, protocol="detected", detections=bare, cue="box")
    assert asked[-1].cues[0].xywh.tolist() == asked[-1].boxes[0].tolist() == [10, 20, 16, 16]
    nowhere = [dict(detections[0], keypoints=[0] * 51)]
    evaluate(CUED, persons, protocol="detected", detections=nowhere, cue="pose")
    assert asked[-1].cues[0].kind == "none"
    for word, key in (("pose", "keypoints"), ("mask", "segmentation")):
        bare = [{name: value for name, value in detections[0].items() if name != key}]
        with pytest.raises(DataError, match="image 1"):
            evaluate(CUED, persons, protocol="detected", detections=bare, cue=word)


def test_keypoints_stand_in_for_a_box(tmp_path):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    entry = dict(image_id=1, keypoints=[5, 6, .5] * 16 + [25, 36, .5], score=.9)
    assert read_results(persons, [entry], "bbox") == [(1, [5, 6, 20, 30], .9, entry)]


@pytest.mark.parametrize("entry", [
    3, {}, dict(image_id="1"), dict(image_id=1, bbox=[1, 2, 3], score=1),
    dict(image_id=1, bbox=[1, 2, 3, float("nan")], score=1), dict(image_id=1, bbox=[1, 2, 3, 4]),
    dict(image_id=1, bbox=[1, 2, 3, 4], score="high")])
def test_broken_detections_are_named(tmp_path, predictor, entry):
    predictor(right)
    persons = write(tmp_path, [SIDE_BY_SIDE])
    fine = dict(image_id=1, bbox=[1, 2, 3, 4], score=1)
    with pytest.raises(DataError, match="entry 1"):
        evaluate(CUED, persons, protocol="detected", detections=[fine, entry])


def test_broken_files_are_named(tmp_path):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    (tmp_path / "cut.json").write_text('[{"image_id": 1, ')
    (tmp_path / "dict.json").write_text("{}")
    for name in ("none.json", "cut.json", "dict.json"):
        with pytest.raises(DataError, match=name):
            scoring.score_results(persons, tmp_path / name)
    good = dict(image_id=1, keypoints=[1] * 51, score=1)
    for wrong in (dict(image_id=2), dict(category_id=2), dict(keypoints=[1] * 42)):
        with pytest.raises(DataError, match="entry 1"):
            scoring.score_results(persons, [good, {**good, **wrong}])


# --- cues -----------------------------------------------------------------------------------------

def test_joint_cue_is_a_visible_joint_in_the_mask(tmp_path):
    v = np.array([0, 1, 2, 2] + [0] * 13)
    keypoints = np.zeros((17, 3))
    keypoints[:4, 0], keypoints[:, 1], keypoints[:, 2] = (15, 20, 35, 62), 50, v
    half = [[10, 10, 40, 10, 40, 110, 10, 110]]  # x = 10 to 40
    person = dict(keypoints=keypoints.ravel().tolist(), segmentation=half)
    persons = write(tmp_path, [[SIDE_BY_SIDE[0]]], p0=person)
    counts = Counter()

    def drawn(kind, **settings):
        return {tuple(person_cue(persons, 0, kind, seed=seed, counts=counts, **settings).xy[0])
                for seed in range(40)}
    assert drawn("joint") == {(35, 50)}
    assert drawn("any-joint") == {(20, 50), (35, 50), (62, 50)} and not +counts
    assert drawn("points") == {(35, 50)} and counts.pop("people without a partner, no negative "
                                                        "point") == 40
    persons = write(tmp_path, [[SIDE_BY_SIDE[0]]], p0={**person, "segmentation": None})
    assert drawn("joint") == {(35, 50), (62, 50)} and not +counts
    assert person_cue(persons, 0, "points").xy[:, 0].tolist() in ([35, 62], [62, 35])
    keypoints[2, 2] = 0
    persons = write(tmp_path, [[SIDE_BY_SIDE[0]]],
                    p0={**person, "keypoints": keypoints.ravel().tolist()})
    assert drawn("joint") == {(20, 50)}
    assert +counts == {"cues from a hidden joint, there being no visible one": 40}
    counts.clear()
    keypoints[1, 2], keypoints[3, 0] = 0, 500  # off the picture, too
    persons = write(tmp_path, [[SIDE_BY_SIDE[0]]],
                    p0={**person, "keypoints": keypoints.ravel().tolist()})
    assert drawn("joint") == {(500, 50)}
    assert +counts == {"cues from a visible joint outside the mask, there being no other": 40}


def test_mask_cues(tmp_path):
    bracket = [[10, 10, 70, 10, 70, 20, 20, 20, 20, 100, 70, 100, 70, 110, 10, 110]]
    persons = write(tmp_path, [[SIDE_BY_SIDE[0]], [SIDE_BY_SIDE[0]]],
                    p0=dict(segmentation=bracket), p1=dict(segmentation=None))
    mask, counts = persons[0].mask(), Counter()
    inside = {tuple(p) for p in np.argwhere(mask)[:, ::-1].tolist()}
    middle = person_cue(persons, 0, "centroid").xy[0]
    assert tuple(middle) in inside and middle.tolist() == [19, 59]  # pulled left, into the bracket
    clicks = {tuple(person_cue(persons, 0, "interior", seed=s).xy[0].tolist()) for s in range(50)}
    assert clicks <= inside and len(clicks) > 40
    assert (person_cue(persons, 0, "mask").array == mask).all()
    for kind in ("centroid", "interior", "mask"):
        joint = person_cue(persons, 1, "joint", seed=4).xy.tolist()
        assert person_cue(persons, 1, kind, seed=4, counts=counts).xy.tolist() == joint
        assert counts[f"people without a mask, a joint for the cue '{kind}'"] == 1
    solid = write(tmp_path, [[[10, 10, 60, 100]]])
    assert person_cue(solid, 0, "centroid").xy[0].tolist() == [39.5, 59.5]  # not rounded


def test_other_cues(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    points = person_cue(persons, 0, "points", seed=2)
    negative = person_cue(persons, 1, "joint", seed=2).xy[0].tolist()
    assert points.xy[3].tolist() == negative and points.labels.tolist() == [1, 1, 1, -1]
    several = [person_cue(persons, 0, "points", seed=seed).xy[:3] for seed in range(40)]
    assert all(len(np.unique(own, axis=0)) == 3 for own in several)
    assert len(np.unique(np.concatenate(several), axis=0)) == 17
    assert person_cue(persons, 1, "box").xywh.tolist() == [40, 10, 60, 100]
    assert person_cue(persons, 1, "none").kind == "none"
    for row, kind in (0, "smell"), (2, "wrong"):
        with pytest.raises(ConfigError, match=f"person {row}"):
            person_cue(persons, row, kind)
    asked = predictor(right)
    evaluate(CUED, persons, cue="centre")
    assert asked[-1].cues[0].xy.tolist() == [[40, 60]]
    evaluate(CUED, persons, cue="centre", protocol="shared")
    assert [cue.xy.tolist() for cue in asked[-1].cues] == [[[55, 60]]] * 2
    noisy = [person_cue(persons, 0, "pose", seed=seed).xy for seed in range(60)]
    shift = np.linalg.norm(noisy - persons.keypoints[0, :, :2], axis=-1)
    term = np.exp(-shift ** 2 / (8 * persons.areas[0] * np.array(COCO17.sigmas) ** 2))
    assert .5 < term.min() < .55 and .97 < term.max() < 1 and abs(term.mean() - .75) < .02


@pytest.mark.parametrize("kind", [kind for kind in CUES if kind not in ("none", "centre")])
def test_cues_depend_on_the_seed_and_the_person_only(tmp_path, predictor, kind):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE])
    asked = predictor(right)

    def cues(**settings):
        del asked[:]
        evaluate(CUED, persons, cue=kind, **settings)
        return {row: [getattr(cue, name) for name in ("xy", "labels", "xywh", "array")]
                for call in asked for row, cue in zip(call.rows, call.cues, strict=True)}
    whole = cues(seed=1)
    np.testing.assert_equal(cues(seed=1), whole)
    np.testing.assert_equal(cues(seed=1, rows=[4]), {4: whole[4]})
    if kind not in ("centroid", "mask", "box"):
        with pytest.raises(AssertionError):
            np.testing.assert_equal(cues(seed=2), whole)


def test_displacement_moves_the_joint_cue_by_its_radius(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE])
    asked = predictor(right)
    curve = displacement_curve(CUED, persons, protocol="shared", seed=7)
    assert [point["radius"] for point in curve] == [0, .05, .1, .2, .3, .5]
    assert all(point["accuracy"] == 1 for point in curve)
    places = np.array([[cue.xy[0] for cue in call.cues] for call in asked])
    shift = places - places[0]
    radius = np.array([0, .05, .1, .2, .3, .5])[:, None] * np.sqrt(persons.areas[:2])
    assert np.linalg.norm(shift, axis=-1) == pytest.approx(radius, abs=1e-4)
    direction = shift[1:] / radius[1:, :, None]
    assert direction == pytest.approx(np.repeat(direction[:1], 5, 0), abs=1e-4)
    assert not np.allclose(direction[0, 0], direction[0, 1])


# --- whole pictures -------------------------------------------------------------------------------

def test_picture_figures_with_another_skeleton_and_odd_entries(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE[:1]], FOURTEEN,
                    p0=dict(id=0), p2=dict(iscrowd=1))
    predictor(right)
    report = evaluate(CUED, persons)
    assert report.people == 3 and report.ap == 1 and report.picture_ap["AP"] == pytest.approx(1)
    there = np.full((14, 3), (170., 60., .5))  # on the crowd region: no hit, no harm
    extra = [dict(image_id=1, keypoints=there.ravel().tolist(), score=1.) for _ in range(3)]
    pose = persons.keypoints[0].ravel().tolist()
    result = dict(image_id=1, keypoints=pose, score=.5, category_id=1)
    alone = scoring.score_results(persons, [result])
    assert scoring.score_results(persons, [result, *extra]) == alone
    assert alone["AP"] == pytest.approx(34 / 101) and alone["APl"] is None
    with_box = scoring.score_results(persons, [{**result, "bbox": [0, 0, 9, 9]}])
    assert with_box == alone
    nothing = {name: None if value is None else 0.0 for name, value in alone.items()}
    assert scoring.score_results(persons, []) == nothing


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_results_score_as_stored(coco_sample, split):
    persons = CocoPersons(coco_sample / f"{split}.json", coco_sample / "images")
    stored = json.loads((coco_sample / f"reference_results_{split}_coco_stats.json").read_text())
    figures = scoring.score_results(persons, coco_sample / f"reference_results_{split}.json")
    assert figures == pytest.approx(stored, abs=1e-6)


def test_real_ground_truth_is_perfect(coco_sample, predictor):
    persons = CocoPersons(coco_sample / "train.json", coco_sample / "images")
    predictor(right)
    for protocol in ("own", "shared"):
        report = evaluate(CUED, persons, protocol=protocol)
        rows = [report.identity, *report.strata.values(), *report.groups.values()]
        assert all(row["ap"] == (1 if row["people"] else None) for row in rows)
        assert all(row["accuracy"] in (1, None) for row in rows)
        assert sum(row["people"] for row in report.strata.values()) == report.people
    report = evaluate(CUED, persons)
    assert report.people == 360 and report.groups["contested"]["people"] == 95
    assert .98 < report.picture_ap["AP"] <= 1  # NMS sees all joints, (0, 0) if unlabelled
    truth = [dict(image_id=int(i), keypoints=k.ravel().tolist(), score=1)
             for i, k in zip(persons.image_ids, persons.keypoints, strict=True)]
    assert set(scoring.score_results(persons, truth).values()) == {1}
    predictor(other)
    swapped = evaluate(CUED, persons, protocol="shared")
    assert swapped.ap < .02 and swapped.identity["accuracy"] == 0


# --- the report -----------------------------------------------------------------------------------

@pytest.fixture
def report(tmp_path, predictor):
    persons = write(tmp_path, [SIDE_BY_SIDE, SIDE_BY_SIDE[:1]])
    predictor(chimera, lambda persons, i: (other if i == 1 else right)(persons, i))
    return evaluate(CUED, persons, seed=4)


def test_report_survives_json(report, tmp_path, monkeypatch):
    path = report.to_json(tmp_path / "report.json")
    assert Report.from_json(path) == report
    with pytest.raises(DataError):
        report.to_json(path)
    report.to_json(path, overwrite=True)
    assert sorted(p.name for p in tmp_path.glob("report*")) == ["report.json"]
    with pytest.raises(WriteError, match="nowhere"):
        report.to_json(tmp_path / "nowhere" / "report.json")
    with monkeypatch.context() as full, pytest.raises(WriteError):
        full.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
        report.to_json(path, overwrite=True)
    assert sorted(p.name for p in tmp_path.glob("report*")) == ["report.json"]
    path.write_text('{"ap": 1}')
    with pytest.raises(DataError, match="ap"):
        Report.from_json(path)
    path.write_text("[")
    with pytest.raises(DataError):
        Report.from_json(path)


def test_report_as_table(report):
    lines = report.table().splitlines()
    assert lines[0] == "own boxes, cue joint, 2 hops, flip test on, seed 4"
    cells = {row[1].strip(): [cell.strip() for cell in row[2:-1]]
             for row in (line.split("|") for line in lines if line.startswith("|"))}
    assert cells["people"][:5] == ["n", "AP", "right", "other", "neither"]
    assert cells["all"][0] == "4" and cells["overlap [.3, .5)"][2:5] == ["50.0", "50.0", "0.0"]
    assert cells["overlap [.5, 1]"][:3] == ["0", "–", "–"]
    assert cells["2"][0] == "4" and cells["COCO"][0] == f"{7600 / 101:.1f}"
    tables = [line for line in lines if line.startswith("|")]
    assert {len(line) for line in tables[:10]} == {len(tables[0])}


def test_reports_side_by_side(report):
    lines = compare({"cue": report, "twin": report}).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| cue ") and lines[3].startswith("| twin")
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("|")[3].strip() == "AP" and lines[0].count("AP [") == 4


def test_a_result_file_scores_as_the_report_says(tmp_path, crowd):
    model = load_model("crowd-tiny")
    report = evaluate(model, crowd, flip=False, results=tmp_path / "poses.json")
    assert scoring.score_results(crowd, tmp_path / "poses.json") == report.picture_ap
    found = json.loads((tmp_path / "poses.json").read_text())
    assert {*found[0]} == {"image_id", "category_id", "keypoints", "score"}, "no bbox: see COCOeval"
    for odd in (dict(protocol="shared"), dict(cue="wrong"), dict(rows=[0]), {},
                dict(results=tmp_path / "new" / "p.json"), dict(results=tmp_path, overwrite=True)):
        with pytest.raises(ConfigError):
            evaluate(model, crowd, **{"results": tmp_path / "poses.json", **odd})


def test_bf16_finds_about_the_same(crowd):
    model = load_model("crowd-tiny")
    plain, cast = (evaluate(model, crowd, flip=False, precision=precision)
                   for precision in ("float32", "bf16"))
    assert plain.ap > 0.3 and cast.ap == pytest.approx(plain.ap, abs=0.03)
    assert (plain.precision, cast.precision) == ("float32", "bf16") and "bf16" in cast.table()
    assert evaluate(model, crowd, flip=False) == plain, "float32 is the default"
    with pytest.raises(ConfigError, match="fp16"):
        evaluate(model, crowd, precision="fp16")


def test_cues_have_one_word_each(report, tmp_path, capsys):
    assert (*KINDS, "centre", "wrong") == CUES
    assert [field.name.replace("_", "-") for field in fields(CueMix)] == [*KINDS, "jitter"]
    with pytest.raises(SystemExit):
        parser().parse_args(["evaluate", "--help"])
    helped = capsys.readouterr().out
    assert all(word in helped for word in CUES)
    for word in ("any", "joints", "person-box"):
        with pytest.raises(ConfigError, match=word):
            evaluate(CUED, None, cue=word)


@pytest.mark.parametrize("old, new", [("any", "any-joint"), ("box", "centre"), ("joints", "points"),
                                      ("person-box", "box"), ("mask", "mask")])
def test_older_reports_are_read_with_the_words_of_today(report, tmp_path, old, new):
    path = replace(report, cue=old, versions={}).to_json(tmp_path / "old.json")
    assert Report.from_json(path).cue == new
    kept = replace(report, cue="box").to_json(tmp_path / "new.json")
    assert Report.from_json(kept).cue == "box"


def test_pictures_without_labels_get_the_poses_that_labelled_ones_get(crowd, tmp_path, capsys):
    """test-dev: the same detections give the same result file, with or without annotations."""
    from hintpose_lite.cli import main
    boxes = [{"image_id": int(crowd.image_ids[row]), "category_id": 1, "score": 0.5 + row / 1000,
              "bbox": crowd.boxes[row].tolist()} for row in range(6)]
    boxes.append({**boxes[0], "category_id": 3})
    (tmp_path / "d.json").write_text(json.dumps(boxes))
    content = json.loads(crowd.annotations.read_text())
    del content["annotations"], content["categories"]
    (tmp_path / "info.json").write_text(json.dumps(content))
    common = ["evaluate", "--model", "crowd-tiny", "--hops", "1", "--protocol", "detected",
              "--detections", str(tmp_path / "d.json"), "--cue", "box"]
    for name, annotations in (("with", crowd.annotations), ("without", tmp_path / "info.json")):
        assert main([*common, "--data", str(annotations), str(crowd.images), "--results",
                     str(tmp_path / f"{name}.json")]) == 0
    said = capsys.readouterr().out
    assert "6 poses" in said and "1 x results left out, of another category" in said
    found = json.loads((tmp_path / "without.json").read_text())
    assert found == json.loads((tmp_path / "with.json").read_text()) and len(found) == 6
    for more in ([], ["--results", str(tmp_path / "r.json"), "--cue", "joint"]):
        assert main([*common, "--data", str(tmp_path / "info.json"), str(crowd.images),
                     *more]) == 2
