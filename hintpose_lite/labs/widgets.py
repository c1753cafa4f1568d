"""The widgets of the notebooks' labs: pictures, a picture to drag on, and labs with controls.

They are tested in JupyterLab 4. Notebook 7 has the same widgets; VS Code and Colab are untested.
"""

import base64
import html
import io
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from IPython.display import Image as Shown
from IPython.display import display
from PIL import Image


def encoded(picture, kind: str = "JPEG") -> bytes:
    """A picture (H, W, 3) uint8, or a matplotlib Figure, as the bytes of a file of that kind."""
    file = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(file, kind, quality=90)
    else:
        picture.savefig(file, format=kind.lower(), dpi=100)
    return file.getvalue()


def show(picture, alt: str | None = None) -> None:
    """Displays a picture (H, W, 3) uint8, or a matplotlib Figure, as PNG with an alt text. The
    default alt text of a Figure is its get_label(). 256 colours make a notebook half as large."""
    file, pixels = io.BytesIO(), Image.open(io.BytesIO(encoded(picture, "PNG"))).convert("RGB")
    pixels.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(file, "PNG")
    display(Shown(file.getvalue(), alt=alt or picture.get_label()))


class Plain:
    """Widgets whose repr is their class alone, so that stored outputs stay the same."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Still(Plain, widgets.HTML):
    """A picture among the widgets of a lab."""

    def put(self, picture, alt: str | None = None) -> str:
        """Shows a picture (H, W, 3) uint8, or a matplotlib Figure. The default alt text of a Figure
        is its get_label(). Returns the alt text."""
        kind, alt = "JPEG" if isinstance(picture, np.ndarray) else "PNG", alt or picture.get_label()
        data = base64.b64encode(encoded(picture, kind)).decode()
        self.value = (f'<img alt="{html.escape(alt)}" src="data:image/{kind.lower()};'
                      f'base64,{data}">')
        return alt


class Bar(Plain, widgets.IntProgress):
    """A bar for work that takes more than two seconds; see `bar`."""

    def update(self, steps: int = 1) -> None:
        """Moves the bar on."""
        self.value += steps

    def close(self) -> None:
        """Does nothing: a full bar stays, so that stored outputs are the same on every machine."""


def bar(total: int, what: str = "") -> Bar:
    """Displays an empty bar of so many steps. `evaluate` and `make_crowd` take `progress=bar`."""
    shown = Bar(max=total, description=what, style={"description_width": "initial"})
    display(shown)
    return shown


class Moving(widgets.HTML):
    """A bar that moves while a `with` block runs, for work that cannot say how far it is."""

    def __init__(self, what: str):
        super().__init__(f"<progress></progress> {html.escape(what)}")
        self.what = what

    def __repr__(self) -> str:
        return self.what

    def __enter__(self) -> None:
        display(self)

    def __exit__(self, *_) -> None:
        self.value = html.escape(self.what)


def load(lab: str) -> None:
    """Imports a module of the labs, and with it PyTorch, which takes seconds."""
    with Moving("PyTorch and this chapter's lab are loaded"):
        import_module(f".{lab}", __package__)


class Pad(Plain, anywidget.AnyWidget):
    """A picture to drag on, or to click on with drags=False. Only the newest place is sent, and at
    most two places wait for an answer, so slow answers never queue up. `moved` is called with
    (x, y), each from 0 to 1; arrow keys call `nudged` instead, if it is given."""

    _esm = """
    export default { render({ model, el }) {
      const drags = model.get("drags");
      el.innerHTML = `<div tabindex="0" role="application" aria-label="${drags ?
        "Drag the cue, or move it" : "Click on a person, or move the newest click"
        } with the arrow keys" style="display: inline-block; margin: 2px; touch-action: none;
        cursor: crosshair">
        <img draggable="false" style="display: block; user-select: none"></div>`;
      const pad = el.firstChild, image = pad.querySelector("img");
      let waiting = 0, newest = null, latest = null;  // newest: not yet sent
      const show = () => {
        URL.revokeObjectURL(image.src);
        image.src = URL.createObjectURL(new Blob([model.get("frame")], { type: "image/jpeg" }));
        image.alt = model.get("alt");
      };
      const send = () => {
        if (newest && waiting < 2) { waiting += 1; model.send(newest); newest = null; }
      };
      const move = (x, y, key) => {
        latest = newest = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1), key };
        send();
      };
      const point = (event) => {
        const box = image.getBoundingClientRect();
        move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height,
             false);
      };
      const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      pad.addEventListener("pointerdown", (event) => {
        pad.setPointerCapture(event.pointerId);
        point(event);
      });
      pad.addEventListener("pointermove", (event) => { if (drags && event.buttons) point(event); });
      pad.addEventListener("keydown", (event) => {
        const step = keys[event.key];
        const [x, y] = waiting ? [latest.x, latest.y] : model.get("place");
        if (step) { event.preventDefault(); move(x + 0.02 * step[0], y + 0.02 * step[1], true); }
      });
      const answered = () => { waiting -= 1; send(); };
      model.on("msg:custom", answered);
      model.on("change:frame", show);
      show();
      return () => { model.off("msg:custom", answered); model.off("change:frame", show); };
    } };
    """
    frame = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    place = traitlets.List([0.5, 0.5]).tag(sync=True)
    drags = traitlets.Bool(True).tag(sync=True)

    def __init__(self, moved: Callable[[float, float], None], drags: bool = True,
                 nudged: Callable[[float, float], None] | None = None):
        super().__init__(drags=drags)
        self._moved, self._nudged = moved, nudged or moved
        self.on_msg(self._receive)

    def put(self, picture: np.ndarray, alt: str, place: tuple[float, float]) -> None:
        """Shows a picture (H, W, 3) uint8; arrow keys go on from `place`, each from 0 to 1."""
        self.alt, self.place, self.frame = alt, list(place), encoded(picture)

    def _receive(self, _, content: dict, __) -> None:
        try:
            call = self._nudged if content.get("key") else self._moved
            call(float(content["x"]), float(content["y"]))
        finally:
            self.send({"answered": True})


class Line(Plain, anywidget.AnyWidget):
    """A lab's line of text, which screen readers announce when it changes. It also names the
    handles of the lab's sliders by their labels, which ipywidgets does not do."""

    _esm = """
    export default { render({ model, el }) {
      const say = () => { el.textContent = model.get("value"); };
      const name = () => el.closest(".widget-vbox")?.querySelectorAll("[role=slider]").forEach(
        (handle) => handle.setAttribute("aria-label", handle.closest(".widget-inline-hbox")
          ?.querySelector(".widget-label")?.textContent ?? ""));
      el.setAttribute("role", "status");
      model.on("change:value", say);
      say();
      const timers = [0, 300, 2000].map((delay) => setTimeout(name, delay));
      return () => { model.off("change:value", say); timers.forEach(clearTimeout); };
    } };
    """
    value = traitlets.Unicode().tag(sync=True)


