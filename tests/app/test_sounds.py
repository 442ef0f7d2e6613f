"""Models of sounds in the page: a WAV file or a made sound, and a text."""

from __future__ import annotations

import base64
import re
import struct

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import captum_ib
from captum_ib.app import cards, choices, notes
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import make_offer
from captum_ib.app.page import Page, Source
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.uploads import Limits, read_heard
from captum_ib.app.visitors import Upload, Visitors
from captum_ib.explaining.tones import RATE, made_sounds
from captum_ib.loading.load import load
from captum_ib.loading.sounds import as_wav
from tests.loading import test_sounds

made = test_sounds.made  # the folder of a small CLAP with random weights
TEXT = test_sounds.TEXT


@pytest.fixture(scope="module")
def offer(made):
    return make_offer(load(str(made)), torch.device("cpu"))


@pytest.fixture
def page(offer, tmp_path):
    visitors = Visitors(tmp_path / "uploads")
    return Page({"clap": offer}, Limits(), Results(tmp_path), visitors, Running())


def ask(offer, **changes):
    given = {"asked": TEXT, "methods": ("com2ib",), **changes}
    return list(answer(offer, Question(made_sounds()[0][0], "siren.wav", **given)))[-1]


def test_a_model_of_sounds_is_offered_with_sounds(offer):
    assert offer.sounds and offer.pair and not offer.texts and offer.what == "sound"
    assert offer.first_methods == ["com2ib", "nib"]
    assert offer.examples[0].question == "a siren"
    assert {one.picture.seconds for one in offer.examples} == {2.0}
    assert choices.examples_look(offer).count("data:image/jpeg") == 6
    assert choices.upload_info(offer, Limits()).startswith('<p class="ib-quiet">WAV; up to 20 MB.')


def test_methods_that_the_model_does_not_admit_are_not_offered(offer):
    names = {row.name for row in offer.methods}
    assert {"m2ib", "nib", "genericattention", "rise"} <= names
    assert "legrad" not in names  # attention in windows


def test_the_maps_are_those_of_captum_ib_explain(offer):
    sound = made_sounds()[0][0]
    found = ask(offer, methods=("com2ib",)).results[0]
    expected = captum_ib.explain(offer.loaded, ((sound.wave, sound.rate), TEXT))
    for one, other in zip(found.maps, expected.maps, strict=True):
        torch.testing.assert_close(one, other.reshape(one.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["com2ib", "nib", "genericattention", "beyondintuition"])
def test_every_map_is_time_by_frequency(offer, name):
    (found,) = ask(offer, methods=(name,)).results
    time, mels = found.maps[0].shape[-2:]
    assert time > mels  # 101 frames of 32 bins


def test_the_card_shows_a_spectrogram_with_low_tones_at_the_bottom(offer):
    html = cards.answer_html(ask(offer, methods=("nib",)))
    assert re.findall(r"<h3>(.*?)</h3>", html) == ["What the model hears", "NIB"]
    assert 'alt="the sound as the model takes it"' in html
    low = offer.spectrogram(made_sounds()[5][0])  # a hum of 100 Hz
    assert low.shape == (32, 101, 3)
    assert low[-8:].mean() > low[:8].mean() + 0.3


def test_the_preview_has_a_player(page, offer):
    html = page.preview("clap", Source(example=1))
    assert "example-2.wav" in html and f"2.0 s, {RATE} Hz" in html
    (encoded,) = re.findall(r'src="data:audio/wav;base64,([^"]+)"', html)
    assert base64.b64decode(encoded) == as_wav(offer.examples[1].picture)
    assert "<b>" not in notes.sound_html(
        offer.examples[0].picture, np.zeros((2, 2, 3)), "x<b>"
    ).replace("<b>x&lt;b&gt;</b>", "")


def test_an_upload_is_explained(page, offer, tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(as_wav(made_sounds()[0][0]))
    source = Source(file=Upload("t", "siren.wav", path, 0.0))
    sound, name = page.given("clap", source)
    assert (name, sound.rate, sound.seconds) == ("siren.wav", RATE, 2.0)
    shown = list(page.explain("s", "clap", source, TEXT, "", ["nib"], [], None, None, 0))
    assert "done: NIB" in shown[-1][0]
    assert "siren-nib.npz" in shown[-1][1]


def broken(kind):
    whole = as_wav(made_sounds(0.1)[0][0])
    return {
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "empty": b"",
        "cut": whole[:-100],
        "a lie": whole[:40] + struct.pack("<I", 2**31) + whole[44:],
        "no samples": whole[:36],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a picture", "it is no WAV file; only WAV files are"),
        ("empty", "it is no WAV file"),
        ("cut", "it ends before its end"),
        ("a lie", "it ends before its end"),
        ("no samples", r"x\.wav can't be read: "),
    ],
)
def test_what_is_no_sound_is_said(tmp_path, kind, message):
    path = tmp_path / "kept"
    path.write_bytes(broken(kind))
    with pytest.raises(ValueError, match=message) as error:
        read_heard(path, Limits(), "x.wav")
    assert str(tmp_path) not in str(error.value)


def test_limits_of_a_sound(page, offer, tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(as_wav(made_sounds(3.0)[0][0]))
    with pytest.raises(ValueError, match=r"x\.wav has 0\.1 MB, at most 0\.01 MB are read"):
        read_heard(path, Limits(megabytes=0.01), "x.wav")
    long = page.preview("clap", Source(file=Upload("t", "long.wav", path, 0.0)))
    assert "the sound has 3.0 s, and the model hears 2 s at once; cut it" in long
    with pytest.raises(ValueError, match="is no longer kept: upload it again"):
        read_heard(tmp_path / "gone", Limits(), "x.wav")


def test_mistakes_are_said(offer):
    with pytest.raises(ValueError, match="the caption is empty: .* compares a sound with a text"):
        ask(offer, asked=" ")
    with pytest.raises(ValueError, match="no sound is chosen"):
        list(answer(offer, Question(None, "x", asked=TEXT, methods=("nib",))))


def test_a_made_sound_is_the_same_every_time_and_has_its_pitch(tmp_path):
    (siren, _), *_, (hum, text) = made_sounds()
    assert text == "a low hum"
    wavfile.write(tmp_path / "x.wav", hum.rate, hum.wave)
    rate, wave = wavfile.read(tmp_path / "x.wav")
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.argmax(spectrum) * rate / len(wave) == pytest.approx(100, abs=1)
    np.testing.assert_array_equal(siren.wave, made_sounds()[0][0].wave)
