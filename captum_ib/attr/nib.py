"""NIB: the narrowing bottleneck, a signed path integral at one layer (Zhu et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from captum.attr import GradientAttribution, LayerAttribution
from torch import Tensor, nn

from captum_ib.attr._base import log_usage, named_layers, run_settings
from captum_ib.forward.call import Call, prepare, select, target_index
from captum_ib.attr._explain import (
    RunSettings,
    part_of_target,
    session_layouts,
    session_mask,
)
from captum_ib.attr._pairs import per_tower
from captum_ib.attr._path import Path, integrate, value_at
from captum_ib.forward.progress import progress
from captum_ib.attr._towers import pair_calls, tower_layers
from captum_ib.hooks import open_session
from captum_ib.hooks.values import require_finite
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import LayerLike, NamedLayer
from captum_ib.layout import TokenLayout


class NIB(LayerAttribution, GradientAttribution):
    """Narrowing Information Bottleneck attribution, the deterministic limit of the bottleneck.

    Without noise, the damped state runs along z̃(λ) = b + λ(z − b) at the layer's **input**, and
    A(z_i) = Σ_c ∫₀¹ ∂F/∂z̃_ic · (z_ic − b_ic) dλ (Zhu et al., eq. 8–10). Signed, in units of the
    output; the sum over all positions is F(z) − F(b) (completeness). No noise, no β, no
    optimiser: bit-identical between runs.

    On a :class:`~captum_ib.models.dual_encoder.DualEncoder`, ``inputs`` is a pair and so is the
    result; F is the cosine similarity.

    Args:
        forward_func: the model, a function that calls it, or a ``DualEncoder``.
        layer: module or dotted name; for a ``DualEncoder`` one per tower. Default, and
            ``"paper"``: block ⌊0.75 · depth⌋ (9 of 12); ``"auto"``: see docs/layers.md.

    >>> import torch
    >>> from captum_ib import NIB
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False))
    >>> x = torch.rand(5, 4)
    >>> attribution, delta = NIB(model, "1").attribute(x, target=0, return_convergence_delta=True)
    >>> attribution.shape, bool((delta.abs() < 1e-6).all())
    (torch.Size([5, 3]), True)
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        if isinstance(forward_func, DualEncoder):
            self.layers = tower_layers(forward_func, layer, "nib")
        else:
            model = forward_func if isinstance(forward_func, nn.Module) else None
            self.layers = named_layers(model, layer, "nib")
            if len(self.layers) != 1:
                raise ValueError(f"NIB takes one layer, given {len(self.layers)}")
        LayerAttribution.__init__(self, forward_func, self.layers[0][1])
        GradientAttribution.__init__(self, forward_func)

    def get_name(self) -> str:
        """``"NIB"``."""
        return type(self).__name__

    def has_convergence_delta(self) -> bool:
        """Whether ``return_convergence_delta`` is offered: yes."""
        return True

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: float | Tensor | Sequence[float | Tensor] | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 10,
        method: str = "riemann_right",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = True,
        *,
        power: float = 1.0,
        layout: TokenLayout | None = None,
        reduce: Literal["sum", "none"] = "sum",
        replay: bool = True,
        show_progress: bool = False,
    ) -> Any:
        """Signed attribution per position of the layer.

        Args:
            inputs: tensor or tuple of tensors, samples on axis 0; for a ``DualEncoder`` a pair.
            baselines: where the path starts, at the layer: a number, or a tensor that broadcasts
                to the layer's activation; default 0 (Zhu et al.). For a ``DualEncoder`` also a
                sequence, one per tower.
            target: output to explain, in any of Captum's forms; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            n_steps: points on the path (Zhu et al.: 10).
            method: ``riemann_right`` (the paper), or another of Captum's approximations.
            internal_batch_size: most rows (samples · points) per forward pass.
            return_convergence_delta: also return Σ A − (F(z) − F(b)), ``(N,)``, which includes
                tokens that the map leaves out; for a ``DualEncoder`` one per tower.
            attribute_to_layer_input: ``False`` takes the layer's output instead.
            power: crowd the points at the baseline, λ = u^power; 1 is the paper's even spacing.
                The integral is the same, but behind layer normalisations F changes mostly at tiny
                λ: with many steps 4 brings the convergence delta down (docs/methods/nib.md).
            layout: the layer's axes, where they can't be inferred.
            reduce: ``"sum"`` over channels, or ``"none"``.
            replay: compute only once what does not depend on the layer.
            show_progress: show a progress bar.

        Returns:
            ``(N, 1, h, w)``, ``(N, T)`` or ``(N, C)``; layer-shaped with ``reduce="none"``; in a
            tuple when ``inputs`` is one.

        Raises:
            ValueError: NaN in inputs, activations or the result; a baseline that does not fit; an
                unknown method; a target out of range.
            TypeError: arguments of a wrong type.
            RuntimeError: the output doesn't depend on the layer.
        """
        run = run_settings(0, internal_batch_size, replay, False, reduce)
        path = _PathMethod(
            Path.of(n_steps, method, power), run, attribute_to_layer_input, layout, reduce
        )
        if isinstance(self.forward_func, DualEncoder):
            calls = pair_calls(self.forward_func, inputs, additional_forward_args)
            total = n_steps * sum(path.chunks(call.n) for call in calls)
            with progress(total, self.get_name(), show_progress) as tick:
                sides = zip(calls, self.layers, per_tower(baselines, "baselines"), strict=True)
                results = [path.run(call, layer, None, base, tick) for call, layer, base in sides]
            maps, deltas = tuple(zip(*results, strict=True))
            return (maps, deltas) if return_convergence_delta else maps
        call = prepare(self.forward_func, inputs, additional_forward_args)
        with progress(n_steps * path.chunks(call.n), self.get_name(), show_progress) as tick:
            attribution, delta = path.run(call, self.layers[0], target, baselines, tick)
        result = (attribution,) if call.tuple_in else attribution
        return (result, delta) if return_convergence_delta else result


