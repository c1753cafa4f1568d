"""The `hintpose` command: thin sub-commands over the package, imported only when they are used."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from . import __version__
from .errors import ConfigError, DataError, HintPoseError


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit status (2: an error that was explained)."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (HintPoseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """All sub-commands and their options; each one's function is stored as `run`."""
    top = argparse.ArgumentParser(
        prog="hintpose", description="Human pose estimation that can be told whom to look at.")
    top.add_argument("--version", action="version", version=f"hintpose-lite {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable, purpose: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__, help=purpose, description=purpose)
        sub.set_defaults(run=run)
        return sub

    command(check, "look at the environment, line by line")

    sub = command(crowd, "draw crowd scenes into a folder in COCO format")
    sub.add_argument("out", metavar="OUT", help="a new folder, or one with these very scenes")
    sub.add_argument("--images", type=int, default=200)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--size", type=int, default=192, help="width and height in pixels")
    sub.add_argument("--workers", type=int, help="processes; the scenes do not depend on it")

    sub = command(train, "train, or continue the run in the folder --out")
    sub.add_argument("--preset", required=True, help="such as crowd-quick or crowd-tiny")
    sub.add_argument("--out", required=True, metavar="RUN")
    _add_persons(sub, "--data", "train on these people instead of the preset's")
    _add_persons(sub, "--val", "validate on these people (without: on those of --data)")
    sub.add_argument("--cache", metavar="FOLDER", help="a crop cache of the people of --data")
    _add_changes(sub)

    sub = command(study, "train baseline, +cue, +recurrence and +both, and compare them")
    sub.add_argument("--preset", default="crowd-quick")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="finished parts are kept")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0])
    sub.add_argument("--jobs", type=int, help="trainings at once (default: the number of cores)")
    _add_persons(sub, "--data", "train on these people instead of the preset's")
    _add_persons(sub, "--val", "evaluate on these people")
    _add_changes(sub)

    sub = command(watch, "follow a training run; Ctrl-C ends the watching, not the run")
    sub.add_argument("folder", metavar="RUN")
    sub.add_argument("--stop", action="store_true", help="end the run cleanly")

    sub = command(evaluate, "score a model on people with known poses")
    sub.add_argument("--model", required=True, metavar="M", help="a name or a path")
    _add_persons(sub, "--data", "the people to find", required=True)
    sub.add_argument("--protocol", default="own", help="own, shared or detected boxes")
    sub.add_argument("--cue", default="joint", help="where the cue comes from; none for no cue")
    sub.add_argument("--hops", type=int, metavar="K")
    sub.add_argument("--detections", metavar="FILE", help="COCO results; for detected boxes")
    sub.add_argument("--no-flip", action="store_true", help="do not average with the mirror image")
    sub.add_argument("--seed", type=int, default=0, help="of the cues")
    sub.add_argument("--out", type=Path, metavar="REPORT.JSON")
    sub.add_argument("--results", type=Path, metavar="FILE", help="write the poses, COCO's format")
    sub.add_argument("--overwrite", action="store_true")

    sub = command(predict, "find poses in pictures")
    sub.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    sub.add_argument("--model", required=True, metavar="M", help="a name or a path")
    sub.add_argument("--box", action="append", type=_numbers(4), metavar="X,Y,W,H",
                     help="a person's box; may be repeated (--box=-3,... for a negative x)")
    sub.add_argument("--click", action="append", type=_numbers(2), metavar="X,Y",
                     help="a point on the person who is meant; the n-th goes with the n-th box")
    sub.add_argument("--detector", action="store_true",
                     help="boxes from torchvision's detector, whose weights are downloaded once")
    sub.add_argument("--cues", metavar="masks|keypoints|FILE",
                     help="look for everybody whom a detector, or a COCO result file, names in a "
                          "box; without --box, the boxes are the detector's or the file's too")
    sub.add_argument("--image-id", action="append", type=int, metavar="N",
                     help="which results in FILE are the picture's; the n-th goes with the n-th")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="write pictures with the poses")
    sub.add_argument("--json", type=Path, metavar="POSES.JSON")
    sub.add_argument("--overwrite", action="store_true")

    sub = command(export, "write a network as one ONNX file")
    sub.add_argument("--model", required=True, metavar="M", help="a name or a path")
    sub.add_argument("--out", required=True, type=Path, metavar="FILE.ONNX")
    sub.add_argument("--hops", type=int, metavar="K", help="fixed in the file (default: its own)")
    sub.add_argument("--overwrite", action="store_true")

    sub = command(clean, "remove what was generated under ./runs and ./data, after asking")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    return top


def check(_) -> int:
    from .check import main as report
    return report()


def crowd(options):
    from .data.crowd import make_crowd
    persons = make_crowd(options.out, images=options.images, seed=options.seed, size=options.size,
                         workers=options.workers)
    print(persons.summary())


def train(options):
    from .training import train as run
    run(config_of(options), options.out, data=_persons(options.data), val=_persons(options.val),
        cache=options.cache)


def study(options):
    from .study import study as run
    print(run(config_of(options), options.out, options.seeds, data=options.data, val=options.val,
              jobs=options.jobs))


