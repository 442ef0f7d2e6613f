"""``captum-ib methods`` and ``captum-ib layers``: what there is to choose from."""

from __future__ import annotations

from captum_ib import methods


def methods_table() -> str:
    """The methods as a table of text.

    >>> print(methods_table().splitlines()[1])
    iba classifier bits Schulz et al., ICLR 2020
    """
    rows = [("method", "explains", "unit", "paper")]
    rows += [
        (row.name, ", ".join(sorted(row.takes)), row.unit, row.paper)
        for row in methods.METHODS.values()
    ]
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def layers_table(spec: str) -> str:
    """Default layers per method, then all blocks of the model.

    Args:
        spec: as for :func:`captum_ib.loading.load.load`. Only names are listed, so the weights of a
            timm model are not fetched.

    Raises:
        ValueError, RuntimeError: the model can't be loaded.
    """
    from captum_ib.loading.load import load
    from captum_ib.models.dual_encoder import DualEncoder
    from captum_ib.models.layers import blocks

    loaded = load(spec, pretrained=not spec.startswith("timm:"))
    if loaded.kind == "dual":
        try:
            dual = DualEncoder.from_model(loaded.model)
        except TypeError as error:
            raise ValueError(str(error)) from error
        lines = [
            "default of m2ib and nib: "
            + " ".join(dual.default_layer(modality)[0] for modality in dual.modalities[:2])
        ]
        for modality in dual.modalities:
            lines += [f"{modality}:", *(f"  {name}" for name, _ in dual.tower(modality).blocks)]
        return "\n".join(lines)
    lines = []
    for row in methods.for_kind("classifier"):
        if row.cls_path.startswith("captum_ib.") and row.layers == "many":
            names = [name for name, _ in row.cls(loaded.model).layers]
            lines.append(f"default of {row.name}: {' '.join(names)}")
    lines += ["blocks:", *(f"  {name}" for name, _ in blocks(loaded.model))]
    return "\n".join([*lines, "any other module can be named too, e.g. the norm inside a block"])
