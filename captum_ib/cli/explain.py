"""``captum-ib explain``: from pictures and questions to figures, arrays and settings on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from captum_ib import methods
from captum_ib.explaining.choices import DEFAULT_METHOD, check_methods, device_of, dtype_of
from captum_ib.explaining.output import printable, staged, unique_names
from captum_ib.explaining.pictures import read_image
from captum_ib.explaining.results import Origin, write_results
from captum_ib.explaining.subject import Explanation, Subject, explain_subject, make_subject
from captum_ib.loading.load import LoadedModel, load

EVERY = "all"
"""In the place of a method's name: all that take this kind of model."""


def run(
    model: str,
    images: Sequence[Path],
    out: Path,
    *,
    texts: Sequence[str],
    targets: Sequence[str],
    chosen: Sequence[str],
    layers: Sequence[str],
    settings: Mapping[str, Any],
    device: str,
    dtype: str,
    revision: str | None,
    allow_pickle: bool,
) -> None:
    """Explain pictures; prints what was written. Arguments are the command's, lists filled in.

    Args:
        model: as :func:`captum_ib.load` takes it.
        images: files of pictures.
        out: folder for the results.
        texts: captions, for an image-text model: one for all pictures, or one each.
        targets: classes by index or label, for a classifier; none for the likeliest.
        chosen: names of methods, or :data:`EVERY`; none for the default.
        layers: names of layers; none for each method's default.
        settings: ``beta``, ``steps``, ``samples`` (``None`` for the default) and ``seed``.
        device: where to compute.
        dtype: of the model.
        revision: of a hub model.
        allow_pickle: whether pickled weights are read.

    Raises:
        ValueError, OSError, RuntimeError: one of the user's inputs does not work.
    """
    # Whatever can be checked without the model comes first: loading may take minutes.
    every = EVERY in chosen
    rows = [methods.get(name) for name in dict.fromkeys(chosen) if name != EVERY]
    pictures = [read_image(path) for path in images]
    if any(not text.strip() for text in texts):
        raise ValueError("--text is empty; pass a caption")
    place, kind = device_of(device), dtype_of(dtype)
    loaded = load(model, allow_pickle=allow_pickle, revision=revision)
    questions = _questions(loaded, texts, targets, len(images))
    if every:
        rows = methods.for_kind("dual" if loaded.kind == "dual" else "classifier")
    rows = rows or [methods.get(DEFAULT_METHOD[loaded.kind])]
    check_methods(rows, loaded)
    keywords = methods.settings_for(rows, settings)
    loaded.model.to(device=place, dtype=kind)
    with staged(out) as folder:
        for name, path, picture, question in zip(
            unique_names(images), images, pictures, questions, strict=True
        ):
            subject = make_subject(loaded, picture, question, place, kind)
            results = _explain(subject, rows, layers, keywords, every)
            origin = Origin(loaded.name, str(path), settings["seed"], str(place), dtype)
            write_results(folder, name, subject, results, origin)
        files = sorted(file.name for file in folder.iterdir())
    for file in files:
        typer.echo(printable(out / file))


def _explain(
    subject: Subject,
    rows: Sequence[methods.MethodSpec],
    layers: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    every: bool,
) -> list[Explanation]:
    """One explanation per method; of ``all`` methods those that this model admits."""
    results = []
    for row in rows:
        try:
            results.append(explain_subject(subject, row, layers, settings[row.name]))
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            if not every:
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            typer.echo(f"captum-ib: without {row.name}: {reason}", err=True)
    return results


def _questions(
    loaded: LoadedModel, texts: Sequence[str], targets: Sequence[str], count: int
) -> list[str | None]:
    """A caption or target for each picture."""
    if loaded.kind == "dual":
        if targets:
            raise ValueError(f"{loaded.name} compares images with text: pass --text, not --target")
        if not texts:
            raise ValueError(f"{loaded.name} compares images with text: pass --text")
        return _one_each(texts, "--text", count)
    if texts:
        raise ValueError(f"{loaded.name} is a classifier: pass --target, not --text")
    return _one_each(targets or [None], "--target", count)


def _one_each(values: Sequence[Any], flag: str, count: int) -> list[Any]:
    if len(values) not in (1, count):
        raise ValueError(
            f"{len(values)} values of {flag} for {count} image(s): pass one for all or one each "
            "(quote what has spaces)"
        )
    return list(values) * (count if len(values) == 1 else 1)
