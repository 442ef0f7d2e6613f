"""What a name in the data means to a model: one of its classes, or a caption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import torch

from captum_ib.benchmark.checks import nearest
from captum_ib.loading.load import LoadedModel

LABEL = "{label}"
"""Stands for the name of the class in a caption."""

_WORDNET = re.compile(r"n\d{8}")


def check_caption(caption: str | None, loaded: LoadedModel) -> None:
    """Check that names can become captions.

    Args:
        caption: a text with ``{label}``, which stands for the name.
        loaded: the dual encoder that reads it.

    Raises:
        ValueError: there is none, or it has no place for the name.
    """
    if caption is None:
        raise ValueError(
            f"{loaded.name} compares images with captions: say how a class becomes one, with the "
            f"option caption, e.g. 'a photo of a {LABEL}'"
        )
    if LABEL not in caption:
        raise ValueError(f"caption must hold {LABEL}, given {caption!r}")


def as_words(folder: str) -> str:
    """A folder's name as words.

    >>> as_words("golden_retriever"), as_words("n01443537")
    ('golden retriever', 'goldfish')
    """
    if _WORDNET.fullmatch(folder):
        return _imagenet("imagenet-22k").get(folder, folder).split(", ")[0]
    return folder.replace("_", " ").strip()


def class_indices(classes: Sequence[str], loaded: LoadedModel, rule: str = "auto") -> list[int]:
    """The model's class for each folder.

    Args:
        classes: names of the folders, in alphabetical order.
        loaded: the model.
        rule: ``"names"``, each is a class of the model, as a name, an index or a WordNet id;
            ``"order"``, they are classes 0, 1, 2, …, all of them; ``"auto"``, names if the model
            knows one of them, else order.

    Raises:
        ValueError: a name that is no class; two folders of one class; another number of folders
            than of classes.
    """
    wordnet = all(_WORDNET.fullmatch(name) for name in classes)
    if rule == "order":
        found = []
    elif wordnet and set(classes).isdisjoint(loaded.labels or ()):
        found = _by_wordnet(classes, loaded)
    else:
        found = [_by_name(name, loaded) for name in classes]
    if rule == "names" or any(index is not None for index in found):
        return _all_of(classes, found, loaded)
    count = _count(loaded)
    if count not in (None, len(classes)):
        why = "no folder is named after one"
        if rule == "order":
            why = "in order, each class needs one (labels: auto takes them by their names)"
        raise ValueError(
            f"there are {len(classes)} folders for the {count} classes of {loaded.name}, and "
            f"{why}; classes are called {_some(loaded)}"
        )
    return list(range(len(classes)))


def _all_of(classes: Sequence[str], found: Sequence[int | None], loaded: LoadedModel) -> list[int]:
    """The classes that were found, if they are found for all, and none twice."""
    folder_of: dict[int, str] = {}
    for name, index in zip(classes, found, strict=True):
        if index is None:
            raise ValueError(
                f"folder {name!r} is no class of {loaded.name} (they are called {_some(loaded)}); "
                "to take the folders in alphabetical order for classes 0, 1, 2, ..., as many as "
                "the model has, set the option labels to order"
            )
        if index in folder_of:
            both = f"folders {folder_of[index]!r} and {name!r}"
            raise ValueError(f"{both} are the same class of {loaded.name}, {index}")
        folder_of[index] = name
    return list(folder_of)


def _some(loaded: LoadedModel) -> str:
    labels = loaded.labels or ()
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "") or "by numbers"


def _by_name(name: str, loaded: LoadedModel) -> int | None:
    for spelling in (name, name.replace("_", " ").strip()):
        try:
            return loaded.class_index(spelling)
        except ValueError:
            continue
    return None


def _by_wordnet(ids: Sequence[str], loaded: LoadedModel) -> list[int | None]:
    """The model's class for each WordNet id, by timm's tables of ImageNet's classes.

    Two classes may be called the same (of a thousand, two are cranes). So where the model's labels
    are those of a table, index by index, the table's index counts; else a name that is unique does.

    Raises:
        ValueError: the model has no labels, and another number of classes than there are ids.
    """
    from timm.data.imagenet_info import infer_imagenet_subset

    labels = loaded.labels or []
    if loaded.labels is None and _count(loaded) != len(ids):
        raise ValueError(
            f"the {len(ids)} folders are called by WordNet ids, and {loaded.name} does not name "
            "its classes; call each folder by the index of its class"
        )
    table = _imagenet(infer_imagenet_subset({"num_classes": len(labels)}) or "imagenet-22k")
    pairs = zip(table.values(), labels, strict=False)
    same = sum(not _names(theirs).isdisjoint(_names(ours)) for theirs, ours in pairs)
    if len(table) == len(labels) and same >= 0.9 * len(labels):
        places = {id: place for place, id in enumerate(table)}
        return [places.get(id) for id in ids]
    named = [{_by_name(name, loaded) for name in _names(table.get(id, ""))} for id in ids]
    found = [indices - {None} for indices in named]
    return [indices.pop() if len(indices) == 1 else None for indices in found]


@cache
def _imagenet(subset: str) -> dict[str, str]:
    """The names of ImageNet's classes by WordNet id, in the order of the classes."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo(subset)
    return dict(zip(info.label_names(), info.label_descriptions(), strict=True))


def _names(description: str) -> set[str]:
    return set(description.casefold().split(", "))


def _count(loaded: LoadedModel) -> int | None:
    """How many classes a model has; one without names is asked with a black picture."""
    if loaded.labels is not None:
        return len(loaded.labels)
    weight = next(loaded.model.parameters(), torch.zeros(0))
    picture = torch.zeros(1, 3, *loaded.image_size, dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        output = loaded.model(picture)
    logits = getattr(output, "logits", output)
    return logits.shape[1] if logits.ndim == 2 else None


def category_indices(
    source: str, names: Mapping[int, str], asked: Sequence[str], loaded: LoadedModel
) -> dict[int, int | None]:
    """The categories that were asked for, each with the model's class; dual encoders have none.

    A category that is no class of the model is left out unless it was asked for.

    Args:
        source: where the categories come from, for errors.
        names: of all categories by number.
        asked: names; none: all.
        loaded: the model.

    Raises:
        ValueError: a category that is not there, or that was asked for and is no class of the
            model; a model that has a class for none.
    """
    for name in asked:
        if name not in names.values():
            raise ValueError(f"{source} has no category {name!r}; {nearest(name, names.values())}")
    wanted = {id: name for id, name in names.items() if not asked or name in asked}
    if loaded.kind == "dual":
        return dict.fromkeys(wanted)
    labels: dict[int, int | None] = {}
    for id, name in wanted.items():
        try:
            labels[id] = loaded.class_index(name)
        except ValueError as error:
            if asked:
                raise ValueError(f"category {name!r}: {error}") from None
    if not labels:
        raise ValueError(
            f"none of the categories ({first_names(names)}) is a class of {loaded.name}; use a "
            "model with such classes, or a dual encoder"
        )
    return labels


def first_names(names: Mapping[int, str]) -> str:
    """The first of the names, for an error."""
    return ", ".join(list(names.values())[:5]) + ", ..."
