"""Records golden figures of a checkout, so that a restructuring can be shown to change nothing.

    python benchmarks/golden.py OUT.json                 # records; about ten minutes on one core
    python benchmarks/golden.py --compare A.json B.json  # prints each difference; status 1 if any

It records an exam of the shipped networks on drawn scenes, a short training, how far we are from
other people's code, and what twenty command lines print. It runs on checkouts from before the
restructuring, too. Floats keep six digits; another CPU or another torch changes some of them.
"""

import contextlib
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import hintpose_lite
from hintpose_lite import HRNet, evaluate, load_model, make_crowd
from hintpose_lite.errors import ConfigError

PACKAGE = Path(hintpose_lite.__file__).parent
CUES = {"own": "joint mask centre", "shared": "joint mask centre any-joint box points joints"}
OLD_CUES = {"centre": "box", "any-joint": "any", "box": "person-box"}  # new word: old word
TRAIN = "train --preset crowd-quick --out run" + "".join(f" --set {change}" for change in (
    "steps=300 images=400 val_images=60 seed=0 precision=float32 checkpoint_every=50".split()))
DATA, PICTURE = "--data crowd/annotations.json crowd/images", "crowd/images/000000000002.jpg"
COMMANDS = f"""--help | --version | crowd --help | train --help | evaluate --help | predict --help
crowd crowd --images 12 --seed 5 --workers 1 | crowd crowd --images 13 --seed 5
evaluate --model crowd-tiny {DATA} --results poses.json | evaluate --poses poses.json {DATA}
evaluate --model crowd-tiny {DATA} --protocol shared --cue mask --no-flip --hops 2
evaluate --model crowd-tiny-nocue {DATA} --protocol shared
predict {PICTURE} --model crowd-tiny --click 96,76 --json click.json --out drawn
predict {PICTURE} --model crowd-tiny --click 96,76 --box 55,40,90,130 --json box.json
predict missing.jpg --model crowd-tiny | predict {PICTURE} --model crowd-tiny --click 96
evaluate --model nonsense {DATA} | evaluate --model crowd-tiny {DATA} --cue nonsense
train --preset nonsense --out run | train --preset crowd-quick --out run --set lr=fast"""
NOISE = {r"\d+(\.\d+)? ?(ms|s|seconds|minutes|hours)\b|\d+:\d\d(:\d\d)?": "<time>",
         r"(?<=hintpose-lite )\S+": "<version>", r"(?m)^.*\d+%\|.*\n?": ""}  # a progress bar


def module(new: str, old: str):
    """Imports a module that is not public. A failed import would not tell old code from new code,
    since an editable installation offers its own modules to every checkout that lacks them."""
    return import_module(f"hintpose_lite.{new if (PACKAGE / 'pose').exists() else old}")


def exam(folder: Path) -> dict:
    """Evaluates both crowd-tiny networks in own and in shared boxes, with several cues."""
    people, found = make_crowd(folder / "exam", 200, 2_000_000, 192, workers=1), {}
    model, twin = load_model("crowd-tiny"), load_model("crowd-tiny-nocue")
    old = figures(model, people, cue="centre", rows=[0]) is None
    for protocol, cues in CUES.items():
        found[f"crowd-tiny-nocue, {protocol} boxes"] = figures(twin, people, protocol=protocol)
        for cue in cues.split():
            found[f"crowd-tiny, {protocol} boxes, cue {cue}"] = figures(
                model, people, protocol=protocol, cue=OLD_CUES.get(cue, cue) if old else cue)
    return found


def figures(model, people, **question) -> dict | None:
    """Returns the figures of one evaluation, or None where the cue does not exist."""
    with contextlib.suppress(ConfigError):
        report = evaluate(model, people, **question)
        return {**{key: report.identity[key] for key in ("ap", "accuracy", "swap_rate")},
                "accuracy by overlap": {key: row["accuracy"] for key, row in report.strata.items()}}


def training(folder: Path) -> dict:
    """Trains 300 steps; returns the run's metrics, and the exam of the weights that it saved."""
    assert hintpose(TRAIN, folder).startswith("status 0"), "the training failed"
    lines = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
    found = {f"record {number}": {key: value for key, value in line.items() if key != "seconds"}
             for number, line in enumerate(lines, 1)}
    people = make_crowd(folder / "held-out", 60, 1_000_000, 192, workers=1)
    model = load_model(folder / "run/model.safetensors")
    return {**found, "final, shared boxes": figures(model, people, protocol="shared")}


