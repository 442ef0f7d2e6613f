"""How much memory a piece of work takes at its peak, above what was in use before."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

INTERVAL = 0.002
"""Seconds between two looks at the process's memory; a shorter peak is missed."""

_STATM = Path("/proc/self/statm")


@dataclass
class Peak:
    """What :func:`measured` found.

    Attributes:
        bytes: peak above the level before; ``None`` where it can't be told.
    """

    bytes: int | None = None


@contextmanager
def measured(device: torch.device) -> Iterator[Peak]:
    """The peak memory of what runs inside, known when it ends, also by an error.

    On CUDA this is what torch allocated on the device (exact); elsewhere the resident memory of
    the process, looked at every 2 ms. What the C library keeps from earlier work is handed back to
    the system first, where it can be (glibc), so that it does not hide the peak.

    Args:
        device: where the work runs.

    >>> with measured(torch.device("cpu")) as peak:
    ...     _ = torch.ones(10_000_000).sum()
    >>> peak.bytes is None or peak.bytes >= 0
    True
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            torch.cuda.synchronize(device)
            peak.bytes = max(0, torch.cuda.max_memory_allocated(device) - before)
        return
    _release()
    watch = _Watch()
    try:
        yield peak
    finally:
        peak.bytes = watch.stop()


class _Watch(threading.Thread):
    """Looks at the resident memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(name="captum_ib-memory", daemon=True)
        self._over = threading.Event()
        self._before = self._highest = resident()
        if self._before is not None:
            self.start()

    def run(self) -> None:
        while not self._over.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        now = resident()
        if now is not None and self._highest is not None:
            self._highest = max(self._highest, now)

    def stop(self) -> int | None:
        """The highest seen minus the first, bytes."""
        if self._before is None or self._highest is None:
            return None
        self._over.set()
        self.join()
        self._look()
        return self._highest - self._before


def resident() -> int | None:
    """Resident memory of this process in bytes; ``None`` where neither /proc nor psutil tells."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        psutil = sys.modules.get("psutil") or _psutil()
        return None if psutil is None else int(psutil.Process().memory_info().rss)
    return pages * _page_size()


def _page_size() -> int:
    import resource

    return resource.getpagesize()


def _psutil():
    try:
        import psutil  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        return None
    return psutil


def _release() -> None:
    """Hand freed memory back to the system."""
    gc.collect(0)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
