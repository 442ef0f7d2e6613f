"""Out of memory: half the rows until they fit, with the same result; else a word on what would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ib import IBA, NIB, CoIBA
from captum_ib.baselines import LayerGradCAM
from captum_ib.forward.memory import out_of_memory


class Small(nn.Module):
    """Runs out of memory with more than so many rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 36, 3)
        self.most, self.rows = most, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.head(self.second(self.first(x).relu()).relu().flatten(1))


def pictures() -> Tensor:
    return torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("most", [2, 3, 7, 100])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (IBA, {"n_steps": 3, "n_samples": 4, "seed": 0}),
        (CoIBA, {"n_steps": 3, "n_samples": 4, "seed": 0}),
        (NIB, {"n_steps": 5}),
        (LayerGradCAM, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_half_the_rows_until_they_fit_give_the_same(kind, settings, most):
    expected = _on(kind, Small(10**6)).attribute(pictures(), target=1, **settings)
    model = Small(most)
    found = _on(kind, model).attribute(pictures(), target=1, internal_batch_size="auto", **settings)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert model.rows[-1] <= most


def _on(kind: type, model: nn.Module) -> object:
    return kind(model, ["first"]) if kind is CoIBA else kind(model, "first")


def test_noise_without_a_seed_is_that_of_the_first_try():
    torch.manual_seed(5)
    expected = IBA(Small(10**6), "first").attribute(pictures(), target=1, n_steps=2)
    torch.manual_seed(5)
    found = IBA(Small(9), "first").attribute(
        pictures(), target=1, n_steps=2, internal_batch_size="auto"
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_may_be_given_by_its_place():
    """Captum's order: …, n_steps, method, internal_batch_size."""
    import inspect

    names = list(inspect.signature(NIB.attribute).parameters)[1:]
    before = names[: names.index("internal_batch_size")]
    defaults = inspect.signature(NIB.attribute).parameters
    given = [defaults[name].default for name in before[1:]]
    given[before[1:].index("target")] = 1
    found = NIB(Small(3), "first").attribute(pictures(), *given, "auto")
    expected = NIB(Small(10**6), "first").attribute(pictures(), target=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_would_fit_is_said():
    with pytest.raises(
        torch.cuda.OutOfMemoryError,
        match='with 8 rows .* pass internal_batch_size="auto", .* or at most 4',
    ):
        IBA(Small(7), "first").attribute(pictures(), target=1, n_steps=2, seed=0)


def test_one_row_that_does_not_fit_is_said():
    with pytest.raises(torch.cuda.OutOfMemoryError, match="with 1 row .*one row at a time is too"):
        NIB(Small(0), "first").attribute(pictures(), target=1, internal_batch_size="auto")


def test_other_errors_are_not_tried_again():
    class Broken(Small):
        def forward(self, x: Tensor) -> Tensor:
            self.rows.append(len(x))
            raise ValueError("something else")

    model = Broken(1)
    with pytest.raises(ValueError, match="something else"):
        NIB(model, "first").attribute(pictures(), target=1, internal_batch_size="auto")
    assert len(model.rows) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_what_is_a_lack_of_memory(error, expected):
    assert out_of_memory(error) is expected
    caused = ValueError("told")
    caused.__cause__ = error
    assert out_of_memory(caused) is expected


def test_another_word_is_refused():
    with pytest.raises(TypeError, match="internal_batch_size must be"):
        NIB(Small(9), "first").attribute(pictures(), target=1, internal_batch_size="some")
