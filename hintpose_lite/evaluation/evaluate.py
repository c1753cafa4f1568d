"""A model on a data set: which boxes, which cues, and how often it finds the person who is meant.

`evaluate` predicts once and measures person AP (COCO's evaluation with each person as a picture, so
that finding the other person is a miss), identity (whose pose was found), and, for own and detected
boxes, COCO's ordinary AP on whole pictures.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import __version__
from ..cues.cue import Cue
from ..cues.evaluation import CUES, nearest_cue, person_cue
from ..data.coco import STRATA, CocoPersons
from ..errors import ConfigError, DataError
from ..files import write_whole
from ..inputs.detections import Detections, read_detections
from ..inputs.entries import numbers
from ..inputs.masks import usable_mask
from ..inputs.people import CocoPictures
from ..model.hintpose import as_hintpose
from ..pose.geometry import center, pad, union
from ..pose.oks import oks_nms, rescore
from .judge import judge, score_results
from .predict import Predictor
from .report import CUE_WORDS, Report

PROTOCOLS = ("own", "shared", "detected")
OWN_CUES = ("box", "mask", "pose")  # cues that a detection itself can supply
RADII = (0, .05, .1, .2, .3, .5)
OVERLAPPING = .1  # box IoU from which two people share a box, and a partner's cue is a wrong one
SHARED_JOINTS = 5  # labelled joints that both people of a shared box need
PEOPLE_A_PICTURE = 20


def evaluate(model, persons: CocoPersons, *, protocol: str = "own",
             cue: str | Callable | None = None, hops: int | None = None, flip: bool = True,
             seed: int = 0, detections: str | Path | list | None = None, batch: int = 64,
             rows: Iterable[int] | None = None, radius: float = 0.0,
             results: str | Path | None = None, overwrite: bool = False,
             precision: str = "float32", progress=None) -> Report:
    """How well a HintPose or HRNet (in eval mode) finds the people of a data set.

    protocol: "own", each person's own box; "shared", for people with a partner, the union of both
        boxes; "detected", the boxes of `detections`.
    cue: where the cue comes from, see `person_cue`. By default "joint", and "none" for detected
        boxes. There, "box", "mask" and "pose" are each detection's own; all other words but "none"
        take the cues from the labels, which also tell real detections from false ones, so that AP
        cannot be compared with published AP. Or a cue source as in `detectors`: of the cues that it
        finds in the box, the one nearest to the person's centroid. A network without a cue input is
        run on the same people, and the report says so.
    hops, flip, batch: as for `Predictor`. seed: of the cues; each person's is drawn independently.
    detections: a COCO result file or list (image_id, bbox or keypoints, score; with segmentation
        for the cue "mask"). Our matching, for person AP and label cues: by falling score, each
        box takes the unmatched person with the largest box IoU, if at least .5; others are misses.
    rows: evaluate only these people (whole pictures are then not scored).
    radius: moves the cue "joint" by that many sqrt(area) in a direction drawn from the seed.
    results: a new file for all poses, after OKS-NMS, as COCO results (own or detected boxes only);
        overwrite: it may exist.
    precision: of the network, see `autocast`; figures in float32 can be compared.
    progress: called with the number of people, makes a bar with `update(people)` and `close()`, as
        tqdm does.

    Raises ConfigError for settings that do not exist or contradict each other, DataError for
    detections, masks or pictures that cannot be used.
    """
    if cue is None:
        cue = "none" if protocol == "detected" else "joint"
    whole = protocol != "shared" and rows is None and cue != "wrong"
    _check_settings(protocol, cue, detections, radius, seed, batch, results, whole, overwrite)
    model, counts = as_hintpose(model), Counter()
    counts["entries of the file that were skipped"] = len(persons.skipped)
    source = cue if model.spec.cue else "none"
    chosen = evaluated_people(persons, protocol, cue, rows)
    if not len(chosen) and rows is None:
        raise DataError(f"with {protocol} boxes and the cue {cue!r} nobody can be evaluated: none "
                        f"of {len(persons)} people shares a box with another labelled person. "
                        "Take own boxes, and no wrong cue")
    if protocol == "detected":
        queries = read_detections(persons, detections, counts)
    else:
        boxes = torch.from_numpy(persons.boxes)
        shared = union(boxes, boxes[persons.partner]) if protocol == "shared" else boxes
        queries = Detections(persons, persons.image_ids[chosen], shared[chosen].numpy(),
                             np.ones(len(chosen)), None, chosen)
    predictor = Predictor(model, hops, flip, persons.skeleton, precision)
    cues = _Cues(queries, source, seed, radius, counts)
    keypoints, joint_scores, scores = _predict(predictor, cues, batch, progress)
    place = np.full(len(persons), -1)  # of each person's query; else the entry past the end
    place[queries.person[queries.person >= 0]] = np.flatnonzero(queries.person >= 0)
    points = F.pad(keypoints, (0, 0, 0, 0, 0, 1), value=torch.nan)[:, place[chosen]]
    totals = F.pad(scores, (0, 1))[:, place[chosen]]
    verdicts = [judge(persons, chosen, *hop) for hop in zip(points, totals, strict=True)]

    last, overlap, contested = verdicts[-1], persons.overlap[chosen], persons.contested[chosen]
    identity = last.figures()
    identity["followed"] = identity["swap_rate"] if source == "wrong" else None
    picture_ap = None
    if whole:
        found = _results(predictor, queries, keypoints[-1], joint_scores[-1], scores[-1])
        picture_ap = score_results(persons, found)
        if results is not None:
            write_whole(results, lambda name: name.write_text(json.dumps(found)))
    return Report(
        protocol=protocol, radius=radius, precision=precision,
        cue="none (cueless network)" if not model.spec.cue else
            f"nearest of {type(cue).__name__}" if callable(cue) else cue,
        hops=len(verdicts), flip=flip, seed=seed, people=len(chosen), identity=identity,
        strata={label: last.figures((low <= overlap) & (overlap < high))
                for label, (low, high) in STRATA.items()},
        groups={"overlap >= .3": last.figures(overlap >= .3),
                "contested": last.figures(contested), "uncontested": last.figures(~contested)},
        per_hop=[{"hop": t + 1, **verdict.figures()} for t, verdict in enumerate(verdicts)],
        picture_ap=picture_ap, counts={what: n for what, n in counts.items() if n},
        versions={"hintpose-lite": __version__, "torch": str(torch.__version__),
                  "cues": CUE_WORDS})


def detect(model, pictures: CocoPictures, detections: str | Path | list, *, cue: str = "none",
           hops: int | None = None, flip: bool = True, batch: int = 64,
           precision: str = "float32", progress=None) -> tuple[list[dict], Counter]:
    """COCO results for pictures without labels, such as those of test-dev, and what was left out.

    cue: "none", or each detection's own "box", "mask" or "pose". Other arguments and the results
    are those of `evaluate` for detected boxes. Raises ConfigError, DataError as that does.
    """
    if cue not in ("none", *OWN_CUES):
        raise ConfigError(f"cue {cue!r} comes from labels, and {pictures.annotations} has none: "
                          f"choose none, {', '.join(OWN_CUES)}")
    model, counts = as_hintpose(model), Counter()
    queries = read_detections(pictures, detections, counts)
    predictor = Predictor(model, hops, flip, pictures.skeleton, precision)
    cues = _Cues(queries, cue if model.spec.cue else "none", 0, 0.0, counts)
    keypoints, joint_scores, scores = _predict(predictor, cues, batch, progress)
    found = _results(predictor, queries, keypoints[-1], joint_scores[-1], scores[-1])
    return found, Counter({what: n for what, n in counts.items()
                           if what.startswith("results") and n})


def displacement_curve(model, persons: CocoPersons, radii: Sequence[float] = RADII,
                       **settings) -> list[dict]:
    """Figures at the last hop with the joint cue moved by each radius times sqrt(area), always in
    the same direction. settings: as for `evaluate`. Returns one dict per radius: "radius", and the
    figures of `Report.identity`."""
    return [{"radius": float(radius),
             **evaluate(model, persons, cue="joint", radius=float(radius), **settings).identity}
            for radius in radii]


def _check_settings(protocol, cue, detections, radius, seed, batch, results, whole,
                    overwrite) -> None:
    for wrong, why in (
            (protocol not in PROTOCOLS,
             f"protocol {protocol!r} does not exist; choose {', '.join(PROTOCOLS)}"),
            (not callable(cue) and cue not in CUES,
             f"cue {cue!r} does not exist; choose {', '.join(CUES)}"),
            ((protocol == "detected") != (detections is not None),
             'protocol "detected" and detections=... go together: give both or none'),
            (protocol == "detected" and cue == "wrong", 'cue "wrong" needs own or shared boxes'),
            (radius and cue != "joint",
             f'only the cue "joint" can be moved by a radius, not {cue!r}'),
            (not (isinstance(seed, int) and isinstance(batch, int)) or seed < 0 or batch < 1,
             f"{seed=} must be a whole number of at least 0, and {batch=} of at least 1"),
            (not radius >= 0, f"{radius=} must be at least 0"),
            (results is not None and not whole,
             "a result file holds all people's poses in own or detected boxes: leave out results "
             "(--results), or rows, shared boxes and the wrong cue"),
            (results is not None and not overwrite and Path(results).exists(),
             f"{results} exists: give the result file another name"),
            (results is not None and (Path(results).is_dir() or not Path(results).parent.is_dir()),
             f"{results}: give the result file a name in a folder that exists")):
        if wrong:
            raise ConfigError(why)


def evaluated_people(persons: CocoPersons, protocol: str, cue: str | Callable,
                 rows: Iterable[int] | None = None) -> np.ndarray:
    """Rows (n,), ascending, of the people whom `evaluate` takes; ConfigError for bad `rows`."""
    chosen = np.arange(len(persons)) if rows is None else np.unique([*rows])
    if len(chosen) and chosen.dtype.kind not in "iu":
        raise ConfigError("rows are whole numbers; of a mask, give np.flatnonzero(mask)")
    chosen = chosen.astype(int)
    if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(persons):
        raise ConfigError(f"rows must lie in 0 to {len(persons) - 1}")
    partner, labelled = persons.partner[chosen], (persons.keypoints[..., 2] > 0).sum(1)
    paired = (partner >= 0) & (persons.overlap[chosen] >= OVERLAPPING)
    if protocol == "shared":
        paired &= np.minimum(labelled[chosen], labelled[partner]) >= SHARED_JOINTS
    return chosen[paired] if protocol == "shared" or cue == "wrong" else chosen


def _own_cue(queries: Detections, i: int, source: str) -> Cue:
    """The cue of detection i, from its own box, mask or pose."""
    if source == "box":
        return Cue.box(queries.boxes[i])
    image, entry = int(queries.image_ids[i]), queries.entries[i]
    where = f"the detection on image {image}"
    if source == "pose":
        keypoints = numbers(entry.get("keypoints"), 3 * len(queries.skeleton))
        if keypoints is None:
            raise DataError(f"{where} has no keypoints, so the cue cannot be its pose")
        pose = np.reshape(keypoints, (-1, 3))
        return Cue.pose(pose) if (pose[:, 2] > 0).any() else Cue.none()
    mask = usable_mask(entry.get("segmentation"), queries.people.pictures[image][1:], where)
    if mask is None:
        raise DataError(f"{where} has no segmentation, so the cue cannot be its mask")
    return Cue.mask(mask) if mask.any() else Cue.none()


@dataclass(frozen=True, eq=False)
class _Cues(Sequence):
    """The cue of each query, made when it is needed: a mask is as large as its picture. source,
    seed, radius: the arguments of `evaluate`."""

    queries: Detections
    source: str | Callable
    seed: int
    radius: float
    counts: Counter

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, i: int) -> Cue:
        row, box = int(self.queries.person[i]), torch.from_numpy(self.queries.boxes[i])
        if self.queries.entries is not None and self.source in OWN_CUES:
            return _own_cue(self.queries, i, self.source)
        if row < 0:
            return Cue.none()
        if callable(self.source):
            return nearest_cue(self.queries.people, row, self.source, box, self.counts)
        return person_cue(self.queries.people, row, self.source, middle=center(box).tolist(),
                          seed=self.seed, radius=self.radius, counts=self.counts)


def _predict(predictor: Predictor, cues: _Cues, batch: int, progress
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints (T, D, K, 2), joint scores (T, D, K) and scores (T, D) of all queries."""
    queries, bar = cues.queries, progress and progress(len(cues))
    found = predictor.predict_people(queries, range(len(queries)),
                                     torch.from_numpy(queries.boxes),
                                     None if cues.source == "none" else cues, batch=batch,
                                     progress=bar and bar.update)
    if bar:
        bar.close()
    if not (found.keypoints.isfinite().all() and found.scores.isfinite().all()):
        raise DataError("the network's output is not finite: its weights are damaged or diverged")
    scores = rescore(torch.from_numpy(queries.scores).float(), found.scores)
    return found.keypoints, found.scores, scores


def _results(predictor: Predictor, queries: Detections, points: Tensor, joint_scores: Tensor,
             scores: Tensor) -> list[dict]:
    """COCO results after OKS-NMS, at most 20 per picture."""
    width, height = predictor.model.spec.input_size
    boxes = pad(torch.from_numpy(queries.boxes), width / height)
    areas = boxes[:, 2:].prod(1)  # HRNet's, of the padded boxes
    images = torch.from_numpy(queries.image_ids)
    kept = oks_nms(points, scores, areas, predictor.skeleton.sigmas, images=images,
                   limit=PEOPLE_A_PICTURE)
    table = torch.cat([points, joint_scores[..., None]], -1)[kept].flatten(1)
    rows = zip(images[kept].tolist(), table.tolist(), scores[kept].tolist(), strict=True)
    return [{"image_id": image, "category_id": queries.people.category, "keypoints": keypoints,
             "score": score} for image, keypoints, score in rows]
