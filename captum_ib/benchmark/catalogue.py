"""The kinds of data and the metrics that a run can name: one row each, with all that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from captum_ib.benchmark.checks import pydantic
from captum_ib.facts import Kind

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
            "segmentation",
            {
                "labels": Literal["auto", "names", "order", "none"],
                "caption": str | None,
                **_READING,
            },
            path="ImageNet-Segmentation's .mat file, or the folder that holds images/ and masks/",
            lacks=frozenset({"words"}),
        ),
        DataKind(
            "voc",
            {
                "split": str,
                "shapes": Literal["mask", "box"],
                "categories": Sequence[str] | None,
                "caption": str | None,
                **_READING,
            },
            path="the folder that holds JPEGImages, e.g. VOCdevkit/VOC2012",
            lacks=frozenset({"words"}),
        ),
        DataKind(
            "flickr30k",
            {
                "annotations": str,
                "list": str | None,
                "text": Literal["phrase", "sentence"],
                **_READING,
            },
            path="the folder of the images",
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
class Metric:
    """A metric that a run can ask for: how it is asked for, shown and computed.

    Attributes:
        name: as a file says it.
        title: as papers write it.
        direction: ``"up"``: higher is better.
        column: module of this package and class that computes it; imported on first use.
        settings: keywords of the metric and their types.
        kinds: the models it judges maps of.
        needs: what every sample must have, of ``mask``, ``words``, ``caption``.
        applies: to the map of the image, of the text, or to both together.
        scale: factor for display.
        curve: whether every sample also has a curve.
        whole: one score for all samples of a method, not one per sample.
    """

    name: str
    title: str
    direction: Literal["up", "down"]
    column: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kinds: frozenset[Kind] = _ALL
    needs: frozenset[str] = frozenset()
    applies: Literal["image", "text", "pair"] = "image"
    scale: float = 1.0
    curve: bool = False
    whole: bool = False

    @property
    def cls(self) -> Any:
        """The class that computes it."""
        module, name = self.column.split(":")
        return getattr(import_module(f"captum_ib.benchmark.{module}"), name)

    def check_kind(self, kind: Kind) -> None:
        """Refuse models whose maps the metric can't judge.

        Raises:
            ValueError: the message lists the metrics that can.
        """
        if kind not in self.kinds:
            fitting = ", ".join(name for name, row in METRICS.items() if kind in row.kinds)
            raise ValueError(f"{self.name} can't judge a {kind}; use: {fitting}")


_CURVE = {"steps": int, "kernel": int, "sigma": float, "baseline": float | Sequence[float]}
_ROAD = {"percentages": Sequence[float], "noise": float}
_IOU = {"quantile": float, "value": float}
_EHR = {"threshold": float, "quantiles": int}
_KEEP = {"keep": float, "blank": str}
_MASK, _WORDS = frozenset({"mask"}), frozenset({"words"})
_TEXT: dict[str, Any] = {"kinds": _DUAL, "applies": "text"}
_SENSITIVITY = {"nr_samples": int, "lower_bound": float}
_FINETUNE = {
    "seeds": pydantic.PositiveInt,
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
_MPRT = {"layer_order": Literal["top_down", "bottom_up"]}
_BIRDS = {"seeds": pydantic.PositiveInt, "compat": Literal["original"] | None}
_FILL = {**_CURVE, "fill": Literal["black", "mean", "blur"]}
_FIDELITY = {
    "grid": int,
    "share": float,
    "draws": int,
    "correlation": Literal["pearson", "spearman"],
    "seed": int,
    "baseline": float | Sequence[float],
}
_COMPLETE = {"relative": bool, "baseline": float | Sequence[float]}
_SYNERGY = {
    "steps": int,
    "order": Literal["insertion", "deletion"],
    "relative": bool,
    "blank": str,
    "baseline": float | Sequence[float],
}
_SEGMENTED: dict[str, Any] = {"needs": _MASK, "scale": 100.0}
_PAIR: dict[str, Any] = {"kinds": _DUAL, "applies": "pair"}
_QUANTUS, _PAPERS, _AGAIN = "columns_quantus", "columns_papers", "whole_again"

METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("insertion", "Insertion", "up", "columns:Perturbation", _CURVE, curve=True),
        Metric("deletion", "Deletion", "down", "columns:Perturbation", _CURVE, curve=True),
        Metric("insdel", "ΔInsDel", "up", "columns:Difference", _CURVE),
        Metric("road", "ROAD", "down", f"{_QUANTUS}:Road", _ROAD, _CLASSIFIER, scale=100.0),
        Metric(
            "road_lerf", "ROAD, LeRF", "up", f"{_QUANTUS}:Road", _ROAD, _CLASSIFIER, scale=100.0
        ),
        Metric("road_delta", "ΔROAD", "up", f"{_QUANTUS}:Road", _ROAD, _CLASSIFIER, scale=100.0),
        Metric("pointing_game", "Pointing game", "up", f"{_QUANTUS}:Located", needs=_MASK),
        Metric("iou", "IoU", "up", f"{_QUANTUS}:Located", _IOU, needs=_MASK),
        Metric("ehr", "EHR", "up", f"{_QUANTUS}:Located", _EHR, needs=_MASK),
        Metric("relevance_rank", "Relevance rank", "up", f"{_QUANTUS}:Located", needs=_MASK),
        Metric("pixel_accuracy", "Pixel accuracy", "up", f"{_PAPERS}:Masked", **_SEGMENTED),
        Metric("mean_iou", "mIoU", "up", f"{_PAPERS}:Masked", **_SEGMENTED),
        Metric(
            "average_precision", "AP", "up", f"{_PAPERS}:Masked",
            {"of": Literal["both", "object"]}, **_SEGMENTED,
        ),
        Metric("energy_pointing", "Energy pointing game", "up", f"{_PAPERS}:Masked", needs=_MASK),
        Metric("morf", "MoRF", "down", f"{_PAPERS}:Ordered", _FILL, curve=True),
        Metric("lerf", "LeRF", "up", f"{_PAPERS}:Ordered", _FILL, curve=True),
        Metric("srg", "SRG", "up", f"{_PAPERS}:Ordered", _FILL),
        Metric("mu_fidelity", "μFidelity", "up", f"{_PAPERS}:Fidelity", _FIDELITY),
        Metric(
            "completeness_error", "Completeness error", "down", f"{_PAPERS}:Completeness", _COMPLETE
        ),
        Metric(
            "synergy", "Synergistic faithfulness", "up", f"{_PAPERS}:Synergy", _SYNERGY, **_PAIR
        ),
        Metric("sparseness", "Sparseness", "up", f"{_QUANTUS}:Sparseness"),
        Metric("drop_image", "Confidence drop, image", "down", "columns:Confidence"),
        Metric("increase_image", "Confidence increase, image", "up", "columns:Confidence"),
        Metric("drop_text", "Confidence drop, text", "down", "columns:Confidence", _KEEP, **_TEXT),
        Metric(
            "increase_text", "Confidence increase, text", "up", "columns:Confidence", _KEEP, **_TEXT
        ),
        Metric(
            "word_share", "Share on content words", "up", "columns:Words", needs=_WORDS, **_TEXT
        ),
        Metric("word_auc", "AUC of content words", "up", "columns:Words", needs=_WORDS, **_TEXT),
        Metric(
            "max_sensitivity", "Max sensitivity", "down", f"{_QUANTUS}:MaxSensitivity", _SENSITIVITY
        ),
        Metric(
            "completeness", "Completeness gap", "down", f"{_QUANTUS}:CompletenessGap",
            {"perturb_baseline": str}, _CLASSIFIER,
        ),
        Metric("mprt", "MPRT", "down", f"{_QUANTUS}:Randomised", _MPRT, _CLASSIFIER),
        Metric("roar_plus", "ROAR+", "up", "whole:ROAR", _FINETUNE, applies="pair", whole=True),
        Metric(
            "grid_pointing", "Grid pointing game", "up", f"{_AGAIN}:Grids",
            {"side": int, "least": float}, whole=True,
        ),
        Metric(
            "prompt_sensitivity", "Prompt sensitivity", "up", f"{_AGAIN}:Prompts",
            {"null": int, "seed": int}, _DUAL, whole=True,
        ),
        Metric("funnybirds", "FunnyBirds", "up", "whole:Birds", _BIRDS, _CLASSIFIER, whole=True),
    )
}  # fmt: skip
