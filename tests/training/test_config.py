"""Settings: presets, changes by name, and refusals that say what to do."""

import json
from dataclasses import fields, replace

import pytest

from hintpose_lite.cues.training import CueMix
from hintpose_lite.data.crops import Augment
from hintpose_lite.errors import ConfigError
from hintpose_lite.model.hintpose import HintPose, Spec
from hintpose_lite.runs.presets import PRESETS, TrainConfig
from hintpose_lite.training.step import _parameter_groups


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_plain_values(name):
    config = TrainConfig.preset(name)
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_text_is_read_in_the_type_of_the_setting():
    config = TrainConfig().override({"lr": "2e-3", "steps": "7", "width": "16", "cue": "False",
                                     "augment.scale": "0", "input_size": "[64, 96]",
                                     "schedule": "step"})
    assert (config.lr, config.steps, config.spec.width, config.spec.cue) == (2e-3, 7, 16, False)
    assert config.augment.scale == 0.0 and isinstance(config.augment.scale, float)
    assert config.spec.input_size == (64, 96) and config.schedule == "step"
    half = config.override({"steps": 8 / 2, "batch": "16.0"})
    assert (half.steps, half.batch) == (4, 16) and isinstance(half.steps, int)


def test_the_original_is_not_changed():
    config = TrainConfig()
    config.override({"steps": 7})
    assert config == TrainConfig()


@pytest.mark.parametrize(("changes", "message"), [
    ({"learning_rate": 1}, "learning_rate"),
    ({"augment.lr": 1e-3}, "augment.lr"),
    ({"spec": "none"}, "spec"),
    ({"steps": "many"}, "steps='many'"),
    ({"steps": 1.5}, "steps=1.5"),
    ({"steps": float("inf")}, "steps=inf"),
    ({"steps": 0}, "steps=0"),
    ({"lr": -1.0}, "lr=-1.0"),
    ({"schedule": "linear"}, "linear"),
    ({"input_size": (60, 96)}, "60x96"),
    ({"hop_weights": ()}, "hop_weights"),
    ({"hop_weights": ("a",)}, "hop_weights"),
    ({"hop_weights": (0.0, 0.0, 1.0), "hop_dropout": 0.5}, "hop_weights"),
    ({"hop_weights": (0.0, 1.0, 1.0), "hops_after": 0.5}, "hop_weights"),
    ({"hops_after": 1.5}, "hops_after"),
    ({"lr": float("nan")}, "lr=nan"),
    ({"seed": -1}, "seed=-1"), ({"seed": 2 ** 32}, "seed=4294967296"),
    ({"data_seed": -1}, "data_seed"),
    ({"drops": (2.0, 3.0)}, "drops"), ({"rotation": -5.0}, "rotation"),
    ({"compile": True, "checkpoint_hops": True}, "checkpoint_hops"),
    ({"hops": 1, "hop_weights": (0.0, 1.0)}, "hop_weights"),
    ({"input_size": (256, 192)}, "input_size"),
    ({"augment.scale": 1.5}, "scale"), ({"cue_height": 0}, "cue_height"),
    ({"flip": 2}, "flip"),
    ({"cues.joint": -1}, "cues"),
])
def test_unusable_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig().override(changes)


def test_a_number_of_steps_is_a_whole_number_and_a_rate_may_be_one():
    with pytest.raises(ConfigError, match=r"steps=3\.5"):
        TrainConfig(steps=3.5)
    assert TrainConfig(lr=1).lr == 1
    assert TrainConfig(lr=1).to_dict() == TrainConfig(lr=1.0).to_dict()  # so one run's folder


def test_every_part_checks_its_own_values():
    for build in (lambda: Augment(flip="half"), lambda: CueMix(mask=None),
                  lambda: Spec(mean=("red", 0.5, 0.5)), lambda: TrainConfig(drops=0.5)):
        with pytest.raises(ConfigError):
            build()
    with pytest.raises(ConfigError):
        Spec(input_size=(96, 128, 3))
    with pytest.raises(ConfigError):
        Augment(scale=float("nan"))


def test_every_setting_has_a_name_of_its_own():
    config = TrainConfig()
    names = [field.name for part in (config, config.spec, config.augment, config.cues)
             for field in fields(part)]
    assert len(names) == len(set(names))


def test_the_shipped_network_is_its_preset_s_and_learned_from_plain_cues(model):
    config = TrainConfig.preset("crowd-tiny")
    assert model.spec == config.spec
    assert config.spec.cue_amplitude * config.augment.cue_height == pytest.approx(1)


def test_unknown_presets_are_named():
    with pytest.raises(ConfigError, match="crowd-quick"):
        TrainConfig.preset("huge")


def test_steps_win_over_a_preset_s_epochs():
    config = TrainConfig.preset("sample", steps=7)
    assert (config.steps, config.epochs) == (7, 0) and config.resolve(10, 17, 1, "cpu").steps == 7
    assert TrainConfig.preset("sample").resolve(160, 17, 1, "cpu").steps == 600


def test_baselines_have_nothing_of_ours():
    for name, width in (("w32-baseline", 32), ("w48-baseline", 48)):
        config = TrainConfig.preset(name)
        assert not config.spec.cue and config.spec.hops == 1 and config.spec.width == width
        assert config.spec.codec == "quarter" and config.epochs == 210 and not config.images
        augment = config.augment
        assert augment.shared == augment.shift == augment.light == augment.paste == 0


def test_in_fine_tuning_whatever_was_trained_learns_at_a_tenth():
    config = TrainConfig.preset("w32-finetune", width=4, stem=4, modules=(1, 1, 1), blocks=1,
                                input_size=(32, 64))
    factors = {}
    for init in ("hrnet-w32-coco", "imagenet"):
        model = HintPose.from_spec(config.spec)
        names = {id(p): name for name, p in model.named_parameters()}
        for group in _parameter_groups(model, replace(config, init=init)):
            factors |= {(init, names[id(p)]): group["factor"] for p in group["params"]}
    assert factors["hrnet-w32-coco", "final_layer.weight"] == 0.1
    assert factors["imagenet", "final_layer.weight"] == 1
    assert factors["hrnet-w32-coco", "input_refinement.correct.weight"] == 1
    assert factors["hrnet-w32-coco", "conv1.weight"] == 0.1
