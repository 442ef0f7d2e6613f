"""open_clip models: preprocessing of their weights, tokens of a text, and what is refused."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

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


@pytest.fixture
def folder(tmp_path):
    """A model as open_clip pushes it to the hub."""
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-test")
    home = tmp_path / "pushed"
    home.mkdir()
    save_file(model.state_dict(), home / "open_clip_model.safetensors")
    said = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    config = {"model_cfg": CONFIG, "preprocess_cfg": {**said, "resize_mode": "squash"}}
    (home / "open_clip_config.json").write_text(json.dumps(config))
    return home


def test_a_folder_as_open_clip_pushes_it(folder):
    loaded = load(str(folder))
    assert loaded.mean == (0.5,) * 3 and loaded.image_size == (32, 32)
    torch.manual_seed(0)
    given = open_clip.create_model("tiny-test").state_dict()
    assert all(torch.equal(value, given[name]) for name, value in loaded.model.state_dict().items())
    ids, _ = loaded.tokenizer(["a red circle"])
    assert loaded.tokens(ids[0])[1:4] == ["a", "red", "circle"]


def test_a_hub_repository_of_open_clip(folder, monkeypatch):
    import huggingface_hub

    asked = []

    def answer(repository, **arguments):
        asked.append((repository, arguments["revision"], arguments["local_files_only"]))
        assert not [name for name in arguments["allow_patterns"] if name.endswith((".bin", ".py"))]
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    loaded = load("open_clip:hf-hub:some/biomedical", revision="abc")
    assert loaded.name == "open_clip:hf-hub:some/biomedical" and loaded.kind == "dual"
    assert asked == [("some/biomedical", "abc", True)]
    (folder / "open_clip_model.safetensors").unlink()
    assert load("open_clip:hf-hub:some/biomedical", pretrained=False).kind == "dual"
    assert len(asked) == 2  # on disk: the hub is not asked


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_cfg": None}, "has no model_cfg"),
        ({"model_cfg": {**CONFIG, "embed_dim": 10**9}}, "embed_dim can't be 1000000000"),
        ({"model_cfg": {"text_cfg": {"hf_model_name": "/etc/passwd"}}}, "hf_model_name can't be"),
        ({"model_cfg": {"text_cfg": {"hf_model_name": "../other"}}}, "hf_model_name can't be"),
    ],
)
def test_configurations_of_open_clip_that_are_refused(folder, entries, message):
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**config, **entries}))
    with pytest.raises(ValueError, match=message):
        load(str(folder))


def test_a_folder_of_open_clip_that_lacks_a_tensor(folder):
    file = folder / "open_clip_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "ln_final.weight"}, file)
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        load(str(folder))


def test_folders_of_open_clip_without_safe_weights(folder):
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights only"):
        load(str(folder))
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"open_clip_model\.safetensors is missing"):
        load(str(folder))
    assert load(str(folder), pretrained=False).kind == "dual"
