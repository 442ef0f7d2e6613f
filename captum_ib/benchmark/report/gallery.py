"""One HTML file with some samples of a run: their maps over the image, scores, coloured captions.

The page holds everything it needs, asks the network for nothing, and treats all text of a run as
data: its content security policy lets only its own script and style run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from captum_ib.benchmark.report.aggregate import Table
from captum_ib.benchmark.report.layout import decimals, heading, notes
from captum_ib.benchmark.report.scores import PREFIX

SIDE = 56
"""Larger maps are averaged down to so many cells a side."""

_SPECIAL = re.compile(
    r"</?s>|<\|[^|<>]*\|>|</?(pad|bos|eos|unk|cls|sep|mask|(start|end)_?of_?text)>"
    r"|\[(CLS|SEP|PAD|MASK|UNK)\]",
    re.IGNORECASE,
)


def gallery(table: Table, count: int = 50, seed: int = 0) -> str:
    """The page as text.

    Args:
        table: whose runs it shows.
        count: samples, at most; chosen at random where there are more.
        seed: of that choice.
    """
    data = gallery_data(table, count, seed)
    home = files(__package__)
    style, maps, rest, page = (
        (home / name).read_text(encoding="utf-8")
        for name in ("gallery.css", "maps.js", "gallery.js", "gallery.html")
    )
    script = f'"use strict";\n(() => {{\n{maps}\n{rest}}})();\n'
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return Template(page).substitute(
        policy=policy,
        title=html.escape(f"{heading(table)}: maps"),
        style=style,
        script=script,
        data=inline_json(data),
    )


def inline_json(data: Any) -> str:
    """JSON that can stand in a script element: no ``<``, so nothing can end it or open a comment.

    >>> inline_json("</script>")
    '"\\\\u003c/script>"'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def gallery_data(table: Table, count: int, seed: int) -> dict[str, Any]:
    """What the page's script reads."""
    group = table.group
    chosen = _chosen(group.index, count, seed)
    labels = list(group.scores)
    seeds = sorted({s for scores in group.scores.values() for s in scores.seeds})
    samples = _samples(table, chosen)
    _add_results(table, labels, seeds, samples)
    config = group.config
    some = f"{len(samples)} of {len(group.index)} samples"
    if len(samples) < len(group.index):
        some += f", chosen at random (seed {seed})"
    return {
        "title": heading(table),
        "subtitle": f"{config['model']} · {some}",
        "notes": list(notes(table)),
        "methods": [_method(table, label) for label in labels],
        "metrics": [
            {
                "label": metric.label,
                "title": metric.title,
                "up": metric.up,
                "digits": decimals(line.cells[metric.label] for line in table.lines),
            }
            for metric in table.metrics
        ],
        "seeds": seeds,
        "palettes": {"unsigned": _palette("viridis"), "signed": _palette("RdBu_r")},
        "samples": [samples[index] for index in sorted(samples)],
    }


def encode_map(values: np.ndarray, signed: bool) -> dict[str, Any]:
    """A map as bytes: shares of its largest magnitude, in 255ths, or 127ths around 128 if signed.

    Args:
        values: `(h, w)`.
        signed: whether values below 0 mean something.
    """
    values = _at_most(np.nan_to_num(values.astype(np.float64)), SIDE)
    top = float(np.abs(values).max()) if values.size else 0.0
    share = values / top if top > 0 else np.zeros_like(values)
    levels = 128 + 127 * share if signed else 255 * share.clip(0)
    packed = base64.b64encode(np.rint(levels).astype(np.uint8).tobytes()).decode("ascii")
    return {
        "map": packed,
        "height": values.shape[0],
        "width": values.shape[1],
        "top": float(f"{top:.4g}"),
    }


