"""Serve the page: a web server with limits around Gradio, on this machine only by default."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captum_ib.app.files import add_files
from captum_ib.app.guard import Guard
from captum_ib.app.layout import build, functions_of
from captum_ib.app.offers import Offer
from captum_ib.app.page import Page
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.style import CSS, MONO, SANS
from captum_ib.app.uploads import Limits
from captum_ib.app.views import Views
from captum_ib.app.visitors import Visitors
from captum_ib.extras import need

_ROOM = 1_000_000  # bytes of a request besides the file in it


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens at ``host``.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host``; port 0 takes a free one.

    Raises:
        ValueError: the port is taken, may not be used, or the host is not one of this machine's.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must lie in 0 to 65535, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ValueError(
            f"can't listen at {host}, port {port} ({error.strerror or error}); another --port, or "
            "--port 0 for a free one"
        ) from error


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for uploads and results, removed at the end, also when the process is terminated."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        with TemporaryDirectory(prefix="captum-ib-app-") as folder:
            yield Path(folder)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def application(offers: Mapping[str, Offer], limits: Limits, home: Path, host: str) -> Any:
    """The page and its downloads as an ASGI application.

    Args:
        offers: the models by name.
        limits: of uploads.
        home: folder for uploads and results.
        host: where it will listen; requests to names that are not this server's are refused, so
            that no web site can reach it by pointing a name of its own here.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    # Gradio reads these when it is imported and when it starts.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(home / "gradio")
    gr = need("gradio", "the page", "app")
    fastapi = need("fastapi", "the page", "app")
    for name in ("uploads", "results", "gradio"):
        (home / name).mkdir()
    results, running, views = Results(home / "results"), Running(), Views()

    def on_leave(session: str) -> None:
        running.stop(session)
        views.forget(session)

    visitors = Visitors(home / "uploads", on_leave=on_leave)
    outer = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_files(outer, visitors, results, limits)
    blocks = build(gr, Page(offers, limits, results, visitors, running, views))
    _mount(gr, outer, blocks, limits)
    public = not is_loopback(host)
    door = Guard(outer, visitors, functions_of(blocks), host, public, on_end=running.stop_all)
    return BodyLimit(door, limits.size + _ROOM)


def _mount(gr: Any, outer: Any, blocks: Any, limits: Limits) -> None:
    # Gradio's own subdued grey has too little contrast for small type.
    subdued = {"body_text_color_subdued": "*neutral_500", "block_info_text_color": "*neutral_500"}
    theme = gr.themes.Default(
        font=SANS, font_mono=MONO, primary_hue="indigo", neutral_hue="slate"
    ).set(**subdued)
    gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        max_file_size=limits.size,
        allowed_paths=[],
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=theme,
        css=CSS,
    )
    # Gradio checks the paths in requests only after its own launch(). The door lets none through;
    # this is the second wall.
    blocks.has_launched = True


class BodyLimit:
    """Refuse requests whose body is larger than an upload can be, announced or not.

    Args:
        app: the ASGI application behind.
        limit: bytes.
    """

    def __init__(self, app: Callable[..., Any], limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self.limit:
            await self._refuse(send)
            return
        await self.app(scope, self._counted(receive), send)

    def _counted(self, receive: Any) -> Any:
        """``receive``; a client that sends more than it announced is taken as gone."""
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return {"type": "http.disconnect"} if seen > self.limit else message

        return counted

    async def _refuse(self, send: Any) -> None:
        text = f"the request is too large, at most {self.limit} bytes are read"
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


def serve(app: Any, listening: socket.socket) -> None:
    """Serve until interrupted or terminated."""
    uvicorn = need("uvicorn", "the page", "app")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])