class Lab(Plain, widgets.VBox):
    """Pictures, controls below them, and a line of text with the result.

    controls: widgets by name; the name is also the default description. A subclass's `render` gets
    their values by name, fills the pictures and returns the line of text. Every change of a control
    renders once; while a slider moves, the browser sends its newest value when the last one has
    been answered. Since widgets swallow errors, an error appears in the line of text, and is kept
    in `errors`.
    """

    def __init__(self, pictures: list, controls: dict, *, columns: int = 2):
        self.controls, self.errors, self._busy = SimpleNamespace(**controls), [], False
        self.status = Line()
        for name, control in controls.items():
            control.description = control.description or name
            control.observe(self._changed, names="value")
        rows = [widgets.HBox([*controls.values()][i:i + columns])
                for i in range(0, len(controls), columns)]
        super().__init__([widgets.HBox(pictures), *rows, self.status])
        self.refresh()

    def render(self, **values) -> str:
        """Fills the pictures from the values of the controls, and returns the line of text."""
        raise NotImplementedError

    def set(self, **values) -> None:
        """Sets several controls by name, and renders once. Sliders get whole steps: the browser
        would send a rounded value back, perhaps after the next one."""
        self._busy = True
        try:
            for name, value in values.items():
                control = getattr(self.controls, name)
                if isinstance(control, widgets.FloatSlider):
                    value = round(round(value / control.step) * control.step, 9)
                control.value = value
        finally:
            self._busy = False
        self.refresh()

    def refresh(self) -> None:
        """Renders; an error appears in the status line."""
        values = {name: control.value for name, control in vars(self.controls).items()}
        try:
            self.status.value = self.render(**values)
        except Exception as error:
            self.errors.append(error)
            self.status.value = f"error: {type(error).__name__}: {error}"

    def _changed(self, _) -> None:
        if not self._busy:
            self.refresh()
