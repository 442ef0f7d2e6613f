"""Metrics with one score for all samples of a method and seed: ROAR+ and FunnyBirds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ib import metrics
from captum_ib.benchmark import schema
from captum_ib.benchmark.config import MethodConfig, MetricConfig
from captum_ib.benchmark.explainers import Explainer, Floor
from captum_ib.benchmark.judge import PROBLEMS, first_line, setting_of
from captum_ib.benchmark.metrics import over_all
from captum_ib.benchmark.store import PARTS, WHOLE, RunFolder
from captum_ib.benchmark.subjects import Subjects, plain
from captum_ib.benchmark.worker import Worker
from captum_ib.metrics.funnybirds import FunnyBirds, Responses, evaluate_funnybirds
from captum_ib.models.dual_encoder import DualEncoder

Scores = dict[str, float | None]


def evaluate_whole(worker: Worker, folder: RunFolder, show_progress: bool = False) -> list[str]:
    """Compute what is missing of the metrics over the whole set, one file per method and seed.

    Unlike the other metrics these hold all samples in memory at once: ROAR+ trains on them.

    Args:
        worker: with the model; all parts of the run are in ``folder``.
        folder: held by this process.
        show_progress: a bar per metric.

    Returns:
        A line for each method that a metric failed on; the score is null then.
    """
    from tqdm.auto import tqdm

    notes = []
    config = worker.config
    for place, column in enumerate(config.metrics):
        if column not in over_all(config.metrics):
            continue
        todo = [
            (number, seed, path)
            for number in range(len(config.methods))
            for seed in config.seeds
            if not folder.readable(
                path := folder.path / WHOLE / f"{place:03d}-{number:03d}-{seed}.parquet"
            )
        ]
        if not todo:
            continue
        judge = (
            _ROAR(worker, folder, column)
            if column.metric == "roar_plus"
            else _Birds(worker, column)
        )
        for number, seed, path in tqdm(
            todo, desc=column.label, unit="score", disable=not show_progress
        ):
            line, explainer = worker.explainers[number]
            try:
                scores = judge(line, explainer, seed)
            except PROBLEMS as error:
                scores = {column.label: None}
                notes.append(f"{column.label} failed for {line.label}: {first_line(error)}")
            rows = [
                {"method": line.label, "seed": seed, "metric": name, "value": value}
                for name, value in scores.items()
            ]
            folder.write_table(path, schema.table(rows, worker.whole_schema))
    return notes


@dataclass(frozen=True)
class _Set:
    """All samples that could be read, in order."""

    indices: list[int]
    x: np.ndarray
    y: np.ndarray


class _ROAR:
    """ROAR+ on the maps that the run stored."""

    def __init__(self, worker: Worker, folder: RunFolder, column: MetricConfig) -> None:
        self._worker, self._folder, self._column = worker, folder, column
        self._set = _all_samples(worker)

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        worker, column = self._worker, self._column
        options: dict[str, Any] = dict(column.settings)
        blank, modality = options.pop("blank", None), options.pop("modality", None)
        images, texts = self._maps(line.label, seed)
        if isinstance(worker.model, DualEncoder):
            setting = setting_of(worker.reader, worker.device, worker.model)
            assert setting.blank is not None
            options |= {
                "special_tokens": setting.special,
                "blank_token": setting.blank(blank),
                "pad_token": worker.reader.pad_id,
            }
        name = hashlib.sha256(f"{column.label}/{line.label}/{seed}".encode()).hexdigest()[:16]
        home = self._folder.path / WHOLE / f"training-{name}"
        home.mkdir(exist_ok=True)
        roar = metrics.ROARPlus(undefined="nan", seeds=(seed,), checkpoint_dir=home, **options)
        if modality == "text":
            roar.modality = "text"
            score = roar(worker.model, self._set.y, self._set.x, texts, device=str(worker.device))
        else:
            other = None if modality == "image" else texts
            score = roar(
                worker.model,
                self._set.x,
                self._set.y,
                images,
                custom_batch=other,
                device=str(worker.device),
            )
        shutil.rmtree(home)
        return {column.label: float(score[0])}

    def _maps(self, method: str, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Stored maps of the images and of the texts; a constant one where there is none."""
        place = {index: row for row, index in enumerate(self._set.indices)}
        x, y = self._set.x, self._set.y
        images = np.zeros((len(x), 1, *x.shape[2:]), dtype=np.float32)
        texts = np.zeros(y.shape, dtype=np.float32) if y.ndim == 2 else None
        names = ["index", "method", "seed", "map", "map_height", "map_width", "text_map"]
        for table in self._folder.tables(PARTS):
            for row in table.select(names).to_pylist():
                if row["method"] != method or row["seed"] != seed or row["map"] is None:
                    continue
                size = (row["map_height"], row["map_width"])
                grid = torch.tensor(row["map"]).view(1, 1, *size)
                number = place[row["index"]]
                images[number] = _resized(grid, x.shape[2:])[0].numpy()
                if texts is not None and row["text_map"] is not None:
                    texts[number, : len(row["text_map"])] = row["text_map"]
        return images, texts


