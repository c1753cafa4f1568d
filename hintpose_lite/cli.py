"""The `hintpose` command: thin sub-commands over the package, imported only when they are used."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import __version__
from .errors import ConfigError, DataError, WriteError, exit_status

# Options that name files which a command reads; it never replaces them.
READ = ("data", "val", "boxes", "cues", "detections", "poses", "model", "init", "cue", "skeleton")


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit status (2: an error that was explained)."""
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show stops nothing
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"  # no line of code
    try:
        return exit_status(lambda: options.run(options))
    except BrokenPipeError:  # such as of `hintpose ... | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """All sub-commands and their options; each one's function is stored as `run`."""
    top = argparse.ArgumentParser(
        prog="hintpose", description="Human pose estimation with a cue that says who is meant.")
    top.add_argument("--version", action="version", version=f"hintpose-lite {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable, purpose: str, writes: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__.replace("_", "-"), help=purpose, description=purpose)
        sub.set_defaults(run=run)
        if writes:
            sub.add_argument("--overwrite", action="store_true", help="replace files in the way")
        return sub

    command(check, "check the environment, line by line")

    sub = command(check_data, "name everything in a data set that cannot be used, or looks odd",
                  writes=True)
    sub.add_argument("data", nargs=2, metavar=("ANN", "IMAGES"))
    sub.add_argument("--fix", metavar="OUT.JSON", help="write the usable people, repaired")
    _add_joints(sub)

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
    _add_skip(sub)
    _add_joints(sub)
    _add_changes(sub)
    _add_device(sub)

    sub = command(study, "train baseline, +cue, +recurrence and +both, and compare them")
    sub.add_argument("--preset", default="crowd-quick")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="finished parts are kept")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0])
    sub.add_argument("--jobs", type=int, help="trainings at once (default: cores, at most 4)")
    _add_persons(sub, "--data", "train on these people instead of the preset's")
    _add_persons(sub, "--val", "evaluate on these people")
    _add_changes(sub)
    _add_device(sub)

    sub = command(watch, "follow a training run; Ctrl-C ends the watching, not the run")
    sub.add_argument("folder", metavar="RUN")
    sub.add_argument("--stop", action="store_true", help="end the run cleanly")

    sub = command(cuenet, "train the network that proposes cues", writes=True)
    sub.add_argument("--out", required=True, metavar="FILE.SAFETENSORS")
    sub.add_argument("--steps", type=int, default=4000)
    sub.add_argument("--lr", type=float, default=4e-3, help="the highest learning rate")
    sub.add_argument("--sigma", type=float, default=1.5, help="width of a peak, in heatmap pixels")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--init", metavar="W", help="a pose network whose layers to start from")
    _add_persons(sub, "--data", "train on these people instead of crowd scenes")
    _add_device(sub)

    sub = command(evaluate, "score a model, or a result file, on known poses", writes=True)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", action="append", metavar="M", help="a name or a path; of several, "
                      "the heatmaps are averaged")
    what.add_argument("--poses", metavar="FILE", help="score these COCO results instead of a model")
    _add_persons(sub, "--data", "the people to find", required=True)
    _add_skip(sub)
    _add_joints(sub)
    sub.add_argument("--protocol", default="own", help="own, shared or detected boxes")
    sub.add_argument("--cue", help="where the cue comes from (default: joint; none for detected "
                     "boxes, whose box, mask and pose are their own): joint, any-joint, "
                     "interior, centroid, mask, points, box, pose, none for no cue, the controls "
                     "centre and wrong, or network for the cue network's (or FILE.safetensors)")
    sub.add_argument("--hops", type=int, metavar="K")
    sub.add_argument("--detections", metavar="FILE", help="COCO results; for detected boxes")
    sub.add_argument("--no-flip", action="store_true", help="do not average with the mirror image")
    sub.add_argument("--seed", type=int, default=0, help="seed of the cues")
    sub.add_argument("--out", type=Path, metavar="REPORT.JSON")
    sub.add_argument("--results", type=Path, metavar="FILE", help="write the poses, COCO's format")
    _add_device(sub, precision=True)

    sub = command(predict, "find poses in pictures", writes=True)
    sub.add_argument("pictures", nargs="+", metavar="PICTURE",
                     help='a file, a folder, or a pattern such as "holiday/*.jpg"')
    sub.add_argument("--model", action="append", metavar="M", help="a name or a path (default: "
                     "people-small); of several, the heatmaps are averaged")
    sub.add_argument("--box", action="append", type=_numbers(4), metavar="X,Y,W,H",
                     help="a person's box; may be repeated (--box=-3,... for a negative x)")
    sub.add_argument("--click", action="append", type=_numbers(2, more=True),
                     metavar="X,Y[,X,Y...]", help="a point, or several, on the person who is "
                     "meant; several --click are several people, the n-th goes with the n-th box")
    sub.add_argument("--boxes", metavar="ANN", help="the people's boxes from a COCO annotation "
                     "file, which lists the pictures by name")
    sub.add_argument("--detector", action="store_true",
                     help="boxes from torchvision's detector, whose weights are downloaded once")
    sub.add_argument("--cues", metavar="network|masks|keypoints|FILE",
                     help="find everybody for whom the cue network (or FILE.safetensors), a "
                          "detector or a COCO result file has a cue in a box; without boxes, those "
                          "of the detector or the file are taken, or the whole picture")
    sub.add_argument("--image-id", action="append", type=int, metavar="N",
                     help="image_id of a picture in FILE; the n-th is for the n-th PICTURE")
    sub.add_argument("--skeleton", metavar="S", help="the network's joints, as for train")
    sub.add_argument("--category", metavar="NAME", help="the people's category in --boxes")
    sub.add_argument("--min-score", type=_share, default=0.0, metavar="S", help="leave out poses "
                     "with a lower score (0 to 1)")
    sub.add_argument("--recursive", action="store_true", help="the pictures of subfolders, too")
    sub.add_argument("--hops", type=int, metavar="K")
    sub.add_argument("--looks", type=int, default=2, metavar="K", help="rounds of quick prediction "
                     "that find the box of a click without one (default: 2; 0: the whole picture)")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="write pictures with the poses")
    sub.add_argument("--json", type=Path, metavar="POSES.JSON", help="write a COCO result file")
    _add_device(sub, precision=True)

    sub = command(export, "write a network as one ONNX file", writes=True)
    sub.add_argument("--model", required=True, metavar="M", help="a name or a path")
    sub.add_argument("--out", required=True, type=Path, metavar="FILE.ONNX")
    sub.add_argument("--hops", type=int, metavar="K", help="fixed in the file (default: its own)")
    _add_device(sub)

    sub = command(clean, "remove what was generated under ./runs and ./data, after asking")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    return top


