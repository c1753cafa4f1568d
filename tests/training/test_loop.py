"""The loss, the schedule, exact resume, and what a run refuses."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock

from hintpose_lite.data.batches import Batch
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import ConfigError, HintPoseError, RunError
from hintpose_lite.evaluation.evaluate import evaluate
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training import folder as run_folder
from hintpose_lite.training import loop as training
from hintpose_lite.training import step as trainer
from hintpose_lite.training.loop import train
from hintpose_lite.training.step import Trainer, heatmap_loss, learning_rate
from hintpose_lite.weights.weights import load_model, save_model

TINY = TrainConfig.preset("crowd-quick", width=4, stem=8, cue_channels=4, input_size=(64, 96),
                          steps=6, batch=4, warmup=2, checkpoint_every=2,
                          validate_every=4, lr=1e-3, hops_after=0.0)


VALIDATE = training.validate


@pytest.fixture(autouse=True)
def quick_validation(monkeypatch):
    monkeypatch.setattr(training, "validate", lambda trainer, persons, out: {
        "step": trainer.step, "ap": 0.5, "identity": 0.5})


def run(folder, crowd, config=TINY, **settings):
    return train(config, folder, crowd, crowd, device="cpu", progress=False, **settings)


def weights(folder):
    return load_model(folder / "model.safetensors").state_dict()


def test_loss_is_hrnets_formula():
    """Per joint 0.5 x the mean squared error of weighted maps, averaged over joints; per hop."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 3, 5, 8, 6, generator=generator)
    targets = torch.rand(3, 5, 8, 6, generator=generator)
    weight = torch.randint(0, 2, (3, 5), generator=generator).float()
    batch = Batch(None, None, targets, weight, None)
    expected = []
    for out in outputs.numpy():
        joints = [0.5 * np.mean((out[:, k] * weight[:, k, None, None].numpy()
                                 - targets[:, k].numpy() * weight[:, k, None, None].numpy()) ** 2)
                  for k in range(5)]
        expected.append(np.mean(joints))
    found = heatmap_loss(outputs, batch, torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx((expected[0] + 3 * expected[1]) / 4, rel=1e-5)


def test_schedules():
    cosine = replace(TINY, steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(cosine, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[99] < 0.001
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    steps = replace(cosine, schedule="step", warmup=0, drops=(0.5, 0.9))
    assert [learning_rate(steps, step) for step in (0, 49, 50, 95)] == pytest.approx(
        [1, 1, 0.1, 0.01])


def test_a_stopped_run_resumes_bit_for_bit(crowd, tmp_path):
    whole = run(tmp_path / "whole", crowd)
    (tmp_path / "cut").mkdir()
    original, count = Trainer.run_step, []

    def stopping(self):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", crowd)
    cut = run(tmp_path / "cut", crowd)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(cut)[name]), name

    def losses(folder):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    assert losses(whole) == losses(cut) and len(losses(whole)) == 3
    assert run(tmp_path / "cut", crowd) == cut, "a finished run is not run again"


def test_weights_and_checkpoint_belong_together(crowd, tmp_path):
    folder = run(tmp_path / "run", crowd)
    last = weights(folder)
    model, metrics = folder / "model.safetensors", (folder / "metrics.jsonl").read_text()
    # A disk that was full, or a kill, between the two files: the weights are older, or missing.
    save_model(HintPose.from_spec(TINY.spec), model, overwrite=True)
    (folder / "metrics.jsonl").write_text("".join(metrics.splitlines(keepends=True)[:-1]))
    run(folder, crowd)
    assert all(torch.equal(value, last[name]) for name, value in weights(folder).items())
    model.unlink()
    run(folder, crowd)
    assert all(torch.equal(value, last[name]) for name, value in weights(folder).items())
    (folder / "last.pt").unlink()
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="last.pt"):
        run(folder, crowd)
    assert model.exists()


def test_two_processes_never_share_a_run(crowd, tmp_path):
    folder = run(tmp_path / "run", crowd)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))  # not complete
    (folder / "stop").touch()
    with FileLock(folder / "lock"), pytest.raises(RunError):
        run(folder, crowd)
    assert (folder / "stop").exists(), "the other process has not read it yet"
    run(folder, crowd)


