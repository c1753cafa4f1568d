"""The crops of coming batches, read in the background while the present one is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import islice

import torch
from torch import Tensor

from ..errors import DataError, HintPoseError
from .cache import CropCache
from .crops import Crops


def prefetch(source: Crops | CropCache, batches: Iterable[Tensor], device="cpu", depth: int = 2
             ) -> Iterator[tuple[Crops, Tensor]]:
    """(crops, rows) on the device for each batch of people in turn, as `make_batch` takes them.

    batches: rows (B,) of people, drawn no more than `depth` + 1 batches ahead. depth: batches that
    are read at a time, each by a thread of its own; they take B x size^2 x 3 bytes each.
    Crops in memory move to the device as a whole, and nothing is read. An error in a thread comes
    out at its batch's turn, and says whom it was reading. Closing the iterator ends the threads.
    """
    device = torch.device(device)
    if isinstance(source, Crops):
        source = source.to(device)
        for rows in batches:
            yield source.take(rows.to(device))
        return

    def read(rows: Tensor) -> tuple[Crops, Tensor]:
        try:
            crops, places = source.take(rows)
        except Exception as error:
            kind = DataError if isinstance(error, HintPoseError) else RuntimeError
            raise kind(f"{error} (when reading the people of rows {rows.tolist()})") from error
        if device.type == "cuda":  # into memory that a GPU can copy from by itself
            crops = Crops(**{f.name: getattr(crops, f.name).pin_memory() for f in fields(crops)})
        return crops, places

    for crops, places in ahead(read, batches, depth, depth):
        yield crops.to(device, non_blocking=True), places.to(device)


def ahead(work: Callable, items: Iterable, threads: int, depth: int = 2) -> Iterator:
    """work(item) for each item in turn, as map gives it, done in threads for up to `depth` + 1
    items at a time. Closing the iterator ends the threads."""
    pool = ThreadPoolExecutor(threads)
    try:
        coming = (pool.submit(work, item) for item in items)
        waiting = deque(islice(coming, depth))
        while waiting:
            waiting.extend(islice(coming, 1))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
