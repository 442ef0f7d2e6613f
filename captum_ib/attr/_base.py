"""What the layer methods share: layers, reference statistics, checks of keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from captum import log as captum_log
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ib.forward.call import Call, draw_seed, prepare
from captum_ib.attr._explain import Explained, MakePrior, RunSettings, estimate, mean_map
from captum_ib.attr._priors import Prior, own_prior, reference_prior
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.models.layers import (
    CHOICES,
    LayerLike,
    NamedLayer,
    default_layers,
    resolve_layer,
)
from captum_ib.hooks import untouched
from captum_ib.layout import TokenLayout

__all__ = [
    "BottleneckAttribution",
    "finish",
    "log_usage",
    "named_layers",
    "reference_statistics",
    "run_settings",
]

_logged: Callable[..., Any] = captum_log.log_usage  # pyright: ignore[reportAttributeAccessIssue]


def log_usage() -> Callable[[Callable[..., Any]], Any]:
    """Captum's decorator of ``attribute``, around one that leaves the model as it was.

    ``NoiseTunnel`` needs the ``__wrapped__`` that Captum's leaves.
    """
    return lambda function: _logged()(untouched(function))


class BottleneckAttribution(LayerAttribution):
    """Base of IBA and CoIBA: where the bottlenecks are and what noise they use.

    Args:
        forward_func: the model, or a function that calls it.
        layers: one layer or several, as modules or dotted names; ``None`` and ``"paper"`` take
            the papers' choice for the architecture, ``"auto"`` the depth that did best in our
            measurements (:func:`captum_ib.models.layers.default_layers`).

    Attributes:
        layers: the layers as ``(name, module)``.
        statistics: what :meth:`estimate` found, or ``None``.
    """

    method: str

    def __init__(
        self, forward_func: Callable[..., Any], layers: LayerLike | Sequence[LayerLike] | None
    ) -> None:
        model = forward_func if isinstance(forward_func, nn.Module) else None
        self.layers = named_layers(model, layers, self.method)
        LayerAttribution.__init__(self, forward_func, self.layers[0][1])
        self.statistics: ActivationStatistics | None = None

    def get_name(self) -> str:
        """The class's name, e.g. ``"CoIBA"``."""
        return type(self).__name__

    @untouched
    def estimate(
        self, loader: Iterable[Any], attribute_to_layer_input: bool = False
    ) -> ActivationStatistics:
        """Estimate the noise's mean and variance from reference inputs, and keep them.

        Args:
            loader: batches; each a tensor of inputs, or a tuple or list whose first entry is the
                inputs (a tensor, or a tuple of all the model's arguments) — labels behind are
                not used.
            attribute_to_layer_input: take the layers' inputs instead of their outputs.

        Returns:
            The statistics, also kept in :attr:`statistics` and used by every later
            ``attribute`` that is given no ``baselines``.

        Raises:
            ValueError: an empty loader, or NaN in an activation.
        """
        calls = (prepare(self.forward_func, _inputs_of(batch)) for batch in loader)
        statistics = estimate(self.forward_func, calls, self.layers, attribute_to_layer_input)
        if not statistics:
            raise ValueError("the loader gave no batch, so there is nothing to estimate from")
        self.statistics = statistics
        return statistics

    def _priors(self, call: Call, baselines: object, to_input: bool) -> MakePrior:
        """Where noise and prior come from: ``baselines``, the estimate, or the sample itself."""
        statistics = self.statistics
        if baselines is not None:
            statistics = reference_statistics(call, baselines, self.layers, to_input)

        def make(
            name: str,
            activation: Tensor,
            layout: TokenLayout,
            valid: Tensor | None,
            settings: BottleneckSettings,
        ) -> Prior:
            if statistics is None:
                return own_prior(activation, layout, valid, settings)
            return reference_prior(statistics, name, activation, layout, settings)

        return make


