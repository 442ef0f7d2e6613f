"""Classifiers of texts by name: every family from its folder, in Python and in the shell."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import captum_ib
from captum_ib.cli import main
from captum_ib.loading.families import TEXTS
from captum_ib.loading.load import load

WORDS = "[PAD] [UNK] [CLS] [SEP] this film is very good bad not at all".split()
LABELS = ["negative", "neutral", "positive"]
TEXT = "this film is very good"

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32}
_DISTIL = {
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 32,
}
_OPT = {**_SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "head_dim": 8}
SIZES = {
    "gpt2": _GPT,
    "distilbert": _DISTIL,
    "opt": _OPT,
    **dict.fromkeys(
        "gemma gemma2 gemma3_text llama mistral phi3 qwen2 qwen3 smollm3".split(), _DECODER
    ),
}


def tokenizer():
    """Whole words, between a begin and an end."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def write(folder, family="bert", **more):
    """A classifier of three feelings with random weights, as transformers writes it."""
    config = transformers.CONFIG_MAPPING[family](
        **SIZES.get(family, _SMALL),
        vocab_size=len(WORDS),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        **more,
    )
    torch.manual_seed(0)
    model = getattr(transformers, TEXTS[family][0])(config).eval()
    with torch.no_grad():  # so that the classes differ
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def known(family):
    return hasattr(transformers, TEXTS[family][0]) and family in transformers.CONFIG_MAPPING


