"""Captions from the names of classes, for models that compare images with captions."""

from __future__ import annotations

LABEL = "{label}"
"""Stands for the name of the class."""


def check_template(template: str | None, model: str) -> None:
    """Check that a text can become a caption.

    Raises:
        ValueError: there is none, or it has no place for the class.
    """
    if template is None:
        raise ValueError(
            f"{model} compares images with captions: say how a class becomes one, with the option "
            f"caption, e.g. 'a photo of a {LABEL}'"
        )
    if LABEL not in template:
        raise ValueError(f"caption must hold {LABEL}, given {template!r}")


def fill_in(template: str, name: str) -> str:
    """The caption for a class.

    >>> fill_in("a photo of a {label}", "dog")
    'a photo of a dog'
    """
    return template.replace(LABEL, name)
