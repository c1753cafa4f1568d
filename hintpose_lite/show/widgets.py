"""What the labs of the notebooks are made of: pictures, one of them to drag on, and the frame that
joins them to their controls.

Tried in JupyterLab 4. Notebook 7 shares its widgets; VS Code and Colab were not tried.
"""

import base64
import html
import io
from collections.abc import Callable
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
    """Displays a picture (H, W, 3) uint8, or a matplotlib Figure, as PNG with an alt text; a
    Figure's is its get_label() if none is given."""
    display(Shown(encoded(picture, "PNG"), alt=alt or picture.get_label()))


class Still(widgets.HTML):
    """A picture among the widgets of a lab."""

    def put(self, picture, alt: str) -> None:
        """Shows a picture (H, W, 3) uint8, or a matplotlib Figure."""
        kind = "JPEG" if isinstance(picture, np.ndarray) else "PNG"
        data = base64.b64encode(encoded(picture, kind)).decode()
        self.value = (f'<img alt="{html.escape(alt)}" src="data:image/{kind.lower()};'
                      f'base64,{data}">')

    def __repr__(self) -> str:
        return "Still()"  # stored outputs must not change from run to run


class Pad(anywidget.AnyWidget):
    """A picture to drag on. Only the newest place is sent, and no more than two are on their way,
    so a slow answer never queues up. `moved` is called with (x, y), each from 0 to 1."""

    _esm = """
    export default { render({ model, el }) {
      const pad = document.createElement("div"), image = document.createElement("img");
      let waiting = 0, newest = null;
      const show = () => {
        URL.revokeObjectURL(image.src);
        image.src = URL.createObjectURL(new Blob([model.get("frame")], { type: "image/jpeg" }));
        image.alt = model.get("alt");
      };
      const send = () => {
        if (newest && waiting < 2) { waiting += 1; model.send(newest); newest = null; }
      };
      const move = (x, y) => {
        newest = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1) };
        send();
      };
      const point = (event) => {
        const box = image.getBoundingClientRect();
        move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      };
      const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      pad.tabIndex = 0;
      pad.setAttribute("role", "application");
      pad.setAttribute("aria-label", "Drag the cue, or move it with the arrow keys");
      pad.style.cssText = "display: inline-block; touch-action: none; cursor: crosshair";
      image.draggable = false;
      image.style.cssText = "display: block; user-select: none";
      pad.appendChild(image);
      pad.addEventListener("pointerdown", (event) => {
        pad.setPointerCapture(event.pointerId);
        point(event);
      });
      pad.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
      pad.addEventListener("keydown", (event) => {
        const step = keys[event.key], [x, y] = model.get("place");
        if (step) { event.preventDefault(); move(x + 0.02 * step[0], y + 0.02 * step[1]); }
      });
      const answered = () => { waiting -= 1; send(); };
      model.on("msg:custom", answered);
      model.on("change:frame", show);
      el.appendChild(pad);
      show();
      return () => { model.off("msg:custom", answered); model.off("change:frame", show); };
    } };
    """
    frame = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    place = traitlets.List([0.5, 0.5]).tag(sync=True)

    def __init__(self, moved: Callable[[float, float], None]):
        super().__init__()
        self._moved = moved
        self.on_msg(self._receive)

    def put(self, picture: np.ndarray, alt: str, place: tuple[float, float]) -> None:
        """Shows a picture (H, W, 3) uint8; arrow keys go on from `place`, each from 0 to 1."""
        self.alt, self.place, self.frame = alt, list(place), encoded(picture)

    def _receive(self, _, content: dict, __) -> None:
        try:
            self._moved(float(content["x"]), float(content["y"]))
        finally:
            self.send({"answered": True})

    def __repr__(self) -> str:
        return "Pad()"


class Line(anywidget.AnyWidget):
    """A lab's line of text, read out by screen readers when it changes. It also names the handles
    of the lab's sliders by their labels, which ipywidgets does not."""

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

    def __repr__(self) -> str:
        return "Line()"


class Lab(widgets.VBox):
    """Pictures, controls below them, and a line of text that says what came out.

    A subclass's `render` reads `self.controls` (a namespace of widgets, by name), fills the
    pictures and returns the line. Any change of a control renders once. What goes wrong is told in
    the line, since widgets swallow errors, and kept in `errors`.
    """

    def __init__(self, pictures: list, controls: dict, *, columns: int = 2):
        self.controls, self.errors, self._busy = SimpleNamespace(**controls), [], False
        self.status = Line()
        for control in controls.values():
            control.observe(self._changed, names="value")
        rows = [widgets.HBox([*controls.values()][i:i + columns])
                for i in range(0, len(controls), columns)]
        super().__init__([widgets.HBox(pictures), *rows, self.status])
        self.refresh()

    def render(self) -> str:
        """Shows what the controls say, and returns it as a line of text."""
        raise NotImplementedError

    def set(self, **values) -> None:
        """Sets several controls by name, and renders once."""
        self._busy = True
        try:
            for name, value in values.items():
                getattr(self.controls, name).value = value
        finally:
            self._busy = False
        self.refresh()

    def refresh(self) -> None:
        """Renders; an error is told in the status line."""
        try:
            said = self.render()
        except Exception as error:
            self.errors.append(error)
            said = f"error: {type(error).__name__}: {error}"
        self.status.value = said

    def _changed(self, _) -> None:
        if not self._busy:
            self.refresh()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
