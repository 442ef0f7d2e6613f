"""The table of methods: where each class is; what is known about it stands beside the class.

A new method is one file with its class and its facts, and one line here. The table names its
classes without importing them; a row imports its class when it is asked for a fact.

>>> from captum_ib import methods
>>> methods.get("m2ib").unit
'bits'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, Literal

from captum_ib.facts import OUTPUT, Facts, Kind

__all__ = ["METHODS", "Kind", "MethodSpec", "for_kind", "get", "settings_for"]


@dataclass(frozen=True)
class MethodSpec:
    """One row of the table.

    What its facts say can be asked of the row itself: ``row.unit`` is ``row.facts.unit``.

    Attributes:
        cls_path: module and class, ``"captum_ib.attr.coiba:CoIBA"``; imported on first use.
        name: how it is asked for, e.g. ``"coiba"``; default: the class's, in small letters.
        told: its facts, of a class that does not say them itself (Captum's).
    """

    cls_path: str
    name: str = ""
    told: Facts | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.title.lower())

    @property
    def title(self) -> str:
        """The name of the class, as papers and Captum write it."""
        return self.cls_path.split(":")[1]

    @property
    def shown(self) -> str:
        """The title, with a word where the class is Captum's own.

        >>> get("gradcam").shown, get("layergradcam").shown
        ('LayerGradCam (Captum)', 'LayerGradCAM')
        """
        return f"{self.title} (Captum)" if self.cls_path.startswith("captum.") else self.title

    @property
    def cls(self) -> Any:
        """The class itself."""
        module, name = self.cls_path.split(":")
        return getattr(import_module(module), name)

    @property
    def facts(self) -> Facts:
        """What its class says of itself.

        Raises:
            TypeError: the class has no ``facts``.
        """
        facts = self.told or getattr(self.cls, "facts", None)
        if not isinstance(facts, Facts):
            raise TypeError(f"{self.cls_path} has no facts: give the class facts = Facts(...)")
        return facts

    @property
    def takes(self) -> frozenset[Kind]:
        """The kinds of model it explains."""
        return self.facts.takes

    def explains(self, kind: Kind, *, texts: bool = False) -> bool:
        """Whether it explains this kind of model; ``texts``: one that takes texts alone."""
        of_ids = texts and kind == "classifier"
        return kind in self.takes and (self.facts.texts or not of_ids)

    @property
    def halves(self) -> bool:
        """Whether it takes ``internal_batch_size="auto"``: half the rows where memory runs out."""
        own = not self.cls_path.startswith("captum.")
        return own and "internal_batch_size" in signature(self.cls.attribute).parameters

    @property
    def unit(self) -> str:
        """Unit of its values."""
        return self.facts.unit

    @property
    def signed(self) -> bool:
        """Whether values below 0 occur and mean something."""
        return self.facts.signed

    @property
    def paper(self) -> str:
        """Authors, venue, year."""
        return self.facts.paper

    @property
    def description(self) -> str:
        """What a value says, in a few words."""
        return self.facts.description

    @property
    def passes(self) -> str:
        """Forward and backward passes at the default settings."""
        return self.facts.passes

    @property
    def layers(self) -> Literal["none", "one", "many"]:
        """How many layers it looks at; ``"none"``: it explains inputs."""
        return self.facts.layers

    @property
    def settings(self) -> Mapping[str, Any]:
        """Keywords of ``attribute`` that differ from the class's own defaults."""
        return self.facts.settings

    @property
    def options(self) -> Mapping[str, str]:
        """Keyword of ``attribute`` for each general setting it has."""
        return self.facts.options


_CLASSIFIERS: frozenset[Kind] = frozenset({"classifier"})

_ROWS = (
    MethodSpec("captum_ib.attr.iba:IBA"),
    MethodSpec("captum_ib.attr.coiba:CoIBA"),
    MethodSpec("captum_ib.attr.m2ib:M2IB"),
    MethodSpec("captum_ib.attr.nib:NIB"),
    MethodSpec("captum_ib.attr.input_iba:InputIBA"),
    MethodSpec("captum_ib.attr.ca_m2ib:CAM2IB"),
    MethodSpec("captum_ib.attr.com2ib:CoM2IB"),
    MethodSpec(
        "captum.attr:IntegratedGradients",
        "ig",
        Facts(
            takes=_CLASSIFIERS,
            unit=OUTPUT,
            signed=True,
            paper="Sundararajan et al., ICML 2017",
            description="share of the output, along the path from the mean colour to the image",
            passes="50 steps, forward and backward",
            settings={"internal_batch_size": 10},
            options={"steps": "n_steps"},
            texts=False,
        ),
    ),
    MethodSpec("captum_ib.baselines.saliency:Saliency"),
    MethodSpec(
        "captum.attr:InputXGradient",
        told=Facts(
            takes=_CLASSIFIERS,
            unit=OUTPUT,
            signed=True,
            paper="Shrikumar et al., 2016",
            description="gradient times (normalised) pixel value",
            passes="1 forward and backward",
            texts=False,
        ),
    ),
    MethodSpec(
        "captum.attr:LayerGradCam",
        "gradcam",
        Facts(
            takes=_CLASSIFIERS,
            unit=OUTPUT,
            signed=True,
            paper="Selvaraju et al., ICCV 2017",
            description="Captum's Grad-CAM, of feature maps (N, C, h, w) only; see layergradcam",
            passes="1 forward and backward",
            layers="one",
            texts=False,
        ),
    ),
    MethodSpec("captum_ib.baselines.generic_attention:GenericAttention"),
    MethodSpec("captum_ib.baselines.transformer_attribution:TransformerAttribution"),
    MethodSpec("captum_ib.baselines.attention_rollout:AttentionRollout"),
    MethodSpec("captum_ib.baselines.attention_gradcam:AttentionGradCAM"),
    MethodSpec("captum_ib.baselines.beyond_intuition:BeyondIntuition"),
    MethodSpec("captum_ib.baselines.iia:IIA"),
    MethodSpec("captum_ib.baselines.layer_gradcam:LayerGradCAM"),
    MethodSpec("captum_ib.baselines.score_cam:ScoreCAM"),
    MethodSpec("captum_ib.baselines.vit_cx:ViTCX"),
    MethodSpec("captum_ib.baselines.rise:RISE"),
    MethodSpec("captum_ib.baselines.mfaba:MFABA"),
    MethodSpec("captum_ib.baselines.fast_ig:FastIG"),
    MethodSpec("captum_ib.baselines.grad_eclip:GradECLIP"),
    MethodSpec("captum_ib.baselines.legrad:LeGrad"),
    MethodSpec("captum_ib.baselines.clip_surgery:CLIPSurgery"),
    MethodSpec("captum_ib.baselines.mask_clip:MaskCLIP"),
    MethodSpec("captum_ib.baselines.token_tm:TokenTM"),
    MethodSpec("captum_ib.baselines.libra_grad:LibraGrad"),
    MethodSpec("captum_ib.baselines.attn_lrp:AttnLRP"),
    MethodSpec("captum_ib.baselines.ex_clip:ExCLIP"),
    MethodSpec("captum_ib.baselines.fixlip:FIxLIP"),
    MethodSpec("captum_ib.baselines.sobol_attribution:SobolAttribution"),
    MethodSpec("captum_ib.baselines.kernel_shap:KernelSHAP"),
)

METHODS: dict[str, MethodSpec] = {row.name: row for row in _ROWS}
"""All rows by their name: ours, Captum's, the comparators."""


def get(name: str) -> MethodSpec:
    """The row of a method, by its name in any case.

    Raises:
        ValueError: there is no such method; the message lists the nearest names.

    >>> get("CoIBA").title
    'CoIBA'
    """
    row = METHODS.get(name.lower())
    if row is None:
        near = difflib.get_close_matches(name.lower(), METHODS, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"unknown method {name!r}; {hint}all: {', '.join(METHODS)}")
    return row


def for_kind(kind: Kind, *, texts: bool = False) -> list[MethodSpec]:
    """The methods that explain this kind of model, ours first.

    Args:
        kind: what the model is.
        texts: of a classifier: whether its input is a text. Captum's own methods take no ids.

    >>> [row.name for row in for_kind("dual")][:2]
    ['m2ib', 'nib']
    >>> "ig" in [row.name for row in for_kind("classifier", texts=True)]
    False
    """
    return [row for row in METHODS.values() if row.explains(kind, texts=texts)]


def settings_for(rows: Iterable[MethodSpec], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Keywords of ``attribute`` for each method, from the general settings that were given.

    Args:
        rows: the methods.
        given: ``beta``, ``steps``, ``samples``, ``seed``; ``None`` stands for the default. A method
            that has no such setting does without.

    Raises:
        ValueError: none of the methods has a setting that was given (``seed`` may always be given).

    >>> settings_for([get("m2ib"), get("nib")], {"beta": 0.2, "steps": None})
    {'m2ib': {'beta': 0.2}, 'nib': {}}
    """
    rows = list(rows)
    wanted = {name: value for name, value in given.items() if value is not None}
    for name in wanted:
        if name != "seed" and not any(name in row.options for row in rows):
            raise ValueError(
                f"{name} means nothing to {', '.join(row.name for row in rows)}: "
                f"methods with that setting: "
                f"{', '.join(row.name for row in METHODS.values() if name in row.options)}"
            )
    return {
        row.name: {
            **row.settings,
            **{row.options[name]: value for name, value in wanted.items() if name in row.options},
        }
        for row in rows
    }