@dataclass(frozen=True)
class _PathMethod:
    """The path integral on one forward function, some samples at a time."""

    path: Path
    settings: RunSettings
    to_input: bool
    layout: TokenLayout | None
    reduce: str

    def chunks(self, n: int) -> int:
        return -(-n // self.settings.samples_at_once(n, 1))

    def run(
        self,
        call: Call,
        layer: NamedLayer,
        target: Any,
        baseline: Any,
        tick: Callable[[int], object] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attribution and convergence delta of all samples."""
        size = self.settings.samples_at_once(call.n, 1)
        parts = []
        for start in range(0, call.n, size):
            stop = min(start + size, call.n)
            wanted = part_of_target(target, call.n, start, stop)

            def begin(activation: Tensor, rows: slice = slice(start, stop)) -> Tensor:
                return baseline_at(baseline, activation, layer[0], rows, call.n)

            parts.append(self._run(call.part(start, stop), layer, wanted, begin, tick))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _run(
        self,
        call: Call,
        layer: NamedLayer,
        target: Any,
        begin: Callable[[Tensor], Tensor],
        tick: Callable[[int], object] | None,
    ) -> tuple[Tensor, Tensor]:
        name, module = layer
        rows = self.settings.internal_batch_size
        at_once = len(self.path.points) if rows is None else max(1, rows // call.n)
        with open_session(
            call.forward_func,
            call.run,
            [module],
            [name],
            call.n,
            self.to_input,
            self.settings.replay,
        ) as session:
            index = target_index(target, session.output)
            (layout,) = session_layouts(call, session, self.layout)
            start = begin(session.activations[0])
            values = integrate(session, start, self.path, index, at_once, tick)
            end = select(session.output, index)
            delta = values.flatten(1).sum(dim=1) - (end - value_at(session, start, index))
            valid = session_mask(call, session, layout)
        require_finite(values, f"the attribution at layer {name}")
        if valid is not None:
            values = values * valid.unsqueeze(layout.channel_axis)
        return values if self.reduce == "none" else layout.attribution(values), delta


def baseline_at(baseline: Any, activation: Tensor, name: str, rows: slice, n: int) -> Tensor:
    """The start of the path at a layer, shaped like its activation, float32.

    ``activation`` holds the samples ``rows`` of ``n``; so does a baseline that has one per sample.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a tensor that does not broadcast to the activation, NaN or inf.
    """
    if baseline is None:
        baseline = 0.0
    if isinstance(baseline, bool) or not isinstance(baseline, (int, float, Tensor)):
        raise TypeError(
            "baselines must be a number or a tensor shaped like the layer's activation, given "
            f"{type(baseline).__name__}"
        )
    value = torch.as_tensor(baseline, dtype=torch.float32, device=activation.device)
    require_finite(value, "baselines")
    if value.ndim == activation.ndim and value.shape[0] == n:
        value = value[rows]
    try:
        return value.detach().expand_as(activation)
    except RuntimeError as error:
        raise ValueError(
            f"baselines of shape {tuple(value.shape)} do not broadcast to the activation of layer "
            f"{name}, {tuple(activation.shape)}"
        ) from error
