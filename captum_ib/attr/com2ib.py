"""CoM2IB: one damping ratio for bottlenecks in many layers of each tower of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

from torch import Tensor, nn

from captum_ib.attr._base import log_usage, named_layers, run_settings
from captum_ib.attr._cross_attention import GuideSettings
from captum_ib.attr._explain import Plan
from captum_ib.attr._guidance import builder, facing
from captum_ib.attr._pairs import (
    PairAttribution,
    PairNoise,
    finish_pair,
    per_tower,
    require_dual,
    require_no_target,
)
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.attr._towers import pair_calls
from captum_ib.bottleneck import MIN_STD, ActivationStatistics, FitSettings
from captum_ib.models.architectures import FIRST_NORMS
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import LayerLike, NamedLayer
from captum_ib.layout import TokenLayout


def default_sites(dual: DualEncoder, modality: str) -> list[NamedLayer]:
    """The first normalisations of a tower's blocks; of a block that has none, its output.

    All blocks of a plain transformer; in a tower with stages the longest run of blocks of one
    shape, since only these can share a damping ratio per channel.
    """
    runs = [list(run) for _, run in groupby(dual.tower(modality).blocks, _shape)]
    return [_first_norm(block) for block in max(runs, key=len)]


def _shape(block: NamedLayer) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in block[1].named_parameters()]


def _first_norm(block: NamedLayer) -> NamedLayer:
    name, module = block
    for attribute in FIRST_NORMS:
        norm = getattr(module, attribute, None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            return f"{name}.{attribute}", norm
    return block


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
            default: :func:`default_sites`.

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

    def __init__(
        self,
        forward_func: DualEncoder,
        layers: Sequence[LayerLike | Sequence[LayerLike] | None] | None = None,
    ) -> None:
        dual = require_dual(forward_func, "CoM2IB")
        if isinstance(layers, (str, nn.Module)) or (layers is not None and len(layers) != 2):
            raise ValueError(
                "layers must be two sequences of layers (or None), one for each of "
                f"{dual.modalities[:2]}, given {layers!r}"
            )
        given = [None, None] if layers is None else list(layers)
        sites = [
            default_sites(dual, modality)
            if chosen is None
            else named_layers(dual.model, chosen, "com2ib")
            for modality, chosen in zip(dual.modalities[:2], given, strict=True)
        ]
        super().__init__(dual, sites)
        self.layers = [layer for layers in self.sites for layer in layers]

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
        internal_batch_size: int | None = None,
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
        require_no_target(target)
        calls = pair_calls(self.dual, inputs, additional_forward_args)
        noise = PairNoise(prior, per_tower(variance, "variance"), self._reference(baselines))
        run = run_settings(seed, internal_batch_size, replay, return_trace, reduce)
        layouts = per_tower(layout, "layout")
        guides = [
            GuideSettings(temperature=degree, guidance=strength) if strength else None
            for strength, degree in zip(
                per_tower(guidance, "guidance"), per_tower(temperature, "temperature"), strict=True
            )
        ]
        if any(guides):
            first = [layers[0] for layers in self.sites]
            calls, _ = facing(self.dual, calls, first, layouts, run)
        settings = zip(
            per_tower(beta, "beta"), per_tower(channel, "channel"), layouts, guides, strict=True
        )
        plans = [
            Plan(
                noise.of_tower(index),
                BottleneckSettings(tower_beta, tower_channel, min_std=min_std),
                FitSettings(n_steps, n_samples, antithetic, lr),
                run,
                layout=tower_layout,
                build=builder(guide),
            )
            for index, (tower_beta, tower_channel, tower_layout, guide) in enumerate(settings)
        ]
        return finish_pair(self._fit(calls, plans, show_progress), reduce, return_trace)
