"""Families of transformers differ: padding in SigLIP, images in SigLIP 2, the head of BLIP."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers
from PIL import Image

from captum_ib.loading.load import load
from captum_ib.models.dual_encoder import DualEncoder

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
TOWER["num_hidden_layers"] = 2
TEXT = {**TOWER, "vocab_size": 9, "max_position_embeddings": 8}
TEXT.update(pad_token_id=0, bos_token_id=1, eos_token_id=2)


@pytest.fixture
def folder(clip_folder, tmp_path):
    """Tokenizer and image processor (32 × 32 pixels) without a model."""
    copy = shutil.copytree(clip_folder, tmp_path / "model")
    for name in ("config.json", "model.safetensors"):
        (copy / name).unlink()
    return copy


def test_siglip_pads_to_full_length_and_gives_no_mask(folder):
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=vision)
    model = transformers.SiglipModel(config).eval()
    model.save_pretrained(folder)
    loaded = load(str(folder))
    ids, mask = loaded.tokenizer(["a red circle"])
    assert ids.tolist() == [[1, 4, 5, 6, 2, 0, 0, 0]] and mask is None
    pixels = loaded.preprocess(Image.new("RGB", (40, 32), (255, 0, 0)))[None]
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pixels)
        expected = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
        assert torch.allclose(
            DualEncoder.from_model(loaded.model)(pixels, ids), expected, atol=1e-5
        )
    with pytest.raises(ValueError, match="the text has 9 tokens, but the model takes at most 8"):
        loaded.tokenizer(["a " * 7])


@pytest.mark.skipif(
    not hasattr(transformers, "Siglip2Model"), reason="transformers is older than SigLIP 2"
)
def test_siglip2_takes_images_not_patches(folder):
    vision = {**TOWER, "num_patches": 16, "patch_size": 8}
    config = transformers.Siglip2Config(text_config=TEXT, vision_config=vision)
    transformers.Siglip2Model(config).save_pretrained(folder)
    loaded = load(str(folder))
    assert loaded.image_size == (32, 32)
    ids, _ = loaded.tokenizer(["a red circle"])
    pixels = loaded.preprocess(Image.new("RGB", (40, 32)))[None]
    assert DualEncoder.from_model(loaded.model)(pixels, ids).shape == (1,)


def test_blip_keeps_its_contrastive_head(folder):
    config = transformers.BlipConfig(
        text_config={**TEXT, "encoder_hidden_size": 16, "bos_token_id": 1, "sep_token_id": 2},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        image_text_hidden_size=8,
    )
    model = transformers.BlipForImageTextRetrieval(config)
    model.save_pretrained(folder)
    loaded = load(str(folder))
    assert type(loaded.model) is type(model)
    assert torch.equal(loaded.model.vision_proj.weight, model.vision_proj.weight)


def test_an_audio_text_model_needs_its_weights_and_its_preprocessor(tmp_path):
    text = {**TEXT, "model_type": "clap_text_model"}
    transformers.ClapConfig(text_config=text, architectures=["ClapModel"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no weights"):
        load(str(tmp_path))
    with pytest.raises(ValueError, match="not a complete model: preprocessor_config.json"):
        load(str(tmp_path), pretrained=False)
