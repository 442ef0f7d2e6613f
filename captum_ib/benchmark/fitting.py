"""Whether the parts of a run fit together, as far as can be told before the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib import methods
from captum_ib.benchmark.catalogue import DATA, METRICS, Kind
from captum_ib.benchmark.checks import ConfigError
from captum_ib.benchmark.settings import FLOOR

if TYPE_CHECKING:
    from captum_ib.benchmark.config import RunConfig


def fit_together(run: RunConfig) -> None:
    """Check a run's parts against each other.

    Raises:
        ConfigError: scenes without a number of samples, data without an option that they need; a
            metric that needs what the data lacks; a method or metric that the model, one of the
            zoo, is not for.
    """
    data, model = DATA[run.data.kind], kind_of(run.model)
    if data.name == "scenes" and run.samples is None:
        raise ConfigError("lacks 'samples': scenes never end, say how many", ())
    for key in data.requires:
        if key not in run.data.options:
            raise ConfigError(f"of kind {data.name!r} needs the option {key}", ("data",))
    known = f"{run.model}, a {'dual encoder' if model == 'dual' else 'classifier'}; these do: "
    for index, name in enumerate(line.method for line in run.methods):
        if name != FLOOR and model is not None and model not in methods.get(name).takes:
            known += ", ".join(row.name for row in methods.for_kind(model))
            raise ConfigError(f"is {name}, which does not explain {known}", ("methods", index))
    for index, entry in enumerate(METRICS[column.metric] for column in run.metrics):
        problem = ""
        if entry.needs & data.lacks:
            needed = " and a ".join(sorted(entry.needs & data.lacks))
            problem = f"needs a {needed} per sample; data of kind {data.name!r} has none"
        elif entry.name == "funnybirds" != data.name:
            problem = f"needs data of that kind, given {data.name!r}"
        elif model is not None and model not in entry.kinds:
            known += ", ".join(name for name, other in METRICS.items() if model in other.kinds)
            problem = f"does not judge {known}"
        if problem:
            raise ConfigError(f"is {entry.name}, which {problem}", ("metrics", index))


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
