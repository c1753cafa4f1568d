"""The `hintpose` command: what it hands on, what it refuses, and what it never removes."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import ANY

import numpy as np
import pytest

import hintpose_lite
from hintpose_lite import cli
from hintpose_lite.cli import main
from hintpose_lite.errors import DataError
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.training.folder import locked

PHOTOS = [SimpleNamespace(path=Path("a.jpg"), drawing=None)] * 6


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for the rooms above; every call is noted as (name, positional, keywords)."""
    noted = []

    def note(name, result=None):
        def call(*args, **keywords):
            noted.append((name, args, keywords))
            return result
        return call

    class Config:
        @classmethod
        def preset(cls, name):
            noted.append(("preset", (name,), {}))
            return SimpleNamespace(override=note("override", "config"))

    report = SimpleNamespace(table=lambda: "a table", to_json=note("to_json"))
    persons = SimpleNamespace(summary=lambda: "200 pictures")
    rooms = {
        "runs.presets": {"TrainConfig": Config},
        "training.loop": {"train": note("train")},
        "runs.study": {"study": note("study", "a table")},
        "runs.watch": {"watch": note("watch")},
        "runs.people": {"open_data": lambda config, data, val: (data, val)},
        "runs.preflight": {"announce": "announce"},
        "evaluation.evaluate": {"evaluate": note("evaluate", report)},
        "evaluation.report": {"coco_table": note("coco_table", "COCO's table")},
        "evaluation.judge": {"score_results": note("score_results", "figures")},
        "inputs.results": {"read_results": lambda persons, file, *_: [] if file == "empty.json" else
                           [(1, [], 0.5, None)]},
        "photos.estimator": {"PoseEstimator": note("PoseEstimator", "estimator")},
        "photos.files": {
            "find_photos": note("find_photos", PHOTOS), "add_boxes": note("add_boxes"),
            "add_sources": note("add_sources", "detector"),
            "predict_photos": note("predict_photos", [{"image_id": 1}, {"image_id": 2}]),
            "describe": note("describe", "what it knows")},
        "photos.cue_network": {"train_cuenet": note("train_cuenet"),
                               "network_for": lambda model: f"cues for {model}",
                               "CueNetwork": lambda name, device: f"{name} on {device}"},
        "crowd.folder": {"crowd_scenes": note("crowd_scenes", "scenes"),
                         "make_crowd": note("make_crowd", persons)},
        "cues.cue": {"Cue": SimpleNamespace(points=lambda xy: ("points", xy))},
        "weights.weights": {"load_model": note("load_model", "model")},
        "weights.onnx": {"export_onnx": note("export_onnx")},
        "model.device": {"choose_device": lambda name: name or "best"},
        "runs.check_data": {"refuse_bad_pictures": note("refuse_bad_pictures")},
        "data.coco": {"CocoPersons": lambda *paths, **_: People(("persons", *paths))},
    }
    for room, content in rooms.items():
        module = ModuleType(room)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, f"hintpose_lite.{room}", module)
    return noted


class People(tuple):
    """Stands in for the people of a file, of which one cannot be used."""

    odd = True

    image_ids = np.array([1, 1, 2])

    skipped = ("annotation 7",)

    def summary(self):
        return f"skipped annotations: 1 of {self[1]}"


def test_what_a_file_has_that_cannot_be_used_is_said(calls, capsys):
    assert main("evaluate --model m --data a.json a".split()) == 0
    assert capsys.readouterr().err == "skipped annotations: 1 of a.json\n"


@pytest.mark.parametrize("more", ["--cue mask", "--protocol shared", "--hops 2", "--out r.json",
                                  "--results p.json", "--no-flip", "--seed 1", "--detections d",
                                  "--device cpu", "--precision bf16"])
def test_a_result_file_is_scored_as_it_is(calls, capsys, more):
    command = ["evaluate", "--poses", "r.json", "--data", "a.json", "a", *more.split()]
    assert main(command) == 2 and not calls
    assert f"leave out {more.split()[0]}\n" in capsys.readouterr().err


def test_numbers_of_results_need_a_file(calls, capsys):
    assert main("predict a.jpg --model m --image-id 3".split()) == 2
    assert "give the file with --cues" in capsys.readouterr().err


