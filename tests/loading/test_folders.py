"""Models from folders: the three forms, the same outputs, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from captum_ib.loading.load import load


def edited(folder, tmp_path, **changes):
    """A copy of a model's folder with entries of config.json changed (``None``: removed)."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = {**json.loads((copy / "config.json").read_text()), **changes}
    config = {key: value for key, value in config.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def test_timm_by_constructor(vit_folder):
    loaded = load(str(vit_folder))
    assert (loaded.kind, loaded.image_size) == ("classifier", (32, 32))
    assert (loaded.mean, loaded.std) == ((0.5,) * 3, (0.25,) * 3)
    assert loaded.labels == ["cat", "dog, hound", "bird"]
    assert not loaded.model.training
    weights = load_file(vit_folder / "model.safetensors")
    assert torch.equal(loaded.model.head.weight, weights["head.weight"])


def test_timm_by_name_as_timm_writes_it(tmp_path):
    import timm
    from timm.models._hub import save_for_hf

    model = timm.create_model("resnet18", num_classes=3)
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = load(str(tmp_path))
    assert loaded.image_size == (224, 224) and loaded.labels is None
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(pixels), model.eval()(pixels))


def test_transformers(clip_folder):
    loaded = load(str(clip_folder))
    assert (loaded.kind, loaded.image_size) == ("dual", (32, 32))
    ids, mask = loaded.tokenizer(["a red circle", "a"])
    assert ids.tolist() == [[1, 4, 5, 6, 2], [1, 4, 2, 0, 0]]
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert loaded.tokens(ids[1]) == ["<bos>", "a", "<eos>", "<pad>", "<pad>"]
    assert loaded.special_tokens == {"<pad>", "<bos>", "<eos>"}  # an unknown word is a word
    pixels = loaded.preprocess(Image.new("RGB", (50, 70), (255, 255, 255)))
    assert pixels.shape == (3, 32, 32)
    assert torch.allclose(loaded.picture(pixels), torch.ones(3, 32, 32), atol=1e-6)


def test_the_hf_prefix_takes_folders_too(clip_folder):
    first, second = load(f"hf:{clip_folder}"), load(str(clip_folder))
    weights = second.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in first.model.state_dict().items())


def test_clip_of_whole_words(conformance):
    loaded = load(str(conformance / "clip"), mean=[0.5] * 3, std=[0.5] * 3)
    data = load_file(conformance / "clip_pairs.safetensors")
    with torch.no_grad():
        found = loaded.model(
            input_ids=data["input_ids"],
            pixel_values=data["pixel_values"],
            attention_mask=data["attention_mask"],
        )
    cosine = torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds)
    assert torch.allclose(cosine, data["cosine"], atol=1e-6)
    words = loaded.tokens(data["input_ids"][0])
    text = " ".join(word for word in words if word not in loaded.special_tokens)
    ids, _ = loaded.tokenizer([text])
    assert ids[0].tolist() == data["input_ids"][0, : ids.shape[1]].tolist()


def test_clip_of_whole_words_needs_normalisation(conformance):
    with pytest.raises(ValueError, match="does not say how images are normalised; pass mean="):
        load(str(conformance / "clip"))


def test_conformance_vit_gives_its_logits(conformance):
    loaded = load(str(conformance / "vit"))
    data = load_file(conformance / "vit_images.safetensors")
    with torch.no_grad():
        assert torch.allclose(loaded.model(data["pixel_values"]), data["logits"], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constructor": "os.system"}, "'os.system' is neither a model nor a class of timm.models"),
        ({"constructor": "timm.models.create_model"}, "neither a model nor a class"),
        ({"constructor": "timm.models.registry.list_models"}, "neither a model nor a class"),
        ({"constructor": None}, "neither model_type .* nor architecture or constructor"),
        ({"mean": None}, "does not say how images are normalised"),
        ({"std": [1, 2]}, r"std must hold one number per colour channel, given \[1.0, 2.0\]"),
    ],
)
def test_configurations_that_are_refused(vit_folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load(edited(vit_folder, tmp_path, **changes))


def test_weights_that_do_not_fit(vit_folder, tmp_path):
    folder = edited(vit_folder, tmp_path)
    save_file({"x": torch.zeros(1)}, f"{folder}/model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors does not fit config.json"):
        load(folder)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(b"not safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors can't be read: SafetensorError"):
        load(folder)


def test_random_weights_need_no_file(vit_folder, tmp_path):
    folder = edited(vit_folder, tmp_path)
    shutil.os.remove(f"{folder}/model.safetensors")
    assert load(folder, pretrained=False).image_size == (32, 32)
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        load(folder)


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_pickled_weights_are_refused(kind, request, tmp_path):
    folder = edited(request.getfixturevalue(kind), tmp_path)
    weights = load_file(f"{folder}/model.safetensors")
    shutil.os.remove(f"{folder}/model.safetensors")
    torch.save(weights, f"{folder}/pytorch_model.bin")
    with pytest.raises(ValueError, match="has pickled weights only, and unpickling can execute"):
        load(folder)


def test_pickled_weights_on_demand(clip_folder, tmp_path):
    folder = edited(clip_folder, tmp_path)
    weights = load_file(f"{folder}/model.safetensors")
    shutil.os.remove(f"{folder}/model.safetensors")
    torch.save(weights, f"{folder}/pytorch_model.bin")
    model = load(folder, allow_pickle=True).model
    assert torch.equal(model.visual_projection.weight, weights["visual_projection.weight"])


def test_incomplete_folders(clip_folder, tmp_path):
    with pytest.raises(ValueError, match="holds no config.json"):
        load(str(tmp_path))
    folder = edited(clip_folder, tmp_path)
    shutil.os.remove(f"{folder}/preprocessor_config.json")
    with pytest.raises(ValueError, match="is not a complete model: "):
        load(folder)
    shutil.os.remove(f"{folder}/model.safetensors")
    with pytest.raises(ValueError, match=r"holds no weights \(model.safetensors is missing\)"):
        load(folder)
    (tmp_path / "copy" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        load(folder)


def test_models_without_a_head_are_refused(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a ViTModel; only image classifiers"):
        load(str(tmp_path))


def test_transformers_classifier_with_labels(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    loaded = load(f"hf:{tmp_path}")
    assert (loaded.kind, loaded.labels, loaded.image_size) == (
        "classifier",
        ["cat", "dog"],
        (32, 32),
    )
    assert loaded.tokenizer is None and loaded.special_tokens == frozenset()


def test_preprocessing_without_one_size_is_refused(clip_folder, tmp_path):
    folder = edited(clip_folder, tmp_path)
    file = tmp_path / "copy" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_center_crop": False}))
    with pytest.raises(
        ValueError, match="preprocessing gives images of shapes .* but they must all"
    ):
        load(folder)


def test_texts_that_are_too_long(clip_folder):
    with pytest.raises(ValueError, match="the text has 9 tokens, but the model takes at most 8"):
        load(str(clip_folder)).tokenizer(["a " * 7])
