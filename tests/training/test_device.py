"""What a step and a prediction do on a GPU stays on it, and a step does not wait for it.

Tried with PyTorch's fake tensors: they have a shape and claim to lie on a GPU, but hold no values,
so none is needed; an operation that mixes devices is refused as on a real one.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hintpose_lite.cues.cue import Cue
from hintpose_lite.cues.training import KINDS
from hintpose_lite.data.batches import make_batch
from hintpose_lite.data.crops import Items, PersonCrops, stack
from hintpose_lite.evaluation.predict import Predictor, prepare
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos.cue_network import people_maps
from hintpose_lite.pose.geometry import apply, constant, invert
from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.runs.presets import TrainConfig
from hintpose_lite.training.step import Trainer, heatmap_loss

CONFIG = TrainConfig.preset("w32-256x192", init="none")
CUDA = torch.device("cuda")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "item")


class Waits(TorchDispatchMode):
    """Notes what would make the processor wait for a GPU: questions, and copies that block."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        on_gpu = any(tensor.is_cuda for tensor in tensors)
        if name in WAITING and on_gpu:
            self.found.append(name)
        if name in ("index", "index_put", "index_put_"):
            self.found += [f"{name} by a mask" for index in args[1] or () if index is not None
                           and index.dtype in (torch.bool, torch.uint8) and index.is_cuda]
        device = kwargs.get("device")
        if name == "_to_copy" and device is not None and not kwargs.get("non_blocking") and (
                torch.device(device).type == "cuda") != on_gpu:
            self.found.append("a blocking copy")
        if name == "copy_" and tensors[0].is_cuda != tensors[-1].is_cuda and not (
                args[2:] and args[2]):
            self.found.append("a blocking copy_")
        return func(*args, **kwargs)


@pytest.fixture()
def cuda(crowd, monkeypatch):
    """In it, tensors are fake. Gives one item of each kind of cue, as the loader does."""
    people = PersonCrops(crowd, CONFIG.spec, CONFIG.augment)
    items = stack([people.item(0, row % len(crowd), kind=kind) for row, kind in enumerate(KINDS)])

    def without_generator(draw):  # there is none of a GPU to draw from
        return lambda *given, generator, **named: draw(*given, **named)

    for name in ("rand", "randn", "multinomial"):
        monkeypatch.setattr(torch, name, without_generator(getattr(torch, name)))

    def grid_sample(pictures, grid, **_):  # it has no fake kernel
        return (pictures.mean() + grid.mean()).expand(*pictures.shape[:2], *grid.shape[1:3])

    monkeypatch.setattr(F, "grid_sample", grid_sample)
    constant.cache_clear()  # constants must be fake in here, and real after it
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield Items(**{name: EachKindOnce() if name == "kinds" else torch.empty_like(
            getattr(items, name)) for name in Items._fields})
    constant.cache_clear()


class EachKindOnce:
    """The kinds of cues 0, 1, 2, ...: where one is, a fake tensor could not tell."""

    def __eq__(self, kind):
        return self

    def nonzero(self):
        return torch.zeros(1, 1, dtype=torch.long)


def fake_model(spec):
    with torch.device("cuda"):
        return HintPose.from_spec(spec)


def step(items, model, optimiser):
    batch = make_batch(items.to(CUDA), CONFIG.spec, CONFIG.augment, COCO17, None)
    loss = heatmap_loss(model(batch.images, batch.cues), batch, constant(CONFIG.hop_weights, CUDA))
    optimiser.zero_grad(set_to_none=True)
    if torch.cuda.is_available():  # autograd asks the driver, even for fake tensors
        loss.backward()
    else:
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
    optimiser.step()
    return batch, loss


def test_a_training_step_stays_there_and_waits_for_nothing(cuda):
    model = fake_model(CONFIG.spec)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    batch, loss = step(cuda, model, optimiser)  # makes the constants and the optimiser's state
    assert loss.is_cuda and all(getattr(batch, field.name).is_cuda for field in fields(batch))
    with Waits() as waits:
        step(cuda, model, optimiser)
    assert not waits.found
    with Waits() as waits:  # it would find them
        batch.points[batch.weights > 0] = 0
        batch.points.new_tensor([1.0, 2.0])
        torch.ones(2).to("cuda")
    assert len(waits.found) >= 2


def test_targets_of_a_cue_network_wait_for_nothing(cuda):
    points = cuda.to(CUDA).keypoints[..., :2]
    people_maps(points, points[..., 0] > 0, CONFIG.spec)  # makes the constants
    with Waits() as waits:
        assert people_maps(points, points[..., 0] > 0, CONFIG.spec).is_cuda
    assert not waits.found


@pytest.mark.parametrize("codec", ["quarter", "dark", "udp"])
def test_a_prediction_stays_there(cuda, codec, monkeypatch):
    # OpenCV cuts masks on the CPU, and cannot read fake matrices.
    monkeypatch.setattr("hintpose_lite.cues.cue.crop", lambda mask, matrix, size: np.ones(
        size[::-1], np.float32))
    cues = [Cue.point(1, 2), Cue.box((1, 1, 4, 4)), Cue.mask(np.ones((9, 9))), Cue.none()]
    model = fake_model(replace(CONFIG.spec, codec=codec))
    rows, cuda = torch.zeros(4, dtype=torch.long, device="cuda"), cuda.to(CUDA)
    predictor = Predictor(model.eval())
    images, cues = prepare(model.spec, cuda.crops[:2], cuda.matrices[:2], cues, rows)
    maps = predictor.heatmaps(images, cues, rows)
    points, scores = decode(maps.flatten(0, 1), model.spec.input_size, codec, 2.0)
    back = invert(cuda.matrices[:2][rows])
    assert apply(back.repeat(3, 1, 1), points).is_cuda and scores.is_cuda


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_step_on_a_real_gpu_waits_for_nothing(crowd):
    trainer = Trainer(replace(CONFIG, steps=20, batch=4, hops_after=0.0), crowd, "cuda")
    for _ in range(3):  # constants, workers, the optimiser's state
        trainer.run_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss = trainer.run_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
