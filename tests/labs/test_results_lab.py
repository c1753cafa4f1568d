"""The lab of numbers and their luck, and the gallery of wrong answers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.evaluation.judge import Verdicts, average_precision
from hintpose_lite.labs import results_lab
from hintpose_lite.labs.results_lab import (
    ResultsLab,
    ask,
    both_oks,
    contest,
    contest_figure,
    gallery_figure,
    interval,
    paired_interval,
    precision_recall,
)
from hintpose_lite.pose.skeleton import COCO17


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return make_crowd(tmp_path_factory.mktemp("crowd"), images=6, seed=4, workers=1)


@pytest.fixture(scope="module")
def answers(model, people):
    return ask(model, people)


def verdicts(similarity, meant) -> Verdicts:
    n = len(similarity)
    return Verdicts(similarity, np.linspace(1, 0.5, n), np.where(meant, "meant", "other"),
                    np.ones(n, int), np.zeros(n, int), np.full(n, np.nan))


@pytest.fixture(scope="module")
def rivals():
    """Two rivals who agree on nearly everybody, the first a little better; 300 people."""
    random = np.random.default_rng(0)
    similarity, meant = random.uniform(0.3, 1, 300), random.random(300) < 0.8
    return [verdicts(similarity, meant),
            verdicts(similarity - 0.02, meant & (random.random(300) < 0.97))]


def test_the_questions_are_those_of_evaluate(model, people, answers):
    report = evaluate(model, people, protocol="shared", flip=False)
    assert len(answers.rows) == report.people > 5
    for verdict, row in zip(answers.verdicts, report.per_hop, strict=True):
        assert verdict.figures() == pytest.approx({k: row[k] for k in row if k != "hop"})
    outcome = answers.verdicts[-1].outcome
    near = both_oks(people, answers.rows, answers.points[-1]).numpy()
    assert ((near[:, 0] > near[:, 1]) == (outcome == "meant"))[outcome != "neither"].all()


def test_nearness_counts_the_joints_labelled_in_both(people, answers):
    found = both_oks(people, answers.rows, answers.points[-1])
    for row, points, near in zip(answers.rows, answers.points[-1], found, strict=True):
        pair = [row, people.partner[row]]
        both = (people.keypoints[pair, :, 2] > 0).all(0)
        far = ((points.numpy() - people.keypoints[pair, :, :2]) ** 2).sum(-1)[:, both]
        scale = 8 * np.square(COCO17.sigmas)[both] * people.areas[pair].mean()
        assert near.numpy() == pytest.approx(np.exp(-far / scale).mean(1), abs=1e-5)


def test_precision_and_recall_make_the_average_precision():
    random = np.random.default_rng(2)
    similarity, scores = random.random(30), random.random(30).round(1)  # with equal scores
    at_levels, levels = [], np.linspace(0, 1, 101)
    for threshold in np.linspace(0.5, 0.95, 10):
        precision, recall = precision_recall(threshold, similarity, scores, 40)
        at_levels += [max(precision[recall >= level], default=0) for level in levels]
    assert np.mean(at_levels) == pytest.approx(average_precision(similarity, scores, 40))


def test_an_interval_knows_groups_and_pairs():
    values = np.random.default_rng(3).normal(50, 20, 100)
    low, high = interval(lambda rows: values[rows].mean(), np.arange(100)[:, None], 2000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.1)
    twice = np.repeat(values, 2)
    pairs = np.arange(200).reshape(100, 2)
    assert np.diff(interval(lambda rows: twice[rows].mean(), pairs, 2000)) == pytest.approx(
        high - low, rel=0.1)
    ends = paired_interval(lambda rows: values[rows].mean() + 3, lambda rows: values[rows].mean(),
                           np.arange(100)[:, None], 50)
    assert ends == pytest.approx([3, 3])  # luck that is shared cancels


def test_a_contest_of_everybody_with_themselves_is_a_draw(rivals):
    everybody = np.arange(300)
    result = contest([rivals[0]] * 2, everybody, 20, seed=3, times=20)
    assert (result.seen[0] == result.seen[1]).all() and not result.interval.any()
    assert result.truth[0].tolist() == pytest.approx(
        [100 * rivals[0].figures()[key] for key in ("ap", "accuracy")])
    apart = contest([rivals[0]] * 2, everybody, 20, seed=3, paired=False, times=20)
    assert (apart.seen[0] != apart.seen[1]).any() and (np.diff(apart.interval, axis=0) > 10).all()
    again = contest([rivals[0]] * 2, everybody, 20, seed=3, paired=False, times=20)
    assert (again.again == apart.again).all() and (again.others == apart.others).all()


def test_pairs_and_more_people_make_surer(rivals):
    def width(size, paired):
        return np.diff(contest(rivals, np.arange(300), size, 1, paired, 60).interval, axis=0)
    assert (width(20, True) < 0.6 * width(20, False)).all()
    assert (width(500, False) < 0.5 * width(20, False)).all()


def test_the_bootstrap_is_about_as_wide_as_other_draws_are(rivals):
    result = contest(rivals, np.arange(300), 100, 5, False, 150)
    again, others = (np.std(draws[:, 0] - draws[:, 1], axis=0)
                     for draws in (result.again, result.others))
    assert again == pytest.approx(others, rel=0.35)
    middle = (result.others[:, 0] - result.others[:, 1]).mean(0)
    assert middle == pytest.approx(result.truth[0] - result.truth[1], abs=2)


def test_the_bootstrap_knows_only_the_people_drawn(rivals):
    results = [contest(rivals, np.arange(300), 20, seed, False, 60) for seed in range(6)]
    for result in results:
        assert result.again[..., 1].mean(0) == pytest.approx(result.seen[:, 1], abs=5)
    assert max(abs(result.seen - result.truth)[:, 1].max() for result in results) > 8


def test_only_the_chosen_people_are_drawn(rivals):
    chosen = np.flatnonzero(rivals[0].outcome == "other")
    result = contest([rivals[0]] * 2, chosen, 10, times=5)
    assert not result.seen[:, 1].any() and not result.others[..., 1].any()


def test_the_figure_says_the_numbers():
    result = SimpleNamespace(
        seen=np.array([[60.0, 90], [50, 95]]), truth=np.array([[56.0, 92], [53, 91]]),
        again=np.arange(16.0).reshape(4, 2, 2), others=np.ones((4, 2, 2)),
        interval=np.array([[-3.0, -12], [24, 2]]))
    figure = contest_figure(result, ("new", "old"))
    assert figure.get_label() == (
        "person AP: new 60.0, old 50.0, difference +10.0, interval -3.0 to +24.0; "
        "right person: new 90.0, old 95.0, difference -5.0, interval -12.0 to +2.0")
    interval, delta, everybody, zero = figure.axes[1].lines
    assert [*interval.get_xdata()] == [-3, 24] and [*delta.get_xdata()] == [10]
    assert [*zero.get_xdata()] == [0, 0] and [*everybody.get_xdata()] == [3, 3]


def test_the_lab_follows_its_controls(people, answers):
    lab = ResultsLab(answers, answers, people.overlap[answers.rows])
    assert not lab.errors and repr(lab) == "ResultsLab()"
    assert "[0, .1)" not in lab.people and len(lab.people["any"]) == len(answers.rows)
    said = lab.status.value
    lab.controls.seed.value = 1
    assert lab.status.value != said
    said = lab.status.value
    lab.controls.paired.value = True
    assert lab.status.value != said
    lab.set(rivals="cue, twin")
    assert lab.status.value.count("no difference on anybody drawn") == 2  # its own twin
    lab.set(stratum="[.5, 1]", size=100)
    assert not lab.errors


def test_the_gallery_shows_the_worst_first_and_their_reasons(people, answers, monkeypatch):
    n = len(answers.rows)
    near = torch.zeros(n, 2)
    near[:, 1] = torch.linspace(0.2, 0.9, n)  # the last is worst, but right by its verdict
    monkeypatch.setattr(results_lab, "both_oks", lambda *_: near)
    outcome = np.array(["other"] * (n - 1) + ["meant"])
    shown = SimpleNamespace(**vars(answers) | dict(verdicts=[SimpleNamespace(outcome=outcome)]))
    last = np.arange(n) == n - 2
    figure = gallery_figure(people, shown, {"one": last, "two": ~last}, count=2)
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axis.get_xlabel() for axis in below] == ["one", "two"]
    assert [axis.get_title() for axis in above] == [
        f"OKS 0.00, with the other {near[k, 1]:.2f}" for k in (n - 2, n - 3)]
    pictures = [np.asarray(axis.images[0].get_array()) for axis in (above[0], below[0])]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()
    assert above[0].get_xlim() == below[0].get_xlim()
