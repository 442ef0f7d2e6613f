"""What is known about a method beside its equations: said once, by its class, as ``facts``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["classifier", "dual", "generator"]
"""What a method explains: images or texts to logits, pairs in one space, or answers that a
vision-language model gives."""

BITS = "bits"
OUTPUT = "output units"


@dataclass(frozen=True)
class Facts:
    """What the command line, the benchmark and the tests know about a method.

    Attributes:
        takes: the kinds of model it explains.
        unit: of its values.
        signed: whether values below 0 occur and mean something.
        paper: authors, venue, year; for Captum's own methods too.
        description: what a value says, in a few words.
        passes: forward and backward passes at the default settings.
        layers: ``"none"`` (explains inputs), ``"one"``, or ``"many"``.
        settings: keywords of ``attribute`` that differ from the class's own defaults.
        options: keyword of ``attribute`` for each general setting it has
            (``beta``, ``steps``, ``samples``, ``seed``).
        texts: whether it explains classifiers of texts too, whose inputs are ids of tokens.

    >>> from captum_ib import NIB
    >>> NIB.facts.unit, NIB.facts.signed
    ('output units', True)
    """

    takes: frozenset[Kind]
    unit: str
    signed: bool
    paper: str
    description: str
    passes: str
    layers: Literal["none", "one", "many"] = "none"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    texts: bool = True