def check(_) -> int:
    from .runs.check import main as report
    return report()


def check_data(options):
    _make_room([options.fix and Path(options.fix)], options)
    from .data.coco import CocoPersons
    from .runs.check_data import check_data as report
    persons = CocoPersons(*options.data, skeleton=_skeleton(options), category=options.category)
    return report(persons, options.fix, options.overwrite)


def crowd(options):
    from .crowd.folder import make_crowd
    persons = make_crowd(options.out, images=options.images, seed=options.seed, size=options.size,
                         workers=options.workers)
    print(persons.summary())


def train(options):
    from .runs.check_data import refuse_bad_pictures
    from .runs.people import open_data
    from .runs.preflight import announce
    from .training.folder import refuse_others
    from .training.loop import train as run
    config = config_of(options)
    device = _device(options)
    refuse_others(Path(options.out))  # before scenes are drawn for it
    if options.skeleton:
        config = config.override({"joints": len(_skeleton(options))})
    people = open_data(config, *(_persons(paths, options) for paths in (options.data, options.val)))
    if options.val:
        refuse_bad_pictures(people[1])
    run(config, options.out, *people, device=device, before=announce)


def study(options):
    from .runs.study import study as run
    print(run(config_of(options), options.out, options.seeds, data=options.data, val=options.val,
              jobs=options.jobs, device=_device(options)))