def test_a_continued_run_does_not_want_its_first_weights(crowd, tmp_path):
    config = replace(TINY, init=str(run(tmp_path / "first", crowd) / "model.safetensors"))
    folder = run(tmp_path / "second", crowd, config)
    (folder / "metrics.jsonl").write_text("")  # so that it is not complete
    (tmp_path / "first" / "model.safetensors").unlink()
    run(folder, crowd, config)


def test_a_stop_file_ends_the_run_cleanly(crowd, tmp_path, monkeypatch):
    original = Trainer.run_step

    def asking(self):
        (tmp_path / "run" / "stop").touch()
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", asking)
        run(tmp_path / "run", crowd)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1
    assert not (tmp_path / "run" / "stop").exists()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1], "its last steps are written down"


def test_a_run_killed_before_its_last_validation_makes_up_for_it(crowd, tmp_path):
    folder = run(tmp_path / "run", crowd)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert '"ap"' in lines[-1]
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    (folder / "stop").touch()
    run(folder, crowd)
    assert (folder / "metrics.jsonl").read_text() == "".join(lines)


def test_other_settings_or_folders_are_refused(crowd, tmp_path):
    run(tmp_path / "run", crowd)
    with pytest.raises(RunError, match="config.lr"):
        run(tmp_path / "run", crowd, replace(TINY, lr=2e-3))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError):
        run(tmp_path / "mine", crowd)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(RunError):
        run(tmp_path / "broken", crowd)


@pytest.mark.parametrize("wrong", [{"init": "no-such-file"}, {"width": 0}])
def test_a_refused_start_leaves_the_folder_free(crowd, tmp_path, wrong):
    out = tmp_path / "run"
    with pytest.raises(HintPoseError):
        run(out, crowd, TINY.override(wrong))
    assert not (out / "config.json").exists()
    run(out, crowd)
    with pytest.raises(RunError):
        run(out, crowd, TINY.override({"lr": 1e-4}))
    assert (out / "last.pt").exists() and (out / "config.json").exists()
    for name in ("last.pt", "metrics.jsonl"):  # not copied with the rest
        (out / name).unlink()
    with pytest.raises(RunError, match="last.pt"):
        run(out, crowd)
    assert (out / "config.json").exists(), "so that last.pt can be put back"


def test_an_unusable_folder_is_refused(crowd, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError):
        train(TINY, tmp_path, crowd, crowd)


def test_damaged_files_of_a_run(crowd, tmp_path):
    folder = run(tmp_path / "run", crowd)
    whole = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(whole[:-20])  # cut off, as by a full disk
    run(folder, crowd)
    assert (folder / "metrics.jsonl").read_text() == whole
    (folder / "metrics.jsonl").write_text("")
    (folder / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match="last.pt"):
        run(folder, crowd)
    (folder / "config.json").write_text("[]")
    with pytest.raises(RunError, match="config.json"):
        run(folder, crowd)


def test_another_number_of_joints_is_refused(crowd, tmp_path):
    with pytest.raises(ConfigError, match="joints=14"):
        run(tmp_path / "run", crowd, TINY.override({"joints": 14}))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(crowd, tmp_path, monkeypatch):
    original = Trainer.run_step

    def diverging(self):
        loss = original(self)
        return loss * float("nan") if self.step == 4 else loss

    monkeypatch.setattr(Trainer, "run_step", diverging)
    with pytest.raises(RunError, match="step 4"):
        run(tmp_path / "run", crowd)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2


def test_stopping_does_not_save_a_loss_that_is_not_finite(crowd, tmp_path, monkeypatch):
    original = Trainer.run_step

    def diverging(self):
        loss = original(self)
        if self.step < 3:
            return loss
        (tmp_path / "run" / "stop").touch()
        return loss * float("nan")

    monkeypatch.setattr(Trainer, "run_step", diverging)
    with pytest.raises(RunError, match="step 3"):
        run(tmp_path / "run", crowd)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(crowd, tmp_path, monkeypatch):
    original = Trainer.run_step

    def diverging(self):
        loss = original(self)
        if self.step == 4:  # an update that spoils the weights, after a loss that was finite
            self.model.conv1.weight.data.mul_(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "run_step", diverging)
    with pytest.raises(RunError, match="step 4"):
        run(tmp_path / "run", crowd)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2
    assert all(value.isfinite().all() for value in
               load_model(tmp_path / "run" / "model.safetensors").state_dict().values())


