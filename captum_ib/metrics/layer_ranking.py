"""Which layer to explain: a method's candidate layers, scored on the user's own samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ib.forward import output_tensor, prepare, target_index
from captum_ib.hooks import borrowed, roots
from captum_ib.metrics.agreement import LayerAgreement, layer_agreement
from captum_ib.metrics.insertion_deletion import InsertionMinusDeletion
from captum_ib.metrics.ranking_result import LayerRanking
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import NamedLayer, blocks_of

Candidates = Mapping[str, Any]
"""Name → layers, as the method's constructor takes them."""

Score = Callable[[Tensor], Any]
"""Maps ``(N, 1, H, W)`` of the inputs' size (or as the method gives them, where they are no
images) → one score per sample, ``(N,)``; higher is better."""


def rank_layers(
    method: Any,
    inputs: Tensor | tuple[Tensor, ...],
    target: Any = None,
    additional_forward_args: Any = None,
    *,
    candidates: Candidates | Sequence[Any] | None = None,
    score: Score | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
    **settings: Any,
) -> LayerRanking:
    """Score a method's candidate layers on some of your own samples.

    The default criterion is ΔInsDel, Insertion − Deletion (Petsiuk et al., BMVC 2018, in the
    protocol of :class:`~captum_ib.metrics.InsertionMinusDeletion`), of the target's probability,
    or of the cosine of a pair while its image changes: 100 is perfect, random maps have 0.

    Args:
        method: IBA, CoIBA, NIB or M2IB on the model, with any layers: only its class and its
            forward function count.
        inputs: some samples; for a dual encoder a pair, whose first modality is scored.
        target: class per sample; default for classifiers: the predicted one.
        additional_forward_args: as for ``method.attribute``.
        candidates: layers to compare: a sequence of what the constructor takes, or by name.
            Default: every block (CoIBA: the blocks from each one on; a pair: the blocks at equal
            depth of both towers).
        score: another criterion: maps → one number per sample, higher is better.
        mean, std: the preprocessing's normalisation, which tells the default criterion what black
            is; needed where the images have negative values.
        seed: of the noise, the same for every candidate.
        settings: passed on to ``method.attribute``.

    Raises:
        ValueError: no candidates; inputs that are no images without ``score``; a score that is not
            one number per sample; whatever ``attribute`` raises.

    >>> import torch
    >>> from captum_ib import NIB, rank_layers, zoo
    >>> vit = zoo.load("vit-scenes")
    >>> images = vit.normalize(zoo.scenes.labelled(2, seed=3).images)
    >>> ranking = rank_layers(
    ...     NIB(vit.model), images, candidates=["blocks.1", "blocks.4"], mean=vit.mean, std=vit.std)
    >>> ranking.names, ranking.scores.shape
    (('blocks.1', 'blocks.4'), (2, 2))
    """
    named = _named(candidates if candidates is not None else default_candidates(method))
    call = prepare(method.forward_func, inputs, additional_forward_args)
    with borrowed(roots(method.forward_func, call.run)):
        judge = _Judge(method.forward_func, call.inputs, call.additional, target)
        if score is None:
            score = judge.insertion_minus_deletion(mean, std)
        settings.update(_seed(method, seed))
        if not judge.dual:
            settings["target"] = judge.target
        rows, maps, deltas = [], [], []
        for name, layers in named.items():
            attribution, delta = _attribute(
                method, layers, inputs, additional_forward_args, settings
            )
            values = judge.at_input_size(attribution)
            rows.append(_scores(score(values), name, call.n))
            maps.append(values.cpu())
            deltas.append(delta)
    stacked = torch.stack(maps)
    return LayerRanking(
        method.get_name(),
        tuple(named),
        tuple(named.values()),
        np.stack(rows),
        stacked,
        None if deltas[0] is None else np.stack(deltas),
        _agreement(tuple(named), stacked),
    )


def default_candidates(method: Any) -> dict[str, Any]:
    """Every block; for CoIBA the blocks from each one on, for a pair equal depth in both towers."""
    forward = method.forward_func
    if isinstance(forward, DualEncoder):
        return _pairs(forward)
    if not isinstance(forward, nn.Module):
        raise ValueError(
            "forward_func is a plain function, so there are no blocks to choose from; pass "
            "candidates= (a sequence of layers)"
        )
    found = blocks_of(forward)
    if method.get_name() != "CoIBA":
        return dict(found.blocks)
    if len(found.stages) > 1:
        starts: list[list[NamedLayer]] = [
            [block for stage in found.stages[start:] for block in stage]
            for start in range(len(found.stages))
        ]
    else:
        starts = [found.blocks[start:] for start in range(len(found.blocks))]
    return {
        f"from {chosen[0][0]} on": [found.site(block)[1] for block in chosen] for chosen in starts
    }


