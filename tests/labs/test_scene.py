"""Labs and questions of the notebooks: the pure functions, and the controllers by their values."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hintpose_lite import evaluate, load_model, make_crowd
from hintpose_lite.cues.cue import Cue
from hintpose_lite.labs.photo_lab import drawn_photo
from hintpose_lite.labs.quiz import Predict, exercise
from hintpose_lite.labs.scene import (
    CueLab,
    chimera_scene,
    crop_of,
    cue_frame,
    lettered,
    place_in_crop,
    point_in_picture,
    shares,
)
from hintpose_lite.labs.widgets import encoded


def test_a_cue_decides_whose_pose_is_found(model, scene):
    for person in (0, 1):
        frame = cue_frame(model, scene, Cue.point(*scene.middle(person)))
        assert np.argmax(frame.near) == person and f"person {'AB'[person]}'s" in frame.said


def test_without_a_cue_there_is_a_chimera(model):
    """The surprise of chapter 00: a cue names one person, and no cue names both."""
    couple = chimera_scene()
    lab = CueLab(model, couple)
    of_a, of_b = lab.frame.shares
    assert of_a >= 3 * of_b and f"{of_a} of A's, {of_b} of B's" in lab.status.value
    lab.point_at(couple.middle(1))
    of_a, of_b = lab.frame.shares
    assert of_b >= 3 * of_a and "person B's" in lab.status.value
    lab.set(cued=False)
    assert min(lab.frame.shares) >= 5 and "a chimera" in lab.status.value and not lab.errors


def test_joints_are_shared_out_to_whoever_is_nearest():
    people = torch.zeros(2, 3, 3)
    people[1, :, 0], people[..., 2] = 10, 1
    points = torch.tensor([[4.0, 0], [6.0, 0], [9.0, 0]])
    assert shares(points, people).tolist() == [1, 2]
    people[1, 1, 2] = 0  # B's second joint has no label
    assert shares(points, people).tolist() == [2, 1]
    people[:, 0, 2] = 0  # nobody's first joint has one
    assert shares(points, people).tolist() == [1, 1]


def test_places_in_the_crop_and_in_the_picture_agree(model, scene):
    xy = scene.middle(0)
    frame = cue_frame(model, scene, Cue.point(*xy), hops=1)
    size = frame.picture.shape[1::-1]
    assert point_in_picture(scene, size, frame.place) == pytest.approx(xy, abs=0.01)
    assert place_in_crop(scene, size, xy) == pytest.approx(frame.place, abs=1e-4)


def test_the_lab_follows_its_controls_and_tells_its_errors(model, scene, monkeypatch):
    lab = CueLab(model, scene)
    assert not lab.errors and lab.frame.near[0] > lab.frame.near[1]
    before = lab.pad.frame
    lab.point_at(scene.middle(1))
    assert lab.frame.near[1] > lab.frame.near[0] and lab.pad.frame != before
    assert "person B" in lab.pad.alt and "person B" in lab.status.value
    lab.pad._receive(None, {"x": 0.1, "y": 0.2}, [])
    assert (lab.controls.x.value, lab.controls.y.value) == (0.1, 0.2)
    assert lab.pad.place == [0.1, 0.2]
    lab.set(cued=False, hops=1)
    assert lab.frame.place is None and "1 hop:" in lab.status.value and not lab.errors
    assert Image.open(io.BytesIO(lab.pad.frame)).size == lab.frame.picture.shape[1::-1]

    def broken(*_):
        raise ValueError("no such thing")
    monkeypatch.setattr("hintpose_lite.labs.scene.cue_frame", broken)
    lab.controls.hops.value = 2
    assert "ValueError: no such thing" in lab.status.value and len(lab.errors) == 1


def test_sliders_are_set_to_whole_steps(model, scene):
    """Else the browser sends the rounded value back, and an older place may replace a newer one."""
    lab = CueLab(model, scene)
    lab.set(x=0.6103457, y=0.5195, hops=1)
    assert (lab.controls.x.value, lab.controls.y.value, lab.controls.hops.value) == (0.61, 0.52, 1)


def test_a_question_locks_its_first_answer_and_is_answered_without_one():
    question = Predict("Which?", ["one", "two"], right=1, why="Because.")
    assert repr(question) == "Predict: Which?\n( ) one\n( ) two"
    long = Predict("Which? " * 30, ["one", "two"], right=1, why="Because.")
    assert long._repr_mimebundle_()["text/plain"] == repr(long)
    assert question.reveal() == "You have not chosen. The answer: two. Because."
    question.buttons[1].click()
    question.buttons[0].click()
    assert question.chosen == 1 and all(button.disabled for button in question.buttons)
    assert question.reveal().startswith("You were right")


def test_an_exercise_says_whether_it_is_solved(capsys):
    assert exercise(lambda: True, "a hint")
    assert not exercise(lambda: False, "a hint") and not exercise(lambda: 1 / 0, "a hint")
    assert capsys.readouterr().out == (
        "Solved.\nNot yet. a hint\nNot yet. a hint (It stopped with ZeroDivisionError: division by "
        "zero)\n")


def test_pictures_become_files():
    picture = np.full((8, 9, 3), 200, np.uint8)
    assert Image.open(io.BytesIO(encoded(picture))).size == (9, 8)


def test_only_people_in_the_crop_get_letters():
    photo = drawn_photo()  # C and D stand far from A's and B's box
    crop = crop_of(photo, (96, 128)).byte().numpy()
    couple = replace(photo, people=photo.people[:2], own_boxes=photo.own_boxes[:2])
    assert np.array_equal(lettered(photo, crop), lettered(couple, crop))
    assert not np.array_equal(lettered(photo, crop), crop)


def test_a_bar_counts_people_and_scenes(tmp_path):
    from hintpose_lite.labs import widgets
    bars = []
    progress = lambda total: bars.append(widgets.bar(total, "working")) or bars[-1]  # noqa: E731
    persons = make_crowd(tmp_path / "scenes", images=3, workers=1, progress=progress)
    evaluate(load_model("crowd-tiny"), persons, flip=False, hops=1, batch=4, progress=progress)
    assert [(bar.value, bar.max) for bar in bars] == [(3, 3), (len(persons), len(persons))]
    assert repr(bars[0]) == "Bar()"


def test_a_bar_moves_until_its_block_ends(monkeypatch):
    from hintpose_lite.labs import widgets
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    with pytest.raises(ZeroDivisionError), widgets.Moving("a <b>"):
        assert "<progress>" in shown[0].value and "a &lt;b&gt;" in shown[0].value
        1 / 0  # noqa: B018
    assert shown[0].value == "a &lt;b&gt;" and repr(shown[0]) == "a <b>"
    widgets.load("scene")
    assert "<progress>" not in shown[1].value and "PyTorch" in shown[1].value
