"""Estimates the poses in many picture files: writes drawings and results, and lists failures."""

import glob
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..crowd.folder import DESCRIPTION
from ..errors import ConfigError, DataError, WriteError
from ..files import write_whole
from ..inputs import entries
from ..inputs.people import PeopleFile
from ..inputs.pictures import read_picture
from ..inputs.suspicions import suspect_boxes
from ..pose.skeleton import COCO17, Skeleton
from .cue_network import CueNetwork
from .detectors import NETWORKS, PERSON, Detector, ResultFile
from .draw import draw_people
from .estimator import PoseEstimator

UNREAD = (".heic", ".heif", ".avif", ".gif", ".raw", ".dng", ".cr2", ".nef", ".arw", ".psd")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass
class Photo:
    """A picture file and what is known about it; None if not known."""

    path: Path
    drawing: Path | None = None  # file for its drawing
    image_id: int | None = None  # its number in result files
    boxes: object = None  # (n, 4)
    size: tuple[int, int] | None = None  # (w, h) of the picture that the boxes belong to
    source: Callable | None = None  # cue source
    results: ResultFile | None = None  # contains its people
    problem: str | None = None  # why it cannot be used


def find_photos(names: list[str], boxes=None, out: Path | None = None, recursive: bool = False,
                unread: list[Path] | None = None) -> list[Photo]:
    """The picture files of all names, each once. A name is a file, a folder (without its
    subfolders), or a pattern such as "holiday/*.jpg"; folders and patterns are sorted.

    boxes: (n, 4) for every picture, or None. out: the folder for drawings, or None. recursive: take
    the pictures of subfolders, too. unread: a list to which pictures of kinds that are not read,
    such as HEIC, are appended. Single files are not checked here. Raises DataError if a folder or
    pattern yields no picture, and ConfigError if a drawing would replace a picture or another
    drawing.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(path.rglob("*") if recursive else path.iterdir())
            part = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file()]
            if unread is not None:
                unread += [p for p in inside if p.suffix.lower() in UNREAD]
                if not recursive and any(p.is_dir() for p in inside):
                    print(f"note: {name} has folders in it, which are left out; add --recursive",
                          file=sys.stderr)
        elif glob.has_magic(name) and not path.exists():
            if path.parent.is_dir():  # its name may hold brackets that are no pattern
                name = os.path.join(glob.escape(str(path.parent)), path.name)
            part = sorted(Path(p) for p in glob.glob(name) if Path(p).is_file())
        else:
            part = [path]
        if not part:
            raise DataError(f"{name}: no picture there; the endings looked for are "
                            f"{', '.join(SUFFIXES)}")
        found.update(dict.fromkeys(part))
    photos = [Photo(path, out and out / f"{path.stem}_poses.png", boxes=boxes) for path in found]
    if out and {photo.drawing.resolve() for photo in photos} & {path.resolve() for path in found}:
        raise ConfigError(f"a drawing would replace a picture in {out}: give another --out")
    drawn: dict[Path, Path] = {}
    for photo in photos if out else ():
        if photo.drawing in drawn:
            raise ConfigError(f"{drawn[photo.drawing]} and {photo.path} would both be drawn as "
                              f"{photo.drawing}: give them one at a time, each with an --out of "
                              "its own")
        drawn[photo.drawing] = photo.path
    return photos


def add_boxes(photos: list[Photo], annotations: str | Path, skeleton: Skeleton = COCO17,
              category: str | None = None) -> None:
    """Sets the image_id, the size and the people's boxes of pictures from a COCO annotation file.

    Pictures are matched by file name, and by folder if the file lists several of the same name.
    Boxes are those of labelled people, or, if nobody is labelled, of all. Prints what is not used.
    A picture without a match, or with several, gets a `problem`; DataError if that is so for all.
    """
    file = PeopleFile(annotations, photos[0].path.parent, skeleton)
    found = file.read_people(check_pictures=False, category=category, labelled=False)
    people = [entry for entry, area in found if area > 0] or [entry for entry, _ in found]
    boxes = np.array([entry["bbox"] for entry in people], np.float32)
    image_ids = np.array([entry["image_id"] for entry in people])
    if any(area > 0 for _, area in found):  # joints can tell of another convention of the boxes
        joints = np.array([entry["keypoints"] for entry in people]).reshape(len(people), -1, 3)
        sizes = np.array([file.pictures[int(image)][1:] for image in image_ids])
        if said := suspect_boxes(boxes, joints, sizes):
            print(f"note: {annotations}: {said}", file=sys.stderr)
    ids: dict[str, list[int]] = {}
    for image_id, (name, *_) in file.pictures.items():
        ids.setdefault(Path(name).name, []).append(image_id)
    for photo in photos:
        named = ids.get(photo.path.name, [])
        if not named:
            photo.problem = (f"{photo.path}: {annotations} does not list {photo.path.name}; take "
                             "the file that belongs to it")
            continue
        if len(named) > 1:
            named = [i for i in named if photo.path.resolve().match(file.pictures[i][0])]
        if len(named) != 1:
            photo.problem = (f"{annotations} lists several pictures of the name {photo.path.name}, "
                             f"and {photo.path} is not clearly one of them: name it with its "
                             "folder")
            continue
        photo.image_id, photo.size = named[0], file.pictures[named[0]][1:]
        photo.boxes = boxes[image_ids == photo.image_id]
    if all(photo.problem for photo in photos):
        raise DataError(photos[0].problem)
    if file.skipped or file.counts:
        print(f"{len(boxes)} people with boxes in {len(file.pictures)} pictures of {annotations}",
              *file.findings(), sep="\n", file=sys.stderr)


def add_sources(photos: list[Photo], cues: str | None, detect: bool,
                image_ids: list[int] | None,
                device: str | torch.device = "cpu", network: str = "people-cues"
                ) -> Detector | None:
    """Sets the cue sources of pictures. Returns the detector that finds boxes, or None.

    cues: a kind of detector; "network" for the cue network called `network`, or the file of
    another one (.safetensors); a COCO result file, with the image_ids of the pictures if they are
    not known yet; or None. detect: takes boxes from a detector. device: where detector and cue
    network run.
    """
    detector = Detector(cues if cues in NETWORKS else "keypoints", device=device)
    source = results = None
    known = [photo.image_id for photo in photos]
    if cues in NETWORKS:
        detect, source = True, detector.cues
    elif cues == "network" or cues and cues.endswith(".safetensors"):
        source = CueNetwork(network if cues == "network" else cues, device=device)
    elif cues:
        results = ResultFile(cues)
        if results.others:
            print(f"note: {cues}: {results.others} result(s) of other categories than the person "
                  "are not used", file=sys.stderr)
        if results.left_out:
            print(f"note: {cues}: {results.left_out} result(s) without area", file=sys.stderr)
        if image_ids and None not in known:
            raise ConfigError("--boxes already gives the image ids: leave out --image-id")
        if None in known:
            known = image_ids or (results.image_ids if len(photos) == 1 else [])
            if len(known) != len(photos):
                raise ConfigError(f"{cues} has results of {len(results.image_ids)} pictures "
                                  f"({entries.few(results.image_ids)}): give one --image-id "
                                  "for each PICTURE, the one of its results")
        _check_results(results, cues, photos, known, bool(image_ids))
    for photo, photo.image_id in zip(photos, known, strict=True):
        photo.source, photo.results = source, results
    return detector if detect else None


def _check_results(results: ResultFile, name: str, photos: list[Photo], known: list[int],
                   chosen: bool) -> None:
    """Raises ConfigError for results that name another picture, or if none of the image ids that
    the user chose has any. Notes how many of the pictures have no result."""
    for photo, image_id in zip(photos, known, strict=True):
        named = results.file_names.get(image_id, photo.path.name)
        if entries.plain(named) != entries.plain(photo.path.name):
            raise ConfigError(f"the results of image_id {image_id} in {name} are of {named}, not "
                              f"of {photo.path.name}: take the results or the --image-id of that "
                              "picture")
    if chosen and not {*known} & {*results.image_ids}:
        raise ConfigError(f"{name} has no results of image_id {entries.few(known)}; it has those "
                          f"of {entries.few(results.image_ids)}")
    if lost := sum(image_id not in results.image_ids for image_id in known):
        print(f"note: {name}: no results for {lost} of {len(known)} picture(s)", file=sys.stderr)


def describe(model, name: str) -> str:
    """Says what a network was trained on, and what else to take if it was drawn people only."""
    if model.trained_on == DESCRIPTION:
        return (f"the weights {name}, trained on {DESCRIPTION} only, are not meant for "
                "photographs; for those take --model people-small (small, takes cues), or "
                "--model hrnet-w32-coco (public, takes no cue)")
    return f"the weights {name} were trained on {model.trained_on or 'data that they do not name'}"


def predict_photos(estimator: PoseEstimator, photos: list[Photo], cues, failed: list[str],
                   least: float = 0.0) -> Iterator[dict]:
    """Yields COCO results, each with the picture's file name and the pose's box in addition.

    cues: for different people in every picture, or None. Pictures without an image_id are numbered
    from 1. Poses with a score below `least` are left out, and counted. If a picture cannot be used
    or a drawing cannot be written, the reason is appended to `failed`, and the next picture
    follows. Only one picture is in memory at a time.
    """
    bar = tqdm(photos, "poses", unit="picture", disable=None if len(photos) > 1 else True)
    for number, photo in enumerate(bar, 1):
        try:
            if photo.problem:
                raise DataError(photo.problem)
            picture = read_picture(photo.path, photo.size)
            boxes, estimator.source, sure = photo.boxes, photo.source, None
            if photo.results:
                estimator.source = people = photo.results.of(photo.image_id)
                if boxes is None and not estimator.detector:
                    boxes, sure = people.boxes, people.scores
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                poses = estimator(picture, boxes=boxes, cues=cues, apart=cues is not None,
                                  scores=sure)
            unsure = sum(pose.score < least for pose in poses)
            poses = [pose for pose in poses if pose.score >= least]
            if boxes is None and cues is None and not (estimator.detector or estimator.source):
                tqdm.write(f"note: {photo.path}: no box, click or detector: the whole picture is "
                           "taken as one person's box", file=sys.stderr)
            for warning in caught:
                tqdm.write(f"note: {photo.path}: {warning.message}", file=sys.stderr)
        except (DataError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            failed.append(reason if str(photo.path) in reason else f"{photo.path}: {reason}")
            continue
        if photo.drawing:
            try:
                write_whole(photo.drawing, Image.fromarray(draw_people(
                    picture, poses, estimator.skeleton)).save)
            except WriteError as error:  # the poses are still yielded
                failed.append(f"{photo.path}: {error}")
        scores = ", scores" if poses else ""
        scores += "".join(f" {pose.score:.2f}" for pose in poses)
        scores += f"; {unsure} left out, with a score below {least:g}" if unsure else ""
        tqdm.write(f"{photo.path}: {len(poses)} pose(s){scores}")
        image_id = number if photo.image_id is None else photo.image_id
        for pose in poses:  # no "bbox": COCO's evaluation would use its area
            table = np.column_stack([pose.keypoints, pose.scores])
            yield {"image_id": image_id, "category_id": PERSON, "score": pose.score,
                   "keypoints": [round(value, 3) for value in table.ravel().tolist()],
                   "file_name": photo.path.name, "box": pose.box.tolist()}
