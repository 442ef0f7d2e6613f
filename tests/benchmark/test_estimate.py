"""The estimate adds up, says what it left out, and writes nothing."""

from __future__ import annotations

import math

import pandas as pd
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from captum_ib import NIB
from captum_ib.benchmark import estimate as estimating
from captum_ib.benchmark.estimate import Estimate, duration, estimate
from captum_ib.benchmark.worker import Worker
from tests.benchmark.small import vit


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def timed(monkeypatch):
    """A worker whose reading takes 1 s a sample, whose maps take 2 s and metrics 3 s."""
    clock = Clock()
    monkeypatch.setattr(estimating, "time", clock)
    worker = Worker(vit(samples=100, seeds=[0, 1, 2], batch_size=5))
    read = worker.read

    def slow_read(indices):
        indices = list(indices)
        clock.now += len(indices)
        return read(indices)

    def rows(explainer, group, seed):
        clock.now += 5 * len(group)
        found = {"seconds": 2.0, "peak_bytes": 3 * 2**20, "status": "ok", "reason": None}
        return [found] * len(group)

    monkeypatch.setattr(worker, "read", slow_read)
    monkeypatch.setattr(worker, "rows", rows)
    return worker


def test_it_adds_up(timed):
    found = estimate(timed.config, timed)
    assert (found.samples, found.seeds, found.probed, found.reading) == (100, 3, 5, 100.0)
    costs = found.methods.loc["NIB", ["explain", "judge", "peak"]].tolist()
    assert costs == [2.0, 3.0, 3 * 2**20]
    # NIB draws no noise: computed once for all seeds
    assert found.methods["total"].to_dict() == {"NIB": 500.0, "CoIBA": 1500.0, "Random": 1500.0}
    assert found.seconds == 3600.0
    lines = str(found).splitlines()
    assert lines[1].split() == ["NIB", "2", "3", "8", "min", "20", "s", "3", "MiB"]
    assert lines[-1] == "100 samples x 3 seeds: about 1 h 0 min (measured on 5 samples)"


def test_what_it_says_besides():
    cost = {"explain": 1.0, "judge": 1.0, "total": 2.0, "peak": math.nan, "problem": "too hard"}
    text = str(Estimate(1, 1, 1, pd.DataFrame([cost], index=["A"]), 0.5, ("ROAR+",)))
    assert "A failed: too hard" in text and "not counted: ROAR+, over the whole set" in text
    assert text.splitlines()[1].endswith("?")


def test_a_failing_method_is_named(monkeypatch):
    def fails(self, *args, **kwargs):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(NIB, "attribute", fails)
    config = vit(methods=["nib", "random"], metrics=["iou", "roar_plus"])
    found = estimate(config)
    assert found.methods["problem"].dropna().to_dict() == {"NIB": "no such thing"}
    assert found.unknown == ("roar_plus",) and found.seconds > 0


def test_no_readable_sample(monkeypatch):
    worker = Worker(vit())
    monkeypatch.setattr(worker, "read", lambda indices: ([], []))
    with pytest.raises(ValueError, match="none of the first samples could be read"):
        estimate(worker.config, worker)


def test_durations():
    assert [duration(value) for value in (0.05, 9.4, 12.3, 61, 3599, 90000)] == [
        "0.05 s",
        "9.4 s",
        "12 s",
        "1 min 1 s",
        "59 min 59 s",
        "25 h 0 min",
    ]