def test_crowd(calls, capsys):
    assert main("crowd out --images 5 --seed 3 --size 256 --workers 1".split()) == 0
    assert calls == [("make_crowd", ("out",), dict(images=5, seed=3, size=256, workers=1))]
    assert capsys.readouterr().out == "200 pictures\n"


def test_study(calls, capsys):
    assert main("study --out runs/s --seeds 0 1 --data a.json a --set lr=1e-3".split()) == 0
    assert calls == [
        ("preset", ("crowd-quick",), {}), ("override", ({"lr": "1e-3"},), {}),
        ("study", ("config", "runs/s", [0, 1]), dict(data=["a.json", "a"], val=None, jobs=None,
                                                  device="best"))]
    assert capsys.readouterr().out == "a table\n"


def test_train(calls):
    assert main("train --preset crowd-quick --out runs/a --data a.json a --val b.json b "
                "--init imagenet --set lr=1e-3 --set note=a=b".split()) == 0
    assert calls == [
        ("preset", ("crowd-quick",), {}),
        ("override", ({"lr": "1e-3", "note": "a=b", "init": "imagenet"},), {}),
        ("refuse_bad_pictures", (("persons", "b.json", "b"),), {}),
        ("train", ("config", "runs/a", ("persons", "a.json", "a"), ("persons", "b.json", "b")),
         dict(device="best", before="announce"))]


def test_train_on_the_presets_own_data(calls):
    assert main("train --preset crowd-quick --out runs/a".split()) == 0
    assert calls[1:] == [("override", ({},), {}),
                         ("train", ("config", "runs/a", None, None),
                          dict(device="best", before="announce"))]


def test_watch(calls):
    assert main(["watch", "runs/a", "--stop"]) == main(["watch", "runs/a"]) == 0
    assert calls == [("watch", ("runs/a",), {"stop": stop}) for stop in (True, False)]


def test_evaluate(calls, capsys, tmp_path):
    out = tmp_path / "new" / "report.json"
    assert main(["evaluate", *"--model m --data a.json a --protocol shared --cue wrong --hops 2 "
                 "--detections d.json --no-flip --seed 7 --out".split(), str(out)]) == 0
    assert calls == [
        ("load_model", ("m", "best"), {}),
        ("refuse_bad_pictures", (("persons", "a.json", "a"),), {}),
        ("evaluate", ("model", ("persons", "a.json", "a")),
         dict(progress=ANY, protocol="shared", cue="wrong", hops=2, flip=False, seed=7,
              detections="d.json", results=None, overwrite=False, precision="float32")),
        ("to_json", (out,), {"overwrite": False})]
    assert capsys.readouterr().out == "a table\n" and out.parent.is_dir()


def test_an_existing_report_is_refused_before_the_work(calls, tmp_path, capsys):
    out = tmp_path / "report.json"
    out.write_text("mine")
    command = ["evaluate", *"--model m --data a.json a --out".split(), str(out)]
    assert main(command) == 2 and calls == []
    assert "exists already" in capsys.readouterr().err and out.read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert calls[-1] == ("to_json", (out,), {"overwrite": True})


def test_nothing_is_deleted_before_the_work(tmp_path, capsys):
    results, data = tmp_path / "old.json", ["--data", "missing.json", "missing"]
    results.write_text("mine")
    command = ["evaluate", "--model", "typo", *data, "--results", str(results), "--overwrite"]
    assert main(command) == 2 and results.read_text() == "mine"
    assert main([*command, "--out", str(results)]) == 2
    assert "name the same file" in capsys.readouterr().err and results.read_text() == "mine"


