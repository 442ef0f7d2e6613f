"""What ``captum_ib.explain`` gives: maps, the model's answer, and ways to show and check them."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_ib.explaining.answering import by_token
from captum_ib.explaining.output import staged
from captum_ib.explaining.results import Origin, figure_of, write_results
from captum_ib.explaining.running import Finding, explain_subject
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.summary import finding_line, question_line
from captum_ib.layout import TokenLayout
from captum_ib.metrics.certificate import Certificate, certify
from captum_ib.segments import per_segment
from captum_ib.visualization import Style

CERTIFIED = 0.5
"""Bits per position below which a certificate replaces, where none are named."""


@dataclass(frozen=True)
class Prediction:
    """What the model says.

    Attributes:
        target: index of the class that is explained; ``None`` for a pair.
        label: its name, where it is known.
        probability: of the class; ``None`` for a pair.
        cosine: similarity of the pair; ``None`` for a classifier.
        text: the same in words.
    """

    target: int | None
    label: str | None
    probability: float | None
    cosine: float | None
    text: str

    def __str__(self) -> str:
        return self.text


class Explanation:
    """What one method says about one input; a notebook shows it as a figure.

    Args:
        subject: the input and the question.
        finding: the method's maps.
        origin: where they come from.

    Attributes:
        method: name of the method, as ``captum-ib methods`` lists it.
        unit: of the maps: ``"bits"``, or that of the output.
        maps: one per input, on the CPU: ``(1, 1, h, w)`` for a picture, ``(T,)`` for a text.
        image: the picture's map, ``(1, 1, h, w)``; ``None`` where there is no picture.
        audio: the sound's map, ``(1, 1, time, frequency)``; ``None`` where there is no sound.
        texts: the texts' maps, ``(T,)`` each.
        tokens: words of each text, to go with ``texts``.
        layers: names of the layers that were looked at.
        settings: all settings of the method, given and default.
        seconds: that it took.

    >>> import captum_ib
    >>> picture = captum_ib.zoo.scenes.labelled(1, seed=1).images[0]
    >>> found = captum_ib.explain("vit-scenes", (picture * 255).byte())
    >>> found.unit, found.image.shape
    ('bits', torch.Size([1, 1, 8, 8]))
    """

    def __init__(self, subject: Subject, finding: Finding, origin: Origin) -> None:
        self._subject, self._finding, self._origin = subject, finding, origin
        self.method = finding.row.name
        self.unit = finding.row.unit
        self.maps: tuple[Tensor, ...] = finding.maps
        self.image = None if subject.sound else finding.image
        self.audio = finding.image if subject.sound else None
        self.texts = finding.texts
        self.tokens = tuple(words.tokens for words in subject.words)
        self.layers = finding.layers
        self.settings = dict(finding.settings)
        self.seconds = finding.seconds

    @property
    def bits(self) -> float | None:
        """Bits in all maps; ``None`` for methods with another unit."""
        return None if self._finding.bits is None else sum(self._finding.bits)

    @property
    def bits_per_part(self) -> dict[str, float] | None:
        """Bits in the map of each input: ``"image"``, ``"audio"``, ``"text"``, ``"first"``, …

        Of a model that answers ``"image"``, ``"question"`` (with the words around it) and
        ``"answer"`` (its earlier words, which the later ones read).
        """
        if self._finding.bits is None:
            return None
        texts = ("first", "second") if len(self.texts) == 2 else ("text",) * len(self.texts)
        texts = texts if self._subject.answering is None else ("question", "answer")
        names = texts if self._finding.image is None else ("image", *texts)
        names = names if self.audio is None else ("audio", *texts)
        return dict(zip(names, self._finding.bits, strict=True))

    @property
    def prediction(self) -> Prediction:
        """What the model says: class and probability, or the pair's cosine similarity."""
        subject, pair = self._subject, self._subject.pair
        return Prediction(
            subject.target,
            subject.label,
            None if pair else subject.score,
            subject.score if pair else None,
            question_line(subject),
        )

    def record(self) -> dict[str, Any]:
        """Method, layers, settings, question and origin, as ``save`` writes them."""
        return {**self._finding.record(), **self._subject.record(), **vars(self._origin)}

    def figure(self, style: Style | None = None) -> Figure:
        """The figure; a :class:`captum_ib.visualization.Style` says how it looks."""
        return figure_of(self._subject, [self._finding], style)

    def show(self, style: Style | None = None) -> None:
        """Show the figure: in a notebook below the cell, else in the system's viewer."""
        picture = Image.open(io.BytesIO(self._png(style)))
        shell = sys.modules.get("IPython")
        if shell is not None and shell.get_ipython() is not None:
            shell.display.display(picture)
        else:
            picture.show()

    def save(
        self, folder: str | Path, name: str | None = None, style: Style | None = None
    ) -> list[Path]:
        """Write what ``captum-ib explain`` writes: figure, arrays and settings.

        Args:
            folder: made when it is not there; files of the same name in it are replaced.
            name: of the files, before ``-METHOD``; default: that of the picture's file.
            style: of the figure.

        Returns:
            The files.

        Raises:
            NotADirectoryError: ``folder`` is a file.
        """
        stem = name or Path(self._origin.image).stem
        with staged(Path(folder)) as scratch:
            write_results(scratch, stem, self._subject, [self._finding], self._origin, style)
            files = sorted(file.name for file in scratch.iterdir())
        return [Path(folder) / file for file in files]

    def per_token(self) -> list[Explanation]:
        """Of a model that answers: the same for each token of the answer, in order.

        A token's map says what it needed of the picture, the question, and the tokens before it.

        Raises:
            TypeError: the model gives no answer.
        """
        row, layers, given = self._finding.row, self._finding.layers, self._finding.given
        return [
            Explanation(one, explain_subject(one, row, layers, given), self._origin)
            for one in by_token(self._subject)
        ]

    def per_segment(self, mask: Tensor | Sequence[Tensor]) -> Tensor:
        """How much of the picture's map lies in each segment, ``(segments,)``, in :attr:`unit`.

        Args:
            mask: ``(H, W)`` of ints, or a list of masks, over what the model sees (its input, also
                in another size), see :func:`captum_ib.per_segment`.

        Raises:
            ValueError: there is no picture, or sizes that don't fit.
            TypeError: a mask of another kind.
        """
        if self.image is None:
            raise ValueError("there is no picture here; texts: captum_ib.per_segment(map, words)")
        return per_segment(self.image, mask)[0]

    def certify(
        self, bits: float = CERTIFIED, **options: Any
    ) -> Certificate | tuple[Certificate, ...]:
        """Replace what has fewer than ``bits`` by noise, and see whether the model still says it.

        Args:
            bits: the threshold per position.
            options: further arguments of :func:`captum_ib.metrics.certify`, as ``n_draws``.

        Returns:
            A certificate; for a pair one per input.

        Raises:
            TypeError: the method has no bottleneck, hence no bits.
        """
        subject, given = self._subject, self._finding.given
        shared = ("prior", "min_std", "layout", "attribute_to_layer_input", "baselines")
        kept = {name: given[name] for name in shared if name in given}
        pair, whole = subject.pair, self._finding.whole
        maps = tuple(one[None] if one.ndim == 1 else one for one in self.maps)
        if whole is not None:  # an answer: one bottleneck over all tokens
            maps, kept = (whole,), {**kept, "layout": TokenLayout("sequence")}
        return certify(
            self._finding.method,
            subject.inputs if pair else subject.inputs[0],
            maps if pair else maps[0],
            bits,
            target=subject.target,
            additional_forward_args=subject.masks,
            **{**kept, **options},
        )

    def __str__(self) -> str:
        """The prediction, and what the method found."""
        return f"{question_line(self._subject)}\n{finding_line(self._finding)}"

    def __repr__(self) -> str:
        return f"<Explanation of {self}>"

    def _repr_png_(self) -> bytes:
        return self._png()

    def _png(self, style: Style | None = None) -> bytes:
        buffer = io.BytesIO()
        self.figure(style).savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._repr_png_()).decode()
        lines = "<br>".join(escape(line) for line in str(self).splitlines())
        return (
            f'<figure style="margin:0"><img alt="{escape(question_line(self._subject))}" '
            f'style="max-width:100%" src="data:image/png;base64,{data}">'
            f"<figcaption>{lines}</figcaption></figure>"
        )
