"""Samples of other lengths: a sample's map is the same alone and padded in a batch."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from captum_ib import DualEncoder, Mask, TokenLayout
from captum_ib.attr import CAM2IB, IBA, M2IB, NIB, CoIBA, CoM2IB
from tests.attr.cases import _images, _seeded

LENGTHS = (5, 70, 12)
"""Shorter and longer than one block of noise."""

QUICK = {"seed": 3, "n_steps": 4, "n_samples": 2}
LAYERS = ["vision_model.encoder.layers.1", "text_model.encoder.layers.1"]
TWO = [[name, name.replace("layers.1", "layers.2")] for name in LAYERS]

PAIRS = {
    "M2IB": (lambda dual: M2IB(dual, LAYERS), {}),
    "M2IB-estimated": (lambda dual: M2IB(dual, LAYERS), {"prior": "estimated"}),
    "CoM2IB": (lambda dual: CoM2IB(dual, TWO), {}),
    "CoM2IB-guided": (lambda dual: CoM2IB(dual, TWO), {"guidance": 1.0}),
    "CAM2IB": (lambda dual: CAM2IB(dual, LAYERS), {}),
    "CAM2IB-paper": (lambda dual: CAM2IB(dual, LAYERS), {"variant": "paper"}),
    "CAM2IB-layer": (lambda dual: CAM2IB(dual, LAYERS), {"queries": "layer", "keys": "tokens"}),
}

TEXTS = {
    "IBA": (lambda model: IBA(model, "bert.encoder.layer.0"), QUICK),
    "CoIBA": (lambda model: CoIBA(model, ["bert.encoder.layer.0", "bert.encoder.layer.1"]), QUICK),
    "CoIBA-layerwise": (
        lambda model: CoIBA(model, ["bert.encoder.layer.0", "bert.encoder.layer.1"]),
        {**QUICK, "compression": "layerwise"},
    ),
    "NIB": (lambda model: NIB(model, "bert.encoder.layer.1"), {}),
}


def words(last):
    """Ids of three texts of other lengths, padded with 0, and their mask."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(1, last, (length,), generator=generator)
        ids[row, length - 1] = last
    return ids, (ids != 0).long()


@pytest.fixture(scope="module")
def bert():
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=80, num_labels=4,
    )  # fmt: skip
    return _seeded(lambda: BertForSequenceClassification(config))


@pytest.fixture(scope="module")
def dual():
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 20, "max_position_embeddings": 80, "eos_token_id": 19,
                     "bos_token_id": 18, "pad_token_id": 0},
        vision_config={**tower, "image_size": 16, "patch_size": 4},
        projection_dim=8,
    )  # fmt: skip
    return DualEncoder.from_model(_seeded(lambda: CLIPModel(config)))


def same(alone, together):
    assert alone.abs().max() > 0.01, "an empty map says nothing"
    gap = (alone - together).abs().max() / alone.abs().max()
    assert gap < 1e-4, f"alone and in the batch differ by {gap:.2g} of the largest"


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_the_same_map_alone_and_in_a_batch(bert, name):
    build, options = TEXTS[name]
    ids, mask = words(29)
    method, options = build(bert), {"target": 2, **options}
    together = method.attribute(ids, additional_forward_args=mask, **options)
    for row, length in enumerate(LENGTHS):
        one, keep = ids[row : row + 1, :length], mask[row : row + 1, :length]
        alone = method.attribute(one, additional_forward_args=keep, **options)
        same(alone[0], together[row, :length])
        assert together[row, length:].eq(0).all()


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_has_the_same_maps_alone_and_in_a_batch(dual, name):
    build, options = PAIRS[name]
    ids, mask = words(19)
    pixels = _images(16)
    method, options = build(dual), {**QUICK, **options}
    image, text = method.attribute((pixels, ids), additional_forward_args=mask, **options)
    for row, length in enumerate(LENGTHS):
        one, keep = ids[row : row + 1, :length], mask[row : row + 1, :length]
        own = method.attribute(
            (pixels[row : row + 1], one), additional_forward_args=keep, **options
        )
        same(own[0][0], image[row])
        same(own[1][0], text[row, :length])
        assert text[row, length:].eq(0).all()


@pytest.fixture(scope="module")
def llama():
    """A decoder: padded on the left, and its positions are relative."""
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=80, num_labels=4, pad_token_id=0,
    )  # fmt: skip
    return _seeded(lambda: LlamaForSequenceClassification(config))


LEFT = {
    "IBA": (lambda model: IBA(model, "model.layers.0"), QUICK),
    "CoIBA": (lambda model: CoIBA(model, ["model.layers.0", "model.layers.1"]), QUICK),
    "NIB": (lambda model: NIB(model, "model.layers.1"), {}),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_text_padded_on_the_left_has_the_map_it_has_alone(llama, name):
    """The noise of a token that 58 pads stand before was that of position 58."""
    build, options = LEFT[name]
    method, options = build(llama), {"target": 2, **options}
    right, _ = words(29)
    ids = torch.stack([row.roll(max(LENGTHS) - n) for row, n in zip(right, LENGTHS, strict=True)])
    together = method.attribute(ids, additional_forward_args=(ids != 0).long(), **options)
    for row, length in enumerate(LENGTHS):
        alone = method.attribute(right[row : row + 1, :length], **options)
        same(alone[0], together[row, -length:])
        assert bool((together[row, :-length] == 0).all())


class Prompted(nn.Module):
    """As prompt tuning does: learned tokens before the text, inside the model."""

    def __init__(self, bert, count=3):
        super().__init__()
        self.bert = bert
        generator = torch.Generator().manual_seed(0)
        self.prompt = nn.Parameter(torch.randn(1, count, 16, generator=generator))

    def forward(self, input_ids, attention_mask):
        n, count = len(input_ids), self.prompt.shape[1]
        embedded = self.bert.get_input_embeddings()(input_ids)
        seen = torch.cat([attention_mask.new_ones(n, count), attention_mask], dim=1)
        both = torch.cat([self.prompt.expand(n, -1, -1), embedded], dim=1)
        return self.bert(inputs_embeds=both, attention_mask=seen)


@pytest.mark.parametrize("method", [IBA, NIB])
def test_virtual_tokens_stand_before_the_words(bert, method):
    ids, mask = words(29)
    explainer = method(Prompted(bert), "bert.bert.encoder.layer.1")
    options = {"target": 2, **(QUICK if method is IBA else {})}
    with pytest.raises(ValueError, match=r"has 73 tokens.*70.*sequence', prefix=10"):
        explainer.attribute(ids, additional_forward_args=mask, **options)
    options["layout"] = TokenLayout("sequence", prefix=3)
    together = explainer.attribute(ids, additional_forward_args=mask, **options)
    assert together.shape == ids.shape and bool((together[mask == 0] == 0).all())
    for row, length in enumerate(LENGTHS):
        one = ids[row : row + 1, :length]
        alone = explainer.attribute(one, additional_forward_args=torch.ones_like(one), **options)
        same(alone[0], together[row, :length])


def test_a_mask_of_other_tokens_can_be_said_to_be_none(bert):
    ids, mask = words(29)
    explainer = IBA(Prompted(bert), "bert.bert.encoder.layer.1")
    options = {"target": 2, **QUICK, "additional_forward_args": Mask(mask, keep=None)}
    assert explainer.attribute(ids, **options).shape == (3, 73)