def test_predict(calls, tmp_path, capsys):
    out, poses = tmp_path / "drawn", tmp_path / "new" / "poses.json"
    assert main(["predict", "a.jpg", "b.jpg", "--model", "m", "--box=-1,2,3,4",
                 "--click", "5,6.5,7,8", "--hops", "2", "--out", str(out), "--json", str(poses)
                 ]) == 0
    assert calls == [
        ("find_photos", (["a.jpg", "b.jpg"], [[-1, 2, 3, 4]], out, False, []), {}),
        ("load_model", ("m", "best"), {}),
        ("add_sources", (PHOTOS, None, False, None, "best", "cues for model"), {}),
        ("describe", ("model", "m"), {}),
        ("PoseEstimator", ("model", "detector"),
         {"hops": 2, "looks": 2, "precision": "float32", "skeleton": COCO17}),
        ("predict_photos", ("estimator", PHOTOS, [("points", [(5, 6.5), (7, 8)])], [], 0.0),
         {})]
    assert json.loads(poses.read_text()) == [{"image_id": 1}, {"image_id": 2}]


def test_predict_hands_on_where_boxes_and_cues_come_from(calls):
    assert main("predict a --model m --boxes ann.json --cues r.json --image-id 7".split()) == 0
    assert calls[:4] == [
        ("find_photos", (["a"], None, None, False, []), {}),
        ("add_boxes", (PHOTOS, "ann.json", COCO17, None), {}), ("load_model", ("m", "best"), {}),
        ("add_sources", (PHOTOS, "r.json", False, [7], "best", "cues for model"), {})]


@pytest.mark.parametrize("arguments", [
    "--cues masks --click 1,2", "--detector --box 1,2,3,4", "--boxes a.json --box 1,2,3,4",
    "--boxes a.json --click 1,2", "--boxes a.json --detector",
    "--box 1,2,3,4 --click 1,2 --click 3,4"])
def test_predict_refuses_what_contradicts_itself(calls, arguments, capsys):
    assert main(["predict", "a", *arguments.split(), "--model", "m"]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in arguments.split() if word.startswith("--")) and not calls


def test_predict_says_what_failed_and_keeps_what_did_not(calls, tmp_path, capsys, monkeypatch):
    def predict_photos(estimator, photos, cues, failed, least):
        yield {"image_id": 1}
        failed.append("b.jpg: not a picture")
    module = sys.modules["hintpose_lite.photos.files"]
    monkeypatch.setattr(module, "predict_photos", predict_photos)
    poses = tmp_path / "poses.json"
    assert main(["predict", "a", "--model", "m", "--json", str(poses)]) == 1
    said = capsys.readouterr().err
    assert "1 of 6 pictures could not be used or drawn:\n  b.jpg: not a picture" in said
    assert json.loads(poses.read_text()) == [{"image_id": 1}]

    def stopped(*_):
        yield {"image_id": 5}
        raise KeyboardInterrupt
    monkeypatch.setattr(module, "predict_photos", stopped)
    assert main(["predict", "a", "--model", "m", "--overwrite", "--json", str(poses)]) == 130
    assert json.loads(poses.read_text()) == [{"image_id": 5}]


def test_cuenet(calls):
    assert main("cuenet --out c.safetensors --steps 7 --lr 1e-3 --sigma 2 --seed 3 --data a.json a"
                .split()) == 0
    assert main("cuenet --out c.safetensors --overwrite --init a".split()) == 0
    assert calls == [
        ("train_cuenet", (("persons", "a.json", "a"), "c.safetensors"),
         dict(steps=7, lr=1e-3, sigma=2.0, seed=3, init="none", device="best", overwrite=False)),
        ("crowd_scenes", (4000, 192, 0), {}),
        ("train_cuenet", ("scenes", "c.safetensors"),
         dict(steps=4000, lr=4e-3, sigma=1.5, seed=0, init="a", device="best", overwrite=True))]


def test_evaluate_a_result_file(calls, capsys):
    assert main("evaluate --poses r.json --data a.json a".split()) == 0
    assert calls == [("score_results", (("persons", "a.json", "a"), "r.json"), {}),
                     ("coco_table", ("figures",), {})]
    said = capsys.readouterr()
    assert said.out == "COCO's table\n" and "1 of the 2 pictures" in said.err
    assert main("evaluate --poses empty.json --data a.json a".split()) == 2
    assert "empty.json" in capsys.readouterr().err


@pytest.mark.parametrize(("cue", "network"), [("network", "cues for model"),
                                              ("own.safetensors", "own.safetensors")])
def test_evaluate_with_a_cue_network(calls, cue, network):
    assert main(f"evaluate --model m --cue {cue} --data a.json a".split()) == 0
    assert calls[-1][2]["cue"] == f"{network} on best"


