"""The door in front of Gradio: what is not on the list here does not get through.

Gradio can serve files by path, fetch addresses, and much more that this page does not need, and
every version of it can do something new. So requests reach it only on the routes that the page in
a browser uses, from the page itself, with bodies that are read here and written anew. Files never
reach it at all: uploads are taken, kept and given back on our own routes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any

from captum_ib.app.exchange import Answer, Request, safely_headed
from captum_ib.app.messages import LIMIT, Refused, read_asked, read_cancel
from captum_ib.app.routes import find_route, from_own_page, own_names, trusts
from captum_ib.app.visitors import Visitors

App = Callable[[Any, Any, Any], Awaitable[None]]


class Guard:
    """Lets in the page's own requests and no others.

    Args:
        app: the ASGI application behind.
        visitors: who is here.
        functions: what the fields of Gradio's functions hold.
        host: where the server listens.
        public: whether other machines can reach it.
        on_end: called when the server ends.
    """

    def __init__(
        self,
        app: App,
        visitors: Visitors,
        functions: Mapping[int, Sequence[str]],
        host: str,
        public: bool,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self._visitors = visitors
        self._functions = functions
        self._names = own_names(host, public)
        self._public = public
        self._on_end = on_end
        self._cookie = f"captum-ib-{token_hex(4)}"  # a host's ports share their cookies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, self._until_end(receive), send)
        elif scope["type"] == "http":
            send = safely_headed(send)
            try:
                await self._http(Request(scope, receive, send))
            except Answer as answer:
                await answer.send(send)
            except Refused as error:
                await Answer(400, f"refused: {error}").send(send)
        # Nothing else exists here: a WebSocket that nobody accepts is closed with 403.
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    def _until_end(self, receive: Any) -> Any:
        async def until_end() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._on_end()
            return message

        return until_end

    async def _http(self, request: Request) -> None:
        self._require_own_name(request)
        found = find_route(request.scope["method"], request.path)
        if found is None:
            raise Answer(404, "there is nothing here")
        route, name = found
        if not from_own_page(request, navigation=route.action == "page"):
            raise Answer(403, "requests from other pages are refused")
        cookie = request.cookie(self._cookie)
        if route.action == "page":
            await self._page(request, cookie)
        elif route.action in ("public", "results"):
            await self.app(request.clean(), request.receive, request.send)
        elif not self._visitors.knows(cookie):
            raise Answer(403, "reload the page; it needs a cookie to know its own files by")
        else:
            await getattr(self, f"_{route.action}")(request, cookie, name)

    def _require_own_name(self, request: Request) -> None:
        host = request.header(b"host")
        if not trusts(host, self._names, self._public):
            text = "this server is not known by this name: open it under its address"
            raise Answer(400, text)

    async def _page(self, request: Request, cookie: str) -> None:
        """The page itself; whoever opens it for the first time is given a cookie."""
        headers = []
        if request.scope["method"] == "GET" and not self._visitors.knows(cookie):
            value = f"{self._cookie}={self._visitors.welcome()}; Path=/; HttpOnly; SameSite=Lax"
            headers = [(b"set-cookie", value.encode())]

        async def with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [*headers, (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *own]}
            await request.send(message)

        await self.app(request.clean(), request.receive, with_cookie)

    async def _heartbeat(self, request: Request, cookie: str, session: str) -> None:
        """Open as long as the page is; its end is the end of the page's files and methods."""
        self._enter(cookie, session)
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        # What answers in a stream looks for the client only when it sends, some time later.
        answering = asyncio.ensure_future(self.app(request.clean(), receive, request.send))
        leaving = asyncio.ensure_future(request.until_gone())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._visitors.leave(session)
            gone.set()
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _join(self, request: Request, cookie: str, _: str) -> None:
        """Call one of the page's functions."""
        asked = read_asked(await request.body(LIMIT), self._functions)
        self._enter(cookie, asked.session)
        if asked.has_file:
            file = None if asked.file is None else self._visitors.find(cookie, asked.file)
            if asked.file is not None and file is None:
                raise Answer(403, "this is not a file that was uploaded from this page")
            self._visitors.choose(cookie, asked.session, file)

        async def listening(message: Any) -> None:
            event = _event(message.get("body", b""))
            if event is not None:
                self._visitors.remember(cookie, event)
            await request.send(message)

        await self.app(*request.with_body(asked.body()), listening)

    async def _data(self, request: Request, cookie: str, _: str) -> None:
        """What the called functions answer."""
        session = request.query("session_hash")
        if not self._visitors.owns(cookie, session):
            raise Answer(403, "this is not a session of this page")
        scope = request.clean(f"session_hash={session}")
        await self.app(scope, request.receive, request.send)

    async def _cancel(self, request: Request, cookie: str, _: str) -> None:
        session, event, body = read_cancel(await request.body(LIMIT))
        own = self._visitors.owns(cookie, session) and self._visitors.asked_for(cookie, event)
        if not own:
            raise Answer(403, "this is not a request of this page")
        await self.app(*request.with_body(body), request.send)

    async def _reset(self, request: Request, cookie: str, _: str) -> None:
        """The page says so after cancelling; there is nothing left to do."""
        raise Answer(200, '{"success":true}', "application/json")

    async def _progress(self, request: Request, cookie: str, _: str) -> None:
        """An upload is quick on one machine: it is said to be done."""
        raise Answer(200, 'data: {"msg":"done"}\n\n', "text/event-stream")

    async def _upload(self, request: Request, cookie: str, _: str) -> None:
        await self.app(request.clean(visitor=cookie), request.receive, request.send)

    async def _file(self, request: Request, cookie: str, _: str) -> None:
        """The visitor's own upload."""
        if self._visitors.find(cookie, request.scope["path"].partition("file=")[2]) is None:
            raise Answer(404, "there is nothing here")
        await self.app(request.clean(visitor=cookie), request.receive, request.send)

    def _enter(self, cookie: str, session: str) -> None:
        if not self._visitors.enter(cookie, session):
            raise Answer(403, "this is not a session of this page")


def _event(body: bytes) -> str | None:
    """The number of the request that Gradio took, from its answer."""
    try:
        event = json.loads(body).get("event_id")
    except (ValueError, AttributeError):
        return None
    return event if isinstance(event, str) else None
