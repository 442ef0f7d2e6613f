"""Sentence encoders: poolings against numbers by hand, and two texts as a pair."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from captum_ib import CoM2IB, DualEncoder, InputWarning
from captum_ib.models import SentenceEncoder

HIDDEN = torch.tensor([[[1.0, -2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 1.0], [2.0, 2.0], [1.0, 3.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


class Fixed(nn.Module):
    """An encoder with a fixed answer."""

    config = SimpleNamespace(pad_token_id=0)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=HIDDEN[: len(input_ids)])


ROOT2, ROOT3 = 2**0.5, 3**0.5


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2.0, 1.0], [8 / 3, 2.0]]),
        ("cls", [[1.0, -2.0], [5.0, 1.0]]),
        ("max", [[3.0, 4.0], [5.0, 3.0]]),
        ("mean_sqrt_len", [[4 / ROOT2, 2 / ROOT2], [8 / ROOT3, 6 / ROOT3]]),
        ("weighted_mean", [[7 / 3, 2.0], [2.0, 14 / 6]]),
        ("last_token", [[3.0, 4.0], [1.0, 3.0]]),
        (("cls", "mean"), [[1.0, -2.0, 2.0, 1.0], [5.0, 1.0, 8 / 3, 2.0]]),
    ],
)
def test_poolings_leave_padding_out(pooling, expected):
    ids = torch.tensor([[5, 6, 0], [5, 6, 7]])
    pooled = SentenceEncoder(Fixed(), pooling, normalise=False)(ids, MASK)
    assert torch.allclose(pooled, torch.tensor(expected))
    normal = SentenceEncoder(Fixed(), pooling)(ids, MASK)
    assert torch.allclose(normal, nn.functional.normalize(torch.tensor(expected)))


def test_first_and_last_of_texts_that_are_padded_in_front():
    left = torch.tensor([[0, 1, 1]])
    ids = torch.tensor([[0, 5, 6]])
    for pooling, expected in (("cls", [3.0, 4.0]), ("last_token", [9.0, 9.0])):
        pooled = SentenceEncoder(Fixed(), pooling, normalise=False)(ids, left)
        assert pooled.tolist() == [expected]


def test_padding_without_a_mask_is_refused():
    encoder = SentenceEncoder(Fixed(), "mean", normalise=False)
    with pytest.raises(ValueError, match=r"ids hold padding \(0\), and no mask says so"):
        encoder(torch.tensor([[5, 6, 0]]))
    assert torch.allclose(encoder(torch.tensor([[5, 6, 7]])), HIDDEN[:1].mean(1))


def test_no_such_pooling():
    with pytest.raises(ValueError, match='pooling must be one of "mean", "cls"'):
        SentenceEncoder(Fixed(), "median")
    with pytest.raises(ValueError, match="pooling is empty"):
        SentenceEncoder(Fixed(), ())


@pytest.fixture(scope="module")
def bert():
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return SentenceEncoder(transformers.BertModel(config)).eval()


FIRST, SECOND = torch.tensor([[1, 5, 6, 2]]), torch.tensor([[1, 7, 2]])
FEW = {"n_steps": 3, "n_samples": 2, "seed": 0}


def test_two_texts_are_a_pair(bert):
    dual = DualEncoder.from_model(bert)
    assert dual.modalities == ("first", "second")
    masks = torch.ones_like(FIRST), torch.ones_like(SECOND)
    expected = (bert(FIRST, masks[0]) * bert(SECOND, masks[1])).sum(1)
    assert torch.allclose(dual(FIRST, SECOND, *masks), expected)
    names = [f"encoder.encoder.layer.{i}" for i in range(3)]
    assert [name for name, _ in dual.tower("second").blocks] == names


def test_a_map_is_the_same_alone_and_padded(bert):
    method = CoM2IB(DualEncoder.from_model(bert))
    masks = torch.ones_like(FIRST), torch.ones_like(SECOND)
    first, second = method.attribute((FIRST, SECOND), additional_forward_args=masks, **FEW)
    padded = [nn.functional.pad(one, (0, 2)) for one in (FIRST, SECOND, *masks)]
    longer = method.attribute(tuple(padded[:2]), additional_forward_args=tuple(padded[2:]), **FEW)
    assert torch.allclose(longer[0][:, :4], first, rtol=1e-3)
    assert torch.allclose(longer[1][:, :3], second, rtol=1e-3)
    assert longer[0][:, 4:].tolist() == [[0.0, 0.0]] == longer[1][:, 3:].tolist()


def test_one_mask_for_two_texts(bert):
    method = CoM2IB(DualEncoder.from_model(bert))
    with pytest.warns(InputWarning, match=r"one mask for two inputs .* it goes to the second"):
        method.attribute((FIRST, SECOND), additional_forward_args=torch.ones_like(SECOND), **FEW)
    method.attribute(
        (FIRST, SECOND), additional_forward_args=(None, torch.ones_like(SECOND)), **FEW
    )
