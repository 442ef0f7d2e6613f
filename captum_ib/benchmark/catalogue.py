"""The kinds of data and the metrics that a run can name, and the settings each of them knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["classifier", "dual"]
_ALL: frozenset[Kind] = frozenset({"classifier", "dual"})
_DUAL: frozenset[Kind] = frozenset({"dual"})
_CLASSIFIER: frozenset[Kind] = frozenset({"classifier"})


@dataclass(frozen=True)
class DataKind:
    """A kind of data.

    Attributes:
        name: as a file says it.
        options: its options and their types.
        path: what ``path`` names; ``None``: there is no path.
        lacks: what no sample of it has, of ``mask``, ``words``, ``caption``.
        requires: options that have to be given.
    """

    name: str
    options: Mapping[str, Any]
    path: str | None = None
    lacks: frozenset[str] = frozenset()
    requires: tuple[str, ...] = ()


_READING = {"shuffle": int | None, "max_pixels": int}

DATA: dict[str, DataKind] = {
    kind.name: kind
    for kind in (
        DataKind("scenes", {"seed": int, "objects": tuple[int, int]}),
        DataKind(
            "folder",
            {"caption": str | None, "labels": Literal["auto", "names", "order"], **_READING},
            path="the folder that holds one folder of images per class",
            lacks=frozenset({"mask", "words"}),
        ),
        DataKind(
            "table",
            {
                "image": str,
                "caption": str | None,
                "label": str | None,
                "mask": str | None,
                "words": str | None,
                "id": str | None,
                "root": str | None,
                **_READING,
            },
            path="the table, a .csv, .tsv, .jsonl or .parquet file",
        ),
        DataKind(
            "coco",
            {
                "annotations": str,
                "categories": Sequence[str] | None,
                "shapes": Literal["mask", "box"],
                "caption": str | None,
                **_READING,
            },
            path="the folder of the images",
            lacks=frozenset({"words"}),
            requires=("annotations",),
        ),
        DataKind(
            "funnybirds",
            {"split": Literal["test", "train"], **_READING},
            path="the folder that holds classes.json",
            lacks=frozenset({"words", "caption"}),
        ),
    )
}


@dataclass(frozen=True)
class MetricEntry:
    """A metric that a run can ask for.

    Attributes:
        name: as a file says it.
        settings: keywords of the metric and their types.
        kinds: the models it judges maps of.
        needs: what every sample must have, of ``mask``, ``words``, ``caption``.
        whole: one score for all samples of a method, not one per sample.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kinds: frozenset[Kind] = _ALL
    needs: frozenset[str] = frozenset()
    whole: bool = False


_CURVE = {"steps": int, "kernel": int, "sigma": float, "baseline": float | Sequence[float]}
_WORDS = {"keep": float, "blank": str}
_MASK = frozenset({"mask"})
_FINETUNE = {
    "epochs": int,
    "lr": float,
    "train_batch_size": int,
    "train_fraction": float,
    "image_quantile": float,
    "text_quantile": float,
    "modality": Literal["image", "text"] | None,
    "temperature": float,
    "max_steps": int | None,
    "max_seconds": float | None,
    "blank": str,
}

METRICS: dict[str, MetricEntry] = {
    entry.name: entry
    for entry in (
        MetricEntry("insertion", _CURVE),
        MetricEntry("deletion", _CURVE),
        MetricEntry("insdel", _CURVE),
        MetricEntry("road", {"percentages": Sequence[float], "noise": float}, _CLASSIFIER),
        MetricEntry("pointing_game", needs=_MASK),
        MetricEntry("iou", {"quantile": float, "value": float}, needs=_MASK),
        MetricEntry("relevance_rank", needs=_MASK),
        MetricEntry("sparseness"),
        MetricEntry("drop_image"),
        MetricEntry("increase_image"),
        MetricEntry("drop_text", _WORDS, _DUAL),
        MetricEntry("increase_text", _WORDS, _DUAL),
        MetricEntry("word_share", {}, _DUAL, frozenset({"words"})),
        MetricEntry("word_auc", {}, _DUAL, frozenset({"words"})),
        MetricEntry("max_sensitivity", {"nr_samples": int, "lower_bound": float}),
        MetricEntry("completeness", {"perturb_baseline": str}, _CLASSIFIER),
        MetricEntry("mprt", {"layer_order": Literal["top_down", "bottom_up"]}, _CLASSIFIER),
        MetricEntry("roar_plus", _FINETUNE, whole=True),
        MetricEntry("funnybirds", {"compat": Literal["original"] | None}, _CLASSIFIER, whole=True),
    )
}