@pytest.mark.parametrize("command", [
    "predict a.jpg --json a.jpg", "evaluate --model m --data a.json a --results a.json",
    "evaluate --model m --data b.json b --protocol detected --detections a.json --out a.json",
    "export --model a.onnx --out a.onnx", "check-data a.json a --fix a.json"])
def test_what_a_command_reads_is_never_replaced(calls, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = command.split()[-1]
    Path(name).write_text("mine")
    assert main([*command.split(), "--overwrite"]) == 2
    assert name in capsys.readouterr().err and Path(name).read_text() == "mine"


@pytest.mark.parametrize("share", ["nan", "50", "-1"])
def test_scores_are_shares(calls, share, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "a.jpg", "--min-score", share])
    assert share in capsys.readouterr().err and not calls


@pytest.mark.parametrize("command", [
    "train --preset p --out o", "study --out o", "cuenet --out c.safetensors",
    "evaluate --model m --data a.json a --cue network", "predict a --model m",
    "export --model m --out o.onnx"])
def test_every_command_with_a_network_takes_a_device(calls, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--device", "cuda:1"]) == 0
    given = [value for _, args, keywords in calls for value in (*args, *keywords.values())]
    assert "cuda:1" in given and "best" not in given


@pytest.mark.parametrize("command", ["evaluate --model m --data a.json a", "predict a --model m"])
def test_precision_is_handed_on(calls, command):
    assert main([*command.split(), "--precision", "auto"]) == 0
    given = [keywords["precision"] for _, _, keywords in calls if "precision" in keywords]
    assert given == ["auto"]


@pytest.mark.parametrize("command, words", [
    ("train --preset p --out o --set lr", "--set lr: write it as key=value"),
])
def test_contradictions_are_explained(calls, capsys, command, words):
    assert main(command.split()) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [
    "", "nonsense", "crowd", "train --out o", "predict --model m", "evaluate --model m",
    "evaluate --data a b", "evaluate --model m --poses r --data a b", "cuenet",
    "predict a --model m --box 1,2,3", "predict a --model m --click 1,x",
    "predict a --model m --click 1,2,3", "predict a --model m --click 1", "train --preset p",
    "evaluate --model m --data only.json", "crowd out --images many"])
