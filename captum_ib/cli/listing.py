"""``captum-ib methods`` and ``captum-ib layers``: what there is to choose from."""

from __future__ import annotations

from PIL import Image
from torch import nn

from captum_ib import methods
from captum_ib.explaining.building import build_method
from captum_ib.explaining.summary import where
from captum_ib.loading.from_generator import asking_of
from captum_ib.loading.load import load
from captum_ib.models.answer import AnswerLogProbability
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import CHOICES, blocks
from captum_ib.presets import recommended_method


def methods_table() -> str:
    """The methods as a table of text, the recommended ones marked.

    >>> " ".join(methods_table().splitlines()[1].split())[:42]
    'iba * classifier, generator bits informati'
    """
    rows = [("method", "explains", "unit", "what a value says", "paper")]
    rows += [
        (_marked(row), ", ".join(sorted(row.takes)), row.unit, row.description, row.paper)
        for row in methods.METHODS.values()
    ]
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    lines = [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, _KINDS])


_KINDS = "* taken where no method is named (dual: image and text, two texts; generator: answers)"


def _marked(row: methods.MethodSpec) -> str:
    best = {recommended_method(kind) for kind in ("classifier", "dual", "generator")}
    return f"{row.name} *" if row.name in best else row.name


def layers_table(spec: str) -> str:
    """What ``--layer auto`` and ``--layer paper`` are per method, then all blocks of the model.

    Args:
        spec: as for :func:`captum_ib.loading.load.load`. Only names are listed, so the weights of a
            timm model are not fetched.

    Raises:
        ValueError, RuntimeError: the model can't be loaded.
    """
    loaded = load(spec, pretrained=not spec.startswith("timm:"))
    module = loaded.model
    if loaded.kind == "dual":
        try:
            module = DualEncoder.from_model(loaded.model)
        except TypeError as error:
            raise ValueError(str(error)) from error
    if loaded.kind == "generator":  # the layers don't depend on what is asked
        asked = asking_of(loaded)(Image.new("RGB", (64, 64)), "?")
        module = AnswerLogProbability(
            module, asked.prompt_ids, asked.prompt_ids.new_zeros(1), asked.extra
        )
    lines: list[str] = []
    for row in methods.for_kind(loaded.kind):
        if row.cls_path.startswith("captum_ib.attr.") and row.layers == "many":
            lines += [f"{row.name}, {word}: {_chosen(module, row, word)}" for word in CHOICES]
    if isinstance(module, DualEncoder):
        for modality in module.modalities:
            lines += [f"{modality}:", *(f"  {name}" for name, _ in module.tower(modality).blocks)]
    else:
        lines += ["blocks:", *(f"  {name}" for name, _ in blocks(module))]
    return "\n".join([*lines, "any other module can be named too, e.g. the norm inside a block"])


def _chosen(module: nn.Module, row: methods.MethodSpec, word: str) -> str:
    return where(build_method(module, row, word)[1])
