"""What a run is: a model, data, methods, metrics and seeds, checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar

from captum_ib.benchmark.catalogue import DATA, METRICS
from captum_ib.benchmark.checks import ConfigError, Where, one_of, plain, pydantic, repeated, told
from captum_ib.benchmark.fitting import fit_together
from captum_ib.benchmark.settings import TITLES, check, method_hints

__all__ = ["ConfigError", "DataConfig", "MethodConfig", "MetricConfig", "RunConfig"]

_NOT_NUMBERS = ("title", "device", "batch_size")  # change how a run goes, not what comes out

_CONFIG = pydantic.ConfigDict(extra="forbid")
_T = TypeVar("_T")
_Text = Annotated[str, pydantic.StringConstraints(strict=True, strip_whitespace=True, min_length=1)]
_Count = Annotated[int, pydantic.Field(strict=True, ge=1)]
_Seed = Annotated[int, pydantic.Field(strict=True, ge=0, le=2**63 - 1)]
_Method = Annotated[str, pydantic.AfterValidator(lambda name: one_of(name, TITLES))]
_Metric = Annotated[str, pydantic.AfterValidator(lambda name: one_of(name, METRICS))]
_Settings = Annotated[Mapping[str, Any], pydantic.BeforeValidator(lambda value: plain(value))]


@pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)
class DataConfig:
    """Where samples come from; see :mod:`captum_ib.benchmark.data` for what each kind reads.

    Attributes:
        kind: a name of :data:`captum_ib.benchmark.catalogue.DATA`.
        path: of the folder or file; ``None`` for scenes.
        options: of the kind; lists are tuples.
    """

    kind: Literal[
        "scenes", "folder", "table", "coco", "segmentation", "voc", "flickr30k", "funnybirds"
    ]
    path: Annotated[str, pydantic.StringConstraints(strict=True, min_length=1)] | None = None
    options: _Settings = field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        return _table(given, "kind")

    @pydantic.model_validator(mode="after")
    def _fits_kind(self) -> DataConfig:
        kind = DATA[self.kind]
        if kind.path is None and self.path is not None:
            problem = f"is {self.path!r}, but {kind.name} are generated: they have no path"
            raise ConfigError(problem, ("path",))
        if kind.path is not None and self.path is None:
            raise ConfigError(f"lacks 'path': {kind.path}", ())
        check(self.options, kind.options, f"data of kind {kind.name!r}", "options")
        return self


@pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)
class MethodConfig:
    """One line of the table.

    Attributes:
        method: name in :mod:`captum_ib.methods`, or ``"random"``, the floor.
        label: what the table calls it; unique in a run.
        settings: keywords of the constructor (``layer`` or ``layers``) and of ``attribute``.
    """

    method: _Method
    label: _Text
    settings: _Settings = field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        return _named(given, "method", TITLES)

    @pydantic.model_validator(mode="after")
    def _settings_known(self) -> MethodConfig:
        check(self.settings, method_hints(self.method), self.method, "settings")
        return self


@pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)
class MetricConfig:
    """One column of the table.

    Attributes:
        metric: its name, see :data:`captum_ib.benchmark.catalogue.METRICS`.
        label: what the table calls it; unique in a run.
        settings: keywords of the metric.
    """

    metric: _Metric
    label: _Text
    settings: _Settings = field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        return _named(given, "metric", {name: name for name in METRICS})

    @pydantic.model_validator(mode="after")
    def _settings_known(self) -> MetricConfig:
        hints = METRICS[self.metric].settings
        check(self.settings, hints, f"metric {self.metric}", "settings")
        return self


@pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)
class RunConfig:
    """A whole run. :meth:`from_dict` takes short forms, and says in one sentence what is wrong.

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

    model: _Text
    data: DataConfig
    methods: Annotated[tuple[MethodConfig, ...], pydantic.Field(min_length=1)]
    metrics: Annotated[tuple[MetricConfig, ...], pydantic.Field(min_length=1)]
    seeds: Annotated[tuple[_Seed, ...], pydantic.Field(min_length=1)] = (0,)
    samples: _Count | None = None
    batch_size: _Count = 8
    device: Annotated[str, pydantic.Field(pattern=r"^(cpu|cuda|mps|xpu)(:\d+)?$")] = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    title: Annotated[str, pydantic.StringConstraints(strict=True, strip_whitespace=True)] = ""

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> RunConfig:
        """A run from plain values, as :meth:`to_dict` gives them or a file holds them.

        A method or metric may be its name alone, ``seeds`` a single number; ``label`` defaults to
        the name of the method's class, or of the metric.

        Args:
            given: keys are the attributes above.

        Raises:
            ConfigError: an unknown key, a wrong type or value, a missing part, or parts that do not
                fit together; the message names the place, what was given and what was expected.
        """
        return validated(cls, given)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, short forms written out; :meth:`from_dict` gives the run back."""
        values = pydantic.TypeAdapter(RunConfig).dump_python(self, mode="json")
        return {"title": self.title, **values}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines the numbers: not title, device or batch size."""
        values = {key: value for key, value in self.to_dict().items() if key not in _NOT_NUMBERS}
        text = json.dumps(_whole(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    @pydantic.field_validator("methods", "metrics")
    @classmethod
    def _distinct(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        index = repeated(entry.label for entry in entries)
        if index is not None:
            problem = f"has the label {entries[index].label!r}, which is there twice"
            raise ConfigError(f"{problem}; give each a label of its own", (index,))
        return entries

    @pydantic.field_validator("seeds", mode="before")
    @classmethod
    def _lone_seed(cls, given: Any) -> Any:
        return given if isinstance(given, (list, tuple)) else (given,)

    @pydantic.field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        index = repeated(seeds)
        if index is not None:
            raise ConfigError(f"is {seeds[index]}, which is there twice", (index,))
        return seeds

    @pydantic.field_validator("title")
    @classmethod
    def _names_a_folder(cls, title: str) -> str:
        if any(sign in title for sign in '/\\:*?"<>|\0') or title.startswith("."):
            problem = f"names a folder, so it can't be {title!r}"
            raise ConfigError(f"{problem}; use letters, digits, spaces, dots and hyphens", ())
        return title

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        fit_together(self)
        return self


_PARTS = {"data": DataConfig, "methods": MethodConfig, "metrics": MetricConfig, "runs": RunConfig}


def validated(kind: type[_T], given: Any) -> _T:
    """Plain values as a dataclass of this room.

    Raises:
        ConfigError: they are none.
    """

    def keys(where: Where) -> Iterable[str]:
        names = [step for step in where if isinstance(step, str)]
        return (_PARTS[names[-1]] if names else kind).__annotations__

    try:
        return pydantic.TypeAdapter(kind).validate_python(plain(given))
    except pydantic.ValidationError as error:
        raise told(error, keys) from None


def _table(given: Any, key: str) -> Any:
    """A part given by its name alone as a table; what says nothing is left out."""
    given = {key: given} if isinstance(given, str) else given
    if not isinstance(given, Mapping):
        return given
    return {name: value for name, value in given.items() if value is not None}


def _named(given: Any, key: str, titles: Mapping[str, str]) -> Any:
    """A method or metric as a table with a label."""
    given = _table(given, key)
    if not isinstance(given, Mapping) or not isinstance(given.get(key), str):
        return given
    name = given[key].lower()
    return {"label": titles.get(name, name), **given, key: name}


def _whole(value: Any) -> Any:
    """The value with 1.0 as 1, so that both spellings of a setting are the same run."""
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
