"""A trained network as one ONNX file, which runs where there is no torch; its metadata hold
`hintpose_spec` (JSON) and `hintpose_hops`. README.md ("Export") shows a program that uses it."""

import copy
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..files import write_whole
from ..model.hintpose import HintPose, as_hintpose
from ..model.hrnet import HRNet

OPSET = 17  # of ONNX, from 2022: runtimes that are some years old know it, too
TOLERANCE = 1e-4  # largest difference to PyTorch, relative to the largest value of the heatmaps


def export_onnx(model: HRNet, path: str | Path, hops: int | None = None, *,
                overwrite: bool = False, say: Callable[[str], None] = print) -> Path:
    """Writes a network to an ONNX file that was checked against PyTorch, or writes nothing.

    model: a HintPose, or an HRNet (one hop, no cue); used as in eval mode, and left as it is.
    hops:  the number of hops, fixed from then on; None: model.spec.hops.
    Inputs, float32: `images` (N, 3, H, W), normalised with spec.mean and spec.std, and, if the
    network takes cues, `cues` (N, 1, H, W) in [-1, 1]; N is free, W and H are spec.input_size.
    Output: `heatmaps` (hops, N, joints, H / 4, W / 4). Returns the path. Raises ConfigError without
    the packages onnx and onnxruntime, or for a wrong model or hops; CheckpointError if the file
    exists (and not `overwrite`), or answers otherwise than PyTorch (TOLERANCE); WriteError.
    """
    path = Path(path)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"exporting needs packages that are not here ({error}): "
                          f"pip install 'hintpose-lite[export]'") from error
    if not isinstance(model, HRNet):
        raise ConfigError(f"only a HintPose or an HRNet can be exported, not {model!r:.60}")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists: choose another name, or pass overwrite=True")
    net = copy.deepcopy(as_hintpose(model)).cpu().float().eval()
    hops, forward = net.spec.hops if hops is None else hops, net.forward
    net.forward = lambda *inputs: forward(*inputs, hops=hops)  # tensors only: that can be traced
    inputs = _random_inputs(net, 3)  # a batch of another size than the traced one
    with torch.inference_mode():
        expected = net(*inputs.values())

    def write(part: Path) -> float:
        part.write_bytes(_trace(net, hops))
        difference = _difference(part, inputs, expected)
        if not difference < TOLERANCE:  # nan is no success either
            raise CheckpointError(f"{path} was not written: it would differ from PyTorch by "
                                  f"{difference:.1e}; look for nan in the weights, then try other "
                                  f"versions of torch, onnx and onnxruntime")
        return difference

    difference = write_whole(path, write)
    say(f"{path}: {hops} hop(s), largest relative difference to PyTorch {difference:.1e}")
    return path


def _random_inputs(net: HintPose, count: int) -> dict[str, Tensor]:
    """The network's inputs for `count` crops, the same at every call."""
    generator, (width, height) = torch.Generator().manual_seed(0), net.spec.input_size
    inputs = {"images": torch.randn(count, 3, height, width, generator=generator)}
    if net.spec.cue:
        inputs["cues"] = torch.rand(count, 1, height, width, generator=generator) * 2 - 1
    return inputs


def _trace(net: HintPose, hops: int) -> bytes:
    """The network as ONNX, by torch's older exporter: the newer one (dynamo=True) takes ten times
    as long for the same graph. Its warnings are about shapes, which are fixed here on purpose."""
    import onnx
    inputs, buffer = _random_inputs(net, 2), io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, tuple(inputs.values()), buffer, dynamo=False, opset_version=OPSET,
                          input_names=list(inputs), output_names=["heatmaps"],
                          dynamic_axes={**dict.fromkeys(inputs, {0: "N"}), "heatmaps": {1: "N"}})
    graph = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(graph, {"hintpose_spec": json.dumps(asdict(net.spec)),
                                        "hintpose_hops": str(hops)})
    return graph.SerializeToString()


def _difference(path: Path, inputs: dict[str, Tensor], expected: Tensor) -> float:
    """How far the file's answer is from the expected one, relative to its largest value."""
    from onnxruntime import InferenceSession
    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found, = session.run(["heatmaps"], {name: value.numpy() for name, value in inputs.items()})
    return float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max())
