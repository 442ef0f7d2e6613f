"""ViT-CX: patch embeddings as masks, and their causal impact on the output (Xie et al.)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas, Scorer, chunks, masks_per_pass
from captum_ib.baselines._samples import as_map
from captum_ib.baselines.one_layer import OneLayer, layer_state
from captum_ib.baselines.score_cam import channel_maps, channel_masks, min_max
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, draw_seed, log_usage, watched
from captum_ib.hooks import borrowed, roots
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


class ViTCX(OneLayer, PerturbationAttribution):
    """ViT-CX (Xie et al., IJCAI 2023).

    The channels of the patch embeddings, blown up to the input and min–max normalised, are masks.
    Those that are alike (cosine distance below ``distance_threshold``, complete linkage) are
    merged: their sum, min–max normalised again. With Gaussian noise Z on what a mask M hides, its
    causal impact is s(M) = f(X ⊙ M + Z ⊙ (1 − M)) − f(X + Z ⊙ (1 − M)) + f(X): noise that alone
    changes the output is not held against the mask. The map is Σ_i s(M_i) M_i / Σ_i M_i, which
    takes out how often a pixel is covered.

    Left open by the paper, and taken here: the authors' code also divides by the number of masks, a
    constant; without it a value is the mean impact of the masks that show the pixel, in units of
    f. On text the masks and the noise lie on the token embeddings.

    See :class:`~captum_ib.baselines.one_layer.OneLayer` for the layer. Merging needs SciPy.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> ViTCX(model).attribute(torch.rand(1, 3, *size), target=0, seed=0).shape[:2]
    torch.Size([1, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="score units",
        signed=True,
        paper="Xie et al., IJCAI 2023",
        description="mean impact of the masks that patch embeddings make",
        passes="2 forward per mask, at most one mask per channel",
        layers="many",
        options={"seed": "seed"},
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        distance_threshold: float = 0.1,
        noise_std: float = 0.1,
        score: Literal["probability", "output"] = "probability",
        layout: TokenLayout | None = None,
        perturbations_per_eval: int = 32,
        seed: int | None = None,
    ) -> Inputs:
        """Mean causal impact per pixel or token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            distance_threshold: masks closer than this are merged (paper: 0.1); 0 merges none.
            noise_std: standard deviation of Z, in units of the model's input (paper: 0.1).
        """
        if not distance_threshold >= 0 or not noise_std >= 0:
            raise ValueError(
                "distance_threshold and noise_std must be at least 0, given "
                f"{distance_threshold} and {noise_std}"
            )
        noise_seed = draw_seed(seed)
        size = masks_per_pass(perturbations_per_eval, 2**62)

        def explain(call: Call, layer: NamedLayer, layout: TokenLayout | None) -> Tensor:
            channels = channel_maps(layer_state(call, layer, layout), layer[0])
            with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
                scorer = Scorer.of(call, score)
                maps = [
                    one_map(scorer, call.part(row, row + 1), channels[row : row + 1], row)
                    for row in range(call.n)
                ]
            return as_map(call, torch.stack(maps))

        def one_map(scorer: Scorer, call: Call, channels: Tensor, row: int) -> Tensor:
            canvas = Canvas.of(call)
            masks = merged(channel_masks(channels, canvas)[:, 0], distance_threshold)
            generator = torch.Generator().manual_seed(noise_seed)  # the same for every sample
            own = scorer.part(canvas.call, slice(row, row + 1))
            impact = [
                _impact(own, canvas, masks[rows].unsqueeze(1), noise_std, generator)
                for rows in watched(chunks(len(masks), size))
            ]
            covered = masks.sum(dim=0)
            total = torch.einsum("k,k...->...", torch.cat(impact), masks)
            return total / covered.where(covered > 0, torch.ones_like(covered))

        return self.explain_layers(inputs, target, additional_forward_args, explain, layout=layout)


def merged(masks: Tensor, threshold: float) -> Tensor:
    """Masks ``(K, …)`` with those that are alike merged; see :class:`ViTCX`."""
    masks = masks[masks.flatten(1).amax(dim=1) > 0]
    if threshold == 0 or len(masks) < 2:
        return masks
    from scipy.cluster.hierarchy import fcluster, linkage

    unit = torch.nn.functional.normalize(masks.flatten(1), dim=1)
    upper = torch.triu_indices(len(masks), len(masks), offset=1)
    distances = (1 - unit @ unit.T)[upper[0], upper[1]].clamp_min(0)
    tree = linkage(distances.double().cpu().numpy(), method="complete")
    # fcluster merges up to and including the threshold, the paper below it.
    labels = torch.from_numpy(fcluster(tree, threshold * (1 - 1e-9), criterion="distance")) - 1
    sums = torch.zeros(
        int(labels.max()) + 1, *masks.shape[1:], device=masks.device, dtype=masks.dtype
    )
    sums.index_add_(0, labels.long().to(masks.device), masks)
    return min_max(sums.flatten(1)).view_as(sums)


def _impact(
    scorer: Scorer, canvas: Canvas, masks: Tensor, noise_std: float, generator: torch.Generator
) -> Tensor:
    """s(M) for some masks ``(K, 1, *positions)`` of one sample, ``(K,)``."""
    hidden = 1 - canvas.shaped(masks)
    drawn = torch.randn(len(masks), *canvas.values.shape, generator=generator, dtype=torch.float32)
    noise = (noise_std * drawn.to(hidden) * hidden).to(canvas.values.dtype)
    seen = scorer(canvas.masked(masks) + noise)
    noisy = scorer(canvas.values + noise)
    return (seen - noisy)[:, 0] + scorer.original[0]
