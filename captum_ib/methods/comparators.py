"""The methods of :mod:`captum_ib.baselines`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from captum_ib.methods.spec import OUTPUT, Kind, MethodSpec

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
COMPARATORS = (
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
        "1 forward and backward", OUTPUT,
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
        "1 forward and backward", OUTPUT, signed=True, layers="many",
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
        "difference to the baseline times gradient", "1 forward and backward", OUTPUT,
        signed=True,
    ),
)  # fmt: skip
