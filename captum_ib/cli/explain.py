"""``captum-ib explain``: from a request to figures, arrays and settings on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image, ImageOps

from captum_ib import methods
from captum_ib.cli.output import staged, unique_names, write_json
from captum_ib.cli.subject import Explanation, Subject, explain_subject, make_subject
from captum_ib.models.load import LoadedModel, load
from captum_ib.visualization import Panel, compare, save

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EVERY = "all"
"""In the place of a method's name: all that take this kind of model."""
_DEFAULT_METHOD = {"dual": "m2ib", "classifier": "coiba"}


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
    device, dtype = _device(request.device), _dtype(request.dtype)
    loaded = load(request.model, allow_pickle=request.allow_pickle, revision=request.revision)
    questions = _questions(request, loaded)
    if every:
        rows = methods.for_kind("dual" if loaded.kind == "dual" else "classifier")
    rows = rows or [methods.get(_DEFAULT_METHOD[loaded.kind])]
    _check_methods(rows, loaded)
    settings = methods.settings_for(rows, request.settings)
    loaded.model.to(device=device, dtype=dtype)
    with staged(request.out) as folder:
        for name, path, picture, question in zip(
            unique_names(request.images), request.images, pictures, questions, strict=True
        ):
            subject = make_subject(loaded, picture, question, device, dtype)
            results = _explain(subject, rows, request.layers, settings, every)
            for result in results:
                record = {
                    **result.record(),
                    "model": loaded.name,
                    "image": str(path),
                    **subject.record(),
                    "seed": request.settings["seed"],
                    "device": str(device),
                    "dtype": request.dtype,
                }
                write_result(folder, f"{name}-{result.row.name}", subject, result, record)
            if len(results) > 1:
                panels = [panel(subject, result) for result in results]
                save(
                    compare(subject.picture, panels, title=subject.title),
                    folder / f"{name}-compare.png",
                )
        files = sorted(file.name for file in folder.iterdir())
    for file in files:
        typer.echo(str(request.out / file))


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


def read_image(path: Path) -> Image.Image:
    """The picture in a file, turned upright as its EXIF data say, in RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a picture, or a broken or a huge one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist or is not a file")
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {path} can't be read: {error}") from error


def write_result(
    folder: Path, stem: str, subject: Subject, result: Explanation, record: Mapping[str, Any]
) -> None:
    """Write ``STEM.png``, ``STEM.npz`` and ``STEM.json`` for one picture and method."""
    save(
        compare(subject.picture, [panel(subject, result)], title=subject.title),
        folder / f"{stem}.png",
    )
    arrays = {
        "image": subject.picture.cpu().numpy(),
        "image_attribution": result.image.cpu().numpy(),
    }
    if result.text is not None:
        arrays["text_attribution"] = result.text.cpu().numpy()
        arrays["tokens"] = np.array(subject.tokens)
    np.savez_compressed(folder / f"{stem}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    write_json(folder / f"{stem}.json", record)


def panel(subject: Subject, result: Explanation) -> Panel:
    """One method's result as a column of a figure; begin, end and padding tokens stay out."""
    words, values = None, None
    if result.text is not None:
        shown = [i for i, word in enumerate(subject.tokens) if word not in subject.special_tokens]
        words = [subject.tokens[i] for i in shown]
        values = result.text[shown]
    row = result.row
    return Panel(row.title, result.image, row.unit, row.signed, words, values)


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


def _check_methods(rows: Sequence[methods.MethodSpec], loaded: LoadedModel) -> None:
    for row in rows:
        if loaded.kind not in row.takes:
            fitting = ", ".join(other.name for other in methods.for_kind(loaded.kind))
            what = "an image-text model" if loaded.kind == "dual" else "a classifier"
            raise ValueError(f"{row.name} can't explain {what} ({loaded.name}); use: {fitting}")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"device {name!r} can't be used: {str(error).splitlines()[0]}") from error
    return device


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]
