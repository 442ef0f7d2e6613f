"""How much memory a piece of work takes, above what was in use before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from captum_ib.extras import need


@dataclass
class Peak:
    """What :func:`measured` found: bytes above the level before, once the work has ended."""

    bytes: int | None = None


@contextmanager
def measured(device: torch.device) -> Iterator[Peak]:
    """The memory that the work inside takes, known when it ends, also by an error.

    On CUDA this is the peak of what torch allocated on the device, exactly. Elsewhere it is what
    the process's resident memory grew by, read once at the end: what was taken and given back in
    between does not count, so it is a lower bound of the peak.

    Args:
        device: where the work runs.

    >>> with measured(torch.device("cpu")) as peak:
    ...     block = torch.ones(10_000_000)
    >>> isinstance(peak.bytes, int)
    True
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        after = partial(torch.cuda.max_memory_allocated, device)
    else:
        process = need("psutil", "the benchmark").Process()
        before, after = process.memory_info().rss, lambda: process.memory_info().rss
    try:
        yield peak
    finally:
        peak.bytes = max(0, after() - before)
