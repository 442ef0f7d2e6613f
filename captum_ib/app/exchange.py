"""A request and what is answered to it, as ASGI has them, with the parts that may pass."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

_HEADERS = (
    b"host",
    b"accept",
    b"content-type",
    b"content-length",
    b"x-forwarded-proto",
    b"accept-encoding",
    b"if-none-match",
    b"if-modified-since",
)
"""Headers that are passed on; the others, cookies among them, stay here."""

_SAFE = {
    b"content-security-policy": b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    b"base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Answer(Exception):
    """What is answered without asking the application."""

    def __init__(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        super().__init__(text)
        self.status, self.text, self.kind = status, text, kind

    async def send(self, send: Any) -> None:
        """Answer with it."""
        headers = [(b"content-type", self.kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.text.encode()})


class Request:
    """A request over HTTP, and what is passed on of it."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")

    def header(self, name: bytes) -> str:
        """A header's value; empty when it is missing, or there twice."""
        found = [value for key, value in self.scope["headers"] if key == name]
        return found[0].decode("latin-1") if len(found) == 1 else ""

    def has(self, name: bytes) -> bool:
        """Whether the header is there."""
        return any(key == name for key, _ in self.scope["headers"])

    def cookie(self, name: str) -> str:
        """A cookie's value, or nothing; those of other servers may have any form."""
        parts = (part.strip().partition("=") for part in self.header(b"cookie").split(";"))
        return next((value for key, _, value in parts if key == name), "")

    def query(self, name: str) -> str:
        """A parameter's value; empty when it is missing, or there twice."""
        found = parse_qs(self.scope["query_string"].decode("latin-1")).get(name, [])
        return found[0] if len(found) == 1 else ""

    def clean(self, query: str = "", visitor: str = "", length: int | None = None) -> Any:
        """The scope with the headers and the query that the application may see."""
        headers = [(key, value) for key, value in self.scope["headers"] if key in _HEADERS]
        if length is not None:
            own = {b"content-type": b"application/json", b"content-length": b"%d" % length}
            headers = [pair for pair in headers if pair[0] not in own] + list(own.items())
        return {
            **self.scope,
            "headers": headers,
            "query_string": query.encode(),
            "state": {**self.scope.get("state", {}), "visitor": visitor},
        }

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            Answer: it is longer than ``limit`` bytes, or the client is gone.
        """
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Answer(400, "the request has no end")
            body += message.get("body", b"")
            if len(body) > limit:
                raise Answer(413, f"the request is too large, at most {limit} bytes are read")
            if not message.get("more_body"):
                return bytes(body)

    async def until_gone(self) -> None:
        """Wait until the client has closed the connection."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def with_body(self, body: bytes) -> tuple[Any, Any]:
        """Scope and ``receive`` of the same request with another body."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await self.receive()

        return self.clean(length=len(body)), receive


def safely_headed(send: Any) -> Any:
    """``send`` with headers that keep other pages out; none that lets them in passes."""

    async def safely(message: Any) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (key, value)
                for key, value in message.get("headers", [])
                if key.lower() not in _SAFE and not key.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*kept, *_SAFE.items()]}
        await send(message)

    return safely