def config_of(options):
    """The preset with what --set and --init change."""
    from .runs.presets import TrainConfig
    for pair in options.set:
        if "=" not in pair:
            raise ConfigError(f"--set {pair}: write it as key=value, such as --set lr=1e-3")
    changes = dict(pair.split("=", 1) for pair in options.set)
    changes |= {"init": options.init} if options.init else {}
    return TrainConfig.preset(options.preset).override(changes)


def watch(options):
    from .runs.watch import watch as follow
    follow(options.folder, stop=options.stop)


def cuenet(options):
    from .crowd.folder import crowd_scenes
    from .photos.cue_network import train_cuenet
    device = _device(options)
    _make_room([Path(options.out)], options)
    persons = _persons(options.data) or crowd_scenes(4000, 192, 0)
    train_cuenet(persons, options.out, steps=options.steps, lr=options.lr, sigma=options.sigma,
                 seed=options.seed, init=options.init or "none", device=device,
                 overwrite=options.overwrite)


def evaluate(options):
    if options.poses is not None:
        plain = parser().parse_args(["evaluate", "--poses", options.poses, "--data", *options.data])
        plain.skeleton, plain.category = options.skeleton, options.category
        if more := [f"--{name.replace('_', '-')}" for name, value in vars(plain).items()
                    if getattr(options, name) != value]:
            raise ConfigError(f"--poses scores a file as it is: leave out {', '.join(more)}")
        from .evaluation.judge import score_results
        from .evaluation.report import coco_table
        from .inputs.results import read_results
        persons = _persons(options.data, options)
        asked = {*persons.image_ids.tolist()}
        posed = {image for image, *_ in read_results(persons, options.poses, "keypoints")}
        if not posed:
            raise DataError(f"{options.poses} holds no pose: there is nothing to score")
        if lost := len(asked - posed):
            print(f"note: {lost} of the {len(asked)} pictures with people have no pose in "
                  f"{options.poses}; their people count as missed", file=sys.stderr)
        return print(coco_table(score_results(persons, options.poses)))
    from .evaluation.evaluate import evaluate as score
    device = _device(options)
    _make_room([options.out, options.results], options)
    if options.out and options.out == options.results:
        raise ConfigError("--out and --results name the same file: give each its own")
    from .inputs.entries import has_annotations
    from .runs.check_data import refuse_bad_pictures
    if options.protocol == "detected" and not has_annotations(options.data[0]):
        return _detect(options, device)
    model, persons = _models(options.model, device), _persons(options.data, options)
    if options.cue and (options.cue == "network" or options.cue.endswith(".safetensors")):
        from .photos.cue_network import CueNetwork, network_for
        name = network_for(model) if options.cue == "network" else options.cue
        options.cue = CueNetwork(name, device=device)
    if not options.skip_bad:  # which has read them all
        refuse_bad_pictures(persons)
    report = score(model, persons,
                   progress=_bar("person"),
                   protocol=options.protocol, precision=options.precision, cue=options.cue,
                   hops=options.hops, flip=not options.no_flip, seed=options.seed,
                   detections=options.detections, results=options.results,
                   overwrite=options.overwrite)
    print(report.table())
    if options.out:
        report.to_json(options.out, overwrite=options.overwrite)


