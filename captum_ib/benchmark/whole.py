"""Metrics with one score for all samples of a method and seed: ROAR+ and FunnyBirds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ib import metrics
from captum_ib.benchmark import schema
from captum_ib.benchmark.belonging import Belonging, refusal, stamped
from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.columns import PROBLEMS, first_line
from captum_ib.benchmark.config import MethodConfig, MetricConfig
from captum_ib.benchmark.explainers import Explainer, Floor, Maps
from captum_ib.benchmark.progress import Progress
from captum_ib.benchmark.reader import Logits, Reader
from captum_ib.benchmark.store import PARTS, WHOLE, RunFolder
from captum_ib.benchmark.subjects import Subjects, plain
from captum_ib.benchmark.worker import Worker
from captum_ib.metrics.funnybirds import FunnyBirds, Responses, evaluate_funnybirds

Scores = dict[str, float | None]


def evaluate_whole(
    worker: Worker,
    folder: RunFolder,
    own: Belonging,
    data: str,
    show_progress: bool | None = False,
) -> list[str]:
    """Compute what is missing of the metrics over the whole set, one file per method and seed.

    Unlike the other metrics these hold all samples in memory at once: ROAR+ trains on them.

    Args:
        worker: with the model; all parts of the run are in ``folder``.
        folder: held by this process.
        own: what the folder's files belong to.
        data: the digest of all data.
        show_progress: as for :func:`.run`, per metric.

    Returns:
        A line for each method that a metric failed on; the score is null then.

    Raises:
        DifferentRunError: a file of scores is not the run's.
    """
    wanted = list(_wanted(worker, folder, own, data))
    known = {score.path for score in wanted}
    for path in whole_files(folder.path):
        if path not in known:
            raise refusal(path, "the run has no such metric, method or seed")
    missing = [score for score in wanted if not score.there]
    notes = []
    for place, scores in groupby(missing, lambda score: score.place):
        todo, column = list(scores), worker.config.metrics[place]
        judge = METRICS[column.metric].cls(worker, folder, column)
        with Progress(column.label, len(todo), 0, "score", show_progress) as progress:
            for score in todo:
                line, explainer = worker.explainers[score.number]
                try:
                    found = judge(line, explainer, score.seed)
                except PROBLEMS as error:
                    found = {column.label: None}
                    notes.append(f"{column.label} failed for {line.label}: {first_line(error)}")
                named = {"method": line.label, "seed": score.seed}
                rows = [{**named, "metric": name, "value": value} for name, value in found.items()]
                table = stamped(schema.table(rows, worker.whole_schema), **score.stamp)
                folder.write_table(score.path, table)
                progress.add(1, f"{line.label}, seed {score.seed}")
    return notes


class _Score(NamedTuple):
    """A score of the run: the places of its metric and method, and where it is written."""

    place: int
    number: int
    seed: int
    path: Path
    stamp: dict[str, Any]
    there: bool


def _wanted(worker: Worker, folder: RunFolder, own: Belonging, data: str) -> Iterator[_Score]:
    """All scores of the run; those that are there are checked."""
    config = worker.config
    places = [place for place, column in enumerate(config.metrics) if METRICS[column.metric].whole]
    for place, number, seed in product(places, range(len(config.methods)), config.seeds):
        # "seeds" of a metric: it takes so many of the run's, the first of them.
        if seed not in config.seeds[: config.metrics[place].settings.get("seeds")]:
            continue
        path = folder.path / WHOLE / f"{place:03d}-{number:03d}-{seed}.parquet"
        labels = {"metric": config.metrics[place].label, "method": config.methods[number].label}
        named = {**labels, "seed": seed, "data": data}
        there = folder.readable(path)
        if there:
            own.file(path, WHOLE, **named)
        yield _Score(place, number, seed, path, own.stamp(WHOLE, **named), there)


class ROAR:
    """ROAR+ on the maps that the run stored, of all samples that could be read."""

    def __init__(self, worker: Worker, folder: RunFolder, column: MetricConfig) -> None:
        self._worker, self._folder, self._column = worker, folder, column
        self._indices, self._x, self._y = _all_samples(worker)

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        """The score of a method's maps with a seed."""
        worker, label = self._worker, self._column.label
        options: dict[str, Any] = dict(self._column.settings)
        blank, modality = options.pop("blank", None), options.pop("modality", None)
        options.pop("seeds", None)
        images, texts = self._maps(line.label, seed)
        if (text := worker.reader.text) is not None:
            options |= {
                "special_tokens": text.special_ids,
                "blank_token": text.blank(blank),
                "pad_token": text.pad_id,
            }
        name = hashlib.sha256(f"{label}/{line.label}/{seed}".encode()).hexdigest()[:16]
        home = self._folder.path / WHOLE / f"training-{name}"
        home.mkdir(exist_ok=True)
        roar = metrics.ROARPlus(undefined="nan", seeds=(seed,), checkpoint_dir=home, **options)
        given: tuple[Any, ...] = (self._x, self._y, images)
        if modality == "text":
            roar.modality, given, texts = "text", (self._y, self._x, texts), None
        other = None if modality == "image" else texts
        score = roar(worker.model, *given, custom_batch=other, device=str(worker.device))
        shutil.rmtree(home)
        return {label: float(score[0])}

    def _maps(self, method: str, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Stored maps of the images and of the texts; a constant one where there is none."""
        place = {index: row for row, index in enumerate(self._indices)}
        size = self._x.shape[2:]
        images = np.zeros((len(self._x), 1, *size), dtype=np.float32)
        texts = np.zeros(self._y.shape, dtype=np.float32) if self._y.ndim == 2 else None
        names = ["index", "method", "seed", "map", "map_height", "map_width", "text_map"]
        for table in self._folder.tables(PARTS, names):
            for row in table.to_pylist():
                if row["method"] != method or row["seed"] != seed or row["map"] is None:
                    continue
                grid = torch.tensor(row["map"]).view(1, 1, row["map_height"], row["map_width"])
                number = place[row["index"]]
                images[number] = Maps(grid, None).at(size)[0]
                if texts is not None and row["text_map"] is not None:
                    texts[number, : len(row["text_map"])] = row["text_map"]
        return images, texts


class Birds:
    """The FunnyBirds protocols; they explain pictures of their own, for classes of their own."""

    def __init__(self, worker: Worker, folder: RunFolder, column: MetricConfig) -> None:
        self._worker, self._column = worker, column
        config = worker.config
        assert config.data.path is not None
        self._data = FunnyBirds(config.data.path, config.data.options.get("split", "test"))
        ids = (worker.data.id(index) for index in range(worker.count))
        numbers = {int(name.rpartition("/")[2]) for name in ids}
        self._data.birds = [bird for bird in self._data.birds if bird.index in numbers]
        self._model = FromPictures(worker.model, worker.reader).eval()
        self._responses = Responses(self._data, self._model, config.batch_size)
        self._known: dict[str, Scores] = {}

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        """The protocols' scores of a method with a seed."""
        if line.label in self._known and not explainer.stochastic:
            return self._known[line.label]
        label, worker = self._column.label, self._worker
        found = evaluate_funnybirds(
            self._model,
            self._model.explained_by(explainer, seed),
            self._data,
            batch_size=worker.config.batch_size,
            responses=self._responses,
            device=str(worker.device),
            **{key: value for key, value in self._column.settings.items() if key != "seeds"},
        ).as_dict()
        named = {label: found["total"], **{f"{label}:{name}": v for name, v in found.items()}}
        scores = {name: None if np.isnan(value) else float(value) for name, value in named.items()}
        self._known[line.label] = scores
        return scores


class FromPictures(nn.Module):
    """Pictures in [0, 1] of any size → logits, as the FunnyBirds protocols ask a model.

    Args:
        model: the classifier.
        reader: knows its preprocessing.
    """

    def __init__(self, model: nn.Module, reader: Reader) -> None:
        super().__init__()
        self.model, self._reader = Logits(model), reader

    def prepared(self, pictures: Tensor) -> Tensor:
        """Resized (bilinear, antialiased) and normalised as the model wants it."""
        loaded = self._reader.loaded
        mean, std = (
            torch.tensor(values, device=pictures.device).view(3, 1, 1)
            for values in (loaded.mean, loaded.std)
        )
        small = F.interpolate(
            pictures, loaded.image_size, mode="bilinear", antialias=True, align_corners=False
        )
        return (small - mean) / std

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits, float32."""
        return self.model(self.prepared(pictures.to(self._reader.device)))

    def explained_by(self, explainer: Explainer | Floor, seed: int) -> Callable[..., np.ndarray]:
        """A method as the protocols call it: pictures and classes → maps."""

        def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **kw: Any):
            device = self._reader.device
            pictures, chosen = (torch.as_tensor(value).to(device) for value in (inputs, targets))
            ids = [
                hashlib.sha256(picture.tobytes()).hexdigest() + f"/{target}"
                for picture, target in zip(inputs, targets, strict=True)
            ]
            pixels = self.prepared(pictures).to(self._reader.dtype)
            return explainer(plain(ids, pixels, chosen), seed).at(pictures.shape[2:])

        return explain


def _all_samples(worker: Worker) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Places, pictures and classes or ids of all samples that can be read, in order.

    Texts are padded to the longest.
    """
    found: list[Subjects] = []
    for chunk in range(worker.chunks):
        groups, _ = worker.read(worker.indices(chunk))
        found += [group.part([row]) for group in groups for row in range(len(group))]
    if not found:
        raise ValueError("no sample could be read, so there is nothing to fine-tune on")
    found.sort(key=lambda subject: subject.indices)
    if len({subject.pixels.shape for subject in found}) > 1:
        raise ValueError("ROAR+ needs pictures that the model sees at one size")
    text = worker.reader.text
    pad = 0 if text is None else text.pad_id or 0
    asked = [torch.atleast_1d(subject.question[0].cpu()) for subject in found]
    y = nn.utils.rnn.pad_sequence(asked, batch_first=True, padding_value=pad)
    y = y[:, 0] if text is None else y
    x = torch.cat([subject.pixels.float().cpu() for subject in found])
    return [subject.indices[0] for subject in found], x.numpy(), y.numpy()


def whole_files(folder: Path) -> list[Path]:
    """The files with scores over the whole set, in the order of metrics, methods and seeds."""
    return sorted((folder / WHOLE).glob("*.parquet"))
