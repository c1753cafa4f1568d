"""Questions to answer before a cell is run, and exercises that check themselves."""

import textwrap
from collections.abc import Callable

import ipywidgets as widgets
import numpy as np
import torch


class Predict(widgets.VBox):
    """A question with answers to choose from; the first choice cannot be changed. `reveal()` also
    works without a choice, so that a notebook runs from top to bottom."""

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
        """Whether the choice was right, the right answer and its explanation, as lines of text."""
        verdict = {None: "You have not chosen.", self.right: "You were right."}.get(
            self.chosen, "You chose something else.")
        answer = f"{verdict} The answer: {self.answers[self.right]}. {self.why}"
        return textwrap.fill(answer, 88)  # JupyterLab breaks long lines within words


def exercise(check: Callable[[], bool], observed: str) -> bool:
    """Prints and returns whether an exercise is solved. Checks that raise count as not solved.
    observed: what the check sees where it fails, such as a shape or an error; never the way out."""
    try:
        solved = bool(check())
    except Exception as error:
        solved, observed = False, f"{observed} (It stopped with {type(error).__name__}: {error})"
    print("Solved." if solved else f"Not yet. {observed}")
    return solved


def piece(own: Callable, package: Callable, cases: dict[str, tuple], close: float = 1e-4):
    """Tries a function that the learner writes beside the package's, on named cases of arguments;
    prints what is observed, and returns the function that the chapter goes on with: the learner's
    if no result is off by more than `close`, otherwise the package's."""
    largest = 0.0
    for name, arguments in cases.items():
        observed = _compare(own, package, arguments, close)
        if observed is None or isinstance(observed, str):
            said = f"not yet. Case '{name}': {observed}" if observed else "not written yet"
            print(f"{own.__name__}: {said}. Until then the package's is used.")
            return package
        largest = max(largest, observed)
    print(f"{own.__name__}: equal to the package's in {len(cases)} cases (largest error "
          f"{largest:.0e}). Yours is used from here on.")
    return own


def _compare(own: Callable, package: Callable, arguments: tuple, close: float):
    """What is wrong with a learner's function, or its largest error, or None: not written yet."""
    wanted = torch.as_tensor(package(*arguments)).double()
    given = [one.clone() if isinstance(one, torch.Tensor) else one for one in arguments]
    try:
        if (found := own(*given)) is None or found is ...:
            return None
        if isinstance(found, list | tuple) and any(hasattr(part, "shape") for part in found):
            found = np.asarray(found)  # torch is slow with lists of arrays, and warns
        found = torch.as_tensor(found).double()
    except Exception as error:
        return f"it stopped with {type(error).__name__}: {error}"
    if found.shape != wanted.shape:
        return f"the shape is {tuple(found.shape)}, and should be {tuple(wanted.shape)}"
    error = (found - wanted).abs().nan_to_num(torch.inf)
    if error.numel() and error.max() > close:
        place = [int(i) for i in torch.unravel_index(error.argmax(), error.shape)]
        where = f"the result at {place} is" if place else "the result is"
        return (f"{where} {found[*place]:.6g}, and should be {wanted[*place]:.6g} (the largest "
                f"error: {error.max():.3g})")
    if not all(a is b or a.is_meta or a.equal(b) for a, b in zip(arguments, given)):
        return "it changes its input, which the next cells need as it is"
    return error.max().item() if error.numel() else 0.0
