"""open_clip models: preprocessing of their weights, tokens of a text, and what is refused."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import save_file

from captum_ib.loading import hubs
from captum_ib.loading.load import ModelUnavailableError, load
from captum_ib.models.dual_encoder import DualEncoder

open_clip = pytest.importorskip("open_clip", reason="the extra open_clip is not installed")

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """A tiny architecture, known to open_clip as ``tiny-test``."""
    file = tmp_path_factory.mktemp("open_clip") / "tiny-test.json"
    file.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(file)


def test_random_weights():
    loaded = load("open_clip:tiny-test", pretrained=False)
    assert (loaded.kind, loaded.image_size) == ("dual", (32, 32))
    assert loaded.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    ids, mask = loaded.tokenizer(["a red circle"])
    assert ids.shape == (1, 12) and mask is None
    words = ["<start_of_text>", "a", "red", "circle", "<end_of_text>", *["<pad>"] * 7]
    assert loaded.tokens(ids[0]) == words
    assert set(words) - loaded.special_tokens == {"a", "red", "circle"}
    pixels = loaded.preprocess(Image.new("L", (40, 30), 255))[None]
    assert torch.allclose(loaded.picture(pixels), torch.ones(1, 3, 32, 32), atol=1e-6)
    cosine = DualEncoder.from_model(loaded.model)(pixels, ids)
    image, text = loaded.model.encode_image(pixels), loaded.model.encode_text(ids)
    assert torch.allclose(cosine, torch.nn.functional.cosine_similarity(image, text), atol=1e-6)


@pytest.fixture
def tagged(monkeypatch):
    """The tag ``some`` of ``tiny-test``, with a hub that answers."""
    entry = {"url": "", "hf_hub": "some/tiny/", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    entry.update(interpolation="bicubic", resize_mode="squash", quick_gelu=True)
    monkeypatch.setattr(
        open_clip.pretrained,
        "get_pretrained_cfg",
        lambda name, tag: entry if tag == "some" else {},
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    class Answer:
        def close(self):
            pass

    monkeypatch.setattr(hubs.urllib.request, "urlopen", lambda *args, **kwargs: Answer())


def test_weights_come_as_safetensors_with_their_preprocessing(monkeypatch, tagged, tmp_path):
    model = open_clip.create_model("tiny-test", pretrained=None)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    asked = []

    def download(repository, file, revision, local_files_only):
        asked.append((repository, file, revision, local_files_only))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    loaded = load("open_clip:tiny-test/some", revision="abc")
    assert asked == [("some/tiny", "open_clip_model.safetensors", "abc", True)]
    assert (loaded.mean, loaded.std) == ((0.5,) * 3, (0.25,) * 3)
    weights = loaded.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert "QuickGELU" in str(loaded.model)  # as the tag says

    save_file({"x": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="tiny-test/some: the weights do not fit the model: "):
        load("open_clip:tiny-test/some")


def test_pickled_weights_are_refused(monkeypatch, tagged):
    def download(repository, file, revision, local_files_only):
        raise (LocalEntryNotFoundError if local_files_only else EntryNotFoundError)("no")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(ValueError, match="pickled weights only"):
        load("open_clip:tiny-test/some")
    made = []
    create = open_clip.create_model_and_transforms

    def record(name, pretrained, **settings):
        made.append(pretrained)
        return create(name, pretrained=None)

    monkeypatch.setattr(open_clip, "create_model_and_transforms", record)
    load("open_clip:tiny-test/some", allow_pickle=True)
    assert made == ["some"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open_clip:ViT-B-33", "open_clip has no model 'ViT-B-33'; near: .*ViT-B-32"),
        ("open_clip:ViT-B-32", "has no weights '' for ViT-B-32; write ViT-B-32/TAG .*: openai"),
        ("open_clip:ViT-B-32/no", "has no weights 'no' for ViT-B-32"),
    ],
)
def test_names_of_nothing(spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec)


def test_offline():
    with pytest.raises(ModelUnavailableError, match="laion2b_s34b_b79k is not on disk"):
        load("open_clip:ViT-B-32/laion2b_s34b_b79k")


def test_the_package_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelUnavailableError, match=r"pip install 'captum_ib\[openclip\]'"):
        load("open_clip:ViT-B-32/openai")
