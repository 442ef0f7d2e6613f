"""Which argument is the mask of padding: said, shown by a name, by a check, or asked for."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

import captum_ib
from captum_ib import IBA, M2IB, NIB, RISE, GenericAttention, InputWarning, Mask
from captum_ib.forward import prepare
from tests.attr.cases import clip

WORDS = 5
IDS = torch.tensor([[4, 9, 7, 3, 8, 0, 0]])
PADDING = IDS == 0
TYPES = torch.tensor([[0, 0, 0, 1, 1, 0, 0]])


class Encoder(nn.Module):
    """Torch's encoder; its mask is True at padding. Subclasses name their parameters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.e, self.kinds, self.f = nn.Embedding(30, 16), nn.Embedding(2, 16), nn.Linear(16, 3)
        block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.enc = nn.TransformerEncoder(block, 3, enable_nested_tensor=False)
        self.eval()

    def encode(self, embedded, padding, kinds=None):
        if kinds is not None:
            embedded = embedded + self.kinds(kinds)
        return self.f(self.enc(embedded, src_key_padding_mask=padding)[:, 0])


class TorchStyle(Encoder):
    def forward(self, ids, pad):
        return self.encode(self.e(ids), pad)


class KeepStyle(Encoder):
    def forward(self, ids, seen):
        return self.encode(self.e(ids), seen == 0)


class WithTypes(Encoder):
    def forward(self, ids, kinds, seen):
        return self.encode(self.e(ids), seen == 0, kinds)


class MeanPooled(Encoder):
    """Its padding takes part, whatever the argument says."""

    def forward(self, ids, pad):
        return self.f(self.enc(self.e(ids)).mean(dim=1))


class HalfMasked(Encoder):
    """The argument is read, but neither zeros nor ones are left out."""

    def forward(self, ids, pad):
        return self.encode(self.e(ids), None) + pad.float().mean()


def seen_by(model, *additional, ids=IDS, target=1):
    return prepare(model, ids, additional, target).valid_tokens(ids.shape[1])


def iba(model, *additional, ids=IDS):
    return IBA(model, "enc.layers.1").attribute(ids, None, 1, additional, n_steps=3, seed=0)


@pytest.mark.parametrize(("model", "mask"), [(TorchStyle, PADDING), (KeepStyle, ~PADDING)])
def test_a_check_tells_both_conventions(model, mask):
    assert torch.equal(seen_by(model(), mask), ~PADDING)
    said = prepare(model(), IDS, Mask(mask, keep=model is KeepStyle), 1).valid_tokens(7)
    assert torch.equal(said, ~PADDING)


def test_integers_are_read_as_booleans_are():
    assert torch.equal(seen_by(KeepStyle(), (~PADDING).long()), ~PADDING)


def test_bits_stand_at_the_words_and_nothing_at_the_padding():
    model = TorchStyle()
    alone = IBA(model, "enc.layers.1").attribute(
        IDS[:, :WORDS], target=1, additional_forward_args=PADDING[:, :WORDS], n_steps=3, seed=0
    )
    for attribution in (
        iba(model, PADDING),
        NIB(model, "enc.layers.1").attribute(IDS, None, 1, PADDING),
        GenericAttention(model).attribute(IDS, 1, PADDING),
        RISE(model).attribute(IDS, None, 1, PADDING, n_masks=64, seed=0),
    ):
        assert bool((attribution[:, :WORDS] != 0).all())
        assert attribution[:, WORDS:].tolist() == [[0.0, 0.0]]
    nib = NIB(model, "enc.layers.1").attribute(IDS, None, 1, PADDING)[:, :WORDS]
    short = NIB(model, "enc.layers.1").attribute(IDS[:, :WORDS], None, 1, PADDING[:, :WORDS])
    torch.testing.assert_close(nib, short, rtol=1e-4, atol=1e-6)
    assert bool((alone > 0).all())


def test_token_types_before_the_mask_are_no_mask():
    attribution = iba(WithTypes(), TYPES, ~PADDING)
    assert bool((attribution[:, :WORDS] > 0).all())
    assert attribution[:, WORDS:].tolist() == [[0.0, 0.0]]


