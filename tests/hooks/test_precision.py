"""The replay's tolerance follows the precision that products are made in."""

import warnings

import pytest
import torch
from torch import nn

from captum_ib.hooks import open_session
from captum_ib.hooks.session import tolerance
from tests.attr.cases import METHODS, SUBJECTS, Case, maps


class Rounding(nn.Module):
    """Gives another last digit for another batch size, as kernels of low precision do."""

    def __init__(self, gap, last=torch.float32):
        super().__init__()
        self.before, self.layer = nn.Linear(4, 4), nn.Linear(4, 4)
        self.gap, self.last = gap, last

    def forward(self, x):
        out = self.layer(self.before(x))
        return out.to(self.last) * (1 + self.gap * (len(x) > 1))


def replays(model, **kwargs):
    """Whether the model is replayed, and with how many warnings."""
    x = torch.ones(1, 4, dtype=kwargs.pop("dtype", torch.float32))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        session = open_session(model, lambda k: model(x.repeat(k, 1)), [model.layer], ["layer"], 1)
        with session as opened:
            return opened.replay is not None, len(heard)


def test_bfloat16_autocast_may_differ_by_more_than_float32():
    model = Rounding(5e-3)  # what CLIP B/32 differs by between batch sizes on a GPU
    assert replays(model) == (False, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert replays(model) == (True, 0)
    assert replays(model) == (False, 1)


def test_an_output_turned_into_float32_at_last_is_still_one_of_bfloat16():
    assert replays(Rounding(5e-3).to(torch.bfloat16), dtype=torch.bfloat16) == (True, 0)


def test_a_wrong_replay_is_found_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert replays(Rounding(0.2)) == (False, 1)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float64], 1e-6),
        ([torch.float64, torch.float32], 1e-3),
        ([torch.float32, torch.float16], 2e-2),
        ([torch.complex64], 1e-3),
    ],
)
def test_the_least_precise_counts(dtypes, expected):
    assert tolerance(dtypes, "cpu") == expected
    assert tolerance(dtypes, "cuda") == expected


def test_autocast_of_another_device_does_not_count():
    with torch.autocast("cpu", torch.bfloat16):
        assert tolerance([torch.float32], "cpu") == 5e-2
        assert tolerance([torch.float32], "cuda") == 1e-3


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_tf32_counts_on_cuda_alone(asked):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(asked)
        assert tolerance([torch.float32], "cuda") == 1e-2
        assert tolerance([torch.bfloat16], "cuda") == 5e-2
        assert tolerance([torch.float32], "cpu") == 1e-3
    finally:
        torch.set_float32_matmul_precision(before)
    assert tolerance([torch.float32], "cuda") == 1e-3


@pytest.mark.parametrize(
    ("method", "subject"),
    [("IBA", "vit"), ("CoIBA", "vit"), ("NIB", "vit"), ("M2IB", "clip"), ("CoM2IB", "clip")],
)
def test_a_replay_under_autocast_gives_the_maps_of_plain_passes(method, subject):
    case = Case(METHODS[method], SUBJECTS[subject]())
    instance = case.build()
    with torch.autocast("cpu", torch.bfloat16):
        replayed, plain = (maps(case.attribute(instance, replay=kept)) for kept in (True, False))
    for one, other in zip(replayed, plain, strict=True):
        assert (one - other).abs().max() <= 1e-2 * other.abs().max()
