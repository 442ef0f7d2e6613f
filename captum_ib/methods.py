"""The table of methods: what the command line, the benchmark and the tests know about each.

A new method is one file with its class and one row here.

>>> from captum_ib import methods
>>> methods.get("m2ib").unit
'bits'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Kind = Literal["classifier", "dual"]

_BITS = "bits"
_OUTPUT = "output units"


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


_NOISE = {"beta": "beta", "steps": "n_steps", "samples": "n_samples", "seed": "seed"}
_FIT = "10 steps x 4 draws, forward and backward, behind the layer"

_ROWS = (
    MethodSpec(
        name="iba",
        cls_path="captum_ib.attr.iba:IBA",
        takes=frozenset({"classifier"}),
        unit=_BITS,
        signed=False,
        paper="Schulz et al., ICLR 2020",
        description="information that one layer passes on for the class",
        passes=_FIT,
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="coiba",
        cls_path="captum_ib.attr.coiba:CoIBA",
        takes=frozenset({"classifier"}),
        unit=_BITS,
        signed=False,
        paper="Hong et al., CVPR 2025",
        description="information that a whole range of layers passes on for the class",
        passes=_FIT,
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="m2ib",
        cls_path="captum_ib.attr.m2ib:M2IB",
        takes=frozenset({"dual"}),
        unit=_BITS,
        signed=False,
        paper="Wang et al., NeurIPS 2023",
        description="information that each tower passes on for the similarity of the pair",
        passes=_FIT + ", per tower",
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="nib",
        cls_path="captum_ib.attr.nib:NIB",
        takes=frozenset({"classifier", "dual"}),
        unit=_OUTPUT,
        signed=True,
        paper="Zhu et al., ICLR 2025",
        description="share of the output, along the path on which the layer's input fades out",
        passes="10 steps, forward and backward, behind the layer",
        layers="many",
        options={"steps": "n_steps"},
    ),
    MethodSpec(
        name="cam2ib",
        cls_path="captum_ib.attr.ca_m2ib:CAM2IB",
        takes=frozenset({"dual"}),
        unit=_BITS,
        signed=False,
        paper="Bourigault et al.",
        description="as m2ib, guided by cross-attention between the two towers' tokens",
        passes=_FIT + ", and one forward per token, per tower",
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="com2ib",
        cls_path="captum_ib.attr.com2ib:CoM2IB",
        takes=frozenset({"dual"}),
        unit=_BITS,
        signed=False,
        paper="Hong et al. and Wang et al., joined here",
        description="information that a range of layers of each tower passes on for the pair",
        passes=_FIT + ", per tower",
        layers="many",
        options=_NOISE,
    ),
    MethodSpec(
        name="ig",
        cls_path="captum.attr:IntegratedGradients",
        takes=frozenset({"classifier"}),
        unit=_OUTPUT,
        signed=True,
        paper="Sundararajan et al., ICML 2017",
        description="share of the output, along the path from the mean colour to the image",
        passes="50 steps, forward and backward",
        settings={"internal_batch_size": 10},
        options={"steps": "n_steps"},
    ),
    MethodSpec(
        name="saliency",
        cls_path="captum.attr:Saliency",
        takes=frozenset({"classifier"}),
        unit="output units per pixel value",
        signed=False,
        paper="Simonyan et al., ICLR workshop 2014",
        description="magnitude of the gradient",
        passes="1 forward and backward",
    ),
    MethodSpec(
        name="inputxgradient",
        cls_path="captum.attr:InputXGradient",
        takes=frozenset({"classifier"}),
        unit=_OUTPUT,
        signed=True,
        paper="Shrikumar et al., 2016",
        description="gradient times (normalised) pixel value",
        passes="1 forward and backward",
    ),
    MethodSpec(
        name="gradcam",
        cls_path="captum.attr:LayerGradCam",
        takes=frozenset({"classifier"}),
        unit=_OUTPUT,
        signed=True,
        paper="Selvaraju et al., ICCV 2017",
        description="channels of a convolutional layer, weighted by their mean gradient",
        passes="1 forward and backward",
        layers="one",
    ),
)

_BOTH: frozenset[Kind] = frozenset({"classifier", "dual"})
_RELATIVE = "relative"


def _comparator(
    cls: str,
    file: str,
    paper: str,
    description: str,
    passes: str,
    unit: str = _RELATIVE,
    signed: bool = False,
    takes: frozenset[Kind] = _BOTH,
    layers: Literal["none", "many"] = "none",
    options: Mapping[str, str] | None = None,
) -> MethodSpec:
    """A row of :mod:`captum_ib.baselines`; its name is that of the class in small letters."""
    path = f"captum_ib.baselines.{file}:{cls}"
    return MethodSpec(
        cls.lower(),
        path,
        takes,
        unit,
        signed,
        paper,
        description,
        passes,
        layers,
        {},
        options or {},
    )


_STEPS = {"steps": "n_steps"}
_COMPARATORS = (
    _comparator(
        "GenericAttention", "generic_attention", "Chefer et al., ICCV 2021",
        "attention times its positive gradient, through all layers", "1 forward and backward",
    ),
    _comparator(
        "TransformerAttribution", "transformer_attribution", "Chefer et al., CVPR 2021",
        "relevance of attention times its gradient, through all layers",
        "2 forward and backward", takes=frozenset({"classifier"}),
    ),
    _comparator(
        "AttentionRollout", "attention_rollout", "Abnar & Zuidema, ACL 2020",
        "share in the token that is read, whatever the output",
        "1 forward, backward to the last attention", "share",
    ),
    _comparator(
        "AttentionGradCAM", "attention_gradcam", "Chefer et al., CVPR 2021",
        "attention of the last layer, heads weighted by their gradient",
        "1 forward and backward", _OUTPUT,
    ),
    _comparator(
        "BeyondIntuition", "beyond_intuition", "Chen et al., TMLR 2023",
        "what attention passes on, times the gradient along a path of inputs",
        "21 forward and backward", options=_STEPS,
    ),
    _comparator(
        "IIA", "iia", "Barkan et al., ICCV 2023",
        "gradient rollout, integrated over input and attention",
        "101 forward and backward", options=_STEPS,
    ),
    _comparator(
        "LayerGradCAM", "layer_gradcam", "Selvaraju et al., ICCV 2017",
        "channels of a layer, weighted by their mean gradient; any layout",
        "1 forward and backward", _OUTPUT, signed=True, layers="many",
    ),
    _comparator(
        "ScoreCAM", "score_cam", "Wang et al., CVPR workshops 2020",
        "channels of a layer, weighted by what the model sees through them",
        "1 forward per channel", "activation units", layers="many",
    ),
    _comparator(
        "ViTCX", "vit_cx", "Xie et al., IJCAI 2023",
        "mean impact of the masks that patch embeddings make",
        "2 forward per mask, at most one mask per channel", "score units", signed=True,
        layers="many", options={"seed": "seed"},
    ),
    _comparator(
        "RISE", "rise", "Petsiuk et al., BMVC 2018",
        "mean score of random masks that leave the position visible", "4000 forward",
        "score units", signed=True, options={"seed": "seed"},  # a cosine can be negative
    ),
    _comparator(
        "MFABA", "mfaba", "Zhu et al., AAAI 2024",
        "share in the fall of the score on the way to the decision boundary",
        "at most 51 forward and backward", "score units", signed=True, options=_STEPS,
    ),
    _comparator(
        "FastIG", "fast_ig", "Hesse et al., NeurIPS 2021",
        "difference to the baseline times gradient", "1 forward and backward", _OUTPUT,
        signed=True,
    ),
)  # fmt: skip

METHODS: dict[str, MethodSpec] = {row.name: row for row in (*_ROWS, *_COMPARATORS)}


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


def for_kind(kind: Kind) -> list[MethodSpec]:
    """The methods that explain this kind of model, ours first.

    >>> [row.name for row in for_kind("dual")][:2]
    ['m2ib', 'nib']
    """
    return [row for row in METHODS.values() if kind in row.takes]


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
