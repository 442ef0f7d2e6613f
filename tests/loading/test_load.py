"""One string to a model: the forms it may have, and hubs that are there, empty or out of reach."""

from __future__ import annotations

import shutil
import urllib.error

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file

from captum_ib.loading import hubs
from captum_ib.loading.load import ModelUnavailableError, load
from captum_ib.loading.loaded import LoadedModel


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clip-scene", "unknown model 'clip-scene': expected .* did you mean 'clip-scenes'"),
        ("qqq", "the zoo has clip-scenes, vit-scenes"),
        ("openclip:ViT-B-32", "unknown model 'openclip:ViT-B-32'"),
        ("timm:", "unknown model 'timm:'"),
        ("zoo:nothing", "unknown model 'nothing'"),
        ("timm:vit_tiny_patch16_225", "timm has no model .* near: vit_tiny_patch16_224"),
        ("timm:vit_tiny_patch16_224.no_such_tag", "no_such_tag"),
    ],
)
def test_names_of_nothing(spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec)


def test_not_a_string():
    with pytest.raises(TypeError, match="spec must be a string .* given int"):
        load(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"pretrained": False}, "comes trained"), ({"revision": "main"}, "it has no revision")],
)
def test_options_that_mean_nothing_to_the_zoo(options, message):
    with pytest.raises(ValueError, match=message):
        load("vit-scenes", **options)


@pytest.mark.parametrize("spec", ["clip-scenes", "zoo:vit-scenes", "zoo:vit-relations"])
def test_zoo(spec):
    loaded = load(spec)
    assert isinstance(loaded, LoadedModel)
    assert loaded.name == f"zoo:{spec.removeprefix('zoo:')}"
    assert (loaded.kind == "dual") == ("clip" in spec) == (loaded.tokenizer is not None)


def test_timm_without_weights_has_imagenet_labels():
    loaded = load("timm:vit_tiny_patch16_224", pretrained=False)
    assert loaded.class_index("tabby") == 281
    assert (loaded.mean, loaded.image_size) == ((0.5, 0.5, 0.5), (224, 224))


@pytest.fixture
def online(monkeypatch):
    """The hub answers; what it has is up to the test."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    class Answer:
        def close(self):
            pass

    monkeypatch.setattr(hubs.urllib.request, "urlopen", lambda *args, **kwargs: Answer())


@pytest.fixture
def unreachable(monkeypatch):
    """There is no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(hubs.urllib.request, "urlopen", refuse)


def hub_of(monkeypatch, answer):
    """Let ``hf_hub_download`` call ``answer(local_files_only, **arguments)``."""

    def download(repository, file, revision=None, local_files_only=False, **rest):
        return answer(local_files_only, repository=repository, file=file, revision=revision)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224", "hf:some/model"])
def test_offline(spec):
    with pytest.raises(ModelUnavailableError, match=f"{spec} is not on disk, and HF_HUB_OFFLINE"):
        load(spec)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224", "hf:some/model"])
def test_no_network(spec, unreachable):
    with pytest.raises(ModelUnavailableError, match=r"huggingface.co can't be reached \(.*Name or"):
        load(spec)


def test_timm_weights_come_as_safetensors(monkeypatch, online, tmp_path):
    import timm

    model = timm.create_model("vit_tiny_patch16_224")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def answer(local, **arguments):
        asked.append((local, *arguments.values()))
        if local:
            raise LocalEntryNotFoundError("not on disk")
        return str(tmp_path / "model.safetensors")

    hub_of(monkeypatch, answer)
    loaded = load("timm:vit_tiny_patch16_224", revision="abc")
    assert torch.equal(loaded.model.head.weight, model.head.weight)
    repository = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    arguments = (repository, "model.safetensors", "abc")
    assert asked == [(True, *arguments), (False, *arguments)]


def test_timm_weights_on_disk_need_no_network(monkeypatch, unreachable, tmp_path):
    import timm

    model = timm.create_model("vit_tiny_patch16_224")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    hub_of(monkeypatch, lambda local, **arguments: str(tmp_path / "model.safetensors"))
    loaded = load("timm:vit_tiny_patch16_224")
    assert torch.equal(loaded.model.head.weight, model.head.weight)


def no_safetensors(local, **arguments):
    if local:
        raise LocalEntryNotFoundError("not on disk")
    raise EntryNotFoundError("no such file")


