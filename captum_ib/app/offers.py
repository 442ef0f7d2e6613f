"""The models that the page offers, and what each of them admits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from captum_ib import methods
from captum_ib.explaining.building import build_method
from captum_ib.explaining.choices import choose
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.real import MORE, PHOTOGRAPHS, has_photographs, photographs
from captum_ib.explaining.running import explain_subject
from captum_ib.explaining.scenes import held_out
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.tones import made_sounds
from captum_ib.hooks import Stopped, stopping
from captum_ib.loading.load import LoadedModel, load
from captum_ib.loading.sounds import Sound, spectrogram
from captum_ib.methods import MethodSpec
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import blocks
from captum_ib.presets import recommended_method
from captum_ib.zoo.worlds import generator

ZOO = ("clip-scenes", "vit-scenes", "vit-relations")
_QUESTION = "What is in this picture?"
EXAMPLES = 6
"""Examples to each model: generated pictures, sentences, or pairs of them."""
_EXAMPLES_SEED = 0
_SENTENCES = (
    ("A cat is sleeping on the sofa.", "A kitten naps on the couch."),
    ("The train was late because of the snow.", "Heavy snow delayed the train."),
    ("She plays the violin in an orchestra.", "He repairs old bicycles."),
    ("The soup is too salty.", "There is far too much salt in this soup."),
    ("Children are playing football in the park.", "Kids kick a ball around outside."),
    ("The bank raised its interest rates.", "We sat on the bank of the river."),
)
_TRIAL = {"steps": 2}  # of a method that is only tried
_MOMENT = 2.0  # seconds of a trial, which shows whether a method starts
_SHORT = ("a cat", "the dog")  # no encoder is too narrow for it


@dataclass(frozen=True)
class Example:
    """A generated picture or sound with its question, or one sentence or two.

    Attributes:
        picture: of the model's size, or a sound; ``None`` for sentences.
        question: caption, class, or second sentence; ``None`` where the model's classes are not
            those of the scenes.
        first: the only sentence, or the first.
    """

    picture: Image.Image | Sound | None
    question: str | None
    first: str = ""


@dataclass(frozen=True)
class Offer:
    """A model that the page offers.

    Attributes:
        loaded: the model with its preprocessing, on ``device``.
        device: where it computes.
        module: what the methods take: the classifier, or a ``DualEncoder``.
        methods: those that this model admits, ours first.
        defaults: per method, the names of the layers that it takes by itself.
        layers: names to choose from.
        examples: generated pictures, sounds, sentences, or pairs of them.
        lock: held while the model computes; it answers one request at a time.
    """

    loaded: LoadedModel
    device: torch.device
    module: nn.Module
    methods: tuple[MethodSpec, ...]
    defaults: dict[str, tuple[str, ...]]
    layers: tuple[str, ...]
    examples: tuple[Example, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pair(self) -> bool:
        """Whether a text goes with what is uploaded: a caption, a question, or a second text."""
        return self.loaded.kind != "classifier"

    @property
    def answers(self) -> bool:
        """Whether the model answers a question about a picture."""
        return self.loaded.kind == "generator"

    @property
    def asked_label(self) -> str:
        """The name of the field of that text."""
        return "Question" if self.answers else "Second text" if self.texts else "Caption"

    @property
    def texts(self) -> bool:
        """Whether the model takes texts alone: two to compare, or one to classify."""
        return self.loaded.texts

    @property
    def sounds(self) -> bool:
        """Whether the model compares a sound with a text."""
        return self.loaded.hear is not None

    @property
    def what(self) -> str:
        """What is uploaded, in a word."""
        return "sound" if self.sounds else "picture"

    def spectrogram(self, sound: Sound) -> np.ndarray:
        """A sound as the model reads it, to look at: ``(mel bins, time, 3)`` in [0, 1].

        Raises:
            ValueError: it is longer than the model hears at once.
        """
        if self.loaded.hear is None:
            raise ValueError(f"{self.loaded.name} takes no sounds")
        return spectrogram(self.loaded.hear(sound)).permute(1, 2, 0).numpy()

    @property
    def first_methods(self) -> list[str]:
        """The methods that a newcomer sees chosen: the recommended one, and NIB beside it."""
        wanted = (recommended_method(self.loaded.kind, self.loaded.model), "nib")
        return [name for name in wanted if name in self.defaults]


def make_offers(
    specs: Sequence[str],
    device: torch.device,
    *,
    allow_pickle: bool = False,
    others: Sequence[str] = (),
) -> dict[str, Offer]:
    """Load models, the given ones first, the zoo's, then others, and find out what they admit.

    Args:
        specs: as for :func:`captum_ib.loading.load`.
        device: where they compute.
        allow_pickle: accept weights that exist in pickled form only.
        others: further ones, last.

    Returns:
        The offers by the models' names.

    Raises:
        ValueError, RuntimeError: a model can't be loaded, or explained.
    """
    offers: dict[str, Offer] = {}
    for spec in (*specs, *ZOO, *others):
        loaded = load(spec, allow_pickle=allow_pickle)
        if loaded.name not in offers:
            offers[loaded.name] = make_offer(loaded, device)
    return offers


def make_offer(loaded: LoadedModel, device: torch.device) -> Offer:
    """One model's offer.

    Raises:
        ValueError: the model has towers that are not understood, or no method admits it.
    """
    loaded.model.to(device)
    module = loaded.model
    if loaded.kind == "dual":
        try:
            module = DualEncoder.from_model(loaded.model)
        except TypeError as error:  # the user's mistake is the value of --model
            raise ValueError(str(error)) from error
    if loaded.kind == "generator":
        module = _trial(loaded, device).model
    defaults = {}
    for row in methods.for_kind(loaded.kind, texts=loaded.texts):
        names = _default_layers(loaded, module, row, device)
        if names is not None:
            defaults[row.name] = names
    if not defaults:
        raise ValueError(f"{loaded.name}: no method admits this model")
    return Offer(
        loaded,
        device,
        module,
        tuple(methods.get(name) for name in defaults),
        defaults,
        _layer_names(module, defaults),
        _examples(loaded),
    )


def _default_layers(
    loaded: LoadedModel, module: nn.Module, row: MethodSpec, device: torch.device
) -> tuple[str, ...] | None:
    """The method's own layers, or ``None`` where the model is not one for it."""
    names: Sequence[str] = ()
    try:
        tried = loaded.texts or loaded.hear is not None
        steps = _TRIAL if tried and "steps" in row.options else {}
        (choice,) = choose(loaded, [row.name], given=steps)
        _, names = build_method(module, row, choice.layers)
        # Whether a layer has a map, and a tower of words what is asked of it, shows only in a run.
        if tried or (row.layers == "one" and loaded.kind == "classifier"):
            subject = _trial(loaded, device)
            layers = choice.layers if tried else ()
            with _for_a_moment():
                explain_subject(subject, row, layers, choice.settings, show_progress=False)
    except Stopped:  # it runs, and would for long
        pass
    except (ValueError, TypeError, RuntimeError, AssertionError):
        return None
    return tuple(names)


