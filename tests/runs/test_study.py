"""The four variants: same data and steps, one table, and what is finished is kept."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from hintpose_lite.errors import ConfigError, RunError
from hintpose_lite.evaluation.report import Report
from hintpose_lite.runs import study as module
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.runs.study import VARIANTS, study, summary
from hintpose_lite.training.folder import is_running

TINY = TrainConfig.preset("crowd-quick", width=4, stem=8, cue_channels=4, input_size=(64, 96),
                          steps=2,
                          batch=4, warmup=1)


def test_variants_differ_in_cue_and_hops_only():
    configs = [TINY.override(changes).to_dict() for changes in VARIANTS.values()]
    for config in configs:
        config["spec"].pop("cue"), config["spec"].pop("hops")
    assert all(config == configs[0] for config in configs)
    assert len(VARIANTS) == 4


def test_a_study_end_to_end(crowd, tmp_path, monkeypatch):
    """Two variants of two steps each, in processes of their own; the second call trains nothing."""
    data = (crowd.annotations, crowd.images)
    settings = dict(variants={"baseline": {"cue": False, "hops": 1},
                              "+both": {"cue": True, "hops": 2}}, data=data, val=data,
                    jobs=2, device="cpu")
    table = study(TINY, tmp_path / "study", **settings)
    assert table.startswith("| per cent ") and "| baseline | +both |" in table
    assert len(table.splitlines()) == 2 + len(module.COLUMNS)
    assert (tmp_path / "study" / "table.md").read_text().strip() == table
    report = Report.from_json(tmp_path / "study" / "both-0" / "report-shared.json")
    assert report.hops == 2 and report.cue == "joint"
    before = (tmp_path / "study" / "both-0" / "model.safetensors").stat().st_mtime_ns
    assert study(TINY, tmp_path / "study", **settings) == table
    assert (tmp_path / "study" / "both-0" / "model.safetensors").stat().st_mtime_ns == before


def test_a_seed_counts_once(crowd, tmp_path, monkeypatch):
    data = (crowd.annotations, crowd.images)
    table = study(TINY, tmp_path / "study", [3, 3], variants={"+cue": {"hops": 1}}, data=data,
                  val=data, jobs=1, device="cpu")
    assert "±" not in table


def test_settings_that_a_variant_refuses_do_not_bind_the_folder(tmp_path):
    with pytest.raises(ConfigError, match="hop_weights"):  # fine for three hops, not for one
        study(TINY.override({"hop_weights": (0, 0, 1)}), tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("stop", ["ctrl-c", "terminate"])
def test_a_signal_ends_all_of_it(crowd, tmp_path, stop):
    """One process, four variants: the first is stopped, and no other one begins."""
    command = [sys.executable, "-m", "hintpose_lite", "study", "--jobs", "1", "--out",
               tmp_path / "study", "--set", "steps=100000", "--set", "batch=2",
               "--data", crowd.annotations, crowd.images, "--val", crowd.annotations, crowd.images]
    process = subprocess.Popen(
        map(str, command), start_new_session=True, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        end = time.monotonic() + 120
        while not [*tmp_path.glob("study/*/config.json")] and time.monotonic() < end:
            time.sleep(0.1)
        if stop == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.terminate()  # the study alone, as a batch system does
        assert process.wait(60) == 130
        folder, = [path.parent for path in tmp_path.glob("study/*/config.json")]
        while is_running(folder) and time.monotonic() < end:
            time.sleep(0.1)
        assert not is_running(folder)
    finally:
        process.kill()
    assert len([*tmp_path.glob("study/*/config.json")]) == 1


def test_a_run_that_was_stopped_has_no_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_data", lambda *_: (None, None))
    monkeypatch.setattr(module, "train", lambda *_, **__: None)
    monkeypatch.setattr(module, "status", lambda *_: SimpleNamespace(complete=False))
    with pytest.raises(RunError, match=tmp_path.name):
        module.run_variant(TINY, tmp_path, None, None, "a device")


def test_no_jobs_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="jobs=-1"):
        study(TINY, tmp_path / "study", jobs=-1, data=("a.json", "a"), val=("a.json", "a"))
    assert not (tmp_path / "study").exists()


def test_answers_come_from_the_device_of_the_training(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "open_data", lambda *_: (None, None))
    monkeypatch.setattr(module, "train", lambda *_, **__: None)
    monkeypatch.setattr(module, "load_model", lambda path, device: asked.append(device))
    monkeypatch.setattr(module, "status", lambda *_: SimpleNamespace(complete=True))
    monkeypatch.setattr(module, "QUESTIONS", {})
    module.run_variant(TINY, tmp_path, None, None, "a device")
    assert asked == ["a device"]


def test_a_device_that_is_not_here_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="gpu"):
        study(TINY, tmp_path / "study", device="gpu", data=("a.json", "a"), val=("a.json", "a"))
    assert not (tmp_path / "study").exists()


def test_seeds_give_mean_and_spread():
    def reports(value):
        figures = dict.fromkeys(("ap", "accuracy", "swap_rate", "followed"), value)
        report = Report("own", "joint", 1, True, 0, 9, figures, {}, {"overlap >= .3": figures}, [])
        return dict.fromkeys(module.QUESTIONS, report)

    done = {("baseline", 0): reports(0.2), ("baseline", 1): reports(0.3)}
    assert "25.0 ± 7.1" in summary(done, ["baseline"], (0, 1))
    assert "20.0 |" in summary(done, ["baseline"], (0,))
    many = {(f"v{i}", 0): reports(0.2) for i in range(len(module.COLUMNS))}
    assert len(summary(many, [name for name, _ in many], (0,)).splitlines()) == 2 + len(many)
    done["baseline", 0]["wrong"].identity["followed"] = None
    assert "–" in summary(done, ["baseline"], (0,))
