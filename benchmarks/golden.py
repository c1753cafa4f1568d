"""Records golden figures of a checkout, so that a restructuring can be shown to change nothing.

    python benchmarks/golden.py OUT.json                 records (about ten minutes on one core)
    python benchmarks/golden.py --compare A.json B.json  prints what differs; exit status 1 if so

It uses public names and the command line only, so it runs on older checkouts as well: put the
checkout in front of PYTHONPATH. Floats are rounded to six digits.
"""

import json
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

import hintpose_lite as hp
from hintpose_lite.errors import HintPoseError

EXAM = dict(images=200, seed=2_000_000, size=192)
OLD_WORDS = {"centre": "box"}  # today's word for a cue, and what older checkouts call it
COMMANDS = """--help | crowd --help | train --help | study --help | evaluate --help | predict --help
crowd scenes --images 6 --seed 3 --size 96 --workers 1
evaluate --model crowd-tiny --data scenes/annotations.json scenes/images --no-flip
evaluate --model crowd-tiny --data scenes/annotations.json scenes/images --protocol shared
evaluate --model crowd-tiny-nocue --data scenes/annotations.json scenes/images --cue none
evaluate --model crowd-tiny --data scenes/annotations.json scenes/images --results poses.json
evaluate --poses poses.json --data scenes/annotations.json scenes/images
predict scenes/images/000000000001.jpg --model crowd-tiny --click 40,40 --json click.json
predict scenes/images/000000000002.jpg --model crowd-tiny --box 5,5,60,80 --json box.json
evaluate --model crowd-tiny --data missing.json scenes/images
evaluate --model crowd-tiny --data scenes/annotations.json scenes/images --cue nonsense
evaluate --model nonsense --data scenes/annotations.json scenes/images
train --preset nonsense --out run | train --preset crowd-quick --out run --set nonsense=1
export --model crowd-tiny --out net.txt"""


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--compare"]:
        one, other = (json.loads(Path(path).read_text()) for path in arguments[1:3])
        lines = differences(one, other)
        print(*lines or ["no difference"], sep="\n")
        return int(bool(lines))
    out = Path(arguments[0]).absolute()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        found = {"parity": parity(), "exam": exam(folder / "exam"),
                 "commands": commands(folder / "cli"), "training": training(folder)}
    out.write_text(json.dumps(rounded(found), indent=1) + "\n")
    return 0


def exam(folder: Path) -> dict:
    """Figures of the shipped networks, for every protocol and cue that is compared."""
    persons, figures = hp.make_crowd(folder, workers=1, **EXAM), {}
    questions = [(name, protocol, cue) for protocol in ("own", "shared") for name, cue in (
        ("crowd-tiny", "joint"), ("crowd-tiny", "mask"), ("crowd-tiny", "centre"),
        ("crowd-tiny-nocue", "joint"))]  # which takes no cue, and answers without one
    for name, protocol, cue in questions:
        report = ask(hp.load_model(name), persons, protocol, cue)
        figures[f"{name}, {protocol}, {cue}"] = {
            "ap": report.ap, "right": report.identity["accuracy"],
            "strata": {label: row["accuracy"] for label, row in report.strata.items()}}
    return figures


def ask(model, persons, protocol: str, cue: str):
    """An evaluation whose cue has the same meaning in older checkouts."""
    words = import_first("cues.evaluation", "person_cues").CUES
    return hp.evaluate(model, persons, protocol=protocol,
                       cue=cue if cue in words else OLD_WORDS[cue])


def training(folder: Path) -> list[dict]:
    """The metrics of 300 steps of the study's preset, in float32, with one seed."""
    people, held_out = (hp.make_crowd(folder / f"crowd-{seed}", images, seed, 192, workers=1)
                        for images, seed in ((400, 0), (60, 1_000_000)))
    config = hp.TrainConfig.preset("crowd-quick", steps=300, precision="float32", warmup=50,
                                   checkpoint_every=50, validate_every=300)
    run = hp.train(config, folder / "run", people, held_out, device="cpu", progress=False)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def parity() -> dict:
    """Largest differences to timm, COCOeval, HRNet's loss and HRNet's decoding."""
    timm = import_module("timm")
    theirs = timm.create_model("hrnet_w32", pretrained=False).eval()
    ours = hp.HRNet(32).eval()
    known = ours.state_dict()
    state = {name: value for name, value in theirs.state_dict().items() if name in known}
    ours.load_state_dict(state, strict=False)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = theirs.layer1(theirs.act2(theirs.bn2(theirs.conv2(
            theirs.act1(theirs.bn1(theirs.conv1(images)))))))
        difference = (stem - ours.stem_features(images)).abs().max().item()
    return {"timm, shared entries": len(state), "timm, stem and layer1": difference,
            "loss": loss_difference(), "decoding": decoding_difference()}


def loss_difference() -> float:
    """Our loss against HRNet's, written with loops."""
    batches = import_module("hintpose_lite.data.batches")
    loss = import_first("training.step", "trainer").heatmap_loss
    draw = torch.Generator().manual_seed(1)
    out, truth = (torch.rand(2, 3, 4, 8, 6, generator=draw) for _ in range(2))
    weights = (torch.rand(3, 4, generator=draw) > .3).float()
    batch = batches.Batch(None, None, truth[0], weights, None)
    loops = [.5 * np.mean([((out[hop, :, k] - truth[0, :, k]) * weights[:, k, None, None]).square()
                           .mean().item() for k in range(4)]) for hop in range(2)]
    return abs(loss(out, batch, torch.ones(2)).item() - float(np.mean(loops)))


def decoding_difference() -> float:
    """Our quarter decoding against HRNet's, written with loops."""
    decode = import_first("pose.heatmaps", "heatmaps").decode
    maps = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(2))
    points, _ = decode(maps, (48, 64), "quarter")
    worst = 0.0
    for n, k in np.ndindex(2, 3):
        heat = maps[n, k].numpy()
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        spot = np.array([x, y], float)
        if 1 < x < 11 and 1 < y < 15:
            slope = heat[y, x + 1] - heat[y, x - 1], heat[y + 1, x] - heat[y - 1, x]
            spot += .25 * np.sign(slope)
        worst = max(worst, float(np.abs(spot * 4 - points[n, k].numpy()).max()))
    return worst


def commands(folder: Path) -> dict:
    """What twenty command lines print, and their exit status."""
    folder.mkdir()
    lines = [line.strip() for part in COMMANDS.splitlines() for line in part.split("|")]
    return {line: command(line, folder) for line in lines}


def command(line: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-m", "hintpose_lite", *line.split()], cwd=folder,
                          capture_output=True, text=True)
    text = f"status {done.returncode}\n{done.stdout}{done.stderr}".replace(str(folder), "FOLDER")
    return re.sub(r"\d+(\.\d+)?(?= ?(s\b|seconds|it/s|MB))", "#", text)


def import_first(*modules: str):
    """The first of some modules of the package that exists."""
    for name in modules:
        with suppress(ImportError):
            return import_module(f"hintpose_lite.{name}")
    raise HintPoseError(f"none of {modules} exists")


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def differences(one, other, name: str = "") -> list[str]:
    """What differs between two nested values, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [line for key in sorted({*one, *other})
                for line in differences(one.get(key), other.get(key), f"{name} / {key}")]
    return [] if one == other else [f"{name}: {one!r:.400} -> {other!r:.400}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
