"""One HTML file with some samples of a run: their maps over the image, scores, coloured captions.

The page holds everything it needs, asks the network for nothing, and treats all text of a run as
data: the template escapes it, and the content security policy lets only the page's own script and
style run. Maps are grey pictures that a filter colours after the browser has enlarged them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import numpy as np

from captum_ib.report.aggregate import Table
from captum_ib.report.layout import decimals, heading, notes
from captum_ib.report.libraries import jinja2
from captum_ib.report.scores import PREFIX

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
    home = files(cast(str, __package__))
    page, style, script = (
        (home / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    style += "\n".join(_rules(data))
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"breakable": _breakable, "short": _short}
    return environment.from_string(page).render(
        data,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        filters={"unsigned": _filter(signed=False), "signed": _filter(signed=True)},
    )


def gallery_data(table: Table, count: int, seed: int) -> dict[str, Any]:
    """What the page's template shows."""
    group = table.group
    index = group.index
    some = f"{min(count, len(index))} of {len(index)} samples"
    if len(index) > count:
        index = np.random.default_rng(seed).choice(index, count, replace=False)
        some += f", chosen at random (seed {seed})"
    samples = _samples(table, {int(one) for one in index})
    seeds = sorted({seed for label in group.methods for seed in group.seeds(label)})
    _add_tiles(table, seeds, samples)
    lines = table.lines
    return {
        "title": heading(table),
        "subtitle": f"{group.config['model']} · {some}",
        "notes": notes(table),
        "methods": list(group.methods.values()),
        "metrics": [
            (metric, decimals(line.cells[metric.label] for line in lines))
            for metric in table.metrics
        ],
        "seeds": seeds,
        "samples": [samples[index] for index in sorted(samples)],
    }


def encode_map(values: np.ndarray, signed: bool) -> dict[str, Any]:
    """A map as a grey picture: shares of its largest magnitude, 255 levels, or 127 around 128.

    Args:
        values: ``(h, w)``.
        signed: whether values below 0 mean something.

    Returns:
        ``"map"``, a data URI of a PNG, and ``"top"``, the largest magnitude, to four digits.
    """
    values = _at_most(np.nan_to_num(values), SIDE)
    top = float(np.abs(values).max())
    share = values / top if top > 0 else np.zeros_like(values)
    levels = 128 + 127 * share if signed else 255 * share.clip(0)
    return {"map": _png(np.rint(levels).astype(np.uint8)), "top": float(f"{top:.4g}")}


def outline(mask: bytes) -> str | None:
    """The border of a mask (PNG), white in a dark seam, as a data URI; None for an empty mask."""
    from PIL import Image

    with Image.open(io.BytesIO(mask)) as opened:
        inside = np.asarray(opened.convert("L")) > 127
    if not inside.any():
        return None
    wide = _grown(inside)
    border = wide & ~inside
    pixels = np.zeros((*inside.shape, 4), dtype=np.uint8)
    pixels[_grown(border) & ~border] = (0, 0, 0, 150)
    pixels[border] = (255, 255, 255, 255)
    return _png(pixels)


def _samples(table: Table, chosen: set[int]) -> dict[int, dict[str, Any]]:
    """What the page shows of each sample, by its number; without tiles yet."""
    found: dict[int, dict[str, Any]] = {}
    columns = ["sample", "status", "label", "caption", "confidence", "thumbnail", "mask"]
    for row in table.group.read("samples", columns, chosen).to_dict("records"):
        if row["status"] == "ok" and row["thumbnail"] is not None:
            mask, confidence = row["mask"], row["confidence"]
            known = confidence is not None and math.isfinite(confidence)
            found[row["index"]] = {
                "index": row["index"],
                "id": row["sample"],
                "label": row["label"],
                "caption": row["caption"],
                "confidence": confidence if known else None,
                "image": _uri(row["thumbnail"]),
                "outline": None if mask is None else outline(mask),
            }
    return found


def _add_tiles(table: Table, seeds: Sequence[int], samples: Mapping[int, dict[str, Any]]) -> None:
    """Add one tile per method and result; seeds that gave the same share it."""
    group = table.group
    columns = ["status", "reason", "map", "map_height", "map_width", "text_map", "tokens"]
    columns += [PREFIX + metric.label for metric in table.metrics]
    rows = group.read("results", columns, list(samples)).set_index(["index", "method", "seed"])
    found = {
        key: _result(table, row, group.methods[key[1]].signed)
        for key, row in rows.to_dict("index").items()
    }
    for index, sample in samples.items():
        sample["tiles"] = []
        for number, label in enumerate(group.methods):
            tiles: list[dict[str, Any]] = []
            for seed in seeds:
                result = found.get((index, label, seed), {})
                same = [tile for tile in tiles if tile["result"] == result]
                if same:
                    same[0]["seeds"].append(seed)
                else:
                    tiles.append({"method": number, "seeds": [seed], "result": result})
            sample["tiles"] += tiles


