"""The memory of a piece of work: what the process grew by, or on CUDA what torch allocated."""
# ruff: noqa: E402 (what may be missing comes first)

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

psutil = pytest.importorskip("psutil", reason="psutil is not installed")

from captum_ib.benchmark.memory import measured

CPU, MIB = torch.device("cpu"), 2**20


def grown(work: str) -> int:
    """What a fresh process measures of some work; in this one, freed pages would be used again."""
    code = f"""
import numpy, torch
from captum_ib.benchmark.memory import measured
try:
    with measured(torch.device("cpu")) as peak:
{textwrap.indent(textwrap.dedent(work), " " * 8)}
except RuntimeError:
    pass
print(peak.bytes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_is_there_at_the_end_counts():
    found = grown("block = numpy.ones(64 * 2**20, dtype=numpy.uint8)")  # each page is touched
    assert 60 * MIB <= found <= 80 * MIB


def test_what_was_there_before_does_not_count():
    block = np.ones(64 * MIB, dtype=np.uint8)
    with measured(CPU) as peak:
        assert block[-1] == 1
    assert peak.bytes is not None and 0 <= peak.bytes <= 8 * MIB


def test_a_process_that_shrank_took_nothing():
    block = np.ones(64 * MIB, dtype=np.uint8)
    with measured(CPU) as peak:
        del block
    assert peak.bytes == 0


def test_an_error_inside_is_measured_too():
    work = 'block = numpy.ones(64 * 2**20, dtype=numpy.uint8)\nraise RuntimeError("too much")'
    assert 60 * MIB <= grown(work) <= 80 * MIB
    with pytest.raises(RuntimeError, match="too much"), measured(CPU) as peak:
        raise RuntimeError("too much")
    assert peak.bytes is not None


def test_the_process_is_read_twice_and_nothing_more(monkeypatch):
    readings = iter([5 * MIB, 12 * MIB])

    class Process:
        def memory_info(self):
            return type("Info", (), {"rss": next(readings)})

    monkeypatch.setattr(psutil, "Process", Process)
    with measured(CPU) as peak:
        assert peak.bytes is None
    assert peak.bytes == 7 * MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda_it_is_what_torch_allocated():
    device = torch.device("cuda")
    before = torch.ones(MIB, device=device)
    with measured(device) as peak:
        torch.ones(4 * MIB, dtype=torch.float32, device=device).sum()
    assert peak.bytes is not None and 16 * MIB <= peak.bytes <= 17 * MIB
    assert float(before[0]) == 1