def named_layers(
    model: nn.Module | None, layers: LayerLike | Sequence[LayerLike] | None, method: str
) -> list[NamedLayer]:
    """Given layers, or a method's own (``"paper"``, the default, or ``"auto"``), with their names.

    Raises:
        ValueError: no layer, the same one twice, an unknown name, or no default.
    """
    if layers is None or (isinstance(layers, str) and layers in CHOICES):
        if model is None:
            raise ValueError(
                "forward_func is a plain function, so there is no model to choose a default "
                "layer from; pass the layer as a module"
            )
        return default_layers(model, method, layers or "paper")
    given = [layers] if isinstance(layers, (nn.Module, str)) else list(layers)
    if not given:
        raise ValueError("given an empty sequence of layers, expected at least one")
    named = [resolve_layer(model, layer) for layer in given]
    if len({id(module) for _, module in named}) < len(named):
        raise ValueError(f"a layer is given twice: {[name for name, _ in named]}")
    return named


def reference_statistics(
    call: Call, baselines: object, layers: Sequence[NamedLayer], to_input: bool
) -> ActivationStatistics:
    """``baselines`` as statistics: given ones, or those of a batch of reference inputs.

    A tuple may hold the model's inputs only, or its inputs and all additional arguments.

    Raises:
        TypeError: a number or another kind of object.
        ValueError: a wrong number of inputs, or fewer than two references.
    """
    if isinstance(baselines, ActivationStatistics):
        return baselines
    given = baselines if isinstance(baselines, tuple) else (baselines,)
    if not all(isinstance(value, Tensor) for value in given):
        raise TypeError(
            "baselines must be a batch of reference inputs (a tensor, or a tuple of tensors like "
            "the inputs) or ActivationStatistics, given "
            f"{', '.join(type(value).__name__ for value in given)}"
        )
    tensors: tuple[Tensor, ...] = given  # pyright: ignore[reportAssignmentType]
    wanted = len(call.inputs)
    if len(tensors) not in (wanted, wanted + len(call.additional)):
        raise ValueError(
            f"baselines hold {len(tensors)} tensors, the model takes {wanted} inputs and "
            f"{len(call.additional)} additional arguments"
        )
    if tensors[0].ndim == 0 or tensors[0].shape[0] < 2:
        raise ValueError(
            f"baselines hold {tensors[0].shape[0] if tensors[0].ndim else 0} reference input(s); a "
            "standard deviation needs at least 2, and some hundred are better"
        )
    additional = tensors[wanted:] or call.additional
    reference = prepare(call.forward_func, tensors[:wanted], tuple(additional))
    return estimate(call.forward_func, [reference], layers, to_input)


def _inputs_of(batch: object) -> Tensor | tuple[Tensor, ...]:
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, (tuple, list)) and batch:
        first = batch[0]
        if isinstance(first, (Tensor, tuple)):
            return first
    raise TypeError(
        "a batch must be a tensor of inputs, or a tuple or list that starts with it, given "
        f"{type(batch).__name__}"
    )


def run_settings(
    seed: int | None,
    internal_batch_size: int | None,
    replay: bool,
    return_trace: bool,
    reduce: str,
) -> RunSettings:
    """How to carry the call out, from a method's keyword arguments.

    Raises:
        ValueError: an unknown ``reduce``.
    """
    if reduce not in ("sum", "none"):
        raise ValueError(f'reduce must be "sum" or "none", given {reduce!r}')
    return RunSettings(draw_seed(seed), internal_batch_size, replay, return_trace)


def finish(explained: Sequence[Explained], call: Call, reduce: str, return_trace: bool) -> Any:
    """What ``attribute`` returns: the mean over separate fits, wrapped as the inputs were."""
    attribution = mean_map([result.attribution(reduce) for result in explained])
    result = (attribution,) if call.tuple_in else attribution
    if not return_trace:
        return result
    traces = [entry.trace for entry in explained]
    return result, traces[0] if len(traces) == 1 else traces
