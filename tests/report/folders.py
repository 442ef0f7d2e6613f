"""Run folders with known numbers, as `captum-ib benchmark` leaves them; no model is involved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captum_ib.benchmark import schema
from captum_ib.benchmark.arrow import pq
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.pictures import mask_png, thumbnail

CAPTIONS = (
    "a red circle above a blue square",
    "a green star beside a yellow ring on the left",
    "two small triangles and a purple cross",
)


@dataclass
class Folder:
    """A run to be written.

    Attributes:
        config: keys of :meth:`RunConfig.from_dict` that differ from those below.
        score: (index, method's label, seed, metric's label) → score, None: undefined.
        fails: (index, method's label) that have no map.
        skipped: index → why the sample could not be read.
        captions: of the samples, in turn; none for a classifier.
        shape: of the maps, per label (default: 7 by 7).
        ids: names of samples by index.
        whole: rows (method, seed, metric, value).
        versions: of the packages.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    score: Callable[[int, str, int, str], float | None] = lambda index, *_: float(index)
    fails: Sequence[tuple[int, str]] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)
    captions: Sequence[str] = CAPTIONS
    shape: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ids: Mapping[int, str] = field(default_factory=dict)
    whole: Sequence[tuple[str, int, str, float]] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: {"torch": "2.0"})

    @property
    def run(self) -> RunConfig:
        """The whole configuration."""
        base = {
            "model": "zoo:vit-scenes",
            "data": {"kind": "scenes", "options": {"seed": 7}},
            "methods": ["coiba", "nib"],
            "metrics": ["insertion", "deletion"],
            "seeds": [0],
            "samples": 8,
            "batch_size": 4,
            "title": "vit-scenes",
        }
        return RunConfig.from_dict({**base, **self.config})

    def write(self, folder: Path, chunks: Sequence[int] | None = None, join: bool = True) -> Path:
        """Write the folder; with ``chunks`` only those, and without joining them."""
        run = self.run
        assert run.samples is not None
        facts = schema.header(run, self.versions)
        for name in ("parts", "samples", "whole"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        record = {
            "config": run.to_dict(),
            "fingerprint": run.fingerprint(),
            "versions": dict(self.versions),
        }
        (folder / "run.json").write_text(json.dumps(record))
        total = -(-run.samples // run.batch_size)
        rows, samples = schema.rows_schema(run, facts), schema.samples_schema(facts)
        for chunk in range(total) if chunks is None else chunks:
            size = run.batch_size
            indices = range(chunk * size, min(run.samples, (chunk + 1) * size))
            name = f"{chunk:06d}.parquet"
            _put(folder / "parts" / name, [r for i in indices for r in self.rows(i)], rows)
            _put(folder / "samples" / name, [self.sample(i) for i in indices], samples)
        if self.whole:
            keys = ("method", "seed", "metric", "value")
            entries = [dict(zip(keys, row, strict=True)) for row in self.whole]
            _put(folder / "whole" / "all.parquet", entries, schema.whole_schema(facts))
        if chunks is None and join:
            for part, name, kind in (("parts", "results", rows), ("samples", "samples", samples)):
                path = folder / f"{name}.parquet"
                with pq.ParquetWriter(path, kind, write_page_checksum=True) as writer:
                    for file in sorted((folder / part).glob("*.parquet")):
                        with pq.ParquetFile(file) as opened:
                            writer.write_table(opened.read())
        return folder

    def rows(self, index: int) -> list[dict[str, Any]]:
        """All methods and seeds of a sample."""
        if index in self.skipped:
            return []
        run = self.run
        return [
            self.row(index, line.label, seed, [m.label for m in run.metrics])
            for line in run.methods
            for seed in run.seeds
        ]

    def row(self, index: int, method: str, seed: int, metrics: Sequence[str]) -> dict[str, Any]:
        """One row; NIB's maps have both signs, all others none below 0."""
        row: dict[str, Any] = {
            "index": index,
            "sample": self.id(index),
            "method": method,
            "seed": seed,
            "seconds": 0.5,
            "peak_bytes": 1_000_000 * (index + 1),
        }
        if (index, method) in self.fails:
            return {**row, "status": "failed", "reason": "out of luck"}
        height, width = self.shape.get(method, (7, 7))
        values = blob(index, seed, height, width, signed=method == "NIB")
        row |= {"status": "ok", "map": values, "map_height": height, "map_width": width}
        if self.caption(index) is not None and "clip" in self.run.model:
            words = ["<bos>", *str(self.caption(index)).split(), "<eos>", "<pad>"]
            row |= {"tokens": words, "text_map": np.arange(len(words), dtype=np.float32)}
        for label in metrics:
            row[f"metric:{label}"] = self.score(index, method, seed, label)
            row[f"curve:{label}"] = [0.0, float(index), 1.0]
        return row

    def sample(self, index: int) -> dict[str, Any]:
        """The sample's own row."""
        row = {"index": index, "sample": self.id(index), "status": "skipped"}
        if index in self.skipped:
            return {**row, "reason": self.skipped[index]}
        picture, mask = scene(index)
        return {
            **row,
            "status": "ok",
            "thumbnail": thumbnail(picture),
            "caption": self.caption(index),
            "label": f"class {index % 3}",
            "confidence": (index % 10) / 10,
            "mask": mask_png(mask),
        }

    def id(self, index: int) -> str:
        return self.ids.get(index, f"scene-{index}")

    def caption(self, index: int) -> str | None:
        return self.captions[index % len(self.captions)] if self.captions else None


def blob(index: int, seed: int, height: int, width: int, signed: bool) -> np.ndarray:
    """``(H·W,)`` a bump whose place depends on the sample, its width on the seed."""
    y, x = np.mgrid[:height, :width] / max(1, height - 1)
    cy, cx = 0.3 + 0.4 * (index % 2), 0.2 + 0.6 * (index % 5) / 4
    values = 3 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.04 + 0.02 * seed))
    return (values - 1 if signed else values).astype(np.float32).ravel()


def scene(index: int, side: int = 64):
    """A disc on a ground: ``(3, S, S)`` in [0, 1] and the disc's mask."""
    import torch

    y, x = np.mgrid[:side, :side] / (side - 1)
    cy, cx = 0.3 + 0.4 * (index % 2), 0.2 + 0.6 * (index % 5) / 4
    mask = (y - cy) ** 2 + (x - cx) ** 2 < 0.025
    ground = np.stack([0.75 + 0.1 * x, 0.8 - 0.1 * y, 0.85 + 0 * x])
    colour = np.array([(0.85, 0.2, 0.2), (0.2, 0.4, 0.85), (0.2, 0.65, 0.3)][index % 3])
    pixels = np.where(mask, colour[:, None, None], ground)
    return torch.from_numpy(pixels).float(), mask


def _put(path: Path, rows: Sequence[Mapping[str, Any]], kind: Any) -> None:
    pq.write_table(schema.table(rows, kind), path, compression="zstd", write_page_checksum=True)