def outline(mask: bytes) -> str | None:
    """The border of a mask (PNG), white in a dark seam, as a data URI; None for an empty mask."""
    from PIL import Image

    with Image.open(io.BytesIO(mask)) as opened:
        inside = np.asarray(opened.convert("L")) > 127
    if not inside.any():
        return None
    wide = _grown(inside)
    border = wide & ~inside
    seam = _grown(border) & ~border
    pixels = np.zeros((*inside.shape, 4), dtype=np.uint8)
    pixels[seam] = (0, 0, 0, 150)
    pixels[border] = (255, 255, 255, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _uri(file.getvalue())


def _chosen(index: np.ndarray, count: int, seed: int) -> set[int]:
    if len(index) > count:
        index = np.random.default_rng(seed).choice(index, count, replace=False)
    return {int(one) for one in index}


def _samples(table: Table, chosen: set[int]) -> dict[int, dict[str, Any]]:
    """What the page shows of each sample, by its number; without results yet."""
    found: dict[int, dict[str, Any]] = {}
    count = len(table.group.scores)
    for run in table.group.runs:
        for rows in run.tables("samples", only=chosen - set(found)):
            for row in rows.to_pylist():
                if row["status"] != "ok" or row.get("thumbnail") is None:
                    continue
                mask, confidence = row.get("mask"), row.get("confidence")
                known = confidence is not None and math.isfinite(confidence)
                found[row["index"]] = {
                    "index": row["index"],
                    "id": row["sample"],
                    "label": row.get("label"),
                    "caption": row.get("caption"),
                    "confidence": confidence if known else None,
                    "image": _uri(row["thumbnail"]),
                    "outline": None if mask is None else outline(mask),
                    "results": [None] * count,
                }
    return found


def _add_results(
    table: Table,
    labels: Sequence[str],
    seeds: Sequence[int],
    samples: Mapping[int, dict[str, Any]],
) -> None:
    """Add maps, scores and words per method and seed; ``"same"`` where they are the first seed's.

    Where several runs have a method with the same seed, the first counts.
    """
    group = table.group
    columns = ["method", "seed", "status", "reason", "map", "map_height", "map_width"]
    columns += ["text_map", "tokens", *(PREFIX + metric.label for metric in table.metrics)]
    for run in group.runs:
        for rows in run.tables("results", columns, list(samples)):
            for row in rows.to_pylist():
                number = labels.index(row["method"])
                results = samples[row["index"]]["results"]
                results[number] = results[number] or [None] * len(seeds)
                place = seeds.index(row["seed"])
                if results[number][place] is None:
                    signed = group.methods[row["method"]].signed
                    results[number][place] = _result(table, row, signed)
    for sample in samples.values():
        for one in filter(None, sample["results"]):
            one[1:] = ["same" if other and other == one[0] else other for other in one[1:]]


def _result(table: Table, row: Mapping[str, Any], signed: bool) -> dict[str, Any]:
    if row["status"] != "ok" or row["map"] is None:
        return {"reason": row["reason"] or "no reason given"}
    scores = [row.get(PREFIX + metric.label) for metric in table.metrics]
    values = np.array(row["map"]).reshape(row["map_height"], row["map_width"])
    result = encode_map(values, signed)
    result["scores"] = [
        None if score is None or not math.isfinite(score) else float(f"{metric.scale * score:.6g}")
        for score, metric in zip(scores, table.metrics, strict=True)
    ]
    if row.get("tokens") and row.get("text_map"):
        shown = [
            (word, float(f"{weight:.4g}"))
            for word, weight in zip(row["tokens"], row["text_map"], strict=True)
            if not _SPECIAL.fullmatch(word) and math.isfinite(weight)
        ]
        result["words"] = [word for word, _ in shown]
        result["weights"] = [weight for _, weight in shown]
    return result


def _method(table: Table, label: str) -> dict[str, Any]:
    info = table.group.methods[label]
    return {
        "label": label,
        "title": info.title,
        "unit": info.unit,
        "signed": info.signed,
        "paper": info.paper,
    }


def _palette(name: str) -> str:
    """256 colours of the project's colour maps, six hexadecimal digits each."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps[name](np.arange(256)))[:, :3]
    return np.rint(255 * colours).astype(np.uint8).tobytes().hex()


def _at_most(values: np.ndarray, side: int) -> np.ndarray:
    """The map in at most `side` by `side` cells, each the mean of what it covers."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    size = (min(values.shape[0], side), min(values.shape[1], side))
    if size == values.shape:
        return values
    return adaptive_avg_pool2d(torch.from_numpy(values)[None], size)[0].numpy()


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its four neighbours everywhere."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
