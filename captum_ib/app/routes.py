"""Which requests are let in: the routes of the page, under our own names, from the page itself."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from captum_ib.app.exchange import Request

_READ = ("GET", "HEAD")
_FOLDERS = r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*"  # no part starts with a dot, nothing is encoded
_FILE = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"


@dataclass(frozen=True)
class Route:
    """A kind of request that is let in.

    Attributes:
        methods: of HTTP.
        pattern: of the whole path as it comes over the wire, before decoding.
        action: what the door does with it.
    """

    methods: tuple[str, ...]
    pattern: str
    action: str


ROUTES = (
    Route(_READ, r"/", "page"),
    Route(_READ, rf"/(?:assets|static)/{_FOLDERS}{_FILE}", "public"),
    Route(_READ, r"/(?:theme\.css|favicon\.ico)", "public"),
    Route(("GET",), r"/gradio_api/app_id", "public"),
    Route(("GET",), r"/gradio_api/heartbeat/([A-Za-z0-9]+)", "heartbeat"),
    Route(("POST",), r"/gradio_api/queue/join", "join"),
    Route(("GET",), r"/gradio_api/queue/data", "data"),
    Route(("POST",), r"/gradio_api/cancel", "cancel"),
    Route(("POST",), r"/gradio_api/reset", "reset"),
    Route(("POST",), r"/gradio_api/upload", "upload"),
    Route(("GET",), r"/gradio_api/upload_progress", "progress"),
    Route(("GET",), r"/gradio_api/file=([A-Za-z0-9_-]+)/[^/]+", "file"),
    Route(("GET",), r"/results/[A-Za-z0-9_-]+/[^/]+", "results"),
)
"""Everything that is let in."""

OURS = ("upload", "file", "results")
"""Actions whose requests our own routes answer; Gradio sees none of them."""


def find_route(method: str, path: str) -> tuple[Route, str] | None:
    """The route of a request and the name in its path, or ``None`` for what is not let in.

    >>> find_route("GET", "/gradio_api/file=/etc/passwd") is None
    True
    """
    for route in ROUTES:
        found = re.fullmatch(route.pattern, path)
        if found and method in route.methods:
            return route, found[1] if found.groups() else ""
    return None


def trusts(host: str, own: Sequence[str], public: bool) -> bool:
    """Whether a ``Host`` header names this server.

    A web site can point a name of its own at any address, so names count only when they are ours.
    Numbers can't be pointed anywhere: when the server is ``public`` (not on this machine only),
    each address counts.

    >>> trusts("127.0.0.1:7860", ["127.0.0.1"], False), trusts("attacker.example", [], True)
    (True, False)
    """
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", host.lower())
    if found is None:
        return False
    if found[1] in own:
        return True
    try:
        ipaddress.ip_address(found[1].strip("[]"))
    except ValueError:
        return False
    return public


def own_names(host: str, public: bool) -> list[str]:
    """Names under which a server that listens at ``host`` can be asked."""
    bracketed = f"[{host}]" if ":" in host else host
    names = ["127.0.0.1", "localhost", "[::1]", bracketed]
    if public:
        names.append(socket.gethostname())
    return [name.lower() for name in names]


def from_own_page(request: Request, navigation: bool) -> bool:
    """Whether a request comes from the page itself; browsers say where one comes from.

    A link to the page is followed from anywhere (``navigation``). What changes something has to
    say its origin, as every browser does.
    """
    host, method = request.header(b"host").lower(), request.scope["method"]
    if request.has(b"origin"):
        own = request.header(b"origin").lower() in (f"http://{host}", f"https://{host}")
    else:
        own = method in _READ
    site = request.header(b"sec-fetch-site")
    from_page = site in ("same-origin", "none") or not request.has(b"sec-fetch-site")
    followed = navigation and method in _READ and _is_navigation(request)
    return own and (from_page or followed)


def _is_navigation(request: Request) -> bool:
    mode, target = request.header(b"sec-fetch-mode"), request.header(b"sec-fetch-dest")
    return mode == "navigate" and target == "document"