def _result(table: Table, row: Mapping[str, Any], signed: bool) -> dict[str, Any]:
    if row["status"] != "ok" or row["map"] is None:
        return {"reason": row["reason"] or "no reason given"}
    scores = [row[PREFIX + metric.label] for metric in table.metrics]
    values = np.array(row["map"]).reshape(int(row["map_height"]), int(row["map_width"]))
    return {
        **encode_map(values, signed),
        "scores": [
            None
            if score is None or not math.isfinite(score)
            else float(f"{metric.scale * score:.6g}")
            for score, metric in zip(scores, table.metrics, strict=True)
        ],
        "words": [] if row["tokens"] is None else _words(row["tokens"], row["text_map"], signed),
    }


def _words(
    tokens: Sequence[str], weights: Sequence[float], signed: bool
) -> list[tuple[str, float, int]]:
    """Words with their weights, and the places of their colours."""
    shown = [
        (word, float(f"{weight:.4g}"))
        for word, weight in zip(tokens, weights, strict=True)
        if not _SPECIAL.fullmatch(word) and math.isfinite(weight)
    ]
    top = max((abs(weight) for _, weight in shown), default=0.0) or 1.0
    places = _places(np.array([weight / top for _, weight in shown]), signed)
    return [(*one, int(place)) for one, place in zip(shown, places, strict=True)]


def _rules(data: Mapping[str, Any]) -> Iterator[str]:
    """Style that depends on the run: what is switched off, the seed that is shown, colours."""
    for number in range(len(data["methods"])):
        off = f"body:has(#method-{number}:not(:checked))"
        yield f'{off} [data-method="{number}"] {{ display: none; }}'
    for seed in data["seeds"]:
        chosen = f'body:has(#seed option[value="{seed}"]:checked)'
        yield f'{chosen} [data-method]:not([data-seeds~="{seed}"]) {{ display: none; }}'
    for name, signed in (("unsigned", False), ("signed", True)):
        colours = _colours(signed)
        stops = ", ".join("#" + bytes(colour).hex() for colour in colours[::15])
        yield f".bar.{name} {{ background: linear-gradient(to right, {stops}); }}"
        for level, colour in enumerate(colours):
            ground, ink = bytes(colour).hex(), _readable(colour)
            yield f".words .{name}-{level} {{ background: #{ground}; color: {ink}; }}"


def _colours(signed: bool) -> np.ndarray:
    """``(256, 3)``: the project's colours, from 0 to the most, or from the least over 0 on."""
    from matplotlib import colormaps

    colours = colormaps["RdBu_r" if signed else "viridis"](np.arange(256))
    return np.rint(255 * np.asarray(colours)[:, :3]).astype(np.uint8)


def _filter(signed: bool) -> dict[str, str]:
    """The colour of each level of a map, per channel, as an SVG filter takes it."""
    levels = np.arange(256)
    places = _places((levels - 128) / 127 if signed else levels / 255, signed)
    shares = (_colours(signed)[places] + 0.25) / 255  # browsers cut what is behind the comma off
    return {
        channel: " ".join(f"{share:.5f}" for share in shares[:, number])
        for number, channel in enumerate("RGB")
    }


def _places(shares: np.ndarray, signed: bool) -> np.ndarray:
    """Where shares of the largest magnitude stand among the colours; 0 is the signed middle."""
    places = 127.5 + 127.5 * shares if signed else 255 * shares
    return np.rint(places).clip(0, 255).astype(int)


def _readable(colour: np.ndarray) -> str:
    """Black or white, whichever contrasts more with the colour (WCAG's relative luminance)."""
    share = colour / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return "#000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#fff"


def _breakable(name: str) -> list[str]:
    """A name in parts between which a line may end, as in IntegratedGradients."""
    return re.split(r"(?<=[a-z])(?=[A-Z])", name)


def _short(value: float, digits: int = 2) -> str:
    """A number to so many digits, without an exponent where that is not needed."""
    return f"{float(f'{value:.{digits}g}'):g}"


def _at_most(values: np.ndarray, side: int) -> np.ndarray:
    """The map in at most ``side`` by ``side`` cells, each the mean of what it covers."""
    from PIL import Image

    height, width = (min(length, side) for length in values.shape)
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), dtype=np.float64)


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its four neighbours everywhere."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask)


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _uri(file.getvalue())


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
