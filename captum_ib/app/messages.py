"""Requests of the page as JSON: only what its fields can hold gets through, and never a path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIMIT = 64_000
"""Bytes of a request; the longest honest one, a caption and some layers, has a tenth."""
_WRONG = "a field holds what it can't hold"
_SURROGATE = re.compile("[\ud800-\udfff]")


class Refused(ValueError):
    """A request that the page would not send."""


@dataclass(frozen=True)
class Asked:
    """A request to call one of the page's functions.

    Attributes:
        session: of the open page.
        function: number of the function.
        data: what its fields hold; a file's field holds ``None``.
        trigger: number of the component that was used, if said.
        file: what the browser calls the chosen upload, if a file's field has one.
        has_file: whether the function has a file's field.
    """

    session: str
    function: int
    data: list[Any]
    trigger: int | None
    file: str | None
    has_file: bool

    def body(self) -> bytes:
        """The request written anew, with these parts and no other."""
        return json.dumps(
            {
                "data": self.data,
                "event_data": None,
                "fn_index": self.function,
                "trigger_id": self.trigger,
                "session_hash": self.session,
            }
        ).encode()


def read_asked(body: bytes, functions: Mapping[int, Sequence[str]]) -> Asked:
    """The request to call a function.

    Args:
        body: JSON.
        functions: what the fields of each function hold: ``"text"``, ``"texts"``, ``"number"``,
            ``"flag"``, ``"file"`` or ``"state"``.

    Raises:
        Refused: it is not one that the page sends.
    """
    message = _read(body)
    function, data = message.get("fn_index"), message.get("data")
    trigger = message.get("trigger_id")
    if type(function) is not int or function not in functions:
        raise Refused("no such function")
    kinds = functions[function]
    if not isinstance(data, list) or len(data) != len(kinds):
        raise Refused(f"this function takes {len(kinds)} values")
    files = [_file(v) for kind, v in zip(kinds, data, strict=True) if kind == "file"]
    return Asked(
        _text(message.get("session_hash")),
        function,
        [_value(kind, value) for kind, value in zip(kinds, data, strict=True)],
        trigger if type(trigger) is int else None,
        files[0] if files else None,
        bool(files),
    )


def read_cancel(body: bytes) -> tuple[str, str, bytes]:
    """Session and event of a request to cancel, and the request written anew.

    Raises:
        Refused: it is not one that the page sends.
    """
    message = _read(body)
    session, event = _text(message.get("session_hash")), _text(message.get("event_id"))
    function = message.get("fn_index")
    if type(function) is not int:
        raise Refused("no such function")
    known = {"session_hash": session, "event_id": event, "fn_index": function}
    return session, event, json.dumps(known).encode()


def _read(body: bytes) -> dict[str, Any]:
    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        message = json.loads(body.decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        raise Refused("not JSON") from None
    if not isinstance(message, dict):
        raise Refused("not a JSON object")
    return message


def _text(value: Any) -> str:
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise Refused(_WRONG)
    return value


def _value(kind: str, value: Any) -> Any:
    """The value of a field; what stands in a file's field stays outside."""
    if kind == "file" or value is None:
        return None
    if kind == "text":
        return _text(value)
    if kind == "texts" and isinstance(value, list):
        return [_text(part) for part in value]
    if kind == "flag" and type(value) is bool:
        return value
    number = type(value) in (int, float)
    if kind == "number" and number and abs(value) < 2**63 and math.isfinite(value):
        return value
    raise Refused(_WRONG)


def _file(value: Any) -> str | None:
    """What the browser calls the file; whether it is the visitor's is asked elsewhere."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(_WRONG)
    return _text(value.get("path"))