def test_a_full_disk_is_explained(crowd, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(training.torch, "save", full)
    with pytest.raises(RunError):
        run(tmp_path / "run", crowd)


def test_training_lowers_the_loss(crowd, tmp_path):
    config = replace(TINY, steps=60, batch=8, lr=4e-3, checkpoint_every=10)
    folder = run(tmp_path / "run", crowd, config)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.92 * losses[0]


@pytest.mark.parametrize("cue", [True, False])
def test_hop_dropout_draws_every_number_of_hops(cue):
    config = TINY.override({"cue": cue, "hop_dropout": 0.5})
    drawn = [trainer.draw_hops(replace(config, steps=400), step) for step in range(400)]
    assert {n: drawn.count(n) > 60 for n in (1, 2, 3)} == {1: True, 2: True, 3: True}


def test_further_hops_come_after_their_part_of_the_steps():
    config = replace(TINY, steps=8, hops_after=0.5)
    assert [trainer.draw_hops(config, step) for step in range(8)] == [1] * 4 + [3] * 4


def test_sigterm_saves_like_the_stop_file_and_loses_no_step(crowd, tmp_path, monkeypatch):
    whole = train(TINY, tmp_path / "whole", crowd, crowd, progress=False)
    run_step = Trainer.run_step

    def ended(trainer):
        loss = run_step(trainer)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(Trainer, "run_step", ended)
    before = signal.getsignal(signal.SIGTERM)
    folder = train(TINY, tmp_path / "ended", crowd, crowd, progress=False)
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 3
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    train(TINY, folder, crowd, crowd, progress=False)
    assert (folder / "model.safetensors").read_bytes() == (
        whole / "model.safetensors").read_bytes()


def test_the_best_of_all_validations_is_kept(crowd, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "validate", VALIDATE)
    folder = train(TINY, tmp_path / "run", crowd, crowd, progress=False)
    made = run_folder.read_metrics(folder)
    validated = [record for record in made if "ap" in record]
    assert all({"own_ap", "own_ap_no_cue"} <= record.keys() for record in validated)
    report = evaluate(load_model(folder / "best.safetensors"), crowd, flip=False,
                      rows=range(len(crowd)))
    assert report.ap == pytest.approx(max(record["own_ap"] for record in validated))


def test_the_layout_of_an_annotation_file_does_not_end_a_run(crowd, tmp_path):
    indented = tmp_path / "indented.json"
    indented.write_text(json.dumps(json.loads(crowd.annotations.read_text()), indent=2))
    again = CocoPersons(indented, crowd.images)
    assert again.sha256 == crowd.sha256
    content = json.loads(crowd.annotations.read_text())
    content["annotations"][0]["bbox"][0] += 1
    indented.write_text(json.dumps(content))
    assert CocoPersons(indented, crowd.images).sha256 != crowd.sha256


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 3.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
    RuntimeError("unable to allocate shared memory(shm) for file")])
def test_memory_for_the_data_is_told_apart_from_a_batch_that_is_too_large(
        crowd, tmp_path, monkeypatch, error):
    def run_step(trainer):
        raise error
    monkeypatch.setattr(Trainer, "run_step", run_step)
    with pytest.raises(RunError, match="main memory"):
        train(TINY, tmp_path / "run", crowd, crowd, device="cpu", progress=False)


def test_other_errors_of_a_step_stay_as_they_are(crowd, tmp_path, monkeypatch):
    def run_step(trainer):
        raise RuntimeError("a shape is wrong")
    monkeypatch.setattr(Trainer, "run_step", run_step)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        train(TINY, tmp_path / "run", crowd, crowd, device="cpu", progress=False)
