"""Whether the parts of a run fit together, as far as can be told before the model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captum_ib import methods
from captum_ib.benchmark.catalogue import DATA, METRICS, Kind
from captum_ib.benchmark.checks import ConfigError, Where
from captum_ib.benchmark.settings import FLOOR

_WORDS = {"classifier": "a classifier", "dual": "a dual encoder"}


@dataclass(frozen=True)
class Parts:
    """The parts of a run that have to fit: names, as a file gives them."""

    model: str
    data: str
    samples: int | None
    methods: Sequence[str]
    metrics: Sequence[str]


def fit_together(run: Parts, where: Where = ()) -> None:
    """Check a run's parts against each other.

    Raises:
        ConfigError: scenes without a number of samples; a metric that needs what the data lacks; a
            method or metric that the model, one of the zoo, is not for.
    """
    if run.data == "scenes" and run.samples is None:
        raise ConfigError("scenes never end: say how many with 'samples'", where)
    kind = DATA[run.data]
    for index, metric in enumerate(run.metrics):
        here = (*where, "metrics", index)
        missing = METRICS[metric].needs & kind.lacks
        if missing:
            problem = f"{metric} needs a {' and a '.join(sorted(missing))} per sample"
            raise ConfigError(f"{problem}, which data of kind {kind.name!r} has not", here)
        if metric == "funnybirds" and kind.name != "funnybirds":
            raise ConfigError(
                f"metric funnybirds needs data of kind 'funnybirds', given {kind.name!r}", here
            )
    model = kind_of(run.model)
    if model is not None:
        _fits_model(run, model, where)


def _fits_model(run: Parts, model: Kind, where: Where) -> None:
    for index, method in enumerate(run.methods):
        if method != FLOOR and model not in methods.get(method).takes:
            fitting = ", ".join(row.name for row in methods.for_kind(model))
            problem = f"{method} does not explain {run.model}, {_WORDS[model]}"
            raise ConfigError(f"{problem}; these do: {fitting}", (*where, "methods", index))
    for index, metric in enumerate(run.metrics):
        if model not in METRICS[metric].kinds:
            problem = f"{metric} does not judge {run.model}, {_WORDS[model]}"
            fitting = ", ".join(name for name, entry in METRICS.items() if model in entry.kinds)
            raise ConfigError(f"{problem}; these do: {fitting}", (*where, "metrics", index))


def kind_of(model: str) -> Kind | None:
    """What a model of the zoo is; ``None`` for others, which have to be loaded to tell.

    >>> kind_of("zoo:clip-scenes"), kind_of("timm:vit_tiny_patch16_224")
    ('dual', None)
    """
    from captum_ib.zoo.architectures import SPECS, config_of

    name = model.removeprefix("zoo:")
    if name not in SPECS:
        return None
    return "dual" if config_of(name).get("model_type") == "clip" else "classifier"
