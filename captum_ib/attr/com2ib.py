"""CoM2IB: one damping ratio for bottlenecks in many layers of each tower of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor, nn

from captum_ib.attr.base import Bottlenecks, seed_of
from captum_ib.attr.ca_m2ib.attention import Attention, Guide
from captum_ib.attr.ca_m2ib.facing import facing
from captum_ib.attr.pairs import (
    PairAttribution,
    TowerLayers,
    pair_facts,
    pair_plans,
    pair_result,
    weights,
)
from captum_ib.bottleneck import (
    MIN_STD,
    ActivationStatistics,
    Damping,
    FitSettings,
    FitTrace,
    Terms,
)
from captum_ib.checks import BatchSize, require_choice
from captum_ib.forward import (
    cosine,
    log_usage,
    named_layers,
    pair_calls,
    per_call,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import first_norm
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import CHOICES, LayerLike, NamedLayer

if TYPE_CHECKING:
    from captum_ib.attr.options import CoM2IBOptions, Unpack


class CoM2IBBottlenecks(Bottlenecks):
    """CoIBA's bottlenecks in layers l = 0 … L − 1 of one tower, with M2IB's objective.

    Args:
        layers: the layers, in a call whose output is g, the tower's embedding.
        beta: β.
        channel: λ per position and channel, or per position; ``"auto"``: by the layout.
        guide: guidance of the compression as in CA-M2IB; ``None``: none.
    """

    def __init__(self, layers: TowerLayers, beta: float, channel: str, guide: Guide | None) -> None:
        self.layers, self.beta = layers, beta
        R, layout = layers.R[0], layers.layouts[0]
        uniform = not layout.spatial if channel == "auto" else channel == "uniform"
        # CoIBA, eq. 5: one λ for all layers
        self.damping = Damping.shared(layers.R, layers.layouts, uniform=uniform)
        self.weights: Tensor | float = 1.0
        if guide is not None:
            call: Any = layers.call
            self.weights = Attention(call, guide, layout, R).weights(self.damping(0))

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −cos(g(Z), e') + β · KL of the first bottleneck (M2IB, eq. 9–10; CoIBA, eq. 8)."""
        channels = self.layers.channels
        lam = [self.damping(l) for l in range(len(channels))]
        # CoIBA, eq. 3: Z_l = λR'_l + (1 − λ)ε_l
        g_Z = self.layers.run(lambda l, R: channels[l].pass_on(R, lam[l], draws[l]), len(draws[0]))
        similarity = cosine(g_Z, self.layers.call.other)
        bound = channels[0].mean(self.weights * channels[0].information(lam[0]))
        return Terms(-self.layers.by_draw(similarity), self.beta * bound)


def default_sites(dual: DualEncoder, modality: str) -> list[NamedLayer]:
    """The first normalisations of a tower's blocks; of a block that has none, its output.

    All blocks of a plain transformer; in a tower with stages the longest run of blocks of one
    shape, since only these can share a damping ratio per channel.
    """
    runs = [list(run) for _, run in groupby(dual.tower(modality).blocks, _shape)]
    return [first_norm(block) for block in max(runs, key=len)]


def _shape(block: NamedLayer) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in block[1].named_parameters()]


