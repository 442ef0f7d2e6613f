"""Sounds: from a file or an array to what an audio model takes, with nothing drawn at random."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_ib.loading import values as rule
from captum_ib.loading.files import has, read_json, refusing
from captum_ib.loading.loaded import FolderError
from captum_ib.loading.values import Rule, admitted

MAX_RATE = 768_000
"""Largest sampling rate, hertz."""

_SETTINGS: dict[str, Rule] = {
    "feature_size": rule.whole(1, 1024),
    "sampling_rate": rule.whole(1, MAX_RATE),
    "hop_length": rule.whole(1, 65_536),
    "max_length_s": rule.between(0.01, 60),
    "fft_window_size": rule.whole(2, 65_536),
    "padding_value": rule.number,
    "return_attention_mask": rule.flag,
    "frequency_min": rule.between(0, MAX_RATE),
    "frequency_max": rule.between(1, MAX_RATE),
    "top_db": rule.between(0, 1000),
    "truncation": rule.one_of("fusion", "rand_trunc"),
    "padding": rule.one_of("repeatpad", "repeat", "pad"),
}
"""Entries of CLAP's feature extractor that are handed on."""


@dataclass(frozen=True)
class Sound:
    """A recording.

    Attributes:
        wave: ``(T,)``, or ``(channels, T)``, float32 in [−1, 1].
        rate: samples per second, hertz.

    Raises:
        ValueError: another shape, an empty wave, NaN, or a rate that is none.
    """

    wave: np.ndarray
    rate: int

    def __post_init__(self) -> None:
        if self.wave.ndim not in (1, 2) or self.wave.size == 0:
            raise ValueError(
                f"an array of shape {self.wave.shape} is no sound: expected (T,) or (channels, T)"
            )
        if not np.isfinite(self.wave).all():
            raise ValueError("the sound holds NaN or infinite values")
        if not 0 < self.rate <= MAX_RATE:
            raise ValueError(f"the sampling rate must be 1 to {MAX_RATE} Hz, given {self.rate}")

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.wave.shape[-1] / self.rate


def as_wav(sound: Sound) -> bytes:
    """A sound as a WAV file of one channel, 16 bits."""
    from scipy.io import wavfile

    wave = np.atleast_2d(sound.wave).mean(axis=0).clip(-1, 1)
    buffer = io.BytesIO()
    wavfile.write(buffer, sound.rate, np.rint(wave * 32767).astype(np.int16))
    return buffer.getvalue()


def read_sound(path: Path) -> Sound:
    """The sound in a WAV file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no WAV file, or a broken one.
    """
    from scipy.io import wavfile

    if not path.is_file():
        raise FileNotFoundError(f"sound {path} does not exist or is not a file")
    try:
        rate, values = wavfile.read(path)
    except (ValueError, EOFError, OSError, struct.error) as error:
        raise ValueError(
            f"sound {path} can't be read: {error}; only WAV files are (ffmpeg -i {path.name} x.wav)"
        ) from error
    return sound_of(values.T, int(rate))


def sound_of(values: np.ndarray, rate: int) -> Sound:
    """A sound from an array of any of WAV's types, ``(T,)`` or ``(channels, T)``."""
    if values.dtype == np.uint8:
        return Sound((values.astype(np.float32) - 128) / 128, rate)
    if np.issubdtype(values.dtype, np.integer):
        return Sound(values.astype(np.float32) / -float(np.iinfo(values.dtype).min), rate)
    return Sound(values.astype(np.float32), rate)


class Hearing:
    """Sounds as CLAP takes them: one channel, its rate, a log-mel spectrogram.

    Args:
        extractor: a ``ClapFeatureExtractor``.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    @property
    def seconds(self) -> float:
        """The longest sound that the model hears at once."""
        return int(self.extractor.nb_max_samples) / int(self.extractor.sampling_rate)

    def __call__(self, sound: Sound) -> Tensor:
        """``input_features`` of one sound, ``(channels, time, mel bins)``.

        Raises:
            ValueError: a sound that is longer than the model hears at once; the extractor would cut
                it at random.
        """
        from scipy.signal import resample_poly

        wave, rate = np.atleast_2d(sound.wave).mean(axis=0), int(self.extractor.sampling_rate)
        if sound.rate != rate:
            common = math.gcd(sound.rate, rate)
            wave = resample_poly(wave, rate // common, sound.rate // common)
        if len(wave) > int(self.extractor.nb_max_samples):
            raise ValueError(
                f"the sound has {sound.seconds:.1f} s, and the model hears {self.seconds:g} s at "
                "once; cut it"
            )
        given = self.extractor(wave.astype(np.float32), sampling_rate=rate, return_tensors="pt")
        return given["input_features"][0]


def hearing(folder: Path) -> Callable[[Sound], Tensor]:
    """What turns sounds into a model's inputs, by a folder's ``preprocessor_config.json``.

    Raises:
        FolderError: there is none, or it is not plain data.
    """
    import transformers

    name = "preprocessor_config.json"
    if not has(folder, name):
        raise FolderError(f"{folder} is not a complete model: {name} is missing")
    given = read_json(folder, name)
    if given.get("feature_extractor_type") not in (None, "ClapFeatureExtractor"):
        raise FolderError(
            f"{folder / name}: feature_extractor_type must be ClapFeatureExtractor, given "
            f"{given['feature_extractor_type']!r}"
        )
    found = admitted(given, _SETTINGS, str(folder / name), strict=False)
    with refusing(folder / name):
        return Hearing(transformers.ClapFeatureExtractor(**found))


def spectrogram(features: Tensor) -> Tensor:
    """A spectrogram ``(channels, time, mel bins)`` to look at, ``(3, mel bins, time)`` in [0, 1].

    Low tones lie at the bottom.
    """
    values = features[0].detach().float().T.flip(0)
    span = (values.max() - values.min()).clamp_min(torch.finfo(torch.float32).tiny)
    return ((values - values.min()) / span).expand(3, -1, -1)
