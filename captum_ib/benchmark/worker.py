"""One process's share of a run: it holds the model, and turns a chunk of samples into tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from captum_ib.benchmark import schema
from captum_ib.benchmark.arrow import pa
from captum_ib.benchmark.belonging import combined, sample_digest, stamped
from captum_ib.benchmark.columns import PROBLEMS, Case, Judge, first_line
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.data import UnreadableSampleError, open_data
from captum_ib.benchmark.explainers import Explainer, Floor, Maps, make_explainer
from captum_ib.benchmark.memory import measured
from captum_ib.benchmark.pictures import mask_png, thumbnail
from captum_ib.benchmark.reader import Reader
from captum_ib.benchmark.store import PARTS, SAMPLES
from captum_ib.benchmark.subjects import Subjects, join
from captum_ib.explaining.choices import device_of, dtype_of
from captum_ib.loading.load import load
from captum_ib.models.dual_encoder import DualEncoder

Row = dict[str, Any]
Through = Callable[[int, int, str, Callable[[], pa.Table]], pa.Table]


@dataclass(frozen=True)
class Evaluated:
    """What a worker made of a chunk.

    Attributes:
        chunk: its number.
        rows: one row per sample, method and seed; see :func:`.schema.rows_schema`.
        samples: one row per sample, the unreadable ones too.
    """

    chunk: int
    rows: pa.Table
    samples: pa.Table


class Worker:
    """Holds the model, the data, the methods and the metrics of a run.

    A chunk is ``batch_size`` samples; chunk c holds the samples from c · ``batch_size`` on. No
    number depends on ``batch_size``, on which samples share a chunk, or on the chunks before.

    Args:
        config: the run. It can be pickled, so that workers can be made in other processes.

    Attributes:
        count: samples of the run.

    Raises:
        ValueError, OSError, RuntimeError: the model, the data or a setting does not work.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.device, dtype = device_of(config.device), dtype_of(config.dtype)
        self.loaded = load(config.model)
        if "image" not in self.loaded.modalities or self.loaded.kind == "generator":
            what = f"takes {' and '.join(self.loaded.modalities)}"
            what = "answers questions" if self.loaded.kind == "generator" else what
            raise ValueError(
                f"{self.loaded.name} {what}; the benchmark is for classifiers of pictures, and for "
                "models that compare pictures with text"
            )
        self.model = self.loaded.model.to(device=self.device, dtype=dtype).eval()
        if self.loaded.kind == "dual":
            try:
                self.model = DualEncoder.from_model(self.loaded.model)
            except TypeError as error:  # the user's mistake is the name of the model
                raise ValueError(str(error)) from error
        self.reader = Reader(self.loaded, self.model, self.device, dtype)
        self.data = open_data(config.data, self.loaded)
        self.count = min(len(self.data), config.samples or len(self.data))
        self.judge = Judge(config.metrics, self.reader)
        self.explainers = [(line, make_explainer(line, self.model)) for line in config.methods]
        facts = schema.header(config, schema.versions())
        self.rows_schema = schema.rows_schema(config, facts)
        self.samples_schema = schema.samples_schema(facts)
        self.whole_schema = schema.whole_schema(facts)

    @property
    def chunks(self) -> int:
        """How many chunks the run has."""
        return -(-self.count // self.config.batch_size)

    def indices(self, chunk: int) -> range:
        """The places of a chunk's samples in the data."""
        size = self.config.batch_size
        return range(chunk * size, min(self.count, (chunk + 1) * size))

    def digest(self, chunk: int) -> str:
        """The digest of a chunk's data: pictures, labels, captions, masks, words and ids."""
        found = []
        for index in self.indices(chunk):
            try:
                sample = self.data.read(index)
            except ValueError:
                sample = None
            found.append(sample_digest(self.data.id(index), sample))
        return combined(found)

    def evaluate(self, chunk: int, through: Through | None = None) -> Evaluated:
        """All methods with all seeds on a chunk.

        Args:
            chunk: its number.
            through: ``through(chunk, order, data, rows)`` gives the rows of a method, by its place
                in the run, from ``rows()``, or as it kept them; ``data`` is the samples' digest.
        """
        groups, samples = self.read(self.indices(chunk))
        data = combined(row["digest"] for row in samples)
        parts = []
        for order in range(len(self.explainers)):
            rows = partial(self._method, order, groups)
            parts.append(rows() if through is None else through(chunk, order, data, rows))
        stamp = {"run": self.config.fingerprint(), "chunk": chunk, "data": data}
        return Evaluated(
            chunk,
            stamped(_by_sample(parts), kind=PARTS, **stamp),
            stamped(schema.table(samples, self.samples_schema), kind=SAMPLES, **stamp),
        )

    def _method(self, order: int, groups: Sequence[Subjects]) -> pa.Table:
        """All rows of one method, by its place in the run."""
        line, explainer = self.explainers[order]
        made = (part for group in groups for part in self._seeds(explainer, group))
        rows = [{**row, "method": line.label} for part in made for row in part]
        return schema.table(rows, self.rows_schema)

    def read(self, indices: Iterable[int]) -> tuple[list[Subjects], list[Row]]:
        """Samples in groups of one shape, and a row for each, the unreadable ones too."""
        groups: dict[Any, list[Subjects]] = {}
        rows: list[Row] = []
        for index in indices:
            row: Row = {"index": index, "sample": self.data.id(index), "status": "skipped"}
            rows.append(row)
            sample = None
            try:
                sample = self.data.read(index)
                subject, facts = self.reader(index, sample)
            except UnreadableSampleError as error:
                row["reason"] = error.reason
            except ValueError as error:  # words or classes that the model does not know
                row["reason"] = first_line(error)
            else:
                row.update(facts, status="ok", **self._pictures(subject))
                shape = (subject.pixels.shape, subject.question.shape)
                groups.setdefault(shape, []).append(subject)
            row["digest"] = sample_digest(row["sample"], sample)
        return [join(group) for group in groups.values()], rows

    def _pictures(self, subject: Subjects) -> Row:
        """What the model saw, and where it should have looked."""
        truth = mask_png(subject.truth[0]) if subject.truth.any() else None
        return {"thumbnail": thumbnail(self.loaded.picture(subject.pixels[0])), "mask": truth}

    def _seeds(self, explainer: Explainer | Floor, subjects: Subjects) -> Iterator[list[Row]]:
        """Rows for every seed; a method that draws no noise is computed once for all of them."""
        seeds = self.config.seeds
        if explainer.stochastic:
            yield from (self.rows(explainer, subjects, seed) for seed in seeds)
        else:
            rows = self.rows(explainer, subjects, seeds[0])
            yield [{**row, "seed": seed} for row in rows for seed in seeds]

    def rows(self, explainer: Explainer | Floor, subjects: Subjects, seed: int) -> list[Row]:
        """Rows of one method with one seed; a batch that fails is done sample by sample."""
        started, problem, maps = time.perf_counter(), None, None
        with measured(self.device) as peak:
            try:
                maps = self._explained(explainer, subjects, seed)
            except PROBLEMS as error:
                problem = first_line(error)
        if maps is None and len(subjects) > 1:
            singles = (subjects.part([row]) for row in range(len(subjects)))
            return [row for single in singles for row in self.rows(explainer, single, seed)]
        seconds = (time.perf_counter() - started) / len(subjects)
        rows = [
            {
                "index": subjects.indices[row],
                "sample": subjects.ids[row],
                "seed": seed,
                "seconds": seconds,
                "peak_bytes": peak.bytes,
                "tokens": subjects.tokens and list(subjects.tokens[row]),
                **_stored(maps, row, problem),
            }
            for row in range(len(subjects))
        ]
        good = [number for number, row in enumerate(rows) if row["status"] == "ok"]
        if maps is not None and good:
            case = Case(
                subjects.part(good),
                maps.part(good),
                lambda other, model: explainer(other, seed, model),
            )
            self.judge(case, [rows[number] for number in good])
        return rows

    def _explained(self, explainer: Explainer | Floor, subjects: Subjects, seed: int) -> Maps:
        # A method that draws from the global generator is governed by the seed all the same.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return explainer(subjects, seed)


def _by_sample(parts: Sequence[pa.Table]) -> pa.Table:
    """The rows of several methods, ordered by sample, then method, then seed."""
    rows = pa.concat_tables(parts)
    order = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
    return rows.take(np.lexsort((rows["seed"].to_numpy(), order, rows["index"].to_numpy())))


def _stored(maps: Maps | None, row: int, problem: str | None) -> Row:
    """A map, if there is one, and whether it can be judged."""
    if maps is None:
        return {"status": "failed", "reason": problem}
    image, problem = maps.image[row, 0], maps.problem(row)
    return {
        "status": "failed" if problem else "ok",
        "reason": problem,
        "map": image.flatten().numpy(),
        "map_height": image.shape[0],
        "map_width": image.shape[1],
        "text_map": None if maps.text is None else maps.text[row].numpy(),
    }
