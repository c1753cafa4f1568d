"""The lab of results and chance, and the gallery of wrong answers."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure

from ..cues.evaluation import person_cue
from ..data.coco import STRATA, CocoPersons
from ..evaluation.evaluate import evaluated_people
from ..evaluation.judge import Verdicts, judge
from ..evaluation.predict import Predictor
from ..photos.draw import BLUE, GREY, ORANGE, RED, blank_figure, draw_poses
from ..pose.geometry import pad, union
from ..pose.oks import oks, rescore
from .widgets import Lab, Still

MEASURES = {"ap": "person AP", "accuracy": "right person"}
ZOOM = 3


def ask(model, persons: CocoPersons, progress: Callable | None = None) -> SimpleNamespace:
    """The poses of `evaluate` with protocol "shared", cue "joint" and no flip test; `progress` as
    there.

    Returns the people's `rows` (n,), their boxes (n, 4), their cues (n) or None, and after each of
    T hops: points (T, n, K, 2) in picture pixels, and verdicts (T).
    """
    rows = evaluated_people(persons, "shared", "joint")
    boxes = union(*torch.as_tensor(persons.boxes[np.stack([rows, persons.partner[rows]])]))
    cues = [person_cue(persons, row, "joint") for row in rows] if model.spec.cue else None
    found = Predictor(model, flip=False).predict_people(
        persons, rows, boxes, cues, progress=progress and progress(len(rows)).update)
    scores = rescore(torch.ones(len(rows)), found.scores)
    verdicts = [judge(persons, rows, *hop) for hop in zip(found.keypoints, scores, strict=True)]
    return SimpleNamespace(rows=rows, boxes=boxes, cues=cues, points=found.keypoints,
                           verdicts=verdicts)


def both_oks(persons: CocoPersons, rows: np.ndarray, points: torch.Tensor) -> torch.Tensor:
    """OKS (n, 2) of poses (n, K, 2) with the people `rows` (n,) and with their partners, as
    identity counts them: over the joints labelled in both, with the mean of the two areas."""
    pair = np.stack([rows, persons.partner[rows]])
    people, area = persons.keypoints[pair], torch.as_tensor(persons.areas[pair]).mean(0)
    people[..., 2] = people[..., 2].min(0)
    return torch.stack([oks(points.double(), who, area, persons.skeleton.sigmas)
                        for who in torch.as_tensor(people)], -1)


def precision_recall(threshold: float, similarity, scores, people: int) -> np.ndarray:
    """Precision and recall (2, n) after each of n poses, surest first, that are hits from an OKS
    of `threshold` on. similarity, scores: (n,)."""
    hits = (similarity[np.argsort(-scores, kind="stable")] >= threshold).cumsum()
    return np.stack([hits / np.arange(1, len(hits) + 1), hits / people])


def interval(figure: Callable, groups: list[np.ndarray], times: int = 400) -> np.ndarray:
    """Ends of the 95 % bootstrap interval of figure(rows), from draws of as many groups (arrays of
    rows) as there are, with replacement."""
    random, values = np.random.default_rng(0), []
    for _ in range(times):
        drawn = random.integers(len(groups), size=len(groups))
        values.append(figure(np.concatenate([groups[i] for i in drawn])))
    return np.percentile(values, [2.5, 97.5])


def paired_interval(one: Callable, two: Callable, groups: list[np.ndarray], times: int = 400):
    """`interval` of the difference of two figures, both of the same rows in every draw."""
    return interval(lambda rows: one(rows) - two(rows), groups, times)


def people_needed(one: Verdicts, two: Verdicts, difference: float) -> int:
    """How many people, asked twice, tell a difference in identity of two rivals from zero. one,
    two: verdicts on the same people, of whom the rivals disagree on some."""
    disagree = ((one.outcome == "meant") != (two.outcome == "meant")).mean()
    return math.ceil(disagree * (1.96 / difference) ** 2)


def contest(rivals: list[Verdicts], people: np.ndarray, size: int, seed: int = 0,
            paired: bool = True, times: int = 200) -> SimpleNamespace:
    """Compares two rivals on `size` people, drawn from a population (rows of the verdicts). paired:
    both rivals get the same people. All results are in per cent, with last axes rival and measure
    (2, 2). seen: on the people drawn; again (times, 2, 2): on resamples of them, the bootstrap;
    interval (2, 2): low and high end of its 95 % interval per measure, for the first rival minus
    the second; others (times, 2, 2): on other draws; truth: on the whole population."""
    random = np.random.default_rng(seed)

    def values(samples) -> np.ndarray:
        figures = [rival.figures(some) for rival, some in zip(rivals, samples, strict=True)]
        return 100 * np.array([[row[key] for key in MEASURES] for row in figures], float)

    def draw(first, second):
        chosen = random.integers(len(first), size=size)
        return first[chosen], second[chosen if paired else random.integers(len(second), size=size)]

    sample = draw(people, people)
    again = np.stack([values(draw(*sample)) for _ in range(times)])
    others = np.stack([values(draw(people, people)) for _ in range(times)])
    return SimpleNamespace(
        seen=values(sample), again=again, others=others, truth=values([people, people]),
        interval=np.nanpercentile(again[:, 0] - again[:, 1], [2.5, 97.5], axis=0))


def contest_figure(result: SimpleNamespace, names: tuple[str, str]) -> Figure:
    """A figure of a `contest`: both rivals and their difference; get_label() describes it."""
    figure, said = Figure(figsize=(7.4, 4), layout="compressed"), []
    axes, (low, high) = figure.subplots(2, 2, width_ratios=[1, 1.6]), result.interval
    delta, everybody = (pair[0] - pair[1] for pair in (result.seen, result.truth))
    for i, ((left, right), name) in enumerate(zip(axes, MEASURES.values(), strict=True)):
        ends = np.nanpercentile(result.again[..., i], [2.5, 97.5], axis=0)
        for who, (mark, ink) in enumerate(zip("os", (BLUE, ORANGE), strict=True)):
            left.plot([*ends[:, who]], [who, who], color=np.array(ink) / 255, lw=2)
            left.plot(result.seen[who, i], who, mark, color=np.array(ink) / 255, ms=8)
        left.set(xlim=(-4, 107), ylim=(1.6, -0.6), yticks=[0, 1], yticklabels=names,
                 xlabel=f"{name} (per cent)")
        counts, edges = np.histogram(result.others[:, 0, i] - result.others[:, 1, i],
                                     np.arange(-82.5, 83, 5))
        right.stairs(counts / counts.max(), edges, fill=True, color=np.array(GREY) / 255, alpha=0.5,
                     label=f"{len(result.others)} other draws")
        right.plot([low[i], high[i]], [1.15, 1.15], "k", lw=2)
        right.plot(delta[i], 1.15, "kD", label="these people, 95 % interval")
        right.axvline(everybody[i], color=np.array(RED) / 255, ls="--", lw=2, label="all people")
        right.axvline(0, color="black", ls=":", lw=1)
        right.set(xlim=(-60, 80), ylim=(0, 1.3), yticks=[],
                  xlabel=f"{name}: {names[0]} minus {names[1]} (points)")
        gap, least, most = np.round((delta[i], low[i], high[i]), 1) + 0.0  # no "-0"
        same = (result.again[:, 0, i] == result.again[:, 1, i]).all()
        said.append(f"{name}: {names[0]} {result.seen[0, i]:.1f}, {names[1]} "
                    f"{result.seen[1, i]:.1f}, " + ("no difference on anybody drawn" if same else
                    f"difference {gap:+.1f}, interval {least:+.1f} to {most:+.1f}"))
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper right", ncols=3,
                  fontsize=9)
    figure.set_label("; ".join(said))
    return figure


class ResultsLab(Lab):
    """Which of two networks is better, and could that be chance? cued, twin: their results from
    `ask` on the same people. overlap (n,): of these people with their partners."""

    def __init__(self, cued: SimpleNamespace, twin: SimpleNamespace, overlap: np.ndarray):
        *_, second, third = cued.verdicts
        self.rivals = {"hop 3, hop 2": [third, second], "cue, twin": [third, twin.verdicts[-1]]}
        groups = {label: np.flatnonzero((low <= overlap) & (overlap < high))
                  for label, (low, high) in {"any": (0, 2), **STRATA}.items()}
        self.people = {label: some for label, some in groups.items() if len(some)}
        self.shown = Still()
        super().__init__([self.shown], {
            "rivals": widgets.Dropdown(options=[*self.rivals]),
            "stratum": widgets.Dropdown(options=[*self.people], description="overlap"),
            "size": widgets.SelectionSlider(options=[10, 20, 50, 100, 200, 500, 1000], value=20,
                                            description="people"),
            "seed": widgets.IntSlider(0, max=30, description="draw"),
            "paired": widgets.Checkbox(False, description="the same people for both")})

    def render(self, rivals: str, stratum: str, **drawn) -> str:
        """Draws people, judges both rivals on them and shows the result."""
        result = contest(self.rivals[rivals], self.people[stratum], **drawn)
        return self.shown.put(contest_figure(result, tuple(rivals.split(", "))))


def gallery_figure(persons: CocoPersons, answers, reasons: dict, count: int = 3) -> Figure:
    """The worst wrong answers. Upper row: the cue, and the pose that was found. Lower row: the true
    pose, with hidden joints as rings, and the reasons that apply. reasons: name -> (n,) bool, true
    for the people to whom the reason applies."""
    near = both_oks(persons, answers.rows, answers.points[-1])
    gap = near[:, 1] - near[:, 0]
    gap[torch.as_tensor(answers.verdicts[-1].outcome != "other")] = -1
    figure, axes = blank_figure(2, count, (2.75 * count, 7.8))
    for k, column in zip(gap.argsort(descending=True)[:count].tolist(), axes.T, strict=True):
        row, (x, y, w, h) = answers.rows[k], ZOOM * pad(answers.boxes[k:k + 1])[0].numpy()
        truth, v = np.split(persons.keypoints[row], [2], axis=1)
        poses = ((answers.points[-1, k], np.ones(len(v)), answers.cues[k]),
                 (np.where(v > 0, truth, np.nan), v[:, 0] == 2, None))
        for axis, (points, scores, cue) in zip(column, poses, strict=True):
            pose = SimpleNamespace(keypoints=points, scores=scores, cue=cue, box=persons.boxes[row])
            pale = (0.6 * persons.read(row) + 100).astype(np.uint8)
            axis.imshow(draw_poses(pale, [pose], persons.skeleton, zoom=ZOOM))
            axis.set(xlim=(x, x + w), ylim=(y + h, y))
        column[0].set_title("OKS {:.2f}, with the other {:.2f}".format(*near[k]), fontsize=9)
        column[1].set_xlabel("\n".join(name for name in reasons if reasons[name][k]) or "(none)",
                             fontsize=9)
    axes[0, 0].set_ylabel("cue and answer", fontsize=10)
    axes[1, 0].set_ylabel("true pose", fontsize=10)
    return figure
