"""Samples of other lengths: a sample's map is the same alone and padded in a batch."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, CLIPConfig, CLIPModel

from captum_ib import DualEncoder
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