def test_embeddings_are_checked_with_noise():
    model = TorchStyle()
    call = prepare(lambda e, pad: model.encode(e, pad), model.e(IDS), PADDING, 1)
    assert torch.equal(call.valid_tokens(7), ~PADDING)


def test_the_tokens_may_be_another_argument():
    model = TorchStyle()

    def forward(scale, ids, pad):
        return model(ids, pad) * scale

    call = prepare(forward, torch.ones(1, 3), (IDS, PADDING), 1)
    assert torch.equal(call.valid_tokens(7), ~PADDING)


@pytest.mark.parametrize("target", [(1, 2), None])
def test_the_explained_token_decides_for_token_classifiers(target):
    model = TorchStyle()

    def forward(ids, pad):
        return model.f(model.enc(model.e(ids), src_key_padding_mask=pad))

    call = prepare(forward, IDS, PADDING, target)
    if target is None:  # outputs of padded tokens change, too
        with pytest.raises(ValueError, match="no way to read them passed the check"):
            call.valid_tokens(7)
    else:
        assert torch.equal(call.valid_tokens(7), ~PADDING)


def test_statistics_of_a_loader_leave_padding_out():
    model = TorchStyle()
    ids = torch.tensor([[4, 9, 7, 3, 0, 0, 0], [5, 2, 6, 8, 1, 2, 0]])
    found = IBA(model, "enc.layers.1").estimate([((ids, ids == 0), None)])
    assert found.layers["enc.layers.1"].count[:, 0].tolist() == [2, 2, 2, 2, 1, 1, 0]
    said = IBA(model, "enc.layers.1").estimate([((ids, Mask(ids == 0, keep=None)), None)])
    assert bool((said.layers["enc.layers.1"].count == 2).all())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention_mask", PADDING),  # the name is believed: 1 is a token that counts
        ("src_key_padding_mask", ~PADDING),
        ("padding_mask", ~PADDING),
        ("token_type_ids", None),
        ("segment_ids", None),
    ],
)
def test_names_of_parameters_say_what_a_mask_is(name, expected):
    model = MeanPooled()  # whose check can't tell anything

    def forward(*args):
        return model(*args)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature(
        [inspect.Parameter(one, kind) for one in ("ids", name)]
    )
    found = seen_by(forward, PADDING)
    assert found is None if expected is None else torch.equal(found, expected)


def test_a_likely_name_gives_way_to_the_check():
    model = KeepStyle()

    def forward(ids, padding_mask):  # EnCodec's 1 counts, too
        return model(ids, padding_mask)

    assert torch.equal(seen_by(forward, ~PADDING), ~PADDING)


@pytest.mark.parametrize("value", [0, 1])
def test_without_padding_all_tokens_count(value):
    assert seen_by(MeanPooled(), torch.full((1, 7), value)) is None


@pytest.mark.parametrize("model", [MeanPooled, HalfMasked])
def test_what_can_not_be_told_is_asked_for(model):
    message = r"number 1 \(pad\) .*captum_ib.Mask\(tensor\).*keep=False.*keep=None"
    with pytest.raises(ValueError, match=message):
        iba(model(), PADDING)
    said = iba(model(), Mask(PADDING, keep=False))
    assert said[:, WORDS:].tolist() == [[0.0, 0.0]]
    assert bool((iba(model(), Mask(PADDING, keep=None)) > 0).all())


def test_the_reading_is_that_of_the_whole_call_in_every_part():
    ids = torch.tensor([[4, 9, 7, 3, 8], [5, 2, 6, 0, 0]])
    model = TorchStyle()
    method = IBA(model, "enc.layers.1")
    settings = {"target": 1, "additional_forward_args": ids == 0, "n_steps": 3, "seed": 0}
    whole = method.attribute(ids, **settings)
    parts = method.attribute(ids, internal_batch_size=1, **settings)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert bool((whole[0] > 0).all())
    assert whole[1, 3:].tolist() == [0.0, 0.0]


