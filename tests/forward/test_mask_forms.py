"""Padding is told in many forms; each leaves the same tokens, and the same map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ib import IBA, NIB, RISE, CoIBA, Mask
from captum_ib.forward import prepare

IDS = torch.tensor([[4, 9, 7, 3, 8, 5], [6, 2, 3, 1, 0, 0], [2, 8, 9, 0, 0, 0]])
KEEP = IDS != 0
EYE = torch.eye(6, dtype=torch.bool)
CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()


class Text(nn.Module):
    """One head of attention over words, and the mean over them; ``read`` reads its mask."""

    def __init__(self, read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.map, self.query = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head, self.read = nn.Linear(8, 4), read

    def forward(self, ids: Tensor, told: Any) -> Tensor:
        keep = self.read(told).float()
        x = self.map(self.embed(ids)) * 2
        scores = self.query(x) @ x.mT
        x = x + scores.masked_fill(keep[:, None] == 0, -1e9).softmax(-1) @ x
        return self.head((x * keep[..., None]).sum(1) / keep.sum(1, keepdim=True))


def added(keep: Tensor) -> Tensor:
    return torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))


FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "ones at words": (lambda keep: keep.long(), lambda m: m),
    "ones at padding": (lambda keep: (~keep).float(), lambda m: 1 - m),
    "a column": (lambda keep: keep[..., None], lambda m: m[..., 0]),
    "four axes": (lambda keep: keep[:, None, None], lambda m: m[:, 0, 0]),
    "four axes, at padding": (lambda keep: ~keep[:, None, None], lambda m: ~m[:, 0, 0]),
    "added": (added, lambda m: m == 0),
    "added, four axes": (lambda keep: added(keep)[:, None, None], lambda m: m[:, 0, 0] == 0),
    "added, a finite number": (lambda keep: added(keep).clamp_min(-1e4), lambda m: m > -1),
    "lengths": (lambda keep: keep.sum(1), lambda n: torch.arange(6) < n[:, None]),
    "lengths, a column": (lambda keep: keep.sum(1, keepdim=True), lambda n: torch.arange(6) < n),
    "seen by words": (lambda keep: keep[:, None] & keep[..., None] | EYE, lambda m: m[:, 0]),
    "seen by all": (lambda keep: keep[:, None].expand(-1, 6, -1), lambda m: m[:, 0]),
    "hidden from all": (lambda keep: ~keep[:, None].expand(-1, 6, -1), lambda m: ~m[:, 0]),
    "seen, added": (lambda keep: added(keep)[:, None, None].expand(-1, 1, 6, -1),
                    lambda m: m[:, 0, 0] == 0),
    "seen, two heads": (lambda keep: keep[:, None, None].expand(-1, 2, 6, -1),
                        lambda m: m[:, 0, 0]),
    "causal": (lambda keep: keep[:, None] & CAUSAL, lambda m: m[:, -1]),
}  # fmt: skip
SURE = ("ones at words", "ones at padding", "a column", "four axes", "added", "added, four axes")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_leaves_the_words(form: str) -> None:
    make, read = FORMS[form]
    call = prepare(Text(read).eval(), IDS, make(KEEP), 1)
    assert torch.equal(call.part(1, 3).valid_tokens(6), KEEP[1:])  # pyright: ignore


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", [IBA, CoIBA, NIB])
def test_every_form_gives_the_map_of_the_words_alone(form: str, method: type) -> None:
    """Where padding counted, the map of a text of four words was 85 % off."""
    make, read = FORMS[form]
    settings: Any = {"target": 1}
    settings |= {} if method is NIB else {"n_steps": 3, "n_samples": 2, "seed": 0}
    explainer = method(Text(read).eval(), "map")
    found = explainer.attribute(IDS, additional_forward_args=make(KEEP), **settings)
    plain = method(Text(lambda m: m).eval(), "map")
    alone = plain.attribute(IDS[1:2, :4], additional_forward_args=KEEP[1:2, :4], **settings)
    torch.testing.assert_close(found[1, :4], alone[0], rtol=1e-4, atol=1e-5)
    assert bool((found[~KEEP] == 0).all())


@pytest.mark.parametrize("form", FORMS)
def test_without_padding_every_form_is_none(form: str) -> None:
    make, read = FORMS[form]
    full = torch.ones_like(KEEP)
    told = prepare(Text(read).eval(), IDS, make(full), 1).valid_tokens(6)
    assert told is None or bool(told.all())


def test_a_causal_mask_alone_is_no_padding_and_nothing_to_ask() -> None:
    model = Text(lambda m: torch.ones(len(m), 6)).eval()
    for mask in (CAUSAL, ~CAUSAL, added(CAUSAL)):
        call = prepare(model, IDS, mask.expand(3, 1, 6, 6), 1)
        assert call.valid_tokens(6) is None


@pytest.mark.parametrize("form", SURE)
def test_what_no_check_can_tell_is_asked_for_or_named(form: str) -> None:
    """A model that lets padding take part says nothing of what the mask means."""
    make, _ = FORMS[form]
    call = prepare(Text(lambda m: torch.ones(len(m), 6)).eval(), IDS, make(KEEP), 1)
    if "added" in form:  # of which no other meaning is known
        assert torch.equal(call.valid_tokens(6), KEEP)  # pyright: ignore
        return
    with pytest.raises(ValueError, match=r"captum_ib.Mask\(tensor, keep=False\)"):
        call.valid_tokens(6)


def test_numbers_that_are_no_lengths_are_none() -> None:
    labels = torch.tensor([3, 1, 2])
    call = prepare(Text(lambda m: torch.ones(len(m), 6)).eval(), IDS, labels, 1)
    assert call.valid_tokens(6) is None


@pytest.mark.parametrize("form", [*SURE, "lengths"])
def test_a_mask_of_every_form_can_be_said(form: str) -> None:
    make, _ = FORMS[form]
    said = Mask(make(KEEP), keep="at padding" not in form)
    assert torch.equal(said.valid, KEEP)  # pyright: ignore
    call = prepare(Text(lambda m: torch.ones(len(m), 6)).eval(), IDS, said, 1)
    assert torch.equal(call.valid_tokens(6), KEEP)  # pyright: ignore


def test_a_square_mask_says_what_to_give_instead() -> None:
    with pytest.raises(ValueError, match=r"lambda ids, keep: model\(ids, keep\[:, None, None\]\)"):
        Mask(KEEP[:, None] & KEEP[..., None])


def test_rise_leaves_padding_of_every_form_alone() -> None:
    model = Text(lambda m: m[:, 0, 0] == 0).eval()
    found = RISE(model).attribute(
        IDS, target=1, additional_forward_args=added(KEEP)[:, None, None], n_masks=8, seed=0
    )
    assert bool((found[~KEEP] == 0).all()) and bool((found[KEEP] != 0).any())