def test_timm_weights_that_are_pickled_are_refused(monkeypatch, online):
    hub_of(monkeypatch, no_safetensors)
    with pytest.raises(ValueError, match="pickled weights only.*allow_pickle=True"):
        load("timm:vit_tiny_patch16_224")


def test_timm_weights_that_are_pickled_on_demand(monkeypatch, online):
    import timm

    made = []
    create = timm.create_model

    def record(name, pretrained, pretrained_cfg_overlay):
        made.append((name, pretrained, pretrained_cfg_overlay))
        return create(name)

    hub_of(monkeypatch, no_safetensors)
    monkeypatch.setattr(timm, "create_model", record)
    load("timm:vit_tiny_patch16_224", allow_pickle=True, revision="abc")
    load("timm:vit_tiny_patch16_224", allow_pickle=True)
    repository = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert made == [
        ("vit_tiny_patch16_224", True, {"hf_hub_id": f"{repository}@abc"}),
        ("vit_tiny_patch16_224", True, {}),
    ]


def test_timm_models_without_weights(monkeypatch):
    with pytest.raises(ValueError, match="timm has no trained weights for 'vit_base_patch16_18x2"):
        load("timm:vit_base_patch16_18x2_224")


def snapshots(monkeypatch, answer):
    """Let ``snapshot_download`` call ``answer(local_files_only, **arguments)``."""

    def download(repository, revision=None, allow_patterns=None, local_files_only=False):
        return answer(
            local_files_only, repository=repository, revision=revision, files=allow_patterns
        )

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)


def test_a_hub_model_is_fetched_as_a_folder_and_never_with_code(monkeypatch, online, clip_folder):
    asked = []

    def answer(local, **arguments):
        asked.append((local, *arguments.values()))
        if local:
            raise LocalEntryNotFoundError("not on disk")
        return str(clip_folder)

    snapshots(monkeypatch, answer)
    loaded = load("hf:some/model", revision="abc")
    assert (loaded.kind, loaded.name) == ("dual", "hf:some/model")
    files = asked[0][3]
    assert asked == [(local, "some/model", "abc", files) for local in (True, False)]
    assert "model.safetensors" in files and "preprocessor_config.json" in files
    assert not [name for name in files if name.endswith((".py", ".bin", ".pkl"))]
    load("hf:some/model", allow_pickle=True)
    assert "pytorch_model.bin" in asked[-1][3]
    load("hf:some/model", pretrained=False)
    assert not [name for name in asked[-1][3] if name.startswith("model")]


def test_a_hub_model_on_disk_needs_no_network(monkeypatch, unreachable, clip_folder):
    snapshots(monkeypatch, lambda local, **arguments: str(clip_folder))
    assert load("hf:some/model").kind == "dual"


@pytest.mark.parametrize(
    "missing", ["config.json", "preprocessor_config.json", "model.safetensors"]
)
def test_half_a_hub_model_on_disk_is_fetched(monkeypatch, online, clip_folder, tmp_path, missing):
    half = shutil.copytree(clip_folder, tmp_path / "half")
    (half / missing).unlink()
    snapshots(monkeypatch, lambda local, **arguments: str(half if local else clip_folder))
    assert load("hf:some/model").kind == "dual"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailableError, match="hf:some/model is not on disk"):
        load("hf:some/model")


def test_what_the_hub_refuses_becomes_one_line(monkeypatch, online):
    def refuse(local, **arguments):
        raise OSError("some/model is not a model\nand a long explanation")

    snapshots(monkeypatch, refuse)
    with pytest.raises(ModelUnavailableError) as caught:
        load("hf:some/model")
    assert str(caught.value) == (
        "hf:some/model could not be fetched from the hub: some/model is not a model"
    )


def test_timm_weights_that_do_not_fit(monkeypatch, unreachable, tmp_path):
    file = tmp_path / "model.safetensors"
    hub_of(monkeypatch, lambda local, **arguments: str(file))
    save_file({"head.bias": torch.zeros(1000)}, file)
    with pytest.raises(ValueError, match="timm:vit_tiny_patch16_224: the weights do not fit"):
        load("timm:vit_tiny_patch16_224")
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="timm:vit_tiny_patch16_224: the weights do not fit"):
        load("timm:vit_tiny_patch16_224")
