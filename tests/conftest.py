"""What several test files share."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

torch.set_num_threads(1)  # tests run side by side


@pytest.fixture(scope="session")
def coco_sample() -> Path:
    """A folder of real COCO pictures that may lie beside the project; tests skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_sample"
    if not folder.is_dir():
        pytest.skip("the real COCO sample is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    """A few small crowd scenes, as people."""
    from hintpose_lite.crowd.folder import make_crowd
    return make_crowd(tmp_path_factory.mktemp("crowd") / "scenes", 8, seed=5, size=96, workers=1)


@pytest.fixture(scope="session")
def files_of():
    """files_of(folder) returns a handler that serves a folder's files, and the list to which it
    appends each path that is asked for."""
    def of(folder):
        served = []

        class Files(SimpleHTTPRequestHandler):
            def do_GET(self):
                served.append(self.path)
                super().do_GET()

            def log_message(self, *_):
                pass

        return partial(Files, directory=folder), served
    return of


@pytest.fixture(scope="module")
def serve():
    """serve(handler) starts a web server on loopback, which ends with the module's tests."""
    running = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def model():
    """The shipped network with a cue."""
    from hintpose_lite import load_model
    return load_model("crowd-tiny")


@pytest.fixture(scope="module")
def scene():
    """A drawn pair who share a box."""
    from hintpose_lite.labs.scene import pair_scene
    return pair_scene()


@pytest.fixture(scope="session")
def warp():
    """PyTorch's own way to cut crops, which `geometry.crop` is compared with: pictures (N, C, H, W)
    and maps (N, 2, 3) from picture to crop give (N, C, height, width)."""
    from hintpose_lite.pose.geometry import apply, invert, pixel_grid

    def warped(pictures, matrices, size):
        places = invert(matrices)
        grid = apply(places, pixel_grid(size, places))  # of the crops' pixels, in the pictures
        last = torch.tensor([pictures.shape[3] - 1.0, pictures.shape[2] - 1.0])
        return F.grid_sample(pictures, (2 * grid / last - 1).view(-1, size[1], size[0], 2),
                             align_corners=True)
    return warped
