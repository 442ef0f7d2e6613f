"""OpenAI's layout of CLIP: converted, against open_clip's own model of the same tensors."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captum_ib import M2IB, DualEncoder, load
from captum_ib.loading.from_openai import convert
from captum_ib.loading.loaded import FolderError

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    vision = {"layers": 2, "width": 128, "patch_size": 8, "image_size": 24}
    text = {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3}
    return open_clip.CLIP(24, vision, text, quick_gelu=True).eval()


def state(model):
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def file(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "xray.safetensors"
    stated = {"vocab_size": torch.tensor(49408), "context_length": torch.tensor(12)}
    save_file({**state(original), **stated}, str(path))
    return path


def test_both_towers_give_what_open_clip_gives(original, file):
    loaded = load(f"openai_clip:{file}")
    pixels = loaded.preprocess(Image.new("RGB", (50, 40), (200, 30, 90)))[None]
    assert pixels.shape == (1, 3, 24, 24) and loaded.kind == "dual"
    ids, mask = loaded.tokenizer(["left lower lobe opacity", "no finding"])
    assert ids.shape == (2, 12) and mask is None
    dual = DualEncoder.from_model(loaded.model)
    with torch.no_grad():
        image = original.encode_image(pixels, normalize=True)
        text = original.encode_text(ids, normalize=True)
        assert torch.allclose(dual.encode("image", pixels), image, atol=1e-5)
        assert torch.allclose(dual.encode("text", ids), text, atol=1e-5)
    assert loaded.tokens(ids[1])[:4] == ["<start_of_text>", "no", "finding", "<end_of_text>"]
    bits, words = M2IB(dual).attribute((pixels, ids[:1]), n_steps=2, n_samples=2, seed=0)
    assert bits.shape == (1, 1, 3, 3) and words.shape == (1, 12)
    end = ids[0].tolist().index(49407) + 1
    assert words[0, end:].eq(0).all() and words[0, :end].gt(0).any()


def test_pickled_ones_need_to_be_allowed_and_hold_tensors_only(original, tmp_path):
    path = tmp_path / "xray.pt"
    torch.save({f"module.{name}": value.half() for name, value in state(original).items()}, path)
    with pytest.raises(ValueError, match="xray.pt has pickled weights only"):
        load(f"openai_clip:{path}")
    loaded = load(f"openai_clip:{path}", allow_pickle=True, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert loaded.mean == (0.5, 0.5, 0.5)
    weight = loaded.model.visual_projection.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, original.visual.proj.T.half().float())
    torch.save(original, path)
    with pytest.raises(FolderError, match=r"xray\.pt"):
        load(f"openai_clip:{path}", allow_pickle=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ln_final.bias": None}, "text_model.final_layer_norm.bias is missing"),
        ({"visual.extra": torch.ones(2)}, "visual.extra is unknown"),
        ({"visual.proj": torch.ones(128, 7)}, r"visual_projection.weight is \(7, 128\), expected"),
        ({"token_embedding.weight": None}, "'token_embedding.weight' is missing or misshaped"),
        ({"visual.layer1.0.conv1.weight": torch.ones(1)}, "a CLIP with a ResNet"),
        ({"ln_final.weight": torch.ones(3)}, r"final_layer_norm.weight is \(3,\), expected \(64,"),
    ],
)
def test_what_is_no_such_clip_is_refused(original, change, message):
    tensors = {**state(original), **change}
    with pytest.raises(FolderError, match=message):
        convert({name: value for name, value in tensors.items() if value is not None})


def test_names_that_are_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"openai_clip:.*none.pt: .* is no file"):
        load(f"openai_clip:{tmp_path / 'none.pt'}")
    with pytest.raises(ValueError, match="has no revision"):
        load("openai_clip:x.safetensors", revision="main")
