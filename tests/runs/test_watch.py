"""What a run's folder tells to those who watch it."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hintpose_lite.errors import RunError
from hintpose_lite.runs import watch as runs
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.runs.watch import HEADER, history, is_running, launch, status, watch
from hintpose_lite.training.folder import read_metrics
from hintpose_lite.training.step import Trainer


def loss(step, seconds, value=0.004):
    return {"step": step, "loss": value, "seconds": seconds, "lr": 0.001}


def validation(step, ap=0.25):
    return {"step": step, "ap": ap, "identity": 0.7}


@pytest.fixture()
def folder(tmp_path):
    """A run of 1500 steps; `folder.write(records, tail)` gives it entries."""
    (tmp_path / "config.json").write_text(json.dumps({"config": {"steps": 1500}, "people": 9}))
    return tmp_path


def write(folder, records, tail=""):
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines) + tail, encoding="utf-8")


def test_a_run_without_entries_stands_at_step_0(folder):
    assert status(folder) == runs.Status(0, 1500) and not status(folder).complete
    assert status(folder).remaining is None and "–" in status(folder).row()


def test_the_last_entries_make_the_status(folder):
    write(folder, [loss(500, 50), validation(500), loss(1000, 125, 0.003)])
    now = status(folder)
    assert (now.step, now.steps, now.loss, now.lr) == (1000, 1500, 0.003, 0.001)
    assert (now.ap, now.identity, now.validated) == (0.25, 0.7, 500)
    assert now.rate == 8 and now.remaining == 500 / 8 and not now.complete
    assert [row.step for row in history(folder)] == [500, 1000]
    cells = "1,000 1,500 3.00e-03 1.00e-03 25.0 70.0 8.00 0:01:02".split()
    assert now.row().split() == cells and len(now.row()) == len(HEADER)


def test_complete_only_with_the_last_validation(folder):
    write(folder, [loss(1500, 50)])
    assert not status(folder).complete
    write(folder, [loss(1500, 50), {"step": 1500, "ap": None, "identity": None}])
    assert status(folder).complete


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 60))
def test_a_truncated_last_line_is_ignored(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(json.dumps({"config": {"steps": 1500}}))
    write(folder, [loss(500, 50)], json.dumps(loss(1000, 100))[:length])
    assert status(folder).step == 500


def test_folders_that_are_no_runs_are_refused(folder, tmp_path):
    with pytest.raises(RunError):
        status(tmp_path / "nowhere")
    for text in ("{", "[]", '{"config": {}}', '{"config": 3}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(RunError, match="config.json"):
            watch(folder)
    (folder / "config.json").write_text('{"config": {"steps": 3}, "held_out": "0123"}')
    with pytest.raises(RunError):
        watch(folder)
    (folder / "config.json").write_text('{"config": {"steps": 3}}')
    for text in ("3\n", "[]\n", '{"step": 1}\n', '{"ap": 1, "identity": 1}\n', "\n{}\n",
                 '{"step": "3", "loss": 1, "seconds": 1, "lr": 1}\n', '{"step": 1, "ap": "a", '
                 '"identity": 1}\n'):
        (folder / "metrics.jsonl").write_text(text)
        with pytest.raises(RunError, match="line 1"):
            status(folder)
    (folder / "metrics.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(RunError, match="line 1"):
        status(folder)


def test_watching_says_each_entry_once_until_the_end(folder, monkeypatch):
    future = [[loss(500, 50)], [loss(500, 50), validation(500), loss(1000, 90)],
              [loss(500, 50), validation(500), loss(1000, 90), loss(1500, 130), validation(1500)]]
    said, slept = [], []

    def sleep(seconds):
        slept.append(seconds)
        write(folder, future[len(slept) - 1])

    monkeypatch.setattr(runs.time, "sleep", sleep)
    monkeypatch.setattr(runs, "is_running", lambda _: True)
    watch(folder, interval=0.5, say=said.append)
    assert slept == [0.5] * 3 and said[0] == HEADER and said[-1].startswith("complete")
    assert [line.split()[0] for line in said[1:-1]] == ["0", "500", "500", "1,000",
                                                                    "1,500"]
    said.clear()
    watch(folder, say=said.append)
    assert len(said) == 5 and len(slept) == 3


def test_stopping_writes_the_file_the_loop_looks_for(folder, monkeypatch):
    said = []
    watch(folder, stop=True, say=said.append)
    assert not (folder / "stop").exists() and "no process trains" in said.pop()
    monkeypatch.setattr(runs, "is_running", lambda _: True)
    watch(folder, stop=True, say=said.append)
    assert (folder / "stop").exists() and "will save and end" in said[0]
    (folder / "stop").unlink()
    write(folder, [loss(1500, 50), validation(1500)])
    watch(folder, stop=True, say=said.append)
    assert not (folder / "stop").exists() and "nothing to stop" in said[1]


def test_watching_ends_when_a_run_was_stopped_or_on_ctrl_c(folder, monkeypatch):
    said = []
    (folder / "stop").touch()
    monkeypatch.setattr(runs.time, "sleep", lambda _: (folder / "stop").unlink())
    monkeypatch.setattr(runs, "is_running", lambda _: True)
    watch(folder, say=said.append)
    assert said[-1].startswith("stopped")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.time, "sleep", interrupt)
    watch(folder, say=said.append)
    assert said[-1].endswith("goes on")


SETTINGS = {"width": 4, "stem": 8, "cue_channels": 4, "input_size": (32, 64),
            "batch": 4, "warmup": 1, "checkpoint_every": 2, "validate_every": 10_000,
            "hops_after": 0.0}


def start(crowd, folder, steps):
    people = (crowd.annotations, crowd.images)
    return launch(folder, data=people, val=people, changes={**SETTINGS, "steps": steps})


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within two minutes")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_a_run_of_its_own_can_be_watched_killed_and_continued(crowd, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: sums depend on the number of threads
    folder = start(crowd, tmp_path / "run", steps=100_000)
    assert is_running(folder)
    with pytest.raises(RunError):
        start(crowd, folder, steps=100_000)
    wait_for(lambda: status(folder).step >= 4)
    [number] = [int(p.name) for p in Path("/proc").glob("[0-9]*")
                if str(folder).encode() in (p / "cmdline").read_bytes().split(b"\0")]
    os.kill(number, signal.SIGKILL)
    wait_for(lambda: not is_running(folder))
    reached, said = status(folder).step, []
    watch(folder, say=said.append)
    assert said[-1].startswith("no process trains here")

    start(crowd, folder, steps=100_000)
    wait_for(lambda: status(folder).step > reached)
    watch(folder, stop=True, say=said.append)
    wait_for(lambda: not is_running(folder))
    steps = [record["step"] for record in read_metrics(folder)]
    assert steps == sorted(set(steps)), "no step is written down twice"

    # The killed and continued run went the way of one that was never disturbed.
    config = TrainConfig.preset("crowd-quick", **SETTINGS, steps=100_000)
    alone = Trainer(config, crowd, "cpu")
    stored = {record["step"]: record["loss"] for record in read_metrics(folder)}
    later = min(step for step in stored if step > reached)  # one line may be lost in the kill
    losses = [alone.run_step() for _ in range(later)]
    assert stored[later] == float(torch.stack(losses[-2:]).mean())


def test_a_run_that_cannot_begin_says_why(crowd, tmp_path):
    with pytest.raises(RunError, match="wdith"):
        launch(tmp_path / "run", changes={"wdith": 4})
    assert not is_running(tmp_path / "run")


def test_a_run_that_died_while_starting_says_its_last_words(tmp_path, folder):
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "train.log").write_text("weights: none\nerror: no such picture\nbye\n")
    with pytest.raises(RunError, match="no such picture"):
        history(tmp_path / "dead")
    (folder / "train.log").write_text("  0%| | 0/9\r 1%| | 1/9\nKilled\n")
    said = []
    watch(folder, say=said.append)
    assert "Killed" in said[-1]