def test_wrong_usage_exits_with_the_usage(calls, capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2 and "usage: hintpose" in capsys.readouterr().err
    assert calls == []


@pytest.mark.parametrize("raised, status, words", [
    (DataError("a.json: image 7 is missing"), 2, "error: a.json: image 7 is missing\n"),
    (OSError(28, "No space left on device", "a.bin"), 2, "No space left on device: 'a.bin'"),
    (KeyboardInterrupt(), 130, "stopped\n")])
def test_errors_end_without_a_traceback(monkeypatch, capsys, raised, status, words):
    def failing(_):
        raise raised
    monkeypatch.setattr(cli, "check", failing)
    failing.__name__ = "check"
    assert main(["check"]) == status
    assert words in capsys.readouterr().err


def test_bugs_keep_their_traceback(monkeypatch):
    def broken(_):
        raise KeyError("bug")
    broken.__name__ = "check"
    monkeypatch.setattr(cli, "check", broken)
    with pytest.raises(KeyError):
        main(["check"])


def test_the_status_of_check_is_handed_on(monkeypatch):
    monkeypatch.setattr("hintpose_lite.runs.check.main", lambda: 1)
    assert main(["check"]) == 1


def test_help_is_fast_and_needs_no_torch():
    code = ("import sys; sys.argv = ['hintpose', '--version']\n"
            "import runpy\n"
            "try: runpy.run_module('hintpose_lite', run_name='__main__')\n"
            "except SystemExit as done: assert not done.code\n"
            "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"hintpose-lite {hintpose_lite.__version__}\n", done.stderr


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """A working folder with two runs, finished and unfinished scenes, and much that is not ours."""
    monkeypatch.chdir(tmp_path)
    scenes = json.dumps({"info": {"settings": {"generator": "crowd-3"}}})
    files = {
        "runs/a/config.json": RUN, "runs/a/metrics.jsonl": "", "runs/a/last.pt": "x" * 1000,
        "runs/a/report.json": "{}", "runs/a/lock": "",
        "runs/deep/b/config.json": RUN,
        "runs/added/config.json": RUN, "runs/added/thesis.tex": "years of work",
        "runs/mine/config.json": RUN, "runs/mine/report-mine.json": "{}",
        "data/crowd/annotations.json": scenes, "data/crowd/images/000000000001.jpg": "",
        "data/half/unfinished.json": scenes,
        "data/cache/info.json": '{"made_of": "a.json", "shards": [], "complete": true}',
        "data/cache/shard-00000.bin": "x", "data/index/info.json": "{}",
        "data/mydb/lock": "7", "runs/door/lock/key.txt": "",
        "runs/notes.txt": "", "runs/other/config.json": "{}", "runs/other/metrics.jsonl": "",
        "data/coco/annotations.json": '{"info": {"description": "COCO"}}',
        "data/list/annotations.json": "[]", "data/torn/annotations.json": '{"info": {"gen',
        "data/null/annotations.json": '{"info": {"settings": {"generator": null}}}',
        "elsewhere/run/config.json": RUN, "elsewhere/run/metrics.jsonl": "",
        "config.json": RUN, "metrics.jsonl": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return files


RUN = json.dumps({"config": {"spec": {}}, "people": 3, "data": "0123"})
OURS = ("runs/a/", "runs/deep/b/", "data/cache/", "data/crowd/", "data/half/")


def left():
    return {p.as_posix() for p in Path().rglob("*") if p.is_file() and "link" not in p.parts}


def test_clean_removes_what_we_made_and_nothing_else(generated, capsys):
    assert main(["clean", "--yes"]) == 0
    assert left() == {name for name in generated if not name.startswith(OURS)}
    assert Path("data/mydb/lock").read_text() == "7", "another program's"
    assert Path("runs/link/run/config.json").is_file()
    out = capsys.readouterr().out
    lines = out.splitlines()[:-1]
    kept, removed = sorted(lines[:2]), lines[2:]
    assert "runs/added" in kept[0] and "thesis.tex" in kept[0]
    assert "runs/mine" in kept[1] and "report-mine.json" in kept[1]
    assert [line.split()[-1] + "/" for line in removed] == sorted(OURS)
    assert out.endswith("removed 5 generated folder(s) under runs and data\n")
    assert main(["clean"]) == 0  # nothing left: nothing to ask


def test_clean_keeps_a_run_that_is_running_and_its_data(generated, capsys):
    with locked(Path("runs/a")):
        assert main(["clean", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "kept runs/a: a process is training there" in said and "kept data/crowd" in said
    assert Path("runs/a/last.pt").is_file() and not Path("runs/deep/b").exists()
    assert Path("data/crowd/annotations.json").is_file()


def test_clean_keeps_pictures_of_your_own(generated, capsys):
    Path("data/crowd/images/holiday.jpg").touch()
    Path("data/index/info.json").write_text("[1, 2]")
    assert main(["clean", "--yes"]) == 0
    assert "holiday.jpg" in capsys.readouterr().out
    assert Path("data/crowd/images/holiday.jpg").is_file() and Path("data/index").is_dir()


@pytest.mark.parametrize("answer", ["\n", "n\n", "", "yes please\n"])
def test_clean_asks_first(generated, monkeypatch, answer):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert main(["clean"]) == 0 and left() == set(generated)


def test_clean_after_a_yes(generated, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Yes\n"))
    assert main(["clean"]) == 0 and len(left()) < len(generated)


def test_clean_does_not_enter_a_linked_folder(tmp_path, monkeypatch):
    real = tmp_path / "disk" / "runs" / "a"
    real.mkdir(parents=True)
    (real / "config.json").write_text(RUN)
    (real / "metrics.jsonl").write_text("")
    here = tmp_path / "here"
    here.mkdir()
    (here / "runs").symlink_to(tmp_path / "disk" / "runs", target_is_directory=True)
    monkeypatch.chdir(here)
    assert main(["clean", "--yes"]) == 0 and (real / "config.json").is_file()
