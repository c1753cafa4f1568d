"""What a step costs and what it leaves alone: preflight, norms, checkpointed hops, compilation."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hintpose_lite.errors import ConfigError, RunError
from hintpose_lite.model.hintpose import HintPose, _no_statistics
from hintpose_lite.runs import preflight as module
from hintpose_lite.runs.preflight import Estimate, preflight, require_space
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.loop import fitting_batch, train
from hintpose_lite.training.step import Trainer, draw_hops, person_weights

TINY = TrainConfig.preset("crowd-quick", width=4, stem=8, cue_channels=4, input_size=(32, 64),
                          steps=12, batch=4, warmup=1, lr=1e-3, hops_after=0.0)


def trainer(crowd, **changes):
    return Trainer(replace(TINY, **changes), crowd, "cpu")


def test_an_estimate_leaves_no_trace(crowd):
    measured, other = trainer(crowd), trainer(crowd)
    estimate = preflight(measured)
    assert measured.step == 0 and estimate.steps == 12 and estimate.seconds > 0
    assert estimate.epoch == len(crowd) / 4 and "steps per second" in str(estimate)
    parameters = sum(p.numel() for p in other.model.parameters())
    assert 6 * 4 * parameters < estimate.disk < 12 * 4 * parameters
    for _ in range(2):
        assert measured.run_step() == other.run_step()
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, measured.model.state_dict()[name]), name


def test_an_estimate_counts_both_parts_of_a_run(crowd, monkeypatch):
    clock, made = [0.0], trainer(crowd, steps=40, hops_after=0.75)
    forward = made.model.forward

    def counted(images, cues, hops):
        clock[0] += hops
        return forward(images, cues, hops)

    monkeypatch.setattr(made.model, "forward", counted)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    assert preflight(made).seconds == pytest.approx(0.75 * 1 + 0.25 * 3)
    made = trainer(crowd, steps=40, hops_after=1.0)
    assert preflight(made).seconds == 0 and made.step == 0


def test_a_run_that_the_disk_cannot_hold_is_not_begun(monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    require_space(Estimate(1, 10, 10, None, 2**19), tmp_path)
    with pytest.raises(RunError, match="4 MiB"):
        require_space(Estimate(1, 10, 10, None, 2**22), tmp_path)


@pytest.mark.parametrize("part, moving", [(0.0, [0, 0, 0, 0]), (0.5, [1, 1, 0, 0]),
                                          (1.0, [1, 1, 1, 1])])
def test_statistics_move_until_they_are_frozen(crowd, part, moving):
    made, moved = trainer(crowd, steps=4, freeze_after=part), []
    for step in range(4):
        if step == 3:  # a run that is continued knows where it stands
            other = trainer(crowd, steps=4, freeze_after=part)
            other.load(made.state())
            made = other
        before = {name: value.clone() for name, value in made.model.state_dict().items()}
        made.run_step()
        made.model.eval()  # as a validation does
        made.ready()
        after = made.model.state_dict()
        moved.append(not all(torch.equal(before[n], after[n]) for n in after if "running" in n))
        assert not torch.equal(before["final_layer.weight"], after["final_layer.weight"])
    assert moved == [bool(m) for m in moving]


def test_the_backbone_learns_at_its_own_rate(crowd):
    made = trainer(crowd, backbone_lr=0.0)
    before = {name: value.clone() for name, value in made.model.named_parameters()}
    for _ in range(3):
        made.run_step()
    moved = {name.split(".")[0] for name, value in made.model.named_parameters()
             if not torch.equal(value, before[name])}
    assert moved == {"input_refinement", "recurrent_refinement", "final_layer"}


def test_weights_decay_and_norms_and_biases_do_not(crowd):
    made = trainer(crowd, lr=0.5, warmup=0, weight_decay=0.1)
    before = {name: value.clone() for name, value in made.model.named_parameters()}
    for parameter in made.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in made.optimiser.param_groups:
        group["lr"] = 0.5
    made.optimiser.step()
    for name, value in made.model.named_parameters():
        kept = 1 - 0.5 * 0.1 * (value.ndim > 1)
        assert torch.allclose(value, before[name] * kept), name


def test_a_step_asks_the_device_for_no_number(crowd, monkeypatch):
    made = trainer(crowd)
    made.run_step()  # the optimiser makes its state
    def asked(_):
        raise AssertionError("waited for the device")
    for name in ("item", "__float__", "__bool__", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, asked)
    made.run_step()


def test_checkpointed_hops_give_the_same_gradients_and_statistics():
    torch.manual_seed(0)
    plain = HintPose(width=4, stem=8, modules=(1, 1, 1), blocks=1, input_size=(32, 64), hops=3)
    for part in (plain.input_refinement.correct, plain.recurrent_refinement.update):
        torch.nn.init.normal_(part.weight, std=0.1)
    saving = HintPose.from_spec(plain.spec)
    saving.load_state_dict(plain.state_dict())
    saving.checkpoint_hops = True
    images, cues = torch.randn(2, 3, 64, 32), torch.rand(2, 1, 64, 32)
    for model in (plain, saving):
        model(images, cues).square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for (name, p), q in zip(plain.named_buffers(), saving.buffers()):
        if "running" in name:
            assert torch.equal(p, q), name
    assert all(m.momentum > 0 for m in saving.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_where_compilation_fails_training_goes_on(crowd, monkeypatch, capsys):
    def broken(_):
        def forward(*_):
            raise RuntimeError("no compiler here\nand a long story")
        return forward

    monkeypatch.setattr(torch, "compile", broken)
    made, plain = trainer(crowd, compile=True), trainer(crowd)
    assert made.run_step() == plain.run_step()
    assert "no compiler here" in capsys.readouterr().out
    assert made.run_step() == plain.run_step()
    assert "compile" not in capsys.readouterr().out


def greedy(monkeypatch, largest):
    """Steps with more people than `largest` find no memory."""
    original = Trainer.run_step

    def run_step(self):
        hops = draw_hops(self.config, self.step)
        if self.config.batch * hops > largest * 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self)

    monkeypatch.setattr(Trainer, "run_step", run_step)


def test_too_large_a_batch_is_answered_with_one_that_fits(crowd, monkeypatch, tmp_path):
    greedy(monkeypatch, 5)
    config = replace(TINY, batch=16, hops_after=0.5)
    assert fitting_batch(config, crowd, "cpu") == 4
    with pytest.raises(RunError, match="--set batch=4"):
        train(config, tmp_path / "run", crowd, crowd, device="cpu", progress=False)
    greedy(monkeypatch, 0)
    assert fitting_batch(config, crowd, "cpu") == 0


def test_a_config_is_resolved_for_its_people():
    config = replace(TINY, epochs=2.5)
    assert config.resolve(100, 17, 1, "cpu").steps == 62 and TINY.resolve(100, 17, 1, "cpu") == TINY
    assert config.resolve(1, 17, 2, "cpu").steps == 1
    for changes, people in (({}, 14), ({"batch": 5}, 17), ({"batch_norm": "synchronised"}, 17)):
        with pytest.raises(ConfigError):
            replace(TINY, **changes).resolve(100, people, 2, "cpu")


def test_the_w32_preset_takes_real_steps(crowd):
    """The field's own network and schedule; only crops, batch and first weights are small here."""
    config = TrainConfig.preset("w32-256x192", input_size=(64, 96), batch=2, steps=3,
                                epochs=0.0, warmup=1, init="none", compile=False, hops_after=0.0,
                                hop_dropout=0.0)
    run = Trainer(config, crowd, "cpu")
    hrnet = HintPose(width=32, cue=False, hops=1)
    assert sum(p.numel() for p in hrnet.parameters()) == 28_536_113
    assert set(hrnet.state_dict()) < set(run.model.state_dict())
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    losses = torch.stack([run.run_step() for _ in range(3)])
    assert losses.isfinite().all() and run.step == 3
    still = [name for name, value in run.model.named_parameters()
             if torch.equal(value, before[name])]
    assert not still, still  # the zero convs have let the gradient through, to the first layers too


