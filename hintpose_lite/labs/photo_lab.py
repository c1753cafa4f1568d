"""The lab for photographs: click on people, and see whose poses the network finds."""

import io
from dataclasses import replace
from types import SimpleNamespace

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image, ImageOps

from ..crowd.scenes import draw_scene
from ..cues.cue import Cue
from ..errors import HintPoseError
from ..inputs.pictures import as_picture
from ..photos import gallery
from ..photos.draw import draw_people
from ..photos.estimator import PoseEstimator, smallest_around
from .scene import SEED, Scene
from .widgets import Lab, Pad, Plain

MOST, SHOWN = (1280, 1280), (760, 450)  # width and height in pixels: of a photograph, on the page


def drawn_photo() -> Scene:
    """A drawn picture in place of a photograph: 480 x 480 pixels, A with B and C with D."""
    return Scene.drawn(*draw_scene(SEED, 17, size=480))


def box_around(cue: Cue, boxes, size: tuple[int, int]) -> torch.Tensor:
    """The smallest of boxes (n, 4) around a cue's middle, or a whole picture of size (w, h)."""
    box = smallest_around(cue, torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4))
    return box if len(box) else torch.tensor([[0.0, 0.0, *size]])


def clicks_cue(clicks, person: int = 0) -> Cue:
    """The cue of the clicks (x, y, +1 or -1, number of the person) on one person."""
    own = np.array([click[:3] for click in clicks if click[3] == person])
    return Cue.points(own[:, :2], own[:, 2]) if len(own) else Cue.none()


def photo_frame(estimator: PoseEstimator, picture: np.ndarray, cues: list[Cue], boxes
                ) -> SimpleNamespace:
    """The poses of several people in a picture (H, W, 3) uint8, a cue and a box (n, 4) for each, in
    picture pixels. picture: poses and cues, as large as SHOWN allows; said: a line of text."""
    takes = estimator.model.spec.cue
    poses = estimator(picture, boxes, cues if takes else None, flip=False, apart=len(cues) > 1)
    side = max(picture.shape) / 4  # lines are neither thinner nor thicker than for such a box
    shown = draw_people(picture, [replace(pose, cue=cue, box=pose.box.clip(side, 2 * side))
                                  for pose, cue in zip(poses, cues)])
    said = "; ".join(f"pose {i}: score {pose.score:.2f}" for i, pose in enumerate(poses, 1))
    if not takes:
        said += "; this network takes no cue: a click chooses a box, but nobody in it"
    shown = ImageOps.contain(Image.fromarray(shown), SHOWN)
    return SimpleNamespace(poses=poses, said=said, picture=np.array(shown))


class Camera(Plain, anywidget.AnyWidget):
    """A button for the browser's camera, where it has one, which sends a JPEG file."""

    _esm = """
    export default { render({ model, el }) {
      el.innerHTML = `<button class="jupyter-button widget-button" style="width: auto; margin: 2px">
        camera, in 3 s</button>`;
      el.firstChild.hidden = !navigator.mediaDevices;
      el.firstChild.onclick = async () => {
        const stream = await navigator.mediaDevices.getUserMedia({ video: true });
        const video = Object.assign(document.createElement("video"), { srcObject: stream });
        await video.play();
        await new Promise((done) => setTimeout(done, 3000));  // time to step back
        const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
        canvas.getContext("2d").drawImage(video, 0, 0);
        stream.getTracks().forEach((track) => track.stop());
        const file = await canvas.convertToBlob({ type: "image/jpeg" });
        model.send({}, undefined, [await file.arrayBuffer()]);
      };
    } };
    """


