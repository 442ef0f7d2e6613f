"""LibraGrad: gradients of a transformer, balanced by a corrected backward pass (Mehri et al.)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from captum.attr import GradientAttribution
from torch import Tensor, nn

from captum_ib.baselines._backward import BackwardMode
from captum_ib.baselines._fullgrad import Balance
from captum_ib.baselines._samples import explained
from captum_ib.checks import BatchSize, require_choice
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Call, Inputs, Named, blocks_per_call, calls_of, log_usage
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import LayerLike, NamedLayer

METHODS = ("fullgrad_plus", "fullgrad", "input_x_grad")


@contextmanager
def libra(model: nn.Module) -> Generator[None]:
    """While open, gradients through a transformer are LibraGrad's (Mehri et al., CVPR 2025).

    Gradients stop at queries and keys, at the variance of each layer norm, and at the gate Φ(x) of
    GELU's x·Φ(x); what the model computes stays what it is. Any gradient method can run inside:
    Captum's, :class:`~captum_ib.attr.nib.NIB`, :class:`~captum_ib.baselines.LayerGradCAM`. Nothing
    in the model changes; it is the functions which it calls that are seen, in this thread.

    Works on the transformers of timm, transformers (``sdpa``, ``eager``), torchvision, open_clip.

    Args:
        model: whose gradients are corrected.

    Raises:
        TypeError: no module.
        ValueError: a compiled or scripted model, or one with a flash-attention kernel: what these
            call can't be seen.
        RuntimeError: on leaving, when operations were followed and none of them was corrected.

    >>> from captum.attr import InputXGradient
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> x = torch.rand(1, 3, *model.patch_embed.img_size)
    >>> with libra(model):
    ...     InputXGradient(model).attribute(x.requires_grad_(), target=0).shape[:2]
    torch.Size([1, 3])
    """
    _require_seen(model)
    mode = BackwardMode()
    with mode:
        yield
    if mode.seen and not mode.corrected:
        raise RuntimeError(
            f"LibraGrad corrected nothing in {type(model).__name__}: it called no layer norm, GELU "
            "or attention that could be seen; it is meant for transformers made of PyTorch's own "
            "functions"
        )


def _require_seen(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"libra takes the model, an nn.Module, given {type(model).__name__}")
    for name, part in model.named_modules():
        hidden = isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod")
        if hidden:
            raise ValueError(
                f"{name or 'the model'} is compiled or scripted, so the functions that it calls "
                "can't be seen; pass the model as it was written (of torch.compile: ._orig_mod)"
            )
        config = getattr(part, "config", None)
        kernel = getattr(config, "_attn_implementation", None)
        if isinstance(kernel, str) and "flash" in kernel:
            raise ValueError(
                f"{name or 'the model'} computes attention in a kernel ({kernel}), where gradients "
                'can\'t be corrected; load it with attn_implementation="sdpa"'
            )


class LibraGrad(Named, GradientAttribution):
    """LibraGrad on FullGrad+, FullGrad and Input × Gradient (Mehri et al., CVPR 2025).

    With h_l the hidden state that enters block l and gradients corrected as in :func:`libra`:

    - ``"input_x_grad"``: h_0 ⊙ ∂y/∂h_0;
    - ``"fullgrad"``: the same + Σ b ⊙ ∂y/∂(output) over all operations with a bias b: complete, its
      sum over the tokens is y;
    - ``"fullgrad_plus"``: Σ_l h_l ⊙ ∂y/∂h_l + the same sum over biases, once.

    Each is summed over channels. What has no token axis (the bias of a classifier's head) goes to
    the first prefix token, or, where there is none, in equal parts to all. Signed, in units of the
    output. For other methods (Captum's, NIB, Grad-CAM) use :func:`libra`.

    Args:
        forward_func: a transformer, or a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layers: its blocks; for a ``DualEncoder`` per tower. Default: all of them.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> x = torch.rand(2, 3, *model.patch_embed.img_size)
    >>> tokens = LibraGrad(model).attribute(x, target=0, method="fullgrad", all_tokens=True)
    >>> torch.allclose(tokens.sum(dim=1), model(x)[:, 0], atol=1e-4)
    True
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Mehri et al., CVPR 2025",
        description="hidden states and biases times corrected gradients, over all blocks",
        passes="1 forward and backward",
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: Sequence[LayerLike] | Sequence[Sequence[LayerLike]] | None = None,
    ) -> None:
        super().__init__(forward_func)
        self.blocks = blocks_per_call(forward_func, layers, self.get_name())

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        method: Literal["fullgrad_plus", "fullgrad", "input_x_grad"] = "fullgrad_plus",
        libra: bool = True,
        score: Literal["output", "probability"] = "output",
        all_tokens: bool = False,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Share of the output per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            method: see the class.
            libra: correct the gradients; ``False``: plain FullGrad+ and so on.
            score: the authors' preset for classifiers is the probability, which is not complete.
            all_tokens: return ``(N, T)`` with prefix tokens instead of the map.

        Raises:
            RuntimeError: the model writes biases where their tokens can't be told.
        """
        require_choice("method", method, METHODS)
        require_choice("score", score, ("output", "probability"))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        if libra and isinstance(self.forward_func, nn.Module):
            _require_seen(self.forward_func)

        def explain(call: Call, blocks: list[NamedLayer], layout: TokenLayout | None) -> Tensor:
            mode = BackwardMode() if libra else nullcontext()
            found = Balance.of(call, blocks, mode, score == "probability", layout)
            states = found.states if method == "fullgrad_plus" else found.states[:1]
            values = sum(states, torch.zeros_like(states[0]))
            if method != "input_x_grad":
                values = values + found.biases
            return found.valid(values) if all_tokens else found.map(values)

        blocks = self.blocks if len(calls) > 1 else self.blocks[0]
        return explained(calls, explain, internal_batch_size, blocks=blocks, layout=layout)
