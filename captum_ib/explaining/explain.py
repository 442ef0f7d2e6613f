"""``captum_ib.explain``: from a model and a picture, text or pair to an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from captum_ib.explaining.choices import choose, device_of, dtype_of
from captum_ib.explaining.explanation import Explanation
from captum_ib.explaining.given import as_given, as_model, spanning
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.results import Origin
from captum_ib.explaining.running import explain_choice


def explain(
    model: object,
    what: object,
    *,
    method: str | None = None,
    target: int | str | None = None,
    layer: str | Sequence[str] | None = None,
    preset: str = "recommended",
    beta: float | None = None,
    steps: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    show_progress: bool = False,
    **settings: Any,
) -> Explanation:
    """What the model looked at, in one call; the shell and the page give the same.

    Args:
        model: a name or folder as :func:`captum_ib.load` takes it, what that gives, or a classifier
            as a torch module (one of timm brings its preprocessing along; others take tensors).
        what: for a classifier a picture: a file's name, a PIL image, an array (H, W, 3), or the
            model's input as a float tensor (3, H, W); for a classifier of texts a text. For an
            image-text model (picture, text), for a sentence encoder (text, text), for an audio-text
            model (sound, text): a WAV file's name, or (wave, sampling rate). For a model that
            answers (picture, question), which explains its own answer, or (picture, question,
            answer).
        method: as ``captum-ib methods`` lists them; default: the recommended one for this kind of
            model (:mod:`captum_ib.presets`).
        target: class to explain, by index or label; default: the likeliest.
        layer: name(s) of layers, ``"auto"`` or ``"paper"``; default: the preset's. For pairs names
            of both towers.
        preset: ``"recommended"`` or ``"paper"``: the settings of the method's paper.
        beta: weight of the information; default: the preset's.
        steps: of the fit or the path.
        samples: noise draws per step.
        seed: of the noise; the same seed gives the same map.
        device: where to compute; default: where the model is. A loaded model is moved.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; default: the model's.
        show_progress: show a bar on a terminal.
        settings: further keywords of the method's ``attribute``.

    Raises:
        TypeError: a model or an input of another kind, an unknown setting.
        ValueError: an unknown method, layer, class or preset; a picture that can't be read.

    >>> import captum_ib
    >>> scene = captum_ib.zoo.scenes.captioned(1, seed=1)
    >>> found = captum_ib.explain("clip-scenes", ((scene.images[0] * 255).byte(), "a red circle"))
    >>> found.method, sorted(found.bits_per_part)
    ('com2ib', ['image', 'text'])
    """
    loaded = as_model(model)
    given = as_given(loaded, what, target)
    loaded = spanning(loaded, given.first)
    names = [layer] if isinstance(layer, str) else list(layer or ())
    general = {"beta": beta, "steps": steps, "samples": samples, "seed": seed}
    (choice,) = choose(
        loaded, [method] if method else [], preset=preset, layers=names, given=general
    )
    place, kind = _placed(loaded.model, device, dtype)
    question = given.text if given.text is not None else target
    subject = make_subject(loaded, given.first, question, place, kind, given.answer)
    choice = replace(choice, settings={**choice.settings, **settings})
    finding = explain_choice(subject, choice, show_progress=show_progress)
    origin = Origin(loaded.name, given.name, seed, str(place), str(kind).removeprefix("torch."))
    return Explanation(subject, finding, origin)


def _placed(
    model: nn.Module, device: str | None, dtype: str | None
) -> tuple[torch.device, torch.dtype]:
    """Move the model where it is wanted, if anywhere; where it then is."""
    if device is not None:
        model.to(device_of(device))
    if dtype is not None:
        model.to(dtype_of(dtype))
    held = next((one for one in model.parameters() if one.is_floating_point()), torch.empty(0))
    return held.device, held.dtype
