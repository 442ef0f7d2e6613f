"""Whether a gradient can get from a model's output to its layers."""

# torch does not type the nodes of a graph.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def require_path(output: Tensor, activations: Sequence[Tensor], names: Sequence[str]) -> None:
    """See that a gradient can get from the output to at least one of some activations.

    Raises:
        RuntimeError: the graph is cut on the way.
    """
    wanted = {activation.grad_fn for activation in activations}
    seen, ends = set(), set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node in wanted:
            return
        seen.add(node)
        if "NotImplemented" in node.name():  # an operation that gives no gradient, as int8 does
            ends.add(node.name())
        else:
            waiting.extend(parent for parent, _ in node.next_functions)
    said = f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}"
    raise RuntimeError(
        f"no gradient reaches {said}: the output does not depend on {said} in a way that gradients "
        "can follow"
        + (" (an operation behind has no derivative: int8 weights?)" if ends else "")
        + "; choose layers on the path to the output, float weights, and a forward function "
        "without torch.no_grad(), .detach() or argmax behind them"
    )