class PhotoLab(Lab):
    """Click on people, and their poses appear. Each click is another person, unless "next click"
    says otherwise; arrow keys on the picture move the newest, "add" adds one in the middle. The lab
    begins with a drawn picture and `crowd-tiny`; photographs go to `network`. `clicks`: x, y in the
    picture's pixels, +1 or -1, and the number of the person; `frame` is what is shown."""

    def __init__(self, network="people-small"):
        drawn, self.network, self.clicks = drawn_photo(), network, []
        self.picture, self.boxes = drawn.picture, drawn.pairs
        self.estimator = PoseEstimator("crowd-tiny", looks=2)
        self.pad, self.credit = Pad(self.put, drags=False, nudged=self.move), widgets.HTML()
        super().__init__([self.pad], {"who": widgets.Dropdown(
            options=["another person", "the same person", "not this person"],
            description="next click")})
        known, narrow = gallery.photographs().values(), {"layout": {"width": "auto"}}
        self.choice = widgets.Dropdown(options=[(one.title, one.id) for one in known],
                                       description="gallery")
        self.upload = widgets.FileUpload(accept="image/*", description="your own", **narrow)
        self.camera = Camera()
        self.upload.observe(lambda new: self.use(io.BytesIO(new["new"][-1]["content"])), "value")
        self.camera.on_msg(lambda _, __, files: self.use(io.BytesIO(files[0])))
        self.buttons = {}
        for name, act in {"fetch": lambda: self.use(self.choice.value),
                          "add": lambda: self.put(0.5, 0.5), "undo": self.undo}.items():
            self.buttons[name] = widgets.Button(description=name, **narrow)
            self.buttons[name].on_click(lambda _, act=act: act())
        fetch, *others = self.buttons.values()
        widgets.dlink((self.choice, "value"), (fetch, "description"), gallery.offer)
        pictures, controls, status = self.children
        controls.children += tuple(others)
        self.children = (widgets.HBox([self.choice, self.upload, self.camera]), fetch, pictures,
                         self.credit, controls, status)

    def use(self, picture) -> None:
        """Shows a photograph, shrunk to at most MOST pixels, or says why there is none. picture: an
        id of the gallery, a path, or anything else that `as_picture` takes."""
        self.status.value, known = "one moment ...", isinstance(picture, int)
        try:
            small = Image.fromarray(gallery.fetch(picture) if known else as_picture(picture))
        except HintPoseError as error:
            self.status.value = f"The picture stays as it is: {error}"
            return
        small.thumbnail(MOST)
        self.picture, self.boxes, self.clicks = np.array(small), (), []
        self.estimator = PoseEstimator(self.network, looks=2)
        self.credit.value = gallery.credit(picture) if known else "Your picture."
        self.set(who="another person")

    def put(self, x: float, y: float) -> None:
        """Adds a click at a place, each coordinate from 0 to 1."""
        who, person = self.controls.who.value, self.clicks[-1][3] if self.clicks else -1
        if who == "another person" or not self.clicks:
            person += 1
        minus = who == "not this person" and self.clicks  # a minus alone would name nobody
        self.clicks.append((0, 0, -1 if minus else 1, person))
        self.move(x, y)

    def move(self, x: float, y: float) -> None:
        """Moves the newest click to a place, each coordinate from 0 to 1."""
        height, width = self.picture.shape[:2]
        self.clicks[-1:] = [(x * width - 0.5, y * height - 0.5, *rest)
                            for _, _, *rest in self.clicks[-1:]]
        self.refresh()

    def undo(self) -> None:
        """Removes the newest click."""
        del self.clicks[-1:]
        self.refresh()

    def render(self, who: str) -> str:
        """Runs the network with a cue and a box for each person, and shows the poses."""
        people, size = {person for *_, person in self.clicks}, self.picture.shape[1::-1]
        cues = [clicks_cue(self.clicks, person) for person in people or {0}]
        boxes = torch.cat([box_around(cue, self.boxes, size) for cue in cues])
        boxes = self.estimator.narrowed(self.picture, boxes, cues)
        self.frame = photo_frame(self.estimator, self.picture, cues, boxes)
        x, y, *_ = self.clicks[-1] if self.clicks else np.divide(size, 2)
        self.pad.put(self.frame.picture, f"The picture, clicks and poses: {self.frame.said}.",
                     ((x + 0.5) / size[0], (y + 0.5) / size[1]))
        return f"people clicked on: {len(people)}; {self.frame.said}"