def _detect(options, device):
    """Poses in the detections of pictures without labels, for a server that knows the labels."""
    from .evaluation.evaluate import detect
    from .files import write_whole
    from .inputs.people import CocoPictures
    if not options.results or options.out or not options.detections:
        raise ConfigError(f"{options.data[0]} has no annotations, so nothing can be scored here: "
                          "give --detections, and --results a file for the poses, without --out")
    pictures = CocoPictures(*options.data, _skeleton(options))
    found, counts = detect(
        _models(options.model, device), pictures, options.detections, cue=options.cue or "none",
        hops=options.hops, flip=not options.no_flip, precision=options.precision,
        progress=_bar("detection"))
    write_whole(options.results, lambda name: name.write_text(json.dumps(found)))
    print(f"{options.results}: {len(found)} poses in {len(pictures.pictures)} pictures; there are "
          "no labels, so nothing was scored", *pictures.findings(),
          *(f"{count} x {what}" for what, count in counts.items()), sep="\n")


def predict(options):
    from .cues.cue import Cue
    from .files import write_whole
    from .photos.cue_network import network_for
    from .photos.estimator import PoseEstimator
    from .photos.files import add_boxes, add_sources, describe, find_photos, predict_photos
    _refuse_two_ways(options)
    device, skeleton, unread = _device(options), _skeleton(options), []
    photos = find_photos(options.pictures, options.box, options.out, options.recursive, unread)
    if options.boxes:
        add_boxes(photos, options.boxes, skeleton, options.category)
    _make_room([*(photo.drawing for photo in photos), options.json], options,
               [photo.path for photo in photos])
    names = options.model or ["people-small"]
    model = _models(names, device)
    detector = add_sources(photos, options.cues, options.detector, options.image_id, device,
                           network_for(model))
    print(f"note: {describe(model, ', '.join(names))}", file=sys.stderr)
    estimator = PoseEstimator(model, detector, hops=options.hops, looks=options.looks,
                              precision=options.precision, skeleton=skeleton)
    cues = options.click and [Cue.points([*zip(click[::2], click[1::2], strict=True)])
                              for click in options.click]
    failed = [f"{path}: pictures of this kind are not read; convert it to JPEG or PNG"
              for path in unread]
    found, ended = [], False
    try:
        for result in predict_photos(estimator, photos, cues, failed, options.min_score):
            found.append(result)
        ended = len(failed) < len(photos) + len(unread)
    finally:  # whoever stops a long job keeps what is done; where nothing was, nothing is replaced
        if options.json and (found or ended):
            write_whole(options.json, lambda name: name.write_text(json.dumps(found) + "\n"))
    if not options.out and not options.json:
        print("note: nothing was written; add --out FOLDER for pictures, or --json FILE for the "
              "poses", file=sys.stderr)
    if failed:
        every = len(photos) + len(unread)
        print(f"{len(failed)} of {every} pictures could not be used or drawn:", *failed,
              sep="\n  ", file=sys.stderr)
        return 2 if len(failed) == every else 1


def _refuse_two_ways(options):
    for one, other in (("click", "cues"), ("box", "detector"), ("boxes", "detector"),
                       ("box", "boxes"), ("click", "boxes")):
        if getattr(options, one) and getattr(options, other):
            raise ConfigError(f"--{one} and --{other} say the same in two ways, or contradict each "
                              "other: give one of them")
    if options.image_id and (options.cues in (None, "network", "masks", "keypoints")
                             or options.cues.endswith(".safetensors")):
        raise ConfigError("--image-id says which results of a file belong to a picture: give the "
                          "file with --cues, or leave it out")
    if options.box and options.click and len(options.box) != len(options.click):
        raise ConfigError(f"{len(options.box)} times --box, but {len(options.click)} times "
                          "--click: give one click for every box, or only one of the two")


def export(options):
    from .weights.onnx import export_onnx
    from .weights.weights import load_model
    device = _device(options)
    _make_room([options.out], options)
    export_onnx(load_model(options.model, device), options.out, options.hops,
                overwrite=options.overwrite)


def clean(options):
    from .runs.clean import clean as remove
    remove(Path(), ask=not options.yes)


def _add_joints(sub: argparse.ArgumentParser):
    sub.add_argument("--skeleton", metavar="S", help="the joints: coco (default), crowdpose, aic, "
                     "mpii, or a JSON file, see the README")
    sub.add_argument("--category", metavar="NAME", help="the people's category in the files")


