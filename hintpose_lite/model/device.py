"""Where a network runs, and in which arithmetic."""

import os
from contextlib import nullcontext

import torch

from ..errors import ConfigError

PRECISIONS = ("auto", "bf16", "float32")


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; ConfigError if there is none here. None: "cuda" if there is a GPU,
    else "cpu". "cuda" is the GPU that torchrun assigns to this process, by default the first."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(f"cuda:{i}" for i in range(count))]
    if torch.backends.mps.is_available():
        known.append("mps")
    chosen = str(name or ("cuda" if count else "cpu"))
    if chosen == "cuda":
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if chosen not in known:
        raise ConfigError(f"device {name or chosen} does not exist here: choose one of "
                          f"{', '.join(known)}, or see `hintpose check`")
    return torch.device(chosen)


def autocast(precision: str, device: torch.device):
    """A context in which networks compute in bf16 or float32 (in which PyTorch by default rounds
    convolutions on a GPU to TF32). "auto" is bf16 where it is fast: on CUDA GPUs from Ampere on
    (older ones emulate it), and on CPUs with AVX512-BF16. Raises ConfigError for other words."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} does not exist; choose {', '.join(PRECISIONS)}")
    if precision == "bf16" or (precision == "auto" and _has_fast_bf16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # PyTorch has only a private name for this, which may go away.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and supported()
