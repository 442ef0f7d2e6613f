"""Links to a question: ``?model=clip-scenes&text=a red circle`` fills the fields, and runs nothing.

The browser reads its own address and sends the parts as texts; the server never sees the address.
Each part is held against what the page offers: nothing in a link is a path, or is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from captum_ib.app.offers import Offer

LONGEST = 1000
"""Letters of a text, as in the fields."""
_SHOWN = 80  # letters of what is not known, in a message

READ = """() => {
  const asked = new URLSearchParams(window.location.search);
  const number = Number(asked.get("example") || NaN);
  return [asked.get("model"), asked.get("text"), asked.get("first"), asked.getAll("method"),
    Number.isFinite(number) ? number : null];
}"""
"""What the browser does: the parts of its address, in the order of :func:`read_link`."""


@dataclass(frozen=True)
class Link:
    """What a link asks for.

    Attributes:
        model: name of an offer.
        text: caption, class or second text; ``None``: the example's.
        first: of two texts; ``None``: the example's.
        methods: names; none for those that a newcomer sees.
        example: its index.
    """

    model: str
    text: str | None = None
    first: str | None = None
    methods: tuple[str, ...] = ()
    example: int = 0


def read_link(
    offers: Mapping[str, Offer],
    model: str | None,
    text: str | None,
    first: str | None,
    chosen: Sequence[str] | None,
    example: float | None,
) -> Link | None:
    """What the parts of an address ask for; ``None`` when they ask for nothing.

    Raises:
        ValueError: a model, method or example that is not offered, or a text that is too long.
    """
    if model is None and text is None and first is None and not chosen and example is None:
        return None
    name = next(iter(offers)) if model is None else _model(offers, model)
    for said in (text, first):
        if said is not None and len(said) > LONGEST:
            raise ValueError(f"the link's text has {len(said)} letters, at most {LONGEST} are read")
    offer = offers[name]
    unknown = [method for method in chosen or () if method not in offer.defaults]
    if unknown:
        raise ValueError(
            f"the link names the method {unknown[0][:_SHOWN]!r}, which {name} does not have; it "
            f"has {', '.join(offer.defaults)}"
        )
    count = len(offer.examples)
    if example is not None and example not in range(1, count + 1):
        raise ValueError(f"the link names example {example:g}, expected 1 to {count}")
    return Link(name, text, first, tuple(chosen or ()), int(example or 1) - 1)


def address(offer: Offer, text: str, first: str, chosen: Sequence[str], example: int | None) -> str:
    """The link to a question; an upload is not in it.

    >>> from types import SimpleNamespace
    >>> one = SimpleNamespace(loaded=SimpleNamespace(name="zoo:clip-scenes"))
    >>> address(one, "a red circle", "", ["m2ib"], 2)
    '?model=zoo%3Aclip-scenes&text=a+red+circle&method=m2ib&example=3'
    """
    parts = [("model", offer.loaded.name), ("first", first), ("text", text)]
    parts += [("method", name) for name in chosen]
    parts += [] if example is None else [("example", str(example + 1))]
    return "?" + urlencode([part for part in parts if part[1]])


def _model(offers: Mapping[str, Offer], model: str) -> str:
    for name in (model, f"zoo:{model}"):
        if name in offers:
            return name
    raise ValueError(
        f"the link names the model {model[:_SHOWN]!r}, which is not offered here; there are "
        f"{', '.join(offers)}"
    )
