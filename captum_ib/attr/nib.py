"""NIB: the narrowing bottleneck, a signed path integral at one layer (Zhu et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from captum.attr import (  # pyright: ignore[reportMissingTypeStubs]: it has none
    GradientAttribution,
    LayerAttribution,
)
from torch import Tensor

from captum_ib.attr.path import Path, Start, baseline_at, called, require_even, require_whole
from captum_ib.checks import BatchSize, require_choice, require_finite
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import (
    Call,
    Inputs,
    Named,
    Tick,
    as_given,
    calls_of,
    in_parts,
    log_usage,
    one_layer_each,
    per_call,
    progress,
    require_one_device,
    samples_at_once,
    sequence_mask,
    session_layouts,
    session_of,
)
from captum_ib.hooks import Session
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import LayerLike

if TYPE_CHECKING:
    from captum_ib.attr.options import NIBOptions, Unpack

Baseline = float | Tensor
Baselines = Baseline | Sequence[Baseline] | Callable[..., Baseline | Sequence[Baseline]] | None


class OnPath:
    """The paper's equations, for some samples; z is the layer's state, b the path's start.

    Args:
        call: the samples; ``call.score`` is F.
        session: the model, borrowed.
        start: b, as the user gave it.
        layout: the layer's axes, where they can't be inferred.
    """

    def __init__(
        self, call: Call, session: Session, start: Start, layout: TokenLayout | None
    ) -> None:
        self.call, self.session = call, session
        (self.layout,) = session_layouts(call, session, layout)
        self.z = session.activations[0]
        self.b = baseline_at(start, self.z, session.names[0])

    def integral(
        self, path: Path, rows: BatchSize = None, tick: Tick | None = None
    ) -> tuple[Tensor, Tensor]:
        """A(z_i) = ∫₀¹ ∂F/∂z̃_i · (z_i − b_i) dλ (eq. 8–10), layer-shaped; and Σ A − (F(z) − F(b)).

        As many points of all samples go through the model as one batch as ``rows`` allow.
        """
        direction = self.z.float() - self.b
        total = torch.zeros_like(direction)
        sizes: list[Tensor] = []
        at_once = samples_at_once(len(path.points), rows, self.call.n)
        for start in range(0, len(path.points), at_once):
            some = slice(start, start + at_once)
            lam = torch.tensor(path.points[some], device=total.device, dtype=torch.float32)
            weights = torch.tensor(path.weights[some], device=total.device, dtype=torch.float32)
            state = self.b + lam.reshape(-1, *[1] * self.z.ndim) * direction  # z̃ = b + λ(z − b)
            gradient = self._gradient(state)
            total += torch.einsum("k,k...->...", weights, gradient)
            sizes.append((gradient * direction).abs().flatten(2).sum(dim=2))
            if tick is not None:
                tick(len(lam))
        require_even(path, torch.cat(sizes), self.session.names[0])
        A = total * direction
        require_finite(A, f"the attribution at layer {self.session.names[0]}")
        delta = A.flatten(1).sum(dim=1) - self.gain()
        valid = sequence_mask(self.call, self.z, self.layout)
        return A if valid is None else A * valid.unsqueeze(self.layout.channel_axis), delta

    def gain(self) -> Tensor:
        """F(z) − F(b), ``(N,)``."""
        with torch.no_grad():
            return self.call.score(self.session.output) - self._score(self.b.unsqueeze(0))

    def _gradient(self, state: Tensor) -> Tensor:
        """∂F/∂z̃ at states ``(K, N, …)``, float32."""
        state = state.to(self.z.dtype).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._score(state).sum(), state)
        return gradient.float()

    def _score(self, state: Tensor) -> Tensor:
        """F at states ``(K, N, …)``, ``(K · N,)``."""
        rows = state.flatten(0, 1).to(self.z.dtype)
        return self.call.score(self.session.run(len(state), lambda _, activation: rows.clone()))


class NIB(Named, LayerAttribution, GradientAttribution):
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
        device_ids: taken as Captum's layer methods take it; of one device, where the model is.

    >>> import torch
    >>> from captum_ib import NIB
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False))
    >>> x = torch.rand(5, 4)
    >>> attribution, delta = NIB(model, "1").attribute(x, target=0, return_convergence_delta=True)
    >>> attribution.shape, bool((delta.abs() < 1e-6).all())
    (torch.Size([5, 3]), True)
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual", "generator"}),
        unit=OUTPUT,
        signed=True,
        paper="Zhu et al., ICLR 2025",
        description="share of the output, along the path on which the layer's input fades out",
        passes="10 steps, forward and backward, behind the layer",
        layers="many",
        options={"steps": "n_steps"},
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike] | None = None,
        device_ids: Sequence[int] | None = None,
    ) -> None:
        require_one_device(device_ids)
        self.layers = one_layer_each(forward_func, layer, "NIB")
        layered: Any = LayerAttribution  # Captum types no constructor
        graded: Any = GradientAttribution
        layered.__init__(self, forward_func, self.layers[0][1])
        graded.__init__(self, forward_func)

    def has_convergence_delta(self) -> bool:
        """Whether ``return_convergence_delta`` is offered: yes."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether gradients are multiplied with what they belong to, here z − b: yes."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        start_point: Baselines,
        end_point: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        attribute_to_layer_input: bool = True,
        layout: TokenLayout | None = None,
    ) -> Any:
        """Σ A − (F(z) − F(b)) of maps that ``attribute`` returned.

        The path lies at the layer, so ``start_point`` is what ``baselines`` was, and ``end_point``
        the inputs. Where a map leaves out tokens (class tokens, registers), their part of the sum
        is not known: give maps of ``reduce="none"``, or use ``return_convergence_delta=True``.

        Args:
            attributions: the map, for a ``DualEncoder`` both.
            start_point: b, as ``baselines``.
            end_point: the inputs.
            target, additional_forward_args: as in :meth:`attribute`.
            attribute_to_layer_input, layout: as in :meth:`attribute`.

        Returns:
            ``(N,)``, for a ``DualEncoder`` one per tower.

        Raises:
            ValueError: maps of another shape than the layer's, or that leave out tokens.
            TypeError: arguments of a wrong type.
        """
        calls = calls_of(self.forward_func, end_point, target, additional_forward_args)
        given = attributions if isinstance(attributions, tuple) else (attributions,)
        if len(given) != len(calls):
            raise ValueError(f"expected {len(calls)} map(s) in attributions, given {len(given)}")
        starts = per_call(called(start_point, end_point), "start_point", calls)
        deltas: list[Tensor] = []
        for A, call, layer, base in zip(given, calls, self.layers, starts, strict=True):
            with session_of(call, [layer], attribute_to_layer_input) as session:
                at = OnPath(call, session, Start(base, slice(None), call.n), layout)
                require_whole(A, at.z, at.layout, session.names[0])
                deltas.append(A.float().flatten(1).sum(dim=1) - at.gain())
        return tuple(deltas) if len(deltas) > 1 else deltas[0]

    if TYPE_CHECKING:

        @overload
        def attribute(
            self,
            inputs: Inputs,
            baselines: Baselines = ...,
            target: Any = ...,
            additional_forward_args: Any = ...,
            n_steps: int = ...,
            method: str = ...,
            internal_batch_size: BatchSize = ...,
            return_convergence_delta: Literal[False] = ...,
            attribute_to_layer_input: bool = ...,
            **options: Unpack[NIBOptions],
        ) -> Inputs: ...

        @overload
        def attribute(
            self,
            inputs: Tensor,
            baselines: Baselines = ...,
            target: Any = ...,
            additional_forward_args: Any = ...,
            n_steps: int = ...,
            method: str = ...,
            internal_batch_size: BatchSize = ...,
            *,
            return_convergence_delta: Literal[True],
            attribute_to_layer_input: bool = ...,
            **options: Unpack[NIBOptions],
        ) -> tuple[Tensor, Tensor]: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, ...],
            baselines: Baselines = ...,
            target: Any = ...,
            additional_forward_args: Any = ...,
            n_steps: int = ...,
            method: str = ...,
            internal_batch_size: BatchSize = ...,
            *,
            return_convergence_delta: Literal[True],
            attribute_to_layer_input: bool = ...,
            **options: Unpack[NIBOptions],
        ) -> tuple[tuple[Tensor, ...], Tensor | tuple[Tensor, ...]]: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Baselines = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 10,
        method: str = "riemann_right",
        internal_batch_size: BatchSize = None,
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
                sequence, one per tower. Or a function that returns them, of no argument or of the
                inputs.
            target: output to explain, in any of Captum's forms; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            n_steps: points on the path (Zhu et al.: 10).
            method: ``riemann_right`` (the paper), or another of Captum's approximations.
                ``riemann_left`` and ``riemann_trapezoid`` evaluate λ = 0, where the gradient
                behind a normalisation is beyond all measure: refused where it is.
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
                unknown method, or one that λ = 0 spoils; a target out of range.
            TypeError: arguments of a wrong type.
            RuntimeError: the output doesn't depend on the layer.
        """
        require_choice("reduce", reduce, ("sum", "none"))
        path = Path.of(n_steps, method, power)
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        sizes = [samples_at_once(call.n, internal_batch_size) for call in calls]
        total = len(path.points) * sum(
            -(-call.n // size) for call, size in zip(calls, sizes, strict=True)
        )
        starts = per_call(called(baselines, inputs), "baselines", calls)
        sides = zip(calls, self.layers, starts, sizes, strict=True)
        found: list[tuple[Tensor, Tensor]] = []
        with progress(total, self.get_name(), show_progress) as tick:
            for call, layer, base, size in sides:
                parts: list[tuple[Tensor, Tensor]] = []
                for number, part in enumerate(in_parts(call, size)):
                    begin = Start(base, slice(number * size, (number + 1) * size), call.n)
                    with session_of(part, [layer], attribute_to_layer_input, replay) as session:
                        at = OnPath(part, session, begin, layout)
                        A, delta = at.integral(path, internal_batch_size, tick)
                    parts.append((A if reduce == "none" else at.layout.attribution(A), delta))
                found.append((torch.cat([A for A, _ in parts]), torch.cat([d for _, d in parts])))
        maps = as_given([A for A, _ in found], calls)
        if not return_convergence_delta:
            return maps
        deltas = [delta for _, delta in found]
        return maps, tuple(deltas) if len(deltas) > 1 else deltas[0]
