"""What a run is: a model, data, methods, metrics and seeds, checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from captum_ib.benchmark import checks
from captum_ib.benchmark.catalogue import DATA, METRICS
from captum_ib.benchmark.checks import ConfigError, Where, place

__all__ = ["ConfigError", "DataConfig", "MethodConfig", "MetricConfig", "RunConfig"]

DataName = Literal["scenes", "folder", "table", "coco", "funnybirds"]
DTYPES = ("float32", "bfloat16", "float16")

_NOT_NUMBERS = ("title", "device", "batch_size")  # change how a run goes, not what comes out


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from; see :mod:`captum_ib.benchmark.data` for what each kind reads.

    Attributes:
        kind: ``"scenes"``, ``"folder"``, ``"table"``, ``"coco"`` or ``"funnybirds"``.
        path: of the folder or file; ``None`` for scenes.
        options: of the kind; lists are tuples.
    """

    kind: DataName
    path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodConfig:
    """One line of the table.

    Attributes:
        method: name in :mod:`captum_ib.methods`, or ``"random"``, the floor.
        label: what the table calls it; unique in a run.
        settings: keywords of the constructor (``layer`` or ``layers``) and of ``attribute``.
    """

    method: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricConfig:
    """One column of the table.

    Attributes:
        metric: its name, see :data:`captum_ib.benchmark.catalogue.METRICS`.
        label: what the table calls it; unique in a run.
        settings: keywords of the metric.
    """

    metric: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """A whole run. Build it with :meth:`from_dict`, which checks everything.

    Attributes:
        model: as ``captum_ib.loading.load`` takes it, e.g. ``"zoo:vit-scenes"``.
        data: where samples come from.
        methods: the lines of the table.
        metrics: its columns.
        seeds: of the noise; every stochastic method runs once with each.
        samples: how many, at most; ``None`` for all there are.
        batch_size: samples that go through the model at once; changes no number.
        device: torch device.
        dtype: of the model, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        title: names the run's folder when there are several, and heads its tables.

    >>> run = RunConfig.from_dict(
    ...     {
    ...         "model": "zoo:vit-scenes",
    ...         "data": {"kind": "scenes", "options": {"seed": 7}},
    ...         "methods": ["coiba", {"method": "iba", "settings": {"layer": "blocks.2"}}],
    ...         "metrics": ["insertion", "deletion"],
    ...         "samples": 8,
    ...     }
    ... )
    >>> [method.label for method in run.methods], run.seeds
    (['CoIBA', 'IBA'], (0,))
    """

    model: str
    data: DataConfig
    methods: tuple[MethodConfig, ...]
    metrics: tuple[MetricConfig, ...]
    seeds: tuple[int, ...] = (0,)
    samples: int | None = None
    batch_size: int = 8
    device: str = "cpu"
    dtype: str = "float32"
    title: str = ""

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], where: Where = ()) -> RunConfig:
        """A run from plain values, as :meth:`to_dict` gives them or a file holds them.

        A method or metric may be its name alone, ``seeds`` a single number; ``label`` defaults to
        the name of the method's class, or of the metric.

        Args:
            given: keys are the attributes above.
            where: the way to ``given`` in a larger file, for messages.

        Raises:
            ConfigError: an unknown key, a wrong type or value, a missing part, or parts that do not
                fit together; the message names the place, what was given and what was expected.
        """
        values = checks.table(given, where, cls.__dataclass_fields__)
        for key in ("model", "data", "methods", "metrics"):
            if key not in values:
                raise ConfigError(f"{place(where)} lacks {key!r}", where)
        run = cls(
            model=checks.text(values["model"], (*where, "model")).strip(),
            data=_data(values["data"], (*where, "data")),
            methods=_methods(values["methods"], (*where, "methods")),
            metrics=_metrics(values["metrics"], (*where, "metrics")),
            seeds=_seeds(values.get("seeds", 0), (*where, "seeds")),
            samples=_optional(values.get("samples"), (*where, "samples")),
            batch_size=checks.whole(values.get("batch_size", 8), (*where, "batch_size"), 1),
            device=_device(values.get("device", "cpu"), (*where, "device")),
            dtype=checks.one_of(values.get("dtype", "float32"), (*where, "dtype"), DTYPES),
            title=_title(values.get("title", ""), (*where, "title")),
        )
        run._require_fit(where)
        return run

    def _require_fit(self, where: Where) -> None:
        from captum_ib.benchmark.fitting import Parts, fit_together

        names = [line.method for line in self.methods], [column.metric for column in self.metrics]
        fit_together(Parts(self.model, self.data.kind, self.samples, *names), where)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, short forms written out; :meth:`from_dict` gives the run back."""
        return {
            "title": self.title,
            "model": self.model,
            "data": {
                "kind": self.data.kind,
                "path": self.data.path,
                "options": checks.unfreeze(self.data.options),
            },
            "methods": [_entry("method", line, line.method) for line in self.methods],
            "metrics": [_entry("metric", column, column.metric) for column in self.metrics],
            "seeds": list(self.seeds),
            "samples": self.samples,
            "batch_size": self.batch_size,
            "device": self.device,
            "dtype": self.dtype,
        }

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines the numbers: not title, device or batch size."""
        values = {key: value for key, value in self.to_dict().items() if key not in _NOT_NUMBERS}
        text = json.dumps(_whole(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _entry(key: str, part: MethodConfig | MetricConfig, name: str) -> dict[str, Any]:
    return {key: name, "label": part.label, "settings": checks.unfreeze(part.settings)}


def _whole(value: Any) -> Any:
    """The value with 1.0 as 1, so that both spellings of a setting are the same run."""
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _data(given: Any, where: Where) -> DataConfig:
    from captum_ib.benchmark.settings import check

    values = checks.table({"kind": given} if isinstance(given, str) else given, where, _DATA_KEYS)
    if "kind" not in values:
        raise ConfigError(f"{place(where)} lacks 'kind', one of {', '.join(DATA)}", where)
    kind = DATA[checks.one_of(values["kind"], (*where, "kind"), DATA)]
    path = values.get("path")
    if path is not None:
        path = checks.text(path, (*where, "path"))
        if kind.path is None:
            raise ConfigError(f"{kind.name} are generated: they have no path", (*where, "path"))
    elif kind.path is not None:
        raise ConfigError(f"{place(where)} lacks 'path': {kind.path}", where)
    given, place_of = values.get("options"), (*where, "options")
    hints, owner = kind.options, f"data of kind {kind.name!r}"
    options = check({} if given is None else given, place_of, hints, owner)
    for key in kind.requires:
        if key not in options:
            raise ConfigError(f"{owner} needs the option {key!r}", where)
    return DataConfig(
        kind=kind.name,  # pyright: ignore[reportArgumentType] - a key of DATA
        path=path,
        options=options,
    )


_DATA_KEYS = ("kind", "path", "options")


def _methods(given: Any, where: Where) -> tuple[MethodConfig, ...]:
    from captum_ib.benchmark.settings import method_names, method_settings, method_title

    result: list[MethodConfig] = []
    for index, entry in enumerate(checks.items(given, where)):
        here = (*where, index)
        name, label, settings = _named(entry, "method", method_names(), here)
        checked = method_settings(name, settings, (*here, "settings"))
        result.append(MethodConfig(name, label or method_title(name), checked))
    _distinct(result, where)
    return tuple(result)


def _metrics(given: Any, where: Where) -> tuple[MetricConfig, ...]:
    from captum_ib.benchmark.settings import check

    result: list[MetricConfig] = []
    for index, entry in enumerate(checks.items(given, where)):
        here = (*where, index)
        name, label, settings = _named(entry, "metric", METRICS, here)
        hints = METRICS[name].settings
        checked = check(settings, (*here, "settings"), hints, f"metric {name}")
        result.append(MetricConfig(name, label or name, checked))
    _distinct(result, where)
    return tuple(result)


def _named(
    entry: Any, key: str, known: Mapping[str, Any] | Sequence[str], where: Where
) -> tuple[str, str | None, Any]:
    """Name, label and settings of a method or metric, given as a table or as its name alone."""
    values = {key: entry} if isinstance(entry, str) else entry
    values = checks.table(values, where, (key, "label", "settings"))
    if key not in values:
        raise ConfigError(f"{place(where)} lacks {key!r}", where)
    at = where if isinstance(entry, str) else (*where, key)
    given = values[key]
    name = checks.one_of(given.lower() if isinstance(given, str) else given, at, known)
    label, settings = values.get("label"), values.get("settings")
    label = None if label is None else checks.text(label, (*where, "label")).strip()
    return name, label, {} if settings is None else settings


def _distinct(entries: Sequence[MethodConfig | MetricConfig], where: Where) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.label in seen:
            problem = f"{place((*where, index))} has the label {entry.label!r} of {{}}"
            first = place((*where, seen[entry.label]))
            mend = "; give each a label of its own"
            raise ConfigError(problem.format(first) + mend, (*where, index))
        seen[entry.label] = index


def _seeds(given: Any, where: Where) -> tuple[int, ...]:
    entries = checks.items(given if isinstance(given, (list, tuple)) else [given], where)
    seeds: list[int] = []
    for index, entry in enumerate(entries):
        here = (*where, index) if isinstance(given, (list, tuple)) else where
        seed = checks.whole(entry, here, 0, 2**63 - 1)
        if seed in seeds:
            raise ConfigError(f"{place(here)} is {seed}, which is there twice", here)
        seeds.append(seed)
    return tuple(seeds)


def _optional(given: Any, where: Where) -> int | None:
    return None if given is None else checks.whole(given, where, 1)


def _device(given: Any, where: Where) -> str:
    """A device by its name; whether this machine has it shows when the run starts."""
    name = checks.text(given, where).strip()
    if name.split(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        raise ConfigError(f"{place(where)} must be cpu, cuda, cuda:1 or mps, given {name!r}", where)
    return name


def _title(given: Any, where: Where) -> str:
    """A title that can name a folder."""
    if not isinstance(given, str):
        raise checks.wrong("text", given, where)
    title = given.strip()
    if any(sign in title for sign in '/\\:*?"<>|\0') or title.startswith("."):
        problem = f"{place(where)} names a folder, so it can't be {given!r}"
        raise ConfigError(f"{problem}; use letters, digits, spaces, dots and hyphens", where)
    return title
