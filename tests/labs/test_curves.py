"""Runs as pictures: what is drawn is what the folders hold, and following ends when it should."""

import copy
import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose

from hintpose_lite.errors import RunError
from hintpose_lite.labs import curves as module
from hintpose_lite.labs.curves import Live, curves, fit, follow, paired_gain, summary
from hintpose_lite.labs.widgets import encoded
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training import step
from hintpose_lite.training.folder import locked
from hintpose_lite.training.step import Trainer

LOSSES = [{"step": 500, "loss": 0.004, "seconds": 50, "lr": 0.001},
          {"step": 1000, "loss": 0.003, "seconds": 100, "lr": 0.0005}]
CHECKED = {"step": 1000, "ap": 0.25, "identity": 0.7}


def entries(folder, *records):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture()
def make_run(tmp_path):
    """make_run(name, steps, *entries) is a run folder."""
    def make(name, steps, *records):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"config": {"steps": steps}}))
        entries(tmp_path / name, *records)
        return tmp_path / name
    return make


@pytest.fixture()
def shown(monkeypatch):
    """What `follow` displays, as (event, alt text, picture)."""
    events = []

    class Handle:
        def update(self, picture):
            events.append(("update", picture.alt, picture.data))

    def display(picture, display_id):
        assert display_id is True
        events.append(("display", picture.alt, picture.data))
        return Handle()

    monkeypatch.setattr(module, "display", display)
    return events


def test_curves_are_the_entries(make_run):
    figure = curves(make_run("one", 1500, *LOSSES, CHECKED))
    loss, lr, ap, right = figure.axes
    assert_allclose(loss.lines[0].get_xydata(), [(500, 4), (1000, 3)])
    assert_allclose(lr.lines[0].get_xydata(), [(500, 1), (1000, 0.5)])
    assert_allclose(ap.lines[0].get_xydata(), [(1000, 25)])
    assert_allclose(right.lines[0].get_xydata(), [(1000, 70)])
    assert loss.get_yscale() == "log" and loss.get_xlim()[1] >= 1500 and not figure.legends
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "loss (thousandths)", "learning rate (thousandths)", "person AP (per cent)",
        "right person (per cent)"]
    assert "one: step 1,000 of 1,500, loss 3.00e-03, AP 25%, right 70%." in figure.get_label()


def test_an_entry_without_a_figure_is_left_out(make_run):
    figure = curves(make_run("one", 1000, *LOSSES, CHECKED | {"ap": None, "identity": None}))
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [2, 2, 0, 0]


def test_runs_differ_in_more_than_colour(make_run):
    runs = [make_run(name, steps, *LOSSES) for name, steps in
            (("one", 1000), ("two", 3000), ("three", 1000), ("four", 1000))]
    figure = curves(*runs)
    lines = figure.axes[0].lines
    for looks in ([line.get_marker() for line in lines], [line.get_linestyle() for line in lines],
                  [to_rgb(line.get_color()) for line in lines]):
        assert len(set(looks)) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r.name for r in runs]
    assert figure.axes[0].get_xlim()[1] >= 3000


def test_a_run_that_has_just_begun_is_drawn(make_run):
    figure = curves(make_run("new", 1500))
    assert "step 0 of 1,500." in figure.get_label() and len(encoded(figure, "PNG")) > 1000


def test_what_is_no_run_is_refused(tmp_path):
    for look in (curves, follow):
        with pytest.raises(RunError):
            look(tmp_path / "nothing")


def test_following_ends_with_the_run_and_redraws_only_news(make_run, shown, monkeypatch):
    run, slept = make_run("one", 1000), []
    future = [[], LOSSES[:1], [*LOSSES, CHECKED]]

    def sleep(seconds):
        slept.append(seconds)
        entries(run, *future[len(slept) - 1])
    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module, "is_running", lambda _: len(slept) < 3)
    assert follow(run, every=0.5).complete and slept == [0.5] * 3
    assert [event for event, *_ in shown] == ["display", "update", "update"]
    begun, middle, end = (alt for _, alt, _ in shown)
    assert begun.startswith("step 0 of 1,000; begins.") and end.count("complete") == 1
    assert middle.startswith("step 500 of 1,000, loss 4.00e-03; 0:00:50 remaining.")
    assert len({picture for *_, picture in shown}) == 3
    assert follow(run).complete and shown[-1][0] == "display"  # a look at a run that has ended


def test_following_ends_after_its_time_and_can_be_taken_up_again(make_run, shown):
    run = make_run("one", 1000, *LOSSES[:1])
    with locked(run):
        assert not follow(run, every=0.01, limit=0.03).complete
        follow(run, limit=0)
    assert "remaining" in shown[1][1]
    follow(run, every=1000)  # nobody trains there
    assert shown[2][1].startswith("step 500 of 1,000, loss 4.00e-03; not running.")


def test_ctrl_c_ends_the_following(make_run, shown, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt
    monkeypatch.setattr(module.time, "sleep", interrupt)
    run = make_run("one", 1000, *LOSSES[:1])
    with locked(run):
        assert follow(run).step == 500
    said = capsys.readouterr().out
    assert said == "following one\nNo longer followed; the run itself goes on.\n"
    assert not (run / "stop").exists()


def test_the_words_leave_out_what_is_not_known(make_run):
    run = make_run("one", 1500)
    assert summary(module.status(run)) == "step 0 of 1,500"


def test_a_loop_is_shown_live(shown):
    live = Live(200)
    live.add(step=0, loss=None, lr=0.001, ap=0.1, identity=0.5)
    live.add(step=100, loss=0.003, lr=0.002, ap=0.2, identity=0.75)
    assert [event for event, *_ in shown] == ["display", "update"]
    assert "after 100 of 200 steps" in shown[1][1] and "75%" in shown[1][1]
    figure = module.chart({"": live.records}, 200)
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [1, 2, 2, 2]
    assert_allclose(figure.axes[3].lines[0].get_ydata(), [50, 75])


def test_fit_takes_the_steps_of_a_run(crowd):
    config = TrainConfig.preset("crowd-quick", width=4, stem=8, hops=2, hops_after=0.0, batch=4,
                                input_size=(64, 64), steps=4, warmup=2, freeze_after=0.0,
                                precision="float32")
    trainer, batches, looks = Trainer(config, crowd, "cpu"), [], []
    net = copy.deepcopy(trainer.model)
    with pytest.MonkeyPatch.context() as patch:
        made = step.make_batch
        patch.setattr(step, "make_batch", lambda *a: batches.append(made(*a)) or batches[-1])
        wanted = [trainer.run_step().item() for _ in range(4)]
    found = fit(net.eval(), batches, lambda i: step.learning_rate(config, i), 2,
                lambda i, losses: looks.append((i, len(losses))))
    assert looks == [(2, 2), (4, 4)]
    assert_allclose(found, wanted, rtol=1e-4)
    for own, theirs in zip(net.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-3)


def test_a_gain_is_taken_seed_by_seed():
    luck = np.array([3.0, -1.0, 4.0])
    assert_allclose(paired_gain(20 + luck, 18 + luck), (2, 0), atol=1e-12)
    mean, margin = paired_gain(luck, 0 * luck, t=2)
    assert_allclose((mean, margin), (2, 2 * 7 ** 0.5 / 3 ** 0.5))
