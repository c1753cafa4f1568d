"""Questions to answer before a cell is run, and exercises that check themselves."""

import textwrap
from collections.abc import Callable

import ipywidgets as widgets


class Predict(widgets.VBox):
    """A question with answers to choose from; the first choice cannot be changed.

    `reveal()` returns whether the choice was right, and why. It also works without a choice, so
    that a notebook runs from top to bottom.
    """

    def __init__(self, question: str, answers: list[str], right: int, why: str):
        self.question, self.answers, self.chosen = question, answers, None
        self.right, self.why = right, why
        self.buttons = [widgets.Button(description=answer, layout=widgets.Layout(width="auto"))
                        for answer in answers]
        self.said = widgets.HTML("Choose before you read on.")
        for number, button in enumerate(self.buttons):
            button.on_click(lambda _, number=number: self.choose(number))
        super().__init__([widgets.HTML(f"<b>Predict:</b> {question}"),
                          widgets.HBox(self.buttons, layout=widgets.Layout(flex_flow="row wrap")),
                          self.said])

    def __repr__(self) -> str:
        """The question as text, for readers without a kernel."""
        return "\n".join([f"Predict: {self.question}", *(f"( ) {text}" for text in self.answers)])

    def _repr_mimebundle_(self, **options) -> dict:
        return super()._repr_mimebundle_(**options) | {"text/plain": repr(self)}  # not cut off

    def choose(self, number: int) -> None:
        """Locks an answer; later choices have no effect."""
        if self.chosen is None:
            self.chosen = number
            self.buttons[number].button_style = "info"
            for button in self.buttons:
                button.disabled = True
            self.said.value = f"Locked: {self.answers[number]}. Read on."

    def reveal(self) -> str:
        """The right answer and its explanation, as lines of text."""
        verdict = {None: "You have not chosen.", self.right: "You were right."}.get(
            self.chosen, "You chose something else.")
        answer = f"{verdict} The answer: {self.answers[self.right]}. {self.why}"
        return textwrap.fill(answer, 88)  # JupyterLab breaks long lines within words


def exercise(check: Callable[[], bool], hint: str) -> bool:
    """Prints and returns whether an exercise is solved. Checks that raise count as not solved."""
    try:
        solved = bool(check())
    except Exception as error:
        solved, hint = False, f"{hint} (It stopped with {type(error).__name__}: {error})"
    print("Solved." if solved else f"Not yet. {hint}")
    return solved
