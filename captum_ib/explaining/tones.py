"""Sounds to explain where nobody brings one: made here, each with what it is in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from captum_ib.loading.sounds import Sound

RATE = 16_000
"""Samples per second of the made sounds, hertz."""
_SEED = 0

_Time = np.ndarray


def _tone(t: _Time, hertz: float | np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, t.shape)) / RATE)


def _noise(t: _Time) -> np.ndarray:
    return np.random.default_rng(_SEED).uniform(-1, 1, len(t))


def _beeps(t: _Time) -> np.ndarray:
    return _tone(t, 1200) * ((4 * t) % 1 < 0.4)


def _ticks(t: _Time) -> np.ndarray:
    since = (2 * t) % 1 / 2  # seconds
    return _noise(t) * np.exp(-since / 0.01)


def _bell(t: _Time) -> np.ndarray:
    partials = sum(_tone(t, 330 * k) / k for k in (1, 2.76, 5.4))
    return np.asarray(partials) * np.exp(-3 * t) / 1.6


_SOUNDS: tuple[tuple[str, Callable[[_Time], np.ndarray]], ...] = (
    ("a siren", lambda t: _tone(t, 900 + 400 * np.sin(2 * np.pi * t))),
    ("the beeping of an alarm clock", _beeps),
    ("rain on a roof", _noise),
    ("a ticking clock", _ticks),
    ("the ringing of a bell", _bell),
    ("a low hum", lambda t: _tone(t, 100)),
)


def made_sounds(seconds: float = 2.0) -> list[tuple[Sound, str]]:
    """Six sounds with a sentence each, the same on every machine.

    They are drawn by formulas, not recorded: what a trained model says of them is for it to say.

    Args:
        seconds: length of each.

    >>> [text for _, text in made_sounds()][:2]
    ['a siren', 'the beeping of an alarm clock']
    """
    t = np.arange(int(seconds * RATE)) / RATE
    return [(Sound((0.5 * draw(t)).astype(np.float32), RATE), text) for text, draw in _SOUNDS]
