"""zoo.load: what comes back, how pictures are taken in, and that nothing heavy loads early."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ib import zoo


def picture(image):
    """A PIL image of a tensor (3, H, W) with values in [0, 1]."""
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", zoo.names())
def test_what_is_loaded(name):
    state = torch.random.get_rng_state()
    model = zoo.load(name)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.name == name and not model.model.training
    assert {value.dtype for value in model.model.parameters()} == {torch.float32}
    if name == "clip-scenes":
        config = model.model.config
        assert config.vision_config.num_hidden_layers == 8
        assert config.text_config.num_hidden_layers == 6
        assert config.text_config.eos_token_id == model.tokenizer.eos_id
        assert model.kind == "dual" and model.labels is None and model.image_size == (56, 56)
        ids, _ = model.tokenizer(["a ring"])
        assert model.tokens(ids[0]) == ["<bos>", "a", "ring", "<eos>"]
    else:
        depth, labels, side = {
            "vit-scenes": (8, zoo.scenes.NAMED_SHAPES, 64),
            "vit-relations": (6, zoo.relations.DIRECTIONS, 96),
        }[name]
        assert len(model.model.blocks) == depth
        assert model.kind == "classifier" and model.tokenizer is None
        assert tuple(model.labels) == labels and model.image_size == (side, side)
        with pytest.raises(TypeError, match=f"{name} is a classifier and has no tokens"):
            model.tokens(torch.tensor([0]))


@pytest.mark.parametrize("name", zoo.names())
def test_preprocess_of_a_picture_of_the_right_size_is_exact(name):
    model = zoo.load(name)
    image = zoo.scenes.captioned(1, size=model.image_size).images[0]
    rounded = (image * 255).round() / 255
    torch.testing.assert_close(model.preprocess(picture(image)), (rounded - 0.5) / 0.25)


def test_preprocess_takes_any_size_and_mode():
    model = zoo.load("clip-scenes")
    grey = Image.fromarray(np.full((30, 90), 128, dtype=np.uint8))
    for image in (grey, grey.convert("RGBA"), grey.convert("P"), grey.convert("CMYK")):
        pixels = model.preprocess(image)
        assert pixels.shape == (3, 56, 56) and pixels.dtype == torch.float32
        assert (pixels - (128 / 255 - 0.5) / 0.25).abs().max() <= 4.1 / 255
    with pytest.raises(TypeError, match=r"must be a PIL image; got Tensor. Use normalize"):
        model.preprocess(torch.zeros(3, 56, 56))


def test_the_model_finds_what_the_caption_names_in_a_picture_of_another_size():
    model = zoo.load("clip-scenes")
    image = zoo.scenes.captioned(1, seed=11, size=224, objects=(1, 1))
    colour = list(zoo.scenes.COLOURS)[image.colours[0, 0]]
    shape = zoo.scenes.SHAPES[image.shapes[0, 0]]
    others = [
        f"a {c} {s}"
        for c in zoo.scenes.COLOURS
        for s in zoo.scenes.NAMED_SHAPES
        if (c, s) != (colour, shape)
    ]
    ids, mask = model.tokenizer([f"a {colour} {shape}", *others])
    pixels = model.preprocess(picture(image.images[0]))[None]
    with torch.no_grad():
        scores = model.model(ids, pixels, attention_mask=mask).logits_per_image[0]
    assert scores.argmax() == 0


def test_the_folder_is_one_that_transformers_reads():
    from transformers import CLIPModel

    from captum_ib.zoo.loading import WEIGHTS

    model = CLIPModel.from_pretrained(WEIGHTS / "clip-scenes", local_files_only=True)
    expected = zoo.load("clip-scenes").model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_the_image_processor_of_transformers_does_the_same():
    from transformers import CLIPImageProcessor

    from captum_ib.zoo.loading import WEIGHTS

    processor = CLIPImageProcessor.from_pretrained(WEIGHTS / "clip-scenes", local_files_only=True)
    image = picture(zoo.scenes.captioned(1, size=(56, 56)).images[0])
    pixels = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels, zoo.load("clip-scenes").preprocess(image))


def test_shipped_files_stay_small():
    from captum_ib.zoo.loading import WEIGHTS

    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8e6
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match="unknown model 'clip'; the zoo has clip-scenes, vit-scen"):
        zoo.load("clip")
    with pytest.raises(
        FileNotFoundError, match=r"config.json is missing. Run `python -m captum_ib"
    ):
        zoo.load("clip-scenes", tmp_path)
    with pytest.raises(AttributeError, match=r"'captum_ib.zoo' has no attribute 'nothing'"):
        _ = zoo.nothing
    assert set(zoo.__all__) == set(dir(zoo))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"5", "is not the configuration of vit-scenes. Load another"),
        ("config.json", b'{"constructor": "os.system"}', "is not the configuration of vit-scenes"),
        ("config.json", b"[" * 100_000, "is not valid JSON"),
        ("config.json", b"\xff", r"is not valid JSON \(UnicodeDecodeError\)"),
        ("model.safetensors", b"", "does not hold the weights of vit-scenes: "),
        ("model.safetensors", b"x" * 100, "does not hold the weights of vit-scenes: "),
    ],
)
def test_folders_of_another_model(tmp_path, file, content, message):
    from captum_ib.zoo.loading import WEIGHTS

    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS / "vit-scenes", folder)
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load("vit-scenes", folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model(tmp_path):
    from safetensors.torch import load_file, save_file

    from captum_ib.zoo.loading import WEIGHTS

    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS / "vit-scenes", folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("head.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not hold the weights .*: Missing key.*head.weight"):
        zoo.load("vit-scenes", folder)


def test_importing_the_zoo_loads_nothing_heavy():
    code = (
        "import sys, captum_ib.zoo; "
        "print([m for m in ('torch', 'timm', 'transformers', 'numpy') if m in sys.modules]); "
        "captum_ib.zoo.names(), captum_ib.zoo.scenes; "
        "print([m for m in ('timm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
