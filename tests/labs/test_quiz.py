"""Exercises: what a learner's function is told, and which function the chapter goes on with."""

import pytest
import torch

from hintpose_lite.labs.quiz import exercise, piece


def double(x):
    return 2 * x


CASES = {"ones": (torch.ones(2, 3),), "a scalar": (torch.tensor(0.0),)}


def test_a_piece_that_agrees_is_used(capsys):
    def mine(x):
        return x + x

    assert piece(mine, double, CASES) is mine
    assert "2 cases" in capsys.readouterr().out


@pytest.mark.parametrize("found, seen", [
    (lambda x: None, "not written yet"), (lambda x: ..., "not written yet"),
    (lambda x: 2 * x[:1], "(1, 3)"), (lambda x: 2.01 * x, "0.01"), (lambda x: x / 0 * 0, "inf"),
    (lambda x: x.nothing, "AttributeError"), (lambda x: "text", "TypeError")])
def test_of_any_other_piece_it_is_said_what_is_observed(found, seen, capsys):
    assert piece(found, double, CASES) is double
    said = capsys.readouterr().out
    assert seen in said and ("'ones'" in said or "not written" in said)


def test_a_piece_that_changes_its_input_is_not_used_and_does_no_harm(capsys):
    x = torch.ones(3)
    assert piece(lambda x: x.mul_(2), double, {"ones": (x,)}) is double
    assert "changes its input" in capsys.readouterr().out and (x == 1).all()


def test_the_first_case_that_fails_is_named(capsys):
    assert piece(lambda x: 2 * x + (x.ndim == 0), double, CASES) is double
    said = capsys.readouterr().out
    assert "'a scalar'" in said and "is 1, and should be 0" in said


def test_a_list_of_arrays_is_read_without_a_warning(recwarn):
    def rows(x):
        return [2 * row.numpy() for row in x]

    assert piece(rows, double, {"ones": (torch.ones(2, 3),)}) is rows and not recwarn.list


def test_losses_that_still_hang_on_their_gradients_are_not_accepted(capsys):
    def losses(x):
        return [(2 * value).requires_grad_() for value in x]

    assert piece(losses, double, {"ones": (torch.ones(3),)}) is double
    assert "grad" in capsys.readouterr().out


def test_an_exercise_whose_check_raises_is_not_solved(capsys):
    assert exercise(lambda: True, "") and not exercise(lambda: 1 / 0, "The sum is 3.")
    assert "The sum is 3. (It stopped with ZeroDivisionError" in capsys.readouterr().out
