"""What was found, in a few lines of text: the shell prints them, and an explanation shows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Answering, Subject


def question_line(subject: Subject) -> str:
    """The prediction in words.

    >>> import torch
    >>> question_line(Subject(torch.nn.Identity(), (), "", 0.401, target=281, label="tabby"))
    'tabby (class 281), probability 40.1 %'
    """
    if subject.answering is not None:
        return _answer_line(subject, subject.answering)
    texts = " and ".join(f"“{words.text}”" for words in subject.words)
    if subject.pair:
        return f"{texts}, cosine {subject.score:.3f}"
    name = f"class {subject.target}"
    if subject.label is not None:
        name = f"{subject.label} ({name})"
    said = f"{texts}: " if texts else ""
    return f"{said}{name}, probability {100 * subject.score:.1f} %"


def _answer_line(subject: Subject, answering: Answering) -> str:
    """Question and answer, and what the language alone would make of it."""
    question, answer = (words.text for words in subject.words)
    own = " (its own answer)" if answering.generated else ""
    return (
        f"“{question}” → “{answer}”{own}, probability {100 * subject.score:.1f} %; with a grey "
        f"picture {100 * answering.alone:.1f} %"
    )


def amount(finding: Finding) -> str:
    """How much there is in a map: its bits, by part for a pair; else the range of its values."""
    if finding.bits is None:
        low = min(float(one.min()) for one in finding.maps)
        high = max(float(one.max()) for one in finding.maps)
        return f"{low:.3g} to {high:.3g} {finding.row.unit}"
    aside = finding.aside or (0.0,) * len(finding.bits)
    shown = [bits - other for bits, other in zip(finding.bits, aside, strict=True)]
    names = _parts(finding) if len(shown) > 2 else [""] * len(shown)
    parts = " + ".join(f"{name}{readable(bits)}" for name, bits in zip(names, shown, strict=True))
    total = f"{readable(sum(shown))} bits"
    said = [parts] if len(shown) > 1 else []
    said += [f"besides {readable(sum(aside))} in begin and end tokens"] if sum(aside) >= 1 else []
    return f"{total} ({'; '.join(said)})" if said else total


def readable(number: float) -> str:
    """Three digits, thousands as "k".

    >>> readable(0.2571), readable(243.4), readable(6812.0)
    ('0.257', '243', '6.81 k')
    """
    return f"{number / 1000:.3g} k" if abs(number) >= 999.5 else f"{number:.3g}"


def where(layers: Sequence[str]) -> str:
    """Names of layers, the middle of a long run left out.

    >>> where(["blocks.4.norm1", "blocks.5.norm1", "blocks.6.norm1"])
    'blocks.4.norm1 … blocks.6.norm1 (3 layers)'
    >>> where(["vision.0", "text.0", "text.1"])
    'vision.0; text.0, text.1'
    """
    once = dict.fromkeys(layers)  # two texts share theirs
    runs = [list(run) for _, run in groupby(once, lambda name: name.partition(".")[0])]
    return "; ".join(
        ", ".join(run) if len(run) <= 2 else f"{run[0]} … {run[-1]} ({len(run)} layers)"
        for run in runs
    )


def finding_line(finding: Finding) -> str:
    """Method, amount, layers and time."""
    line = (
        f"{finding.row.shown}: {amount(finding)} at {where(finding.layers)}, "
        f"{finding.seconds:.1f} s"
    )
    if finding.tried:
        before = ", ".join(map(_said, finding.tried))
        line += f" (β {_said(finding.betas)}: at {before} it showed nothing)"
    for name, collapse in zip(_parts(finding), finding.collapses, strict=False):
        if collapse is not None:
            line += f"; {name}{collapse}, so the map shows no selection: {collapse.mend}"
    return line


def _parts(finding: Finding) -> list[str]:
    """What each map is of, where there are several."""
    if len(finding.maps) < 2:
        return [""]
    texts = len(finding.texts)
    names = ["first text ", "second text "] if texts > 1 else ["text "]
    names = ["question ", "answer "] if texts == 2 and len(finding.maps) == 3 else names
    return ["picture "] * (len(finding.maps) - texts) + names


def _said(betas: Sequence[float]) -> str:
    """One β, or those of both inputs."""
    return " and ".join(dict.fromkeys(f"{beta:.3g}" for beta in betas))