class CoM2IB(PairAttribution):
    """Comprehensive multi-modal bottleneck: CoIBA's bottlenecks with M2IB's objective.

    In each tower, every layer l of a range gets Z_l = λR'_l + (1 − λ)ε_l with **one** damping
    ratio λ for all of them (Hong et al., CVPR 2025, eq. 3–5), and α minimises
    −cos(g(Z), e_other) + β times the mean information at the *first* bottleneck (Wang et al.,
    NeurIPS 2023, eq. 9–10; the bound is CoIBA's eq. 8). The attribution is that information, in
    **bits** per patch or token.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layers: per tower the layers (modules or dotted names, in any order), or ``None`` for the
            default (also ``"auto"``, ``"paper"``): :func:`default_sites`.

    >>> import torch
    >>> from captum_ib import DualEncoder, zoo
    >>> loaded = zoo.load("clip-scenes")
    >>> ids, mask = loaded.tokenizer(["a red circle"])
    >>> pixels = torch.rand(1, 3, *loaded.image_size, generator=torch.Generator().manual_seed(0))
    >>> image, text = CoM2IB(DualEncoder.from_model(loaded.model)).attribute(
    ...     (pixels, ids), additional_forward_args=mask, seed=0)
    >>> image.shape, text.shape == ids.shape
    (torch.Size([1, 1, 7, 7]), True)
    """

    facts = pair_facts(
        "Hong et al. and Wang et al., joined here",
        "information that a range of layers of each tower passes on for the pair",
    )

    def __init__(
        self,
        forward_func: DualEncoder,
        layers: Sequence[LayerLike | Sequence[LayerLike] | None] | str | None = None,
    ) -> None:
        given: Any = layers
        super().__init__(forward_func, given)

    def _chosen(self, layers: Any) -> list[list[NamedLayer]]:
        names = self.dual.modalities[:2]
        if isinstance(layers, str) and layers in CHOICES:
            layers = None  # there is one default, of no paper
        if isinstance(layers, (str, nn.Module)) or (layers is not None and len(layers) != 2):
            raise ValueError(
                "layers must be two sequences of layers (or None), one for each of "
                f"{names}, given {layers!r}"
            )
        return [
            default_sites(self.dual, name)
            if chosen is None
            else named_layers(self.dual.model, chosen, "CoM2IB")
            for name, chosen in zip(names, layers or (None, None), strict=True)
        ]

    if TYPE_CHECKING:

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[False] = ...,
            **options: Unpack[CoM2IBOptions],
        ) -> tuple[Tensor, Tensor]: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[True],
            **options: Unpack[CoM2IBOptions],
        ) -> tuple[tuple[Tensor, Tensor], tuple[FitTrace, FitTrace]]: ...

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        beta: float | tuple[float, float] = 0.03,
        prior: Literal["standard", "estimated"] = "estimated",
        variance: float | tuple[float, float] = 1.0,
        channel: str | tuple[str, str] = "auto",
        guidance: float | tuple[float, float] = 0.0,
        temperature: float | tuple[float, float] = 0.1,
        n_steps: int = 10,
        n_samples: int = 4,
        antithetic: bool = True,
        lr: float = 1.0,
        min_std: float = MIN_STD,
        layout: Sequence[TokenLayout | None] | None = None,
        internal_batch_size: BatchSize = None,
        reduce: Literal["sum", "none"] = "sum",
        seed: int | None = None,
        replay: bool = True,
        return_trace: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Bits per patch and per token at the first bottleneck of each tower.

        Args:
            inputs, baselines, target, additional_forward_args: as in :class:`M2IB`; statistics
                are those of all layers.
            beta: weight of the information (0.03, found on ``clip-scenes``; Hong et al.: 1, Wang
                et al.: 0.1); also one per tower.
            prior: ``"estimated"``, each layer its own N(μ_l, σ_l²) (Hong et al.), or
                ``"standard"``, N(0, σ²) everywhere (Wang et al.).
            variance: σ² of the standard prior.
            channel: ``"uniform"``, one λ per position, or ``"elementwise"``, one per position and
                channel; ``"auto"``: elementwise on grids, uniform on sequences (tuned, as β). Also
                one per tower.
            guidance, temperature: cross-attention guidance of the compression, as in
                :class:`CAM2IB`; 0: none. Also one per tower.
            n_steps, n_samples, antithetic, lr, min_std: as in :class:`M2IB`.
            layout: per tower, of all its layers, where it can't be inferred.
            internal_batch_size, reduce, seed, replay, return_trace, show_progress: as in
                :class:`M2IB`.

        Returns:
            ``(image_attr, text_attr)`` as from :class:`M2IB`.

        Raises:
            ValueError: layers that can't share a damping ratio; else as in :class:`M2IB`.
            TypeError, RuntimeError: as in :class:`M2IB`.
        """
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        layouts = per_call(layout, "layout", calls)
        plans = pair_plans(
            self._noises(calls, baselines, prior, variance, min_std),
            FitSettings(n_steps, n_samples, antithetic, lr),
            seed_of(seed, reduce),
            layouts,
            internal_batch_size,
            replay,
            return_trace,
        )
        guides = [
            Guide(temperature=degree, guidance=strength) if strength else None
            for strength, degree in zip(
                per_call(guidance, "guidance", calls),
                per_call(temperature, "temperature", calls),
                strict=True,
            )
        ]
        if any(guides):
            first = [layers[0] for layers in self.sites]
            calls = facing(
                calls, first, layouts, internal_batch_size=internal_batch_size, replay=replay
            )
        channels = per_call(channel, "channel", calls)
        for one in channels:
            require_choice("channel", one, ("elementwise", "uniform", "auto"))
        settings = zip(weights("beta", beta, calls), channels, guides, strict=True)
        builds = [
            partial(CoM2IBBottlenecks, beta=one, channel=own, guide=guide)
            for one, own, guide in settings
        ]
        fits = self._explain(calls, builds, plans, show_progress)
        return pair_result(fits, reduce, return_trace)
