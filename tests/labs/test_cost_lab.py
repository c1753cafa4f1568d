"""What a run will cost: the arithmetic, the picture, and the lab by its values."""

from dataclasses import replace

import numpy as np
import pytest

from hintpose_lite.labs.cost_lab import CostLab, cost, cost_figure, duration, multiplications, price
from hintpose_lite.runs.presets import TrainConfig

FIELD = TrainConfig.preset("w32-256x192")
SMALL = TrainConfig.preset("sample")


def test_steps_and_time_are_counted():
    assert cost(150_000, 210, 128, rate=2.0) == (246_094, 123_047.0)
    assert cost(1000, 3, 10, rate=4.0) == (300, 75.0)
    assert cost(3, 0.1, 10, rate=1.0)[0] == 1  # no run is without a step


def test_steps_are_those_that_a_run_takes():
    resolved = FIELD.resolve(149_813, joints=17, processes=1, device="cuda")
    assert cost(149_813, FIELD.epochs, FIELD.batch, rate=1.0)[0] == resolved.steps


def test_the_network_of_the_field_has_its_known_multiplications():
    plain = multiplications(replace(FIELD.spec, cue=False, hops=1))
    assert round(plain / 1e9, 3) == 7.645  # see tests/parity/test_macs.py


def test_a_run_that_was_measured_costs_what_was_measured():
    steps, seconds = price(SMALL, 480, SMALL, rate=2.0)
    assert steps == 480 * SMALL.epochs / SMALL.batch
    assert seconds == pytest.approx(steps / 2)


def test_time_grows_with_multiplications():
    known = (SMALL, 3.0)
    steps, seconds = price(SMALL, 480, *known)
    doubled = price(SMALL.override({"batch": 2 * SMALL.batch}), 480, *known)
    assert doubled[0] == steps / 2 and doubled[1] == pytest.approx(seconds)
    single = SMALL.override({"hops": 1})
    ratio = multiplications(single.spec) / multiplications(SMALL.spec)
    assert price(single, 480, *known)[1] == pytest.approx(seconds * ratio)
    assert 1 / 3 < ratio < 1 / 2
    assert price(SMALL, 480, SMALL, 30.0)[1] == pytest.approx(seconds / 10)


@pytest.mark.parametrize("seconds, text", [(0.5, "0.5 seconds"), (59, "59 seconds"),
                                           (0.0123, "0.0123 seconds"),
                                           (90, "1.5 minutes"), (86_400, "1 days"),
                                           (31_557_600 * 2.5, "2.5 years")])
def test_durations_are_told_in_their_unit(seconds, text):
    assert duration(seconds) == text


def test_the_picture_draws_each_change_at_its_time():
    config = SMALL.override({"epochs": 40.0})
    figure = cost_figure(config, 1000, SMALL, 2.0)
    axis, = figure.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["as planned", "no cue", "one hop", "twice the batch", "20 epochs"]
    ends = dict(zip(names, (line.get_xdata()[1] for line in axis.lines), strict=True))
    assert ends["20 epochs"] == pytest.approx(ends["as planned"] / 2)
    assert 0.95 * ends["as planned"] < ends["no cue"] < ends["as planned"]
    one = price(config.override({"hops": 1}), 1000, SMALL, 2.0)[1]
    assert ends["one hop"] == pytest.approx(one)
    assert ends["twice the batch"] == pytest.approx(ends["as planned"])
    assert "20 epochs: " in figure.get_label() and "(× 0.5)" in figure.get_label()
    low, high = axis.get_xlim()
    assert low < min(ends.values()) and high > max(ends.values())
    assert np.array_equal([line.get_ydata()[0] for line in axis.lines], range(5))


def test_the_lab_follows_its_controls():
    lab = CostLab(SMALL, 2.0)
    assert not lab.errors and lab.config == FIELD.override({"hops": 3, "cue": True})
    assert "246,094 steps" in lab.status.value
    before = lab.still.value
    lab.set(network="sample", people=500, epochs=20, batch=8, hops=2, cue=False)
    assert lab.config == SMALL.override({"epochs": 20, "batch": 8, "hops": 2, "cue": False})
    steps, seconds = price(lab.config, 500, SMALL, 2.0)
    assert lab.status.value.count(f"{steps:,} steps, {duration(seconds)}") == 1
    assert lab.still.value != before
    before = lab.still.value
    lab.controls.__dict__["times as fast"].value = 1000
    assert f"{steps:,} steps, {duration(seconds / 1000)}" in lab.status.value
    assert lab.still.value != before and not lab.errors and repr(lab) == "CostLab()"