def _pairs(dual: DualEncoder) -> dict[str, Any]:
    first, second = (dual.tower(name).blocks for name in dual.modalities[:2])
    pairs = [
        (block, second[index * len(second) // len(first)]) for index, block in enumerate(first)
    ]
    return {f"{one[0]}, {other[0]}": (one[1], other[1]) for one, other in pairs}


def _named(candidates: Candidates | Sequence[Any]) -> dict[str, Any]:
    if isinstance(candidates, Mapping):
        named = dict(candidates)
    else:
        named = {_label(layers): layers for layers in candidates}
    if not named:
        raise ValueError("given no candidates, expected at least one layer")
    return named


def _label(layers: Any) -> str:
    if isinstance(layers, (list, tuple)):
        return ", ".join(_label(layer) for layer in layers)
    return layers if isinstance(layers, str) else type(layers).__name__


def _seed(method: Any, seed: int) -> dict[str, int]:
    """The noise's seed, for methods that draw any."""
    return {} if method.get_name() == "NIB" else {"seed": seed}


def _attribute(
    method: Any, layers: Any, inputs: Any, additional: Any, settings: dict[str, Any]
) -> tuple[Tensor, np.ndarray | None]:
    """The first map with these layers, and NIB's convergence delta."""
    explainer, delta = type(method)(method.forward_func, layers), None
    with_delta = {"return_convergence_delta": True} if method.get_name() == "NIB" else {}
    result = explainer.attribute(
        inputs, additional_forward_args=additional, **with_delta, **settings
    )
    if with_delta:
        result, delta = result
        delta = (delta[0] if isinstance(delta, tuple) else delta).detach().cpu().numpy()
    return result[0] if isinstance(result, tuple) else result, delta


def _scores(values: Any, name: str, n: int) -> np.ndarray:
    scores = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, float)
    if scores.shape != (n,):
        raise ValueError(
            f"score must return one number per sample, ({n},), given {scores.shape} for {name}"
        )
    return scores


def _agreement(names: tuple[str, ...], maps: Tensor) -> LayerAgreement | None:
    if maps.ndim != 5 or len(names) < 2 or maps.shape[1] < 2 or min(maps.shape[3:]) < 7:
        return None
    return layer_agreement(dict(zip(names, maps, strict=True)))


class _Judge:
    """The model and samples of a ranking, as the metrics take them."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: tuple[Tensor, ...],
        additional: tuple[Any, ...],
        target: Any,
    ) -> None:
        self.images = inputs[0]
        self.dual = isinstance(forward_func, DualEncoder)
        self.target: Any = None
        with torch.no_grad():
            if isinstance(forward_func, DualEncoder):
                masks = forward_func.assign_masks(additional)
                names = forward_func.modalities
                others = forward_func.encode(names[1], inputs[1], masks[1])
                self.classes = torch.arange(len(others))
                self.model: nn.Module = _AsClassifier(
                    lambda first: forward_func.encode(names[0], first, masks[0]) @ others.T
                )
            else:
                rest = (*inputs[1:], *additional)
                self.model = _AsClassifier(
                    lambda first: _as_classes(forward_func(first, *rest), len(first))
                )
                output = self.model(self.images)
                if output.shape[1] > 1 or target is not None:
                    given = output.argmax(dim=1) if target is None else target
                    index = target_index(given, output)
                    self.target = index[:, 0] if index is not None else None
                self.classes = torch.zeros(len(output), dtype=torch.long)
                if self.target is not None:
                    self.classes = self.target.cpu()
        self.probabilities = self.target is not None

    def insertion_minus_deletion(self, mean: Any, std: Any) -> Score:
        """ΔInsDel of maps.

        Raises:
            ValueError: inputs that are no images.
        """
        if not (self.images.is_floating_point() and self.images.ndim == 4):
            raise ValueError(
                f"inputs of shape {tuple(self.images.shape)} and type {self.images.dtype} are no "
                "images (N, C, H, W), so insertion and deletion of pixels can't judge them; pass "
                "score= (maps → one number per sample)"
            )
        metric = InsertionMinusDeletion(mean=mean, std=std, undefined="nan")

        def score(maps: Tensor) -> Any:
            return metric(
                self.model.eval(),
                self.images.cpu().numpy(),
                self.classes.numpy(),
                maps.cpu().numpy(),
                softmax=self.probabilities,
                device=str(self.images.device),
                batch_size=len(self.images),
            )

        return score

    def at_input_size(self, maps: Tensor) -> Tensor:
        """Grids upsampled to the image; sequences and flat maps as they are."""
        maps = maps.detach().float()
        if maps.ndim != 4 or self.images.ndim != 4:
            return maps
        size = (int(self.images.shape[2]), int(self.images.shape[3]))
        return LayerAttribution.interpolate(maps, size, "bilinear")


def _as_classes(output: Any, rows: int) -> Tensor:
    return output_tensor(output, rows).reshape(rows, -1)


class _AsClassifier(nn.Module):
    """A function from inputs to ``(N, classes)`` as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)
