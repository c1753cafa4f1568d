"""Runs as pictures: what is drawn is what the folders hold, and following ends when it should."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose

from hintpose_lite.errors import RunError
from hintpose_lite.labs import curves as module
from hintpose_lite.labs.curves import curves, follow, sample, summary
from hintpose_lite.labs.widgets import encoded
from hintpose_lite.training.folder import locked
from hintpose_lite.weights.weights import load_model, save_model

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
    assert_allclose(loss.lines[0].get_xydata(), [(500, 0.004), (1000, 0.003)])
    assert_allclose(lr.lines[0].get_xydata(), [(500, 0.001), (1000, 0.0005)])
    assert_allclose(ap.lines[0].get_xydata(), [(1000, 25)])
    assert_allclose(right.lines[0].get_xydata(), [(1000, 70)])
    assert loss.get_yscale() == "log" and loss.get_xlim()[1] >= 1500 and not figure.legends
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "loss", "learning rate", "person AP (per cent)", "right person (per cent)"]
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


def test_a_sample_shows_the_weights_or_says_that_there_are_none(make_run, crowd):
    run, row = make_run("one", 1500), int(np.argmax(crowd.partner >= 0))
    assert "no weights yet" in sample(run, crowd, row).get_label()
    save_model(load_model("crowd-tiny"), run / "model.safetensors")
    assert "with cue on person A it finds" in sample(run, crowd, row).get_label()


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
    assert capsys.readouterr().out == "No longer followed; the run itself goes on.\n"
    assert not (run / "stop").exists()


def test_a_sample_is_followed_too(make_run, crowd, shown):
    run, drawn = make_run("one", 1000), []

    def note(*arguments):
        drawn.append(arguments)
        return sample(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "sample", note)
        follow(run, persons=crowd)
        follow(run, persons=crowd, row=3)
    assert [row for *_, row in drawn] == [int(np.argmax(crowd.partner >= 0)), 3]
    assert "no weights yet" in shown[0][1]


def test_the_words_leave_out_what_is_not_known(make_run):
    run = make_run("one", 1500)
    assert summary(module.status(run)) == "step 0 of 1,500"
