"""Several processes that train one model together, as torchrun starts them. Each takes its part of
every batch; gradients are averaged, so all models stay equal. Only process 0, the first, writes to
the run folder, validates, and shows progress."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import ConfigError

PATIENCE = timedelta(hours=2)  # the others wait while the first draws scenes or validates


@dataclass(frozen=True)
class ProcessGroup:
    """The `size` processes of a training, and the number `rank` of this one among them."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, places: list) -> list:
        """This process's part of a batch: every `size`-th person."""
        return places[self.rank::self.size]

    def wrap(self, model: nn.Module, device: torch.device, unused: bool) -> nn.Module:
        """The model with averaged gradients. unused: some steps do not use all parameters."""
        if self.size == 1:
            return model
        devices = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, devices, find_unused_parameters=unused)

    def wait(self) -> None:
        """Returns once every process has called this."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def first_alone(self):
        """The first process runs the block before the others, which then find what it has made."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def broadcast(self, flag: bool, device: torch.device) -> bool:
        """The first process's flag, in every process."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag), device=device)
        dist.broadcast(value, 0)
        return bool(value)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all processes' values."""
        if self.size > 1:
            dist.all_reduce(value)
        return value / self.size


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Opens the process group that torchrun describes, and closes it after the block. A GPU also
    becomes the one that this process uses by default."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        yield ProcessGroup()
        return
    if not size.isdecimal() or "MASTER_ADDR" not in os.environ:
        raise ConfigError(f"WORLD_SIZE={size} was not set by torchrun: unset it, or use torchrun")
    if not dist.is_available():
        raise ConfigError("this PyTorch was built without torch.distributed: train in one process")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
        gc.collect()  # what still holds gradient buffers makes gloo abort on its way out
        dist.barrier()
    finally:
        dist.destroy_process_group()