def config_of(options):
    """The preset with what --set and --init change."""
    from .config import TrainConfig
    wrong = [pair for pair in options.set if "=" not in pair]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: write it as key=value, such as --set lr=1e-3")
    changes = dict(pair.split("=", 1) for pair in options.set)
    if options.init:
        changes["init"] = options.init
    return TrainConfig.preset(options.preset).override(changes)


def watch(options):
    from .runs import watch as follow
    follow(options.folder, stop=options.stop)


def evaluate(options):
    from .evaluation import evaluate as score
    from .nets.weights import load_model
    _make_room([options.out, options.results], options.overwrite)
    if options.results:
        options.results.unlink(missing_ok=True)
    report = score(load_model(options.model), _persons(options.data), protocol=options.protocol,
                   cue=options.cue, hops=options.hops, flip=not options.no_flip,
                   seed=options.seed, detections=options.detections, results=options.results)
    print(report.table())
    if options.out:
        report.to_json(options.out, overwrite=options.overwrite)


def predict(options):
    from PIL import Image

    from .cues import Cue
    from .data.pictures import read_picture
    from .estimator import PoseEstimator
    from .nets.weights import load_model
    if options.box and options.click and len(options.box) != len(options.click):
        raise ConfigError(f"{len(options.box)} times --box, but {len(options.click)} times "
                          "--click: give one click for every box, or only one of the two")
    drawings = [options.out / f"{p.stem}_poses.png" for p in options.pictures if options.out]
    if len(set(drawings)) < len(drawings):
        raise ConfigError("two of the pictures have the same name, and so would their drawings: "
                          "give them one at a time, each with an --out of its own")
    detector, results = _finders(options)
    _make_room([*drawings, options.json], options.overwrite)
    estimator = PoseEstimator(load_model(options.model), detector)
    cues = [Cue.point(*click) for click in options.click] if options.click else None
    found, boxes = [], options.box
    for number, path in enumerate(options.pictures):
        picture = read_picture(path)
        if results:
            estimator.source = people = results.of(options.image_id[number])
            boxes = options.box or (None if detector else people.boxes)
        elif options.cues:
            estimator.source = detector.cues
        poses = estimator(picture, boxes=boxes, cues=cues)
        print(f"{path}: {len(poses)} pose(s), scores", *(f"{pose.score:.2f}" for pose in poses))
        found += [{"picture": str(path), "score": float(pose.score), "hops": pose.hops,
                   "keypoints": pose.keypoints.tolist(), "scores": pose.scores.tolist(),
                   "box": [float(value) for value in pose.box]} for pose in poses]
        if drawings:
            from .show.draw import draw_poses
            _replace(drawings[number], Image.fromarray(draw_poses(picture, poses)).save)
    if options.json:
        _replace(options.json, lambda name: name.write_text(json.dumps(found, indent=1) + "\n"))


def _finders(options):
    """The detector and the result file that --detector and --cues ask for, each of them or None."""
    if not options.detector and not options.cues:
        return None, None
    from .detectors import NETWORKS, Detector, ResultFile
    for one, other in (("click", "cues"), ("box", "detector")):
        if getattr(options, one) and getattr(options, other):
            raise ConfigError(f"--{one} and --{other} say the same in two ways: give one of them")
    if options.cues in (None, *NETWORKS):
        return Detector(options.cues or "keypoints"), None
    results = ResultFile(options.cues)
    if not options.image_id and len(results.image_ids) == 1:
        options.image_id = results.image_ids
    if len(options.image_id or []) != len(options.pictures):
        raise ConfigError(f"{options.cues} has results of {len(results.image_ids)} pictures: say "
                          "with one --image-id for each PICTURE which are its own")
    return Detector("keypoints") if options.detector else None, results


def export(options):
    from .export import export_onnx
    from .nets.weights import load_model
    _make_room([options.out], options.overwrite)
    export_onnx(load_model(options.model), options.out, options.hops, overwrite=options.overwrite)


def clean(options):
    from .clean import clean as remove
    remove(Path(), ask=not options.yes)


def _add_persons(sub: argparse.ArgumentParser, name: str, help_text: str, required: bool = False):
    sub.add_argument(name, nargs=2, metavar=("ANN", "IMAGES"), required=required,
                     help=f"{help_text}: a COCO keypoint file and its folder of pictures")


def _add_changes(sub: argparse.ArgumentParser):
    sub.add_argument("--init", metavar="W", help="weights to start from: a path, a name, imagenet")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                     help="change one setting of the preset; may be repeated")


def _persons(paths: list[str] | None):
    from .data.coco import CocoPersons
    return CocoPersons(*paths) if paths else None


def _numbers(count: int):
    def parse(text: str) -> list[float]:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) != count:
            raise ValueError
        return numbers
    parse.__name__ = f"{count} numbers with commas between them"  # argparse says "invalid ..."
    return parse


def _make_room(paths: list[Path | None], overwrite: bool):
    """Before the work is done rather than after it: nothing is in the way, the folders exist."""
    for path in filter(None, paths):
        if path.exists() and not overwrite:
            raise DataError(f"{path} exists already: choose another name, or add --overwrite")
        path.parent.mkdir(parents=True, exist_ok=True)


def _replace(path: Path, write: Callable[[Path], object]):
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    write(part)
    os.replace(part, path)
