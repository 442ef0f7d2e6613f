"""``captum-ib explain``: from pictures and questions to figures, arrays and settings on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import typer
from PIL import Image

from captum_ib import methods
from captum_ib.cli.talk import Steps, say
from captum_ib.explaining.answering import by_token
from captum_ib.explaining.choices import Choice, choose, device_of, dtype_of
from captum_ib.explaining.output import printable, staged, unique_names
from captum_ib.explaining.pictures import expanded, read_image
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.results import Origin, write_results
from captum_ib.explaining.running import Finding, explain_choice
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.summary import finding_line, question_line
from captum_ib.loading.load import LoadedModel, load
from captum_ib.loading.sounds import Sound, read_sound
from captum_ib.visualization import style_from

EVERY = "all"
"""In the place of a method's name: all that take this kind of model."""


@dataclass(frozen=True)
class Request:
    """What was asked for, lists filled in.

    Attributes:
        model: as :func:`captum_ib.load` takes it.
        images: files of pictures, folders of them, or patterns; none of texts alone.
        texts: captions, for an image-text model: one for all pictures, or one each; for a
            sentence encoder the two texts; for a classifier of texts one or several.
        targets: classes by index or label, for a classifier; none for the likeliest.
        chosen: names of methods, or :data:`EVERY`; none for the recommended one.
        layers: names of layers, or ``auto`` or ``paper``; none for the preset's.
        preset: ``recommended`` or ``paper``.
        settings: ``beta``, ``steps``, ``samples`` (``None`` for the preset's) and ``seed``.
        device: where to compute.
        dtype: of the model.
        revision: of a hub model.
        allow_pickle: whether pickled weights are read.
        sounds: WAV files, for an audio-text model.
        questions: for a model that answers: one for all pictures, or one each.
        answers: likewise; none for what the model says.
        per_token: whether each token of an answer is explained, too.
    """

    model: str
    images: Sequence[Path] = ()
    texts: Sequence[str] = ()
    targets: Sequence[str] = ()
    chosen: Sequence[str] = ()
    layers: Sequence[str] = ()
    preset: str = "recommended"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None
    allow_pickle: bool = False
    sounds: Sequence[Path] = ()
    questions: Sequence[str] = ()
    answers: Sequence[str] = ()
    per_token: bool = False


@dataclass(frozen=True)
class _Job:
    """One input: its name for files, where it comes from, what is asked; or a part of an answer."""

    name: str
    source: str
    given: Image.Image | Sound | str
    question: str | None
    answer: str | None = None
    part: bool = False


def run(request: Request, out: Path, look: Mapping[str, Any]) -> None:
    """Explain what was asked for, and say what was found and which file to open.

    Args:
        request: what was asked for.
        out: folder for the results.
        look: keywords of :class:`captum_ib.visualization.Style`, ``None`` for the default.

    Raises:
        ValueError, OSError, RuntimeError: one of the user's inputs does not work.
    """
    # Whatever can be checked without the model comes first: loading may take minutes.
    named = [name for name in request.chosen if name != EVERY]
    for name in named:
        methods.get(name)
    if any(not text.strip() for text in request.texts):
        raise ValueError("--text is empty; pass a caption")
    if any(not text.strip() for text in (*request.questions, *request.answers)):
        raise ValueError("--question or --answer is empty; pass words")
    files = expanded(request.images)
    pictures = [read_image(path) for path in files]
    sounds = [read_sound(path) for path in request.sounds]
    style = style_from(look)
    place, kind = device_of(request.device), dtype_of(request.dtype)
    loaded = load(request.model, allow_pickle=request.allow_pickle, revision=request.revision)
    if loaded.hear is not None or sounds:
        jobs = _sound_jobs(loaded, request, sounds)
    else:
        jobs = _jobs(loaded, request, files, pictures)
    every = EVERY in request.chosen
    choices = _choices(loaded, request, named, every)
    loaded.model.to(device=place, dtype=kind)
    steps, lines = Steps(len(jobs) * len(choices)), list[str]()
    with staged(out) as folder:
        for job, subject in _subjects(loaded, jobs, request, place, kind):
            if job.part:
                steps.total += len(choices)
            results = _explain(subject, choices, steps, job, every)
            origin = Origin(
                loaded.name, job.source, request.settings["seed"], str(place), request.dtype
            )
            write_results(folder, job.name, subject, results, origin, style)
            lines += _said(job, subject, results, out)
    typer.echo("\n".join(lines))


def _subjects(
    loaded: LoadedModel,
    jobs: Sequence[_Job],
    request: Request,
    place: torch.device,
    kind: torch.dtype,
) -> Iterator[tuple[_Job, Subject]]:
    """What is to be explained, one by one; behind an answer each of its tokens, if wanted."""
    if request.per_token and loaded.kind != "generator":
        raise ValueError(f"{loaded.name} answers nothing: pass no --per-token")
    for job in jobs:
        subject = make_subject(loaded, job.given, job.question, place, kind, job.answer)
        yield job, subject
        for token, one in enumerate(by_token(subject) if request.per_token else (), start=1):
            yield replace(job, name=f"{job.name}-token-{token}", part=True), one


