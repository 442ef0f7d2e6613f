"""What is known about a method: one row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Kind = Literal["classifier", "dual"]
"""What a method explains: images to logits, or pairs in one space."""

BITS = "bits"
OUTPUT = "output units"


@dataclass(frozen=True)
class MethodSpec:
    """One row of the table.

    Attributes:
        name: how it is asked for, e.g. ``"coiba"``.
        cls_path: module and class, ``"captum_ib.attr.coiba:CoIBA"``; imported on first use.
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
    """

    name: str
    cls_path: str
    takes: frozenset[Kind]
    unit: str
    signed: bool
    paper: str
    description: str
    passes: str
    layers: Literal["none", "one", "many"] = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def cls(self) -> type:
        """The class itself."""
        module, name = self.cls_path.split(":")
        return getattr(import_module(module), name)

    @property
    def title(self) -> str:
        """The name of the class, as papers and Captum write it."""
        return self.cls_path.split(":")[1]
