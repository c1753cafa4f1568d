"""Predictions against the truth: whose pose was found, person AP, and COCO's AP on pictures."""

import contextlib
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from ..data.coco import CocoPersons
from ..inputs import entries
from ..inputs.entries import integer, number, numbers
from ..inputs.results import read_results
from ..pose.oks import oks

COMMON_JOINTS = 3  # with fewer joints labelled in both people, a pose cannot be assigned
NEITHER = .1  # with a lower OKS, a pose belongs to neither of the two
STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What was found of n people; every array is (n,).

    oks:       OKS of the prediction to the person; NaN where nothing was predicted.
    scores:    the prediction's score.
    outcome:   "meant", "other" or "neither" (also without a prediction); "left out" with too few
               joints in common with the partner; "alone" without a partner.
    separated, swapped: how many joints lie apart from the partner's, and how many of those were
               found nearer to the partner's.
    pair:      1 or 0, whether both were found, for the first of two people who are each other's
               partners, if both were counted. NaN for everybody else.
    """

    oks: np.ndarray
    scores: np.ndarray
    outcome: np.ndarray
    separated: np.ndarray
    swapped: np.ndarray
    pair: np.ndarray

    def figures(self, some: np.ndarray | slice = slice(None)) -> dict:
        """The figures of those people for whom `some` (n,) is True; `Report` explains them."""
        similarity, count = self.oks[some], Counter(self.outcome[some].tolist())
        found, separated = ~np.isnan(similarity), int(self.separated[some].sum())
        counted = count["meant"] + count["other"] + count["neither"]
        pair = self.pair[some][~np.isnan(self.pair[some])]

        def rate(part: int, whole: int) -> float | None:
            return int(part) / whole if whole else None

        ap = average_precision(similarity[found], self.scores[some][found], len(similarity))
        return {"people": len(similarity), "ap": ap,
                **{word: count[word] for word in ("meant", "other", "neither")},
                "counted": counted, "accuracy": rate(count["meant"], counted),
                "swap_rate": rate(count["other"], counted),
                "joint_swap_rate": rate(self.swapped[some].sum(), separated),
                "separated": separated, "left_out": count["left out"], "alone": count["alone"],
                "pairs": len(pair), "both": rate(pair.sum(), len(pair))}


def judge(persons: CocoPersons, rows: np.ndarray, points: Tensor, scores: Tensor) -> Verdicts:
    """Compares predictions with the people `rows` (n,) of a data set and with their partners.

    points (n, K, 2) in picture pixels, NaN where nothing was predicted; scores (n,). Joints lie
    apart from the partner's if they are more than two OKS sigmas (2 sigma sqrt(area)) away.
    """
    partner, points = persons.partner[rows], points.double()
    sigmas = points.new_tensor(persons.skeleton.sigmas)
    mine, theirs = (torch.as_tensor(persons.keypoints[i]).double() for i in (rows, partner))
    own_area, their_area = (torch.as_tensor(persons.areas[i]) for i in (rows, partner))
    area = (own_area + their_area) / 2
    common = (mine[..., 2] > 0) & (theirs[..., 2] > 0) & torch.as_tensor(partner >= 0)[:, None]
    missing = points.isnan().any(-1).any(-1)

    few = common.sum(-1) < COMMON_JOINTS
    to_mine, to_theirs = (oks(points, torch.cat([truth[..., :2], common[..., None]], -1), area,
                              sigmas).numpy() for truth in (mine, theirs))
    outcome = np.select([partner < 0, few.numpy(), np.maximum(to_mine, to_theirs) < NEITHER,
                         to_mine > to_theirs], ["alone", "left out", "neither", "meant"], "other")

    judged = ~missing & ~few
    apart = (mine - theirs)[..., :2].norm(dim=-1) > 2 * sigmas * area.sqrt()[:, None]
    separated = apart & common & judged[:, None]
    nearer = (points - theirs[..., :2]).norm(dim=-1) < (points - mine[..., :2]).norm(dim=-1)
    swapped = separated & nearer
    similarity = oks(points, mine, own_area, sigmas).masked_fill(missing, torch.nan)
    return Verdicts(similarity.numpy(), scores.double().numpy(), outcome, separated.sum(-1).numpy(),
                    swapped.sum(-1).numpy(), _pairs(persons, rows, outcome))


def _pairs(persons: CocoPersons, rows: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """`Verdicts.pair` of people `rows` (n,)."""
    place, partner = np.full(len(persons.partner) + 1, -1), persons.partner[rows]
    place[rows] = np.arange(len(rows))
    mate = place[partner]  # without a partner, -1: the entry past the end
    counted, meant = np.isin(outcome, ["meant", "other", "neither"]), outcome == "meant"
    first = (mate >= 0) & (persons.partner[partner] == rows) & (rows < partner)
    return np.where(first & counted & counted[mate], meant & meant[mate], np.nan)


def average_precision(similarity: np.ndarray, scores: np.ndarray, people: int) -> float | None:
    """COCO's AP (OKS .50 to .95, 101 recall levels) when every person is a picture of its own with
    at most one prediction; None if there are no people. similarity: OKS of n predictions, n <=
    people. scores: (n,); equal scores keep their order."""
    if not people or not len(similarity):
        return 0.0 if people else None
    thresholds = np.minimum(np.linspace(.5, .95, 10), 1 - 1e-10)
    hits = similarity[np.argsort(-scores, kind="stable")] >= thresholds[:, None]
    found = hits.cumsum(1).astype(float)
    precision = found / (np.arange(1, len(scores) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))  # a recall that is not reached counts as 0
    levels = np.linspace(0, 1, 101)
    return float(np.mean([row[np.searchsorted(recall, levels)]
                          for row, recall in zip(precision, found / people, strict=True)]))


def score_results(persons: CocoPersons, results: str | Path | list) -> dict:
    """COCO's ten figures (AP, AP50, ... ARl) of keypoint results, on whole pictures.

    results: a COCO result file or list with image_id, keypoints and score; a bbox is not used,
    since it would change APm and APl. As in COCO, a pose on a crowd region or on a person without
    labelled joints is ignored; so is one on people whom the data set skipped. A figure with nobody
    to count is None. Raises DataError, which names the entry.
    """
    found = [{"image_id": image, "category_id": 1, "keypoints": points, "score": score}
             for image, points, score, _ in read_results(persons, results, "keypoints")]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints at every step
        truth = _ground_truth(persons)
        poses = truth.loadRes(found) if found else COCO()  # loadRes fails on an empty list
        scorer = COCOeval(truth, poses, "keypoints")
        scorer.params.kpt_oks_sigmas = np.array(persons.skeleton.sigmas)
        for step in (scorer.evaluate, scorer.accumulate, scorer.summarize):
            step()
    return {name: float(value) if value >= 0 else None
            for name, value in zip(STATS, scorer.stats, strict=True)}


def _ground_truth(persons: CocoPersons) -> COCO:
    """The data set for COCOeval. People it does not list, and crowds, are regions to be ignored."""
    joints, listed = 3 * len(persons.skeleton), set(persons.annotation_ids.tolist())
    people = [{"image_id": person.image_id, "bbox": person.box.tolist(), "area": person.area,
               "keypoints": person.keypoints.ravel().tolist(),
               "num_keypoints": np.count_nonzero(person.keypoints[:, 2] > 0), "iscrowd": 0}
              for person in persons]
    for entry in entries.read_annotations(persons.annotations)["annotations"]:
        if (integer(entry, "category_id") == persons.category
                and integer(entry, "id") not in listed and numbers(entry.get("bbox"), 4)
                and integer(entry, "image_id") in persons.pictures):
            people.append({"image_id": integer(entry, "image_id"),
                           "bbox": numbers(entry["bbox"], 4), "keypoints": [0] * joints,
                           "area": number(entry.get("area")) or 1.0, "num_keypoints": 0,
                           "iscrowd": int(entries.is_crowd(entry))})
    for i, person in enumerate(people):
        person.update(id=i + 1, category_id=1)  # COCOeval takes an id of 0 for "not matched"
    truth = COCO()
    truth.dataset = {"info": {}, "images": [{"id": i} for i in persons.pictures],
                     "categories": [{"id": 1, "name": "person"}], "annotations": people}
    truth.createIndex()
    return truth