def _bar(unit: str):
    """Makes bars, for `evaluate` and `detect`, that appear after two seconds."""
    from tqdm import tqdm
    return lambda total: tqdm(total=total, unit=unit, delay=2, leave=False)


def _models(names: list[str], device):
    """The network of a name, or the average of several."""
    from .weights.weights import load_model
    models = [load_model(name, device) for name in names]
    if len(models) == 1:
        return models[0]
    from .model.hintpose import Ensemble
    return Ensemble(models).eval()


def _skeleton(options):
    from .inputs.skeletons import load_skeleton
    return load_skeleton(options.skeleton)


def _add_skip(sub: argparse.ArgumentParser):
    sub.add_argument("--skip-bad", action="store_true", help="read all pictures before the work, "
                     "and go on without those that cannot be read")


def _add_persons(sub: argparse.ArgumentParser, name: str, help_text: str, required: bool = False):
    sub.add_argument(name, nargs=2, metavar=("ANN", "IMAGES"), required=required,
                     help=f"{help_text}: a COCO keypoint file and its folder of pictures")


def _add_changes(sub: argparse.ArgumentParser):
    sub.add_argument("--init", metavar="W", help="weights to start from: a path, a name, imagenet")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                     help="change one setting of the preset; may be repeated")


def _add_device(sub: argparse.ArgumentParser, precision: bool = False):
    sub.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: CUDA if "
                     "PyTorch sees it, else the CPU)")
    if precision:
        sub.add_argument("--precision", default="float32", choices=("auto", "bf16", "float32"),
                         help="of the network; auto takes bf16 where it is fast (default: float32, "
                         "whose figures can be compared)")


def _device(options):
    """The device of --device, chosen before any work is done."""
    from .model.device import choose_device
    return choose_device(options.device)


def _persons(paths: list[str] | None, options=None):
    """The people of a file and its folder, after saying what of it cannot be used."""
    from .data.coco import CocoPersons
    joints = {} if options is None else {"skeleton": _skeleton(options),
                                         "category": options.category}
    persons = CocoPersons(*paths, **joints) if paths else None
    if persons is not None and getattr(options, "skip_bad", False):
        from .runs.check_data import bad_pictures
        bad = bad_pictures(persons, quick=False)
        for reason, name in bad:
            print(f"left out: {name} ({reason})", file=sys.stderr)
        persons = CocoPersons(*paths, **joints, without={name for _, name in bad})
    if persons is not None and persons.odd:
        print(persons.summary(), file=sys.stderr)
    return persons


def _numbers(count: int, more: bool = False):
    """Reads `count` numbers, or with `more` any multiple of them."""
    def parse(text: str) -> list[float]:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) != count and not (more and len(numbers) % count == 0):
            raise ValueError
        return numbers
    # argparse says "invalid ..."
    parse.__name__ = "X,Y[,X,Y...]" if more else "X,Y,W,H"
    return parse


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


_share.__name__ = "number from 0 to 1"  # argparse says "invalid ..."


def _make_room(paths: list[Path | None], options, inputs: list[Path] = ()):
    """Checks before the work that no file is in the way, and makes the folders. A file that the
    command reads, from its options or from `inputs`, is never replaced."""
    named = [getattr(options, name, None) for name in READ]
    read = {Path(part).resolve() for one in (*named, inputs) if one
            for part in ([one] if isinstance(one, str | Path) else one)}
    for path in filter(None, paths):
        if path.is_dir():
            raise DataError(f"{path} is a folder: give the name of a file")
        if path.resolve() in read:
            raise DataError(f"{path} is read by this command: write into another file")
        if path.exists() and not options.overwrite:
            raise DataError(f"{path} exists already: choose another name, or add --overwrite")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write to a folder {path.parent} ({error.strerror}): give "
                             "another place") from error
