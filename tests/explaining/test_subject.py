"""The probability that is printed beside a class."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from captum_ib.explaining.question import make_subject


def loaded(model):
    return SimpleNamespace(
        model=model.eval(),
        kind="classifier",
        texts=False,
        labels=None,
        multi_label=False,
        hear=None,
        preprocess=lambda picture: picture,
        picture=lambda pixels: pixels,
    )


class Squeezed(nn.Sequential):
    def forward(self, x):
        return super().forward(x).squeeze()


@pytest.mark.parametrize("kind", [nn.Sequential, Squeezed])
def test_one_logit_has_the_probability_of_its_sigmoid(kind):
    torch.manual_seed(0)
    model = kind(nn.Flatten(), nn.Linear(48, 1))
    pixels = torch.rand(1, 3, 4, 4)
    subject = make_subject(loaded(model), pixels, None, torch.device("cpu"), torch.float32)
    z = model(pixels).reshape(()).item()
    expected = torch.sigmoid(torch.tensor(z)).item()
    assert subject.target == 0
    assert subject.score == pytest.approx(expected)
    assert subject.record()["probability"] == pytest.approx(expected)
    assert subject.title == f"class 0 ({100 * expected:.1f} %)"
