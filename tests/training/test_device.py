"""What a step and a prediction do on a GPU stays on it.

Tried with PyTorch's fake tensors: they have a shape and claim to lie on a GPU, but hold no values,
so none is needed; an operation that mixes devices is refused as on a real one.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.training import CueMix
from hintpose_lite.data.batches import make_batch
from hintpose_lite.data.crops import build_crops
from hintpose_lite.evaluation.predict import heatmaps, prepare
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.pose.geometry import apply, invert
from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.step import heatmap_loss

CONFIG = TrainConfig.preset("crowd-quick")
KINDS = len(fields(CueMix))


class EachKindOnce:
    """The kinds of cues 0, 1, 2, ...: where one is, a fake tensor could not tell."""

    def __len__(self):
        return KINDS

    def __eq__(self, kind):
        return self

    def nonzero(self):
        return torch.zeros(1, 1, dtype=torch.long)


@pytest.fixture()
def cuda(crowd, monkeypatch):
    """In it, tensors are fake. Gives the crowd's crops, on a GPU."""
    crops = build_crops(crowd, CONFIG.window, workers=1, progress=False)

    def without_generator(draw):  # there is none of a GPU to draw from
        return lambda *given, generator, **named: draw(*given, **named)

    for name in ("rand", "randn", "multinomial"):
        monkeypatch.setattr(torch, name, without_generator(getattr(torch, name)))

    def grid_sample(pictures, grid, **_):  # it has no fake kernel
        return (pictures.mean() + grid.mean()).expand(*pictures.shape[:2], *grid.shape[1:3])

    monkeypatch.setattr(F, "grid_sample", grid_sample)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield replace(crops, **{
            field.name: torch.empty_like(getattr(crops, field.name), device="cuda")
            for field in fields(crops) if isinstance(getattr(crops, field.name), torch.Tensor)})


def fake_model(spec):
    with torch.device("cuda"):
        return HintPose.from_spec(spec)


def test_a_training_step_stays_there(cuda):
    rows = torch.zeros(KINDS, dtype=torch.long, device="cuda")
    batch = make_batch(cuda, rows, EachKindOnce(), CONFIG.spec, CONFIG.augment, COCO17, None)
    assert all(getattr(batch, field.name).is_cuda for field in fields(batch))
    outputs = fake_model(CONFIG.spec)(batch.images, batch.cues)
    assert heatmap_loss(outputs, batch, torch.ones(3, device="cuda")).is_cuda


@pytest.mark.parametrize("codec", ["quarter", "dark", "udp"])
def test_a_prediction_stays_there(cuda, codec):
    cues = [Cue.point(1, 2), Cue.box((1, 1, 4, 4)), Cue.mask(np.ones((9, 9))), Cue.none()]
    model = fake_model(replace(CONFIG.spec, codec=codec))
    rows = torch.zeros(4, dtype=torch.long, device="cuda")
    images, cues, matrices = prepare(model.spec, cuda.windows[:2], cuda.matrices[:2],
                                     cuda.boxes[:2], cues, rows)
    maps = heatmaps(model.eval(), images, cues, rows=rows)
    points, scores = decode(maps.flatten(0, 1), (96, 128), codec, model.spec.target_sigma)
    assert apply(invert(matrices).repeat(3, 1, 1), points).is_cuda and scores.is_cuda
