"""The word tokenizer: round trip, padding, and what it says about captions it can't read."""

import json

import pytest

from captum_ib.zoo.captions import vocabulary
from captum_ib.zoo.tokenizer import WordTokenizer


@pytest.fixture
def tokenizer():
    return WordTokenizer(vocabulary())


def test_round_trip_and_padding(tokenizer):
    ids, mask = tokenizer(["A red circle, and a star.", "a ring"])
    assert tokenizer.tokens(ids[0]) == ["<bos>", *"a red circle and a star".split(), "<eos>"]
    assert tokenizer.tokens(ids[1].tolist()) == ["<bos>", "a", "ring", "<eos>", *["<pad>"] * 4]
    assert mask.tolist() == [[1] * 8, [1] * 4 + [0] * 4]
    longer, mask = tokenizer.encode(["a ring"], pad_to=16)
    assert longer.shape == mask.shape == (1, 16) and mask.sum() == 4


def test_the_end_token_is_the_highest_id_and_not_two(tokenizer):
    # transformers takes the highest id for the end where eos_token_id is 2, and searches it else.
    assert tokenizer.eos_id == len(tokenizer) - 1 > 2
    assert (tokenizer.pad_id, tokenizer.bos_id) == (0, 1)


def test_the_begin_token_may_stand_anywhere():
    tokenizer = WordTokenizer(["<pad>", "a", "ring", "<bos>", "<eos>"])
    assert tokenizer(["a ring"])[0].tolist() == [[3, 1, 2, 4]]


def test_save_and_read(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "words.json")
    assert json.loads((tmp_path / "words.json").read_text()) == list(tokenizer.words)
    assert WordTokenizer.from_file(tmp_path / "words.json").words == tokenizer.words
    (tmp_path / "words.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must hold a JSON list of words; got dict"):
        WordTokenizer.from_file(tmp_path / "words.json")


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["a red cirle"], ValueError, "'cirle' in 'a red cirle' is not .* Did you mean 'circle'"),
        (["a zzz"], ValueError, r"'zzz' .* Known words: \['a', "),
        (["a <pad>"], ValueError, "'<pad>' in 'a <pad>' is not in the vocabulary"),
        ([""], ValueError, "at least one word; got ''"),
        ([" , "], ValueError, "at least one word"),
        ([], ValueError, "texts is empty"),
        (["a " * 15], ValueError, "at most 14 words; got 15"),
        ("a ring", TypeError, r"list of strings; got one string. Pass \['a ring'\]"),
        ([3], TypeError, "a caption must be a string; got int: 3"),
    ],
)
def test_captions_it_cannot_read(tokenizer, texts, error, message):
    with pytest.raises(error, match=message):
        tokenizer.encode(texts)


@pytest.mark.parametrize("length", [3, 17])
def test_pad_to_out_of_range(tokenizer, length):
    with pytest.raises(
        ValueError, match=f"pad_to must be between 4, .* max_length=16; got {length}"
    ):
        tokenizer.encode(["a ring"], pad_to=length)


def test_ids_it_does_not_know(tokenizer):
    with pytest.raises(ValueError, match=r"ids must be in 0..\d+; got \[-1, 999\]"):
        tokenizer.tokens([1, -1, 999])
    with pytest.raises(TypeError, match="one row of whole numbers"):
        tokenizer.tokens([[1, 2]])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("abc", TypeError, "sequence of strings"),
        (["<pad>", "<bos>", "<eos>"], ValueError, "at least one word between"),
        (["<pad>", "<bos>", "a", "b"], ValueError, "must start with '<pad>', hold '<bos>' and end"),
        (["<pad>", "<bos>", "a", "a", "<eos>"], ValueError, r"more than once: \['a'\]"),
    ],
)
def test_vocabularies_it_refuses(words, error, message):
    with pytest.raises(error, match=message):
        WordTokenizer(words)
    with pytest.raises(ValueError, match="max_length must be at least 3"):
        WordTokenizer(["<pad>", "<bos>", "a", "<eos>"], max_length=2)