def test_the_check_leaves_a_training_model_as_it_was():
    model = TorchStyle().train()
    with pytest.warns(InputWarning, match="the model is in training mode"):
        assert torch.equal(seen_by(model, PADDING), ~PADDING)
    assert all(module.training for module in model.modules())


def test_the_check_runs_once_per_call():
    passes = []
    model = TorchStyle()

    def forward(ids, pad):
        passes.append(len(ids))
        return model(ids, pad)

    call = prepare(forward, IDS.repeat(8, 1), PADDING.repeat(8, 1), 1)
    call.valid_tokens(7)
    count = len(passes)
    # One of all to find the modules, three for each of two samples; and to see that the mask has a
    # row for each, three of the first sample.
    assert count <= 11
    call.part(0, 4).valid_tokens(7)
    assert len(passes) == count


def test_references_are_read_as_was_said():
    model = MeanPooled()
    ids = torch.tensor([[4, 9, 7, 3, 0, 0, 0], [5, 2, 6, 8, 0, 0, 0]])
    attribution = IBA(model, "enc.layers.1").attribute(
        IDS, (ids, ids == 0), 1, Mask(PADDING, keep=False), n_steps=3, seed=0
    )
    assert attribution[:, WORDS:].tolist() == [[0.0, 0.0]]


def test_a_mask_refuses_what_is_none():
    with pytest.raises(TypeError, match="holds a tensor, given list"):
        Mask([0, 1])
    with pytest.raises(TypeError, match="keep must be True, False or None, given 1"):
        Mask(PADDING, keep=1)
    with pytest.raises(
        ValueError, match=r"zeros and ones of shape \(N, T\), .*given a tensor of shape \(1, 7\)"
    ):
        Mask(IDS)
    with pytest.raises(ValueError, match=r"has 7 tokens.*their shapes: \[\(1, 5\)\]"):
        seen_by(lambda ids, pad: None, Mask(PADDING[:, :5]))
    assert captum_ib.Mask is Mask


def test_a_pair_takes_a_mask_of_either_kind():
    subject = clip()
    method, mask = M2IB(subject.model), subject.extra
    settings = {"n_steps": 3, "seed": 0}
    plain = method.attribute(subject.inputs, additional_forward_args=mask, **settings)
    for said in (Mask(mask), Mask(1 - mask, keep=False)):
        found = method.attribute(subject.inputs, additional_forward_args=said, **settings)
        assert all(torch.equal(*both) for both in zip(found, plain, strict=True))
    with pytest.raises(ValueError, match="which is none"):
        method.attribute(subject.inputs, additional_forward_args=Mask(mask, keep=None))


@pytest.mark.parametrize("kind", [IBA, NIB])
def test_a_mask_that_leaves_nothing_of_a_sample_is_refused(kind):
    """An inverted mask: the second text has no padding, so none of its tokens would count."""
    from tests.models.classifiers import TEXT_CLASSIFIERS

    model = TEXT_CLASSIFIERS[0].model()
    ids = torch.tensor([[4, 9, 7, 3, 0, 0, 0], [4, 9, 7, 3, 8, 2, 5]])
    with pytest.raises(ValueError, match=r"no token counts in sample 1: is the mask inverted\?"):
        kind(model).attribute(ids, target=1, additional_forward_args=(ids == 0).long())


@pytest.mark.parametrize(("kind", "keep"), [(TorchStyle, True), (KeepStyle, False)])
def test_a_mask_that_says_the_reverse_is_refused(kind, keep):
    ids, ones = IDS, torch.zeros(IDS.shape, dtype=torch.long)
    ones[:, -2:] = 1  # padding
    mask = ones.bool() if kind is TorchStyle else 1 - ones
    message = rf"Mask\(tensor, keep={keep}\) says the reverse.*pass Mask\(tensor, keep={not keep}\)"
    with pytest.raises(ValueError, match=message):
        iba(kind(), Mask(mask, keep=keep), ids=ids)
    assert bool((iba(kind(), Mask(mask, keep=not keep), ids=ids)[:, -2:] == 0).all())