class _Birds:
    """The FunnyBirds protocols; they explain pictures of their own, for classes of their own."""

    def __init__(self, worker: Worker, column: MetricConfig) -> None:
        self._worker, self._column = worker, column
        config = worker.config
        assert config.data.path is not None
        self._data = FunnyBirds(config.data.path, config.data.options.get("split", "test"))
        ids = {worker.data.id(index) for index in range(worker.count)}
        numbers = {int(name.rpartition("/")[2]) for name in ids}
        self._data.birds = [bird for bird in self._data.birds if bird.index in numbers]
        self._model = _FromPictures(worker).eval()
        self._responses = Responses(self._data, self._model, config.batch_size)
        self._known: dict[str, Scores] = {}

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        if line.label in self._known and not explainer.stochastic:
            return self._known[line.label]
        label = self._column.label
        found = evaluate_funnybirds(
            self._model,
            self._explain(explainer, seed),
            self._data,
            batch_size=self._worker.config.batch_size,
            responses=self._responses,
            device=str(self._worker.device),
            **dict(self._column.settings),
        ).as_dict()
        scores: Scores = {label: _number(found["total"])}
        scores |= {f"{label}:{name}": _number(value) for name, value in found.items()}
        self._known[line.label] = scores
        return scores

    def _explain(self, explainer: Explainer | Floor, seed: int) -> Callable[..., np.ndarray]:
        def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **kw: Any):
            pictures = torch.as_tensor(inputs).to(self._worker.device)
            ids = [
                hashlib.sha256(picture.tobytes()).hexdigest() + f"/{target}"
                for picture, target in zip(inputs, targets, strict=True)
            ]
            pixels = self._model.prepared(pictures).to(self._worker.reader.dtype)
            chosen = torch.as_tensor(targets).to(self._worker.device)
            subjects: Subjects = plain(ids, pixels, chosen)
            return explainer(subjects, seed).at(pictures.shape[2:])

        return explain


class _FromPictures(nn.Module):
    """Pictures in [0, 1] of any size → logits."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.model, self._worker = worker.model, worker

    def prepared(self, pictures: Tensor) -> Tensor:
        """Resized (bilinear, antialiased) and normalised as the model wants it."""
        loaded = self._worker.loaded
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
        reader = self._worker.reader
        output = self.model(self.prepared(pictures.to(reader.device)).to(reader.dtype))
        return getattr(output, "logits", output).float()


def _all_samples(worker: Worker) -> _Set:
    """Every sample that can be read, texts padded to the longest."""
    found: list[Subjects] = []
    for chunk in range(worker.chunks):
        groups, _ = worker.read(worker.indices(chunk))
        found += [group.part([row]) for group in groups for row in range(len(group))]
    if not found:
        raise ValueError("no sample could be read, so there is nothing to fine-tune on")
    found.sort(key=lambda subject: subject.indices)
    if len({subject.pixels.shape for subject in found}) > 1:
        raise ValueError("ROAR+ needs pictures that the model sees at one size")
    x = torch.cat([subject.pixels.float().cpu() for subject in found]).numpy()
    indices = [subject.indices[0] for subject in found]
    if found[0].targets is not None:
        return _Set(indices, x, np.array([int(_only(subject.targets)) for subject in found]))
    rows = [_only(subject.input_ids)[0].cpu() for subject in found]
    pad = worker.reader.pad_id or 0
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).numpy()
    return _Set(indices, x, ids)


def _only(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("the samples are of different kinds")
    return value


def _resized(grid: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(grid.shape[2:]) == tuple(size):
        return grid
    return F.interpolate(grid, tuple(size), mode="bilinear", align_corners=False)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def whole_files(folder: Path) -> list[Path]:
    """The files with scores over the whole set, in the order of metrics, methods and seeds."""
    return sorted((folder / WHOLE).glob("*.parquet"))