def test_shared_batch_norms_freeze_and_keep_their_statistics_too(crowd):
    made = trainer(crowd, steps=4, freeze_after=0.0)
    made.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(made.model)  # runs on CUDA only
    made.ready()
    shared = [m for m in made.model.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
    assert len(shared) > 20 and not any(module.training for module in shared)
    with _no_statistics(made.model):
        assert {module.momentum for module in shared} == {0.0}
    assert 0.0 not in {module.momentum for module in shared}


def test_people_are_weighted_by_source_and_by_being_contested(crowd):
    people = copy.copy(crowd)
    names = ["coco_val", "coco_train", "lspet"]
    people.sources = {image: names[image % 3] for image in crowd.sources}
    config = TrainConfig(sources="coco=2 lspet=0.5", contested=3.0)
    base = {"coco_val": 2, "coco_train": 2, "lspet": 0.5}
    expected = [base[people.sources[image]] * (3 if contested else 1) for image, contested
                in zip(people.image_ids.tolist(), people.contested, strict=True)]
    assert person_weights(config, people).tolist() == expected
    assert person_weights(TrainConfig(), people) is None
    for wrong in ("mpii=2", "coco=0 lspet=0"):
        with pytest.raises(ConfigError):
            person_weights(TrainConfig(sources=wrong), people)
    for wrong in ("coco", "coco=2lspet=0.5", "coco=2 lspet"):
        with pytest.raises(ConfigError, match="coco"):
            TrainConfig(sources=wrong)
