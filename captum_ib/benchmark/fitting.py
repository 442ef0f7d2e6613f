"""Whether the parts of a run fit together, as far as can be told before the model is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from captum_ib import methods
from captum_ib.benchmark.catalogue import DATA, METRICS, Kind
from captum_ib.benchmark.checks import ConfigError, Where
from captum_ib.benchmark.settings import FLOOR

if TYPE_CHECKING:
    from captum_ib.benchmark.config import RunConfig

_WORDS = {"classifier": "a classifier", "dual": "a dual encoder"}


def fit_together(run: RunConfig, where: Where = ()) -> None:
    """Check a run's parts against each other.

    Raises:
        ConfigError: scenes without a number of samples; a metric that needs what the data lacks; a
            method or metric that the model, one of the zoo, is not for.
    """
    if run.data.kind == "scenes" and run.samples is None:
        raise ConfigError("scenes never end: say how many with 'samples'", where)
    kind = DATA[run.data.kind]
    for index, column in enumerate(run.metrics):
        here = (*where, "metrics", index)
        missing = METRICS[column.metric].needs & kind.lacks
        if missing:
            problem = f"{column.metric} needs a {' and a '.join(sorted(missing))} per sample"
            raise ConfigError(f"{problem}, which data of kind {kind.name!r} has not", here)
        if column.metric == "funnybirds" and kind.name != "funnybirds":
            raise ConfigError(
                f"metric funnybirds needs data of kind 'funnybirds', given {kind.name!r}", here
            )
    model = kind_of(run.model)
    if model is not None:
        _fits_model(run, model, where)


def _fits_model(run: RunConfig, model: Kind, where: Where) -> None:
    for index, line in enumerate(run.methods):
        if line.method != FLOOR and model not in methods.get(line.method).takes:
            fitting = ", ".join(row.name for row in methods.for_kind(model))
            problem = f"{line.method} does not explain {run.model}, {_WORDS[model]}"
            raise ConfigError(f"{problem}; these do: {fitting}", (*where, "methods", index))
    for index, column in enumerate(run.metrics):
        if model not in METRICS[column.metric].kinds:
            problem = f"{column.metric} does not judge {run.model}, {_WORDS[model]}"
            fitting = ", ".join(name for name, entry in METRICS.items() if model in entry.kinds)
            raise ConfigError(f"{problem}; these do: {fitting}", (*where, "metrics", index))


def kind_of(model: str) -> Kind | None:
    """What a model of the zoo is; ``None`` for others, which have to be loaded to tell.

    >>> kind_of("zoo:clip-scenes"), kind_of("timm:vit_tiny_patch16_224")
    ('dual', None)
    """
    zoo = import_module("captum_ib.zoo.architectures")
    name = model.removeprefix("zoo:")
    if name not in zoo.SPECS:
        return None
    return "dual" if zoo.config_of(name).get("model_type") == "clip" else "classifier"
