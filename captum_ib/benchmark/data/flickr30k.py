"""Flickr30k Entities: one sample per image and phrase, its boxes as mask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.objects_xml import LARGEST, Listed, boxes_mask, listed_objects
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.rows import Held
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

_PHRASE = re.compile(r"\[/EN#(\d{1,12})(?:/\w+)* ([^\[\]]{1,200})\]")
_PLAIN = re.compile(r"\w[\w.-]*")


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with the boxes of a phrase as mask, for a dual encoder; the phrase is the caption.

    The path is the folder of the images, an id image, chain and phrase. Options:

    - ``annotations``: the folder that holds ``Sentences`` and ``Annotations`` (required).
    - ``list``: a file with the names of images, one a line, as ``test.txt`` (default: all).
    - ``text``: ``"phrase"`` (default), or ``"sentence"``: the whole sentence is the caption, and
      the phrase's words are those that carry content.

    A phrase that no box belongs to is no sample.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: the model is a classifier; no phrases; a name in the list that is none.
    """
    root, options = Path(config.path or ""), config.options
    home = Path(options["annotations"])
    if loaded.kind != "dual":
        raise ValueError(f"Flickr30k has phrases; {loaded.name} is a classifier, which reads none")
    for folder in (root, home / "Sentences", home / "Annotations"):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder")
    whole, most = options.get("text") == "sentence", max_pixels(options.get("max_pixels"))
    rows = Held(_samples(home, _images(home, options.get("list")), whole))

    def read(place: int, name: str) -> Sample:
        row = rows[place]
        if row["problem"]:
            raise ValueError(row["problem"])
        image = read_picture(root / f"{row['image']}.jpg", most, upright=False)
        found = [Listed([row["chain"]], edges) for edges in row["boxes"]]
        mask = boxes_mask(found, (image.height, image.width))
        words = tuple(row["phrase"].split()) if whole else None
        return Sample(name, image, None, row["caption"], mask, words)

    def name_of(place: int) -> str:
        row = rows[place]
        parts = (row["image"], row["chain"], row["sentence"], row["phrase"])
        return "/".join(str(part) for part in parts if part != "")

    return Dataset(len(rows), name_of, read, options.get("shuffle", 0))


def _images(home: Path, given: str | None) -> list[str]:
    if given is None:
        return sorted(path.stem for path in (home / "Sentences").glob("*.txt"))
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the list of images, is missing")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than 1 MiB: it is no list of images")
    names = path.read_text("utf-8").split()
    for name in names:
        if not _PLAIN.fullmatch(name):
            raise ValueError(f"{path}: {name[:40]!r} is no name of an image")
    return names


def _samples(home: Path, images: list[str], whole: bool) -> Iterator[dict[str, Any]]:
    """A row for each phrase that has a box; one that says why for an image that can't be read."""
    for image in images:
        empty: dict[str, Any] = {"image": image, "chain": "", "sentence": "", "phrase": ""}
        try:
            sentences = _sentences(home / "Sentences" / f"{image}.txt")
            found = listed_objects(home / "Annotations" / f"{image}.xml")
        except ValueError as error:
            yield {**empty, "caption": "", "boxes": [], "problem": str(error)}
            continue
        boxes: dict[str, list[dict[str, float]]] = {}
        for one in found:
            for chain in one.names if one.edges else ():
                boxes.setdefault(chain, []).append(one.edges)
        seen = set()
        for number, sentence in enumerate(sentences):
            plain = _PHRASE.sub(lambda match: match[2], sentence)
            for chain, phrase in _PHRASE.findall(sentence):
                key = (chain, number if whole else "", phrase)
                if chain not in boxes or key in seen:
                    continue
                seen.add(key)
                row = {"image": image, "chain": chain, "sentence": key[1], "phrase": phrase}
                told = plain if whole else phrase
                yield {**row, "caption": told, "boxes": boxes[chain], "problem": ""}


def _sentences(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"sentences {path.name} are missing, or no file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"sentences {path.name} are larger than 1 MiB")
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"sentences {path.name} are not UTF-8: {error}") from error