@contextmanager
def _for_a_moment() -> Iterator[None]:
    """What runs inside is stopped after :data:`_MOMENT`."""
    stop = threading.Event()
    timer = threading.Timer(_MOMENT, stop.set)
    timer.start()
    try:
        with stopping(stop):
            yield
    finally:
        timer.cancel()


def _trial(loaded: LoadedModel, device: torch.device) -> Subject:
    """Something to try a method on: a grey picture, a sound, or short texts."""
    first, second = _SHORT
    if loaded.hear is not None:
        (sound, _), *_ = made_sounds(_seconds(loaded))
        return make_subject(loaded, sound, second, device, torch.float32)
    if loaded.texts:
        asked = second if loaded.kind == "dual" else None
        return make_subject(loaded, first, asked, device, torch.float32)
    if loaded.kind == "generator":
        blank = Image.new("RGB", (64, 64), (128, 128, 128))
        return make_subject(loaded, blank, _QUESTION, device, torch.float32, _SHORT[1])
    height, width = loaded.image_size
    blank = Image.new("RGB", (width, height), (128, 128, 128))
    return make_subject(loaded, blank, None, device, torch.float32)


def _layer_names(module: nn.Module, defaults: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The blocks' names, and those that some method takes by itself, in the model's order."""
    if isinstance(module, DualEncoder):
        named = [name for tower in module.modalities for name, _ in module.tower(tower).blocks]
    else:
        try:
            named = [name for name, _ in blocks(module)]
        except ValueError:  # several stacks of blocks, or none: the methods' own have to do
            named = []
    known = {*named, *(name for names in defaults.values() for name in names)} - {"input"}
    model = module.model if isinstance(module, DualEncoder) else module
    inside = [name for name, _ in model.named_modules() if name in known]
    return tuple(inside) if set(inside) == known else tuple(sorted(known))


def _examples(loaded: LoadedModel) -> tuple[Example, ...]:
    if loaded.texts:
        pair = loaded.kind == "dual"
        return tuple(Example(None, other if pair else None, one) for one, other in _SENTENCES)
    if loaded.hear is not None:
        return tuple(Example(sound, text) for sound, text in made_sounds(_seconds(loaded)))
    if loaded.kind == "generator":
        return _questions(loaded)
    worldly = loaded.kind == "classifier" and generator(loaded.labels) is None
    if worldly and has_photographs():  # photographs, of the likeliest class
        return tuple(Example(one, None) for one in photographs((*PHOTOGRAPHS, *MORE)))
    known = loaded.kind == "dual" or (loaded.labels is not None and not worldly)
    pictures, questions = held_out(loaded, EXAMPLES, _EXAMPLES_SEED)
    return tuple(
        Example(picture, _readable(loaded, question) if known else None)
        for picture, question in zip(pictures, questions, strict=True)
    )


def _questions(loaded: LoadedModel) -> tuple[Example, ...]:
    """Photographs where there are some, else made pictures, each with a question."""
    if has_photographs():
        pictures = photographs((*PHOTOGRAPHS, *MORE))
    else:
        pictures, _ = held_out(replace(loaded, image_size=(128, 128)), EXAMPLES, _EXAMPLES_SEED)
    return tuple(Example(one, _QUESTION) for one in pictures)


def _seconds(loaded: LoadedModel) -> float:
    """Length of the made sounds: two seconds, or what the model hears at once."""
    return min(2.0, getattr(loaded.hear, "seconds", 2.0))


def _readable(loaded: LoadedModel, question: str) -> str:
    """A class by its label rather than its index."""
    if loaded.kind == "dual" or loaded.labels is None:
        return question
    return loaded.labels[int(question)]
