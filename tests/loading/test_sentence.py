"""Folders of sentence-transformers: their pooling is read, and nothing in them is executed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import captum_ib
from captum_ib.cli import main
from captum_ib.loading.load import load

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat sleeps dog barks the ##s".split()
ONE, OTHER = "a cat sleeps", "the dog barks"
LISTED = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.Normalize"},
]  # fmt: skip


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A BERT with random weights, as sentence-transformers writes one with mean pooling."""
    import transformers

    folder = tmp_path_factory.mktemp("sentence")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    write(folder / "modules.json", LISTED)
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 6})
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "copy")


def by_hand(folder, texts):
    """Mean over the tokens of each text, of length 1, with transformers alone."""
    import transformers

    model = transformers.BertModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        ids = torch.tensor([[2, *(WORDS.index(word) for word in text.split()), 3]])
        with torch.no_grad():
            rows.append(model(input_ids=ids).last_hidden_state.mean(1))
    return torch.nn.functional.normalize(torch.cat(rows))


def test_embeddings_are_the_mean_of_the_tokens(made):
    loaded = load(str(made))
    assert loaded.kind == "dual" and loaded.texts
    ids, mask = loaded.tokenizer([ONE, "a cat"])
    with torch.no_grad():
        found = loaded.model(ids, mask)
    assert torch.allclose(found, by_hand(made, [ONE, "a cat"]), atol=1e-6)
    assert loaded.tokens(ids[0]) == ["[CLS]", "a", "cat", "sleeps", "[SEP]"]


def test_newer_words_for_the_pooling_and_no_normalisation(folder):
    write(folder / "modules.json", LISTED[:2])
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken"})
    model = load(str(folder)).model
    assert model.pooling == ("last_token",) and not model.normalise
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    write(folder / "1_Pooling" / "config.json", flags)
    assert load(str(folder)).model.pooling == ("cls", "mean")


def test_weights_without_a_pooler_that_nobody_reads(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load(str(folder))
    ids, mask = loaded.tokenizer([ONE])
    with torch.no_grad():
        assert torch.allclose(loaded.model(ids, mask), by_hand(folder, [ONE]), atol=1e-6)


def test_a_pair_of_texts_is_explained(made, tmp_path, capsys):
    found = captum_ib.explain(str(made), (ONE, OTHER), steps=2)
    first, second = by_hand(made, [ONE, OTHER])
    assert found.prediction.cosine == pytest.approx(float(first @ second), abs=1e-5)
    assert found.method == "com2ib" and found.image is None
    assert found.tokens[1] == ("[CLS]", "the", "dog", "barks", "[SEP]")
    assert list(found.bits_per_part) == ["first", "second"]
    assert found.bits == pytest.approx(sum(float(one.sum()) for one in found.texts))
    assert found._repr_png_()[:4] == b"\x89PNG"
    certificates = found.certify(n_draws=4)
    assert len(certificates) == 2 and certificates[0].n_draws == 4

    arguments = ["explain", "--model", made, "--text", ONE, OTHER, "--steps", 2]
    assert main([*map(str, arguments), "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "texts-com2ib.npz") as arrays:
        assert np.allclose(arrays["first_text_attribution"], found.texts[0], rtol=1e-5)
        assert np.allclose(arrays["second_text_attribution"], found.texts[1], rtol=1e-5)
        assert arrays["second_tokens"].tolist() == list(found.tokens[1])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"“{ONE}” and “{OTHER}”, cosine {found.prediction.cosine:.3f}"
    assert lines[-1] == f"  open {tmp_path / 'out' / 'texts-com2ib.png'}"


def test_one_layer_for_both_texts(made):
    layer = "encoder.encoder.layer.0"
    found = captum_ib.explain(str(made), (ONE, OTHER), method="m2ib", layer=layer, steps=1)
    assert found.layers == (layer, layer)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (ONE, r"takes a pair \(text, text\), given the text 'a cat sleeps'"),
        ((Image.new("RGB", (8, 8)), ONE), r"a pair \(text, text\), given \(a Image, the text"),
        ((ONE, " "), "a text is empty"),
        ((ONE, "the dog barks a cat"), "has 7 tokens, but the model takes at most 6"),
    ],
)  # fmt: skip
def test_what_is_no_pair_of_texts(made, what, message):
    with pytest.raises((TypeError, ValueError), match=message):
        captum_ib.explain(str(made), what)


def test_pictures_have_no_place(made, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    arguments = ["explain", "--model", made, "--text", ONE, OTHER, "--image", tmp_path / "x.png"]
    assert main([*map(str, arguments), "--out", str(tmp_path / "out")]) == 2
    assert 'compares two texts: pass --text "one" "other"' in capsys.readouterr().err
    with pytest.raises(ValueError, match="takes no pictures"):
        load(str(made)).preprocess(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "os.system"}, "modules.json lists 'Transformer', 'os.system'"),
        ({"type": "sentence_transformers.models.Dense"}, "lists 'Transformer', 'Dense'"),
        ({"type": 3}, "every module needs a type"),
        ({"path": "../elsewhere"}, "is no name of a folder for the Pooling"),
        ({"path": "/etc"}, "is no name of a folder for the Pooling"),
        ({"path": "2_Missing"}, "is missing or no regular file"),
    ],
)
def test_hostile_lists_of_modules(folder, change, message):
    write(folder / "modules.json", [LISTED[0], {**LISTED[1], **change}])
    with pytest.raises(ValueError, match=message):
        load(str(folder))


def test_a_pooling_folder_that_is_a_link_leading_out(folder, tmp_path):
    write(tmp_path / "outside" / "config.json", {"pooling_mode_mean_tokens": True})
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Pooling").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leads out of its folder"):
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", {}, r"must hold a JSON list \(\[…\]\), but holds dict"),
        ("modules.json", [], "modules.json lists nothing"),
        ("1_Pooling/config.json", {}, "the pooling is not said"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "the pooling is median; known are"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "include_prompt": False},
            "leaves the prompt out",
        ),
        ("config.json", {"model_type": "t5"}, "a sentence encoder of the family 't5' can't be"),
    ],
)  # fmt: skip
def test_folders_that_are_not_understood(folder, name, content, message):
    write(folder / name, content)
    with pytest.raises(ValueError, match=message):
        load(str(folder))
