"""Sounds: CLAP by its folder, WAV files of every type, and the same map in Python and the shell."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from scipy.io import wavfile

import captum_ib
from captum_ib.cli import main
from captum_ib.loading.load import load
from captum_ib.loading.sounds import Hearing, Sound, read_sound, sound_of
from tests.loading.test_texts import WORDS, tokenizer

TEXT = "this is good"
RATE = 8000


def extractor() -> transformers.ClapFeatureExtractor:
    return transformers.ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=2,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=4000,
        truncation="rand_trunc",
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small CLAP with random weights, as transformers writes one."""
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    config = transformers.ClapConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 16,
            "pad_token_id": 0,
        },
        audio_config={
            "num_mel_bins": 32,
            "spec_size": 64,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "patch_embeds_hidden_size": 32,
            "hidden_size": 64,
            "depths": [2, 2],
            "num_attention_heads": [2, 4],
            "window_size": 4,
        },
        projection_dim=32,
    )
    transformers.ClapModel(config).eval().save_pretrained(folder)
    extractor().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype("f4")


def test_a_clap_is_loaded_by_its_folder(made):
    loaded = load(str(made))
    assert (loaded.kind, loaded.modalities, loaded.texts) == ("dual", ("audio", "text"), False)
    features = loaded.hear(Sound(tone(), RATE))
    expected = extractor()(tone(), sampling_rate=RATE, return_tensors="pt")["input_features"][0]
    torch.testing.assert_close(features, expected)
    with pytest.raises(ValueError, match="takes no pictures"):
        loaded.preprocess(None)


def test_a_sound_and_a_sentence_are_explained(made, tmp_path):
    """Python, the shell and a method called by hand give the same maps."""
    wavfile.write(tmp_path / "tone.wav", RATE, tone())
    asked = (str(tmp_path / "tone.wav"), TEXT)
    found = captum_ib.explain(str(made), asked, method="com2ib", beta=0.1)
    assert found.image is None and found.audio.shape[:2] == (1, 1)
    assert list(found.bits_per_part) == ["audio", "text"] and len(found.texts) == 1
    loaded = load(str(made))
    ids, mask = loaded.tokenizer([TEXT])
    dual = captum_ib.DualEncoder.from_model(loaded.model)
    features = loaded.hear(Sound(tone(), RATE))[None]
    audio, words = captum_ib.CoM2IB(dual, "auto").attribute(
        (features, ids), additional_forward_args=mask, beta=0.1, seed=0
    )
    torch.testing.assert_close(found.audio, audio, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.texts[0], words[0], rtol=1e-4, atol=1e-5)
    out = tmp_path / "out"
    arguments = ["--audio", asked[0], "--text", TEXT, "--method", "com2ib", "--beta", "0.1"]
    assert main(["explain", "--model", str(made), *arguments, "--out", str(out)]) == 0
    arrays = np.load(out / "tone-com2ib.npz")
    np.testing.assert_allclose(arrays["audio_attribution"], found.audio, rtol=1e-4, atol=1e-5)
    assert arrays["audio"].shape == tuple(features.shape[1:])
    record = json.loads((out / "tone-com2ib.json").read_text())
    assert record["text"] == TEXT and record["cosine"] == pytest.approx(found.prediction.cosine)
    assert (out / "tone-com2ib.png").stat().st_size > 1000


def test_a_loud_moment_lies_where_it_is_in_the_picture(made):
    """Time to the right, low tones at the bottom: picture and map alike."""
    from captum_ib.explaining.question import make_subject

    wave = np.zeros(2 * RATE, "f4")
    wave[RATE:] = tone(1.0)  # 440 Hz, in the second half
    subject = make_subject(
        load(str(made)), Sound(wave, RATE), TEXT, torch.device("cpu"), torch.float32
    )
    bins, times = subject.picture.shape[1:]
    loud = subject.picture[0] > 0.95
    rows, columns = loud.nonzero().T
    assert columns.float().mean() > times / 2 and rows.float().mean() > bins / 2


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_of_every_type_are_the_same_sound(kind, channels, tmp_path):
    wave = tone(0.1)
    scaled = {
        "u1": (wave * 128 + 128).round(),
        "i2": (wave * 2**15).round(),
        "i4": (wave.astype("f8") * 2**31).round(),
    }.get(kind, wave)
    values = np.stack([scaled.astype(kind)] * channels, axis=1)
    wavfile.write(tmp_path / "x.wav", RATE, values[:, 0] if channels == 1 else values)
    found = read_sound(tmp_path / "x.wav")
    assert found.rate == RATE and found.seconds == pytest.approx(0.1)
    np.testing.assert_allclose(np.atleast_2d(found.wave)[0], wave, atol=1 / 128)


def test_another_rate_is_resampled():
    twice = Sound(tone(1.0, 2 * RATE), 2 * RATE)
    one, other = (Hearing(extractor())(each) for each in (Sound(tone(), RATE), twice))
    assert one.shape == other.shape
    loudest = one[0].argmax(dim=1) == other[0].argmax(dim=1)
    assert float(loudest.float().mean()) > 0.95


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ((Sound(tone(3.0), RATE), TEXT), ValueError, "3.0 s, and the model hears 2 s at once"),
        (("missing.wav", TEXT), FileNotFoundError, "missing.wav does not exist"),
        ((3, TEXT), TypeError, "expected a sound: a WAV file's name"),
        (TEXT, TypeError, r"takes a pair \(sound, text\)"),
        (((tone(), RATE), " "), ValueError, "a text is empty"),
        (((tone()[None, None], RATE), TEXT), ValueError, "is no sound"),
        (((np.full(9, np.nan), RATE), TEXT), ValueError, "NaN"),
        (((tone(), 0), TEXT), ValueError, "sampling rate must be 1 to"),
    ],
)
def test_what_is_no_sound_is_refused(made, what, error, message):
    with pytest.raises(error, match=message):
        captum_ib.explain(str(made), what)


def test_a_file_that_is_no_wav_is_refused(made, tmp_path, capsys):
    (tmp_path / "x.wav").write_bytes(b"RIFF\0\0")
    code = main(
        ["explain", "--model", str(made), "--audio", str(tmp_path / "x.wav"), "--text", "a"]
    )
    assert code == 2 and "can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("clap", ["--text", TEXT], "compares sounds with text: pass --audio x.wav and --text"),
        ("vit-scenes", ["--audio", "tone.wav"], "vit-scenes hears nothing: pass no --audio"),
    ],
)
def test_the_shell_says_what_it_takes(made, model, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wavfile.write("tone.wav", RATE, tone())
    name = str(made) if model == "clap" else model
    assert main(["explain", "--model", name, *words, "--out", "out"]) == 2
    assert message in capsys.readouterr().err


def test_an_extractor_of_another_kind_is_refused(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    given = json.loads((folder / "preprocessor_config.json").read_text())
    given["feature_extractor_type"] = "WhisperFeatureExtractor"
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match="feature_extractor_type must be ClapFeatureExtractor"):
        load(str(folder))


def test_bytes_are_sounds_around_128():
    assert sound_of(np.array([128, 255, 0], "u1"), RATE).wave.tolist() == [0, 127 / 128, -1]