def _choices(
    loaded: LoadedModel, request: Request, named: Sequence[str], every: bool
) -> list[Choice]:
    all_of_them = methods.for_kind(loaded.kind, texts=loaded.texts)
    names = [row.name for row in all_of_them] if every else named
    return choose(
        loaded, names, preset=request.preset, layers=request.layers, given=request.settings
    )


def _explain(
    subject: Subject, choices: Sequence[Choice], steps: Steps, job: _Job, every: bool
) -> list[Finding]:
    """One finding per method; of ``all`` methods those that this model admits."""
    results: list[Finding] = []
    for choice in choices:
        title = choice.row.shown
        try:
            with steps.step(f"{title}, {printable(Path(job.name))}"):
                results.append(explain_choice(subject, choice))
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:
            if not every:
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(f"captum-ib: without {choice.row.name}: {reason}")
    return results


def _said(job: _Job, subject: Subject, results: Sequence[Finding], out: Path) -> list[str]:
    """What is said of an input: the prediction, a line per method, the file to open."""
    last = f"-{results[0].row.name}.png" if len(results) == 1 else "-compare.png"
    shown = f"{printable(Path(job.source))}: " if not isinstance(job.given, str) else ""
    return [
        f"{shown}{question_line(subject)}",
        *(f"  {finding_line(one)}" for one in results),
        *([f"  open {printable(out / f'{job.name}{last}')}"] if results else []),
    ]


def _jobs(
    loaded: LoadedModel, request: Request, files: Sequence[Path], pictures: Sequence[Image.Image]
) -> list[_Job]:
    """Every picture with its caption or target; every text with its target; or the two texts."""
    texts, targets = request.texts, request.targets
    if loaded.kind == "generator" or request.questions or request.answers:
        return _question_jobs(loaded, request, files, pictures)
    if loaded.texts and loaded.kind == "classifier":
        if files or not texts:
            raise ValueError(f"{loaded.name} classifies texts: pass --text, and no --image")
        asked = _one_each(targets or [None], "--target", len(texts), "text")
        many = len(texts) > 1
        return [
            _Job(f"text-{i}" if many else "text", f"text {i}", text, target)
            for i, (text, target) in enumerate(zip(texts, asked, strict=True), start=1)
        ]
    if loaded.texts:
        if files or targets or len(texts) != 2:
            raise ValueError(
                f'{loaded.name} compares two texts: pass --text "one" "other", and neither '
                "--image nor --target"
            )
        return [_Job("texts", "texts", texts[0], texts[1])]
    if not files:
        raise ValueError(f"{loaded.name} explains pictures: pass --image")
    if loaded.kind == "dual":
        if targets:
            raise ValueError(f"{loaded.name} compares images with text: pass --text, not --target")
        if not texts:
            raise ValueError(f"{loaded.name} compares images with text: pass --text")
        questions = _one_each(texts, "--text", len(files))
    else:
        if texts:
            raise ValueError(f"{loaded.name} is a classifier: pass --target, not --text")
        questions = _one_each(targets or [None], "--target", len(files))
    names = unique_names(files)
    return [
        _Job(name, str(file), picture, question)
        for name, file, picture, question in zip(names, files, pictures, questions, strict=True)
    ]


def _sound_jobs(loaded: LoadedModel, request: Request, sounds: Sequence[Sound]) -> list[_Job]:
    """Every sound with its sentence."""
    if loaded.hear is None:
        raise ValueError(f"{loaded.name} hears nothing: pass no --audio")
    if request.images or request.targets or not sounds or not request.texts:
        raise ValueError(
            f"{loaded.name} compares sounds with text: pass --audio x.wav and --text, and neither "
            "--image nor --target"
        )
    questions = _one_each(request.texts, "--text", len(sounds), "sound")
    names = unique_names(request.sounds)
    return [
        _Job(name, str(file), sound, question)
        for name, file, sound, question in zip(
            names, request.sounds, sounds, questions, strict=True
        )
    ]


def _question_jobs(
    loaded: LoadedModel, request: Request, files: Sequence[Path], pictures: Sequence[Image.Image]
) -> list[_Job]:
    """Every picture with its question, maybe with the answer."""
    if loaded.kind != "generator":
        raise ValueError(f"{loaded.name} answers nothing: pass no --question and no --answer")
    if request.texts or request.targets or not files or not request.questions:
        raise ValueError(
            f"{loaded.name} answers questions about pictures: pass --image and --question, maybe "
            "--answer, and neither --text nor --target"
        )
    questions = _one_each(request.questions, "--question", len(files))
    answers = _one_each(request.answers or [None], "--answer", len(files))
    names = unique_names(files)
    return [
        _Job(name, str(file), picture, question, answer)
        for name, file, picture, question, answer in zip(
            names, files, pictures, questions, answers, strict=True
        )
    ]


def _one_each(values: Sequence[Any], flag: str, count: int, what: str = "image") -> list[Any]:
    if len(values) not in (1, count):
        raise ValueError(
            f"{len(values)} values of {flag} for {count} {what}(s): pass one for all or one each "
            "(quote what has spaces)"
        )
    return list(values) * (count if len(values) == 1 else 1)
