"""ALBEF's published layout: converted, against timm's ViT and a BERT of the same tensors."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertModel

from captum_ib import CAM2IB, NIB, DualEncoder, load
from captum_ib.loading.from_albef import convert
from captum_ib.loading.loaded import FolderError

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red blue circle square".split()


@pytest.fixture(scope="module")
def original():
    """Both encoders as ALBEF's code builds them: a BERT of 4 layers, of which 2 are fused."""
    torch.manual_seed(0)
    sizes = {"img_size": 24, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
    vision = VisionTransformer(**sizes, num_classes=0, global_pool="")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=1,
        intermediate_size=96,
        max_position_embeddings=16,
        is_decoder=True,
        add_cross_attention=True,
    )
    text = BertModel(config, add_pooling_layer=False)
    heads = torch.nn.Linear(128, 16), torch.nn.Linear(64, 16)
    with torch.no_grad():  # timm starts these at 0, and a norm's weights at 1
        for weight in (*vision.parameters(), *text.parameters()):
            weight.add_(0.05 * torch.randn_like(weight))
    return vision.eval(), text.eval(), *heads


@pytest.fixture(scope="module")
def tensors(original):
    """The state dict of the pretrained checkpoint."""
    vision, text, vision_proj, text_proj = original
    parts = {
        "visual_encoder.": vision,
        "text_encoder.bert.": text,
        "vision_proj.": vision_proj,
        "text_proj.": text_proj,
    }
    named = {
        start + name: tensor
        for start, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    for layer in (0, 1):  # only the layers of the fusion have cross-attention
        stem = f"text_encoder.bert.encoder.layer.{layer}.crossattention."
        named = {name: tensor for name, tensor in named.items() if not name.startswith(stem)}
    rest = {
        "temp": torch.tensor(0.07),
        "queue_ptr": torch.zeros(1, dtype=torch.long),
        "image_queue": torch.zeros(16, 3),
        "itm_head.weight": torch.zeros(2, 64),
        "text_encoder.cls.predictions.bias": torch.zeros(10),
        "text_encoder.bert.embeddings.position_ids": torch.arange(16)[None],
    }
    momentum = {
        name.replace(".", "_m.", 1): tensor + 1
        for name, tensor in named.items()
        if name.startswith("visual")
    }
    return {name: tensor.clone() for name, tensor in {**named, **rest, **momentum}.items()}


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("albef")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.save({"model": tensors, "epoch": 29}, folder / "ALBEF.pth")
    save_file(tensors, str(folder / "albef.safetensors"))
    return folder / "ALBEF.pth"


def test_both_towers_give_what_albef_gives(original, file):
    vision, text, vision_proj, text_proj = original
    with pytest.raises(ValueError, match="ALBEF.pth has pickled weights only"):
        load(f"albef:{file}")
    loaded = load(f"albef:{file}", allow_pickle=True)
    assert loaded.kind == "dual" and loaded.image_size == (24, 24)
    pixels = loaded.preprocess(Image.new("RGB", (50, 40), (200, 30, 90)))[None]
    ids, mask = loaded.tokenizer(["a red circle", "blue square"])
    assert ids.tolist() == [[2, 5, 6, 8, 3], [2, 7, 9, 3, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    dual = DualEncoder.from_model(loaded.model)
    # ALBEF's code runs the layers before the fusion: without cross-attention, not causal.
    embedded = text.embeddings(input_ids=ids)
    seen = torch.zeros(2, 1, 1, 5).masked_fill(mask[:, None, None] == 0, float("-inf"))
    with torch.no_grad():
        for layer in text.encoder.layer[:2]:
            embedded = _bert_layer(layer, embedded, seen)
        image = torch.nn.functional.normalize(vision_proj(vision(pixels)[:, 0]), dim=-1)
        words = torch.nn.functional.normalize(text_proj(embedded[:, 0]), dim=-1)
        assert torch.allclose(dual.encode("image", pixels), image, atol=1e-5)
        assert torch.allclose(dual.encode("text", ids, mask), words, atol=1e-5)


def _bert_layer(layer, hidden, seen):
    """A post-norm layer of one head, from the equations of Devlin et al."""
    own = layer.attention.self
    q, k, v = own.query(hidden), own.key(hidden), own.value(hidden)
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + seen[:, 0]).softmax(dim=-1)
    out = layer.attention.output
    hidden = out.LayerNorm(out.dense(weights @ v) + hidden)
    inner = torch.nn.functional.gelu(layer.intermediate.dense(hidden))
    return layer.output.LayerNorm(layer.output.dense(inner) + hidden)


def test_methods_take_it(file):
    loaded = load(f"albef:{file.with_name('albef.safetensors')}")
    dual = DualEncoder.from_model(loaded.model)
    pixels = loaded.preprocess(Image.new("RGB", (24, 24), (200, 30, 90)))[None]
    ids, mask = loaded.tokenizer(["a red circle"])
    assert dual.modalities == ("image", "text")
    bits, words = CAM2IB(dual).attribute(
        (pixels, ids), additional_forward_args=mask, n_steps=2, n_samples=2, seed=0
    )
    assert bits.shape == (1, 1, 3, 3) and words.shape == (1, 5)
    (signed, _), (delta, _) = NIB(dual).attribute(
        (pixels, ids),
        additional_forward_args=mask,
        n_steps=200,
        method="gausslegendre",
        power=4,
        return_convergence_delta=True,
    )
    assert signed.shape == (1, 1, 3, 3) and delta.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_proj.weight": None}, "'text_proj.weight' is missing or misshaped"),
        ({"visual_encoder.extra": torch.ones(2)}, "visual_encoder.extra is unknown"),
        ({"vision_proj.bias": None}, "vision_proj.bias is missing"),
        ({"vision_proj.weight": torch.ones(16, 7)}, r"vision_proj.weight is \(16, 7\), expected"),
        ({"itc_extra.weight": torch.ones(2)}, "itc_extra.weight is unknown"),
        (
            {"text_encoder.bert.embeddings.word_embeddings.weight": torch.ones(10, 60)},
            "text width 60 is no multiple of 64",
        ),
    ],
)
def test_what_is_no_albef_is_refused(tensors, change, message):
    given = {**tensors, **change}
    with pytest.raises(FolderError, match=message):
        convert({name: value for name, value in given.items() if value is not None})


def test_words_must_lie_beside_it(tensors, tmp_path):
    save_file(tensors, str(tmp_path / "albef.safetensors"))
    with pytest.raises(FolderError, match="no tokenizer that can be read"):
        load(f"albef:{tmp_path / 'albef.safetensors'}")
    with pytest.raises(ValueError, match=r"albef:.*none.pth: .*none.pth is no file"):
        load(f"albef:{tmp_path / 'none.pth'}")
