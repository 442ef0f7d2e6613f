"""Peak memory is that of the work inside, above what was there before."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from captum_ib.benchmark import memory
from captum_ib.benchmark.memory import measured, resident

CPU, MIB = torch.device("cpu"), 2**20


def test_the_peak_counts_what_was_given_back():
    with measured(CPU) as peak:
        for _ in range(2):
            block = np.ones(64 * MIB, dtype=np.uint8)  # each page is touched
            time.sleep(0.2)  # long enough to be looked at a hundred times
            del block
    assert peak.bytes is not None and 60 * MIB <= peak.bytes <= 80 * MIB


def test_what_was_there_before_does_not_count():
    block = np.ones(64 * MIB, dtype=np.uint8)
    with measured(CPU) as peak:
        assert block[-1] == 1
    assert peak.bytes is not None and 0 <= peak.bytes <= 8 * MIB


def test_small_blocks_are_not_hidden_by_what_the_allocator_kept():
    # Blocks below the threshold of mmap come from a heap that free() does not shrink.
    kept = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(512)]
    last = np.ones(16)  # behind them, so that the heap can't shrink from its end
    del kept
    with measured(CPU) as peak:
        again = [np.ones(MIB // 16, dtype=np.uint8) for _ in range(512)]
    assert peak.bytes is not None and peak.bytes >= 20 * MIB
    assert len(again) == 512 and last[0] == 1


def test_an_error_inside_is_measured_too():
    with pytest.raises(RuntimeError, match="too much"), measured(CPU) as peak:
        block = np.ones(64 * MIB, dtype=np.uint8)
        time.sleep(0.2)
        raise RuntimeError(f"too much: {block[0]}")
    assert peak.bytes is not None and peak.bytes >= 60 * MIB


def test_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATM", tmp_path / "nothing")
    monkeypatch.setattr(memory, "_psutil", lambda: None)
    monkeypatch.delitem(memory.sys.modules, "psutil", raising=False)
    assert resident() is None
    with measured(CPU) as peak:
        pass
    assert peak.bytes is None


def test_with_psutil_alone(monkeypatch, tmp_path):
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    monkeypatch.setattr(memory, "_STATM", tmp_path / "nothing")
    assert resident() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda_it_is_what_torch_allocated():
    device = torch.device("cuda")
    before = torch.ones(MIB, device=device)
    with measured(device) as peak:
        torch.ones(4 * MIB, dtype=torch.float32, device=device).sum()
    assert peak.bytes is not None and 16 * MIB <= peak.bytes <= 17 * MIB
    assert float(before[0]) == 1
