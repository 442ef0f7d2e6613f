"""``captum-ib explain``: from a request to figures, arrays and settings on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    model: str
    images: Sequence[Path]
    texts: Sequence[str]
    targets: Sequence[str]
    methods: Sequence[str]
    layers: Sequence[str]
    settings: Mapping[str, Any]
    out: Path
    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None
    allow_pickle: bool = False


def run(request: Request) -> None:
    """Carry out a request; prints what was written.

    Raises:
        ValueError, OSError, RuntimeError: one of the user's inputs does not work.
    """
    # Whatever can be checked without the model comes first: loading may take minutes.
    every = EVERY in request.methods
    rows = [methods.get(name) for name in dict.fromkeys(request.methods) if name != EVERY]
    pictures = [read_image(path) for path in request.images]
    if any(not text.strip() for text in request.texts):
        raise ValueError("--text is empty; pass a caption")
    device, dtype = device_of(request.device), dtype_of(request.dtype)
    loaded = load(request.model, allow_pickle=request.allow_pickle, revision=request.revision)
    questions = _questions(request, loaded)
    if every:
        rows = methods.for_kind("dual" if loaded.kind == "dual" else "classifier")
    rows = rows or [methods.get(DEFAULT_METHOD[loaded.kind])]
    check_methods(rows, loaded)
    settings = methods.settings_for(rows, request.settings)
    loaded.model.to(device=device, dtype=dtype)
    with staged(request.out) as folder:
        for name, path, picture, question in zip(
            unique_names(request.images), request.images, pictures, questions, strict=True
        ):
            subject = make_subject(loaded, picture, question, device, dtype)
            results = _explain(subject, rows, request.layers, settings, every)
            seed = request.settings["seed"]
            origin = Origin(loaded.name, str(path), seed, str(device), request.dtype)
            write_results(folder, name, subject, results, origin)
        files = sorted(file.name for file in folder.iterdir())
    for file in files:
        typer.echo(printable(request.out / file))


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


def _questions(request: Request, loaded: LoadedModel) -> list[str | None]:
    """A caption or target for each picture."""
    if loaded.kind == "dual":
        if request.targets:
            raise ValueError(f"{loaded.name} compares images with text: pass --text, not --target")
        if not request.texts:
            raise ValueError(f"{loaded.name} compares images with text: pass --text")
        return _one_each(request.texts, "--text", len(request.images))
    if request.texts:
        raise ValueError(f"{loaded.name} is a classifier: pass --target, not --text")
    return _one_each(request.targets or [None], "--target", len(request.images))


def _one_each(values: Sequence[Any], flag: str, count: int) -> list[Any]:
    if len(values) not in (1, count):
        raise ValueError(
            f"{len(values)} values of {flag} for {count} image(s): pass one for all or one each "
            "(quote what has spaces)"
        )
    return list(values) * (count if len(values) == 1 else 1)