def parity(folder: Path) -> dict:
    """Puts our figures beside those of other people's code, on the same random inputs."""
    draw = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(2, 3, 4, 17, 24, 16, generator=draw)  # three hops, four people
    weights, hops = (torch.rand(4, 17, generator=draw) > .3).float(), torch.tensor([.2, .3, .5])
    batch = SimpleNamespace(targets=truth[0], weights=weights)
    loss = module("training.step", "trainer").heatmap_loss(maps, batch, hops)
    errors = [hops[hop] * (maps[hop, :, k] - truth[0, :, k]) ** 2 * weights[:, k, None, None]
              for hop in range(3) for k in range(17)]  # half of their mean is HRNet's loss
    low = maps[0] - .99  # some of these maps have no positive value
    points = module("pose.heatmaps", "heatmaps").decode(low, (64, 96), "quarter")[0].numpy()
    by_loops = np.array([[quarter(heatmap) for heatmap in person] for person in low.numpy()])
    return {"timm, largest difference": timm_difference(), "person AP": person_ap(folder),
            "loss": {"ours": loss.item(),
                     "HRNet's": sum(0.5 * x.mean().item() / 17 for x in errors)},
            "quarter decoding, largest difference": np.abs(points - by_loops).max().item()}


def quarter(heatmap: np.ndarray) -> tuple[float, float]:
    """HRNet's decoder for one heatmap: the peak, and a pixel toward the higher neighbour."""
    (height, width), (y, x) = heatmap.shape, np.unravel_index(heatmap.argmax(), heatmap.shape)
    if heatmap[y, x] <= 0 or not (1 < x < width - 1 and 1 < y < height - 1):
        return (4 * x, 4 * y) if heatmap[y, x] > 0 else (0, 0)
    return (4 * x + np.sign(heatmap[y, x + 1] - heatmap[y, x - 1]),
            4 * y + np.sign(heatmap[y + 1, x] - heatmap[y - 1, x]))


@torch.no_grad()
def timm_difference() -> float:
    """Compares the features at stride 4; our last layer is made to hand them through."""
    torch.manual_seed(0)
    theirs, ours, images = timm.create_model("hrnet_w32"), HRNet(32, 32), torch.randn(2, 3, 64, 96)
    theirs.train()(images)  # gives each batch norm statistics of its own
    ours.load_state_dict(theirs.eval().state_dict(), strict=False)
    ours.final_layer.weight.copy_(torch.eye(32)[:, :, None, None])
    ours.final_layer.bias.zero_()
    stem = theirs.act1(theirs.bn1(theirs.conv1(images)))
    features = theirs.stages(theirs.act2(theirs.bn2(theirs.conv2(stem))))[0]
    return (ours.eval()(images) - features).abs().max().item() / features.abs().max().item()


def person_ap(folder: Path) -> dict:
    """Scores moved keypoints as we do, and by COCOeval with every person alone in a picture."""
    people, random = make_crowd(folder / "ap", 40, 7, 192, workers=1), np.random.default_rng(0)
    moved, scores = people.keypoints.astype(float), random.random(len(people))
    moved[..., :2] += random.uniform(0, 8, (len(people), 1, 1)) * random.normal(size=(17, 2))
    ours = module("evaluation.judge", "scoring").judge(
        people, np.arange(len(people)), torch.tensor(moved[..., :2]), torch.tensor(scores))
    with contextlib.redirect_stdout(None):
        coco = COCO(people.annotations)
        for entry in coco.dataset["annotations"]:
            entry["image_id"] = entry["id"]
        coco.dataset["images"] = [{"id": i} for i in people.annotation_ids]
        coco.createIndex()
        scorer = COCOeval(coco, coco.loadRes([
            {"image_id": i, "category_id": 1, "keypoints": pose.ravel().tolist(), "score": score}
            for i, pose, score in zip(people.annotation_ids, moved, scores)]), "keypoints")
        scorer.evaluate(), scorer.accumulate(), scorer.summarize()
    return {"ours": ours.figures()["ap"], "COCOeval": scorer.stats[0].item()}


def hintpose(line: str, folder: Path) -> str:
    """Runs a command line of this very checkout in a folder, on one thread."""
    here = {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-m", "hintpose_lite", *line.split()], cwd=folder,
                          env=os.environ | here, capture_output=True, text=True)
    text = f"status {done.returncode}\n{done.stdout}stderr:\n{done.stderr}"
    for pattern, word in {str(folder): "<folder>", **NOISE}.items():
        text = re.sub(pattern, word, text)
    return text


def commands(folder: Path) -> dict:
    """Returns what each command line says, and the poses that two of them write."""
    said = {line: hintpose(line, folder) for line in re.split(r" \| |\n", COMMANDS)}
    return said | {name: json.loads((folder / name).read_text())
                   for name in ("click.json", "box.json")}


def differences(one, other, place: str = "") -> list[str]:
    """Describes what differs between two nested values, and between two texts line by line."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [line for key in dict.fromkeys([*one, *other])
                for line in differences(one.get(key), other.get(key), f"{place} / {key}")]
    if isinstance(one, str) and isinstance(other, str) and one != other:
        lines = difflib.ndiff(one.splitlines(), other.splitlines())
        return [f"{place}:", *(f"    {line}" for line in lines if line[0] in "+-")]
    return [] if one == other else [f"{place}: {one} -> {other}"]


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        found = differences(*(json.loads(Path(name).read_text()) for name in sys.argv[2:]))
        print(*found or ["no difference"], sep="\n")
        sys.exit(bool(found))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        found = {part.__name__: part(Path(name)) for part in (parity, exam, commands, training)}
    found = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")