def odds(model, text=TEXT):
    """Probabilities with transformers alone."""
    ids = torch.tensor([[2, *(WORDS.index(word) for word in text.split()), 3]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    return logits.sigmoid() if model.config.problem_type else logits.softmax(0)


@pytest.mark.parametrize("family", sorted(TEXTS))
def test_every_family_is_loaded_and_explained_by_its_folder(family, tmp_path):
    if not known(family):
        pytest.skip("not in this version of transformers")
    model = write(tmp_path, family)
    loaded = load(str(tmp_path))
    assert (loaded.kind, loaded.modalities) == ("classifier", ("text",)) and loaded.texts
    assert loaded.labels == LABELS
    given, found = model.state_dict(), loaded.model.state_dict()
    assert all(torch.equal(given[key], found[key]) for key in given if key in found)
    expected = odds(model)
    for method in ("coiba", "genericattention"):
        if (family, method) == ("mpnet", "genericattention"):
            continue  # which computes its attention where no map is to be had
        one = captum_ib.explain(loaded, TEXT, method=method)
        assert one.prediction.target == int(expected.argmax())
        assert one.prediction.probability == pytest.approx(float(expected.max()), rel=1e-5)
        assert one.texts[0].shape == (7,) and one.image is None
        assert one.tokens == (("[CLS]", *TEXT.split(), "[SEP]"),)
    assert all(torch.equal(found[key], loaded.model.state_dict()[key]) for key in found)


def test_the_map_is_that_of_the_class_called_by_hand(tmp_path):
    model = write(tmp_path)
    found = captum_ib.explain(str(tmp_path), TEXT, method="nib", target="neutral", steps=5)
    ids = torch.tensor([[2, *(WORDS.index(word) for word in TEXT.split()), 3]])
    by_hand = captum_ib.NIB(model, "auto").attribute(
        ids, target=1, additional_forward_args=(torch.ones_like(ids),), n_steps=5
    )
    assert torch.allclose(found.texts[0], by_hand[0], atol=1e-6)
    assert found.prediction.label == "neutral" and found.bits is None
    assert str(found).startswith(f"“{TEXT}”: neutral (class 1), probability ")


def test_bits_lie_on_one_text(tmp_path):
    write(tmp_path)
    found = captum_ib.explain(str(tmp_path), TEXT)
    assert found.method == "coiba" and list(found.bits_per_part) == ["text"]
    assert found.bits == pytest.approx(float(found.texts[0].sum()), rel=1e-5)
    assert found.figure().axes
    whole, nothing = found.certify(1e-9, n_draws=4), found.certify(1e9, n_draws=4)
    assert float(whole.replaced) == 0.0 and float(nothing.replaced) == 1.0


def test_a_token_can_hold_of_several_classes(tmp_path):
    model = write(tmp_path, problem_type="multi_label_classification")
    loaded = load(str(tmp_path))
    assert loaded.multi_label
    expected = odds(model)
    for index, label in enumerate(LABELS):
        found = captum_ib.explain(loaded, TEXT, target=label, method="genericattention")
        assert found.prediction.probability == pytest.approx(float(expected[index]), rel=1e-5)
    assert float(expected.sum()) != pytest.approx(1)


def test_the_shell_explains_texts(tmp_path, capsys):
    model = write(tmp_path / "model")
    out = tmp_path / "out"
    texts = [TEXT, "not good at all"]
    code = main(
        [
            *("explain", "--model", str(tmp_path / "model"), "--text", *texts),
            *("--method", "nib", "--steps", "3", "--out", str(out)),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0
    for number, text in enumerate(texts, start=1):
        record = json.loads((out / f"text-{number}-nib.json").read_text())
        best = odds(model, text)
        assert record["text"] == text and record["target"] == int(best.argmax())
        assert record["probability"] == pytest.approx(float(best.max()), rel=1e-5)
        arrays = np.load(out / f"text-{number}-nib.npz")
        assert list(arrays["tokens"]) == ["[CLS]", *text.split(), "[SEP]"]
        assert arrays["text_attribution"].shape == (len(text.split()) + 2,)
        assert (out / f"text-{number}-nib.png").stat().st_size > 1000
        assert f"“{text}”: {LABELS[int(best.argmax())]} (class {int(best.argmax())})" in said


@pytest.mark.parametrize("written", [["p2c", "c2p"], "p2c|c2p"])
def test_a_deberta_as_its_authors_configure_it(written, tmp_path):
    """Most of these are read where they are given, and declared nowhere."""
    model = write(
        tmp_path,
        "deberta-v2",
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        position_buckets=8,
        share_att_key=True,
        max_relative_positions=-1,
    )
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "pos_att_type": written}))
    found = captum_ib.explain(str(tmp_path), TEXT, method="nib")
    assert found.prediction.probability == pytest.approx(float(odds(model).max()), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_an_id_of_padding(family, tmp_path):
    """One text has no padding, in however many draws."""
    model = write(tmp_path, family)
    for file in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        given = json.loads((tmp_path / file).read_text())
        given.pop("pad_token_id", None), given.pop("pad_token", None), given.pop("padding", None)
        (tmp_path / file).write_text(json.dumps(given))
    for method in ("coiba", "rise"):
        found = captum_ib.explain(str(tmp_path), TEXT, method=method)
        assert found.prediction.probability == pytest.approx(float(odds(model).max()), rel=1e-5)


def test_a_decoder_is_explained_at_its_norms_as_other_transformers_are(tmp_path):
    """RMSNorm is a class of each family's own, and no torch.nn.LayerNorm."""
    write(tmp_path, "llama")
    found = captum_ib.explain(str(tmp_path), TEXT)
    assert found.method == "coiba"
    assert found.layers == tuple(f"model.layers.{i}.input_layernorm" for i in range(3))


def test_a_regression_has_no_probability(tmp_path):
    write(tmp_path, problem_type="regression")
    with pytest.raises(ValueError, match="is a regression and has no classes"):
        load(str(tmp_path))


def test_digits_are_a_label_where_one_is_exactly_they(tmp_path):
    write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"id2label": {"0": "1", "1": "2", "2": "3"}, "label2id": {"1": 0, "2": 1, "3": 2}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load(str(tmp_path))
    assert [loaded.class_index(target) for target in ("1", "3", "0", 1)] == [0, 2, 0, 1]


def test_bytes_are_shown_as_the_letters_that_they_are(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    from captum_ib.loading.hub_tokenizer import HubTokenizer

    words = ByteLevelBPETokenizer()
    words.train_from_iterator(["хороший фильм, good film"] * 9, vocab_size=400, min_frequency=1)
    reader = HubTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer))
    shown = reader.tokens(reader(["хороший good"])[0][0])
    assert "".join(shown) == "хорошийgood"


def test_words_that_the_model_does_not_know_are_shown(tmp_path):
    write(tmp_path)
    found = captum_ib.explain(str(tmp_path), "this movie is good", method="nib")
    assert found.tokens == (("[CLS]", "this", "[UNK]", "is", "good", "[SEP]"),)
    shown = found._subject.words[0].shown
    assert shown == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--image", "x.png"], "does not exist"),
        (["--text", TEXT, "--target", "0", "1"], "2 values of --target for 1 text(s)"),
        (["--text", TEXT, "--target", "angry"], "is none of the 3 labels"),
        (["--text", TEXT, "--method", "ig"], "ig can't explain a classifier of texts"),
        (["--text", TEXT, "--method", "m2ib"], "m2ib can't explain a classifier of texts"),
        (["--text", "good " * 40], "takes at most"),
    ],
)
def test_the_shell_says_what_is_wrong(words, error, tmp_path, capsys):
    write(tmp_path / "model")
    code = main(["explain", "--model", str(tmp_path / "model"), *words, "--out", str(tmp_path)])
    assert code == 2 and error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "error"),
    [((TEXT, TEXT), "classifies texts: pass a text"), (" ", "the text is empty")],
)
def test_what_is_no_text_is_refused(what, error, tmp_path):
    write(tmp_path)
    with pytest.raises((TypeError, ValueError), match=error):
        captum_ib.explain(str(tmp_path), what)


def test_a_folder_without_words_is_refused(tmp_path):
    write(tmp_path)
    for file in ("tokenizer.json",):
        (tmp_path / file).unlink()
    with pytest.raises(ValueError, match="has no tokenizer that can be read"):
        load(str(tmp_path))


def test_weights_of_another_head_are_refused(tmp_path):
    write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "no", "1": "yes"}
    config["label2id"] = {"no": 0, "yes": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="classifier"):
        load(str(tmp_path))


def test_angles_of_older_files_are_read(tmp_path):
    model = write(tmp_path, "llama", rope_theta=500.0)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("rope_parameters")
    config["rope_theta"] = 500.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = captum_ib.explain(str(tmp_path), TEXT, method="genericattention")
    assert found.prediction.probability == pytest.approx(float(odds(model).max()), rel=1e-5)
