"""Who is here: browsers by their cookie, the pages open in them, and the files of each."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

VISITORS = 256
"""Browsers that are known at a time; the oldest goes first, those without an open page before."""
FILES = 32
"""Uploads that are kept at a time, of all visitors; the oldest goes first."""
HOUR = 3600.0
"""Seconds after which an upload goes in any case."""
_SESSIONS = 64  # open pages of a visitor; the oldest goes first
_EVENTS = 128  # requests of a visitor that can be cancelled
_NAME_BYTES = 120  # names of results are longer than the picture's, and file systems take 255
_SESSION = re.compile(r"[A-Za-z0-9]{6,64}")


@dataclass(frozen=True)
class Upload:
    """A file that came over the network.

    Attributes:
        token: its unguessable name, and its name in our folder.
        name: what its sender calls it, made harmless; never used as a path.
        path: where it is.
        since: when it came, on the monotonic clock.
    """

    token: str
    name: str
    path: Path
    since: float

    @property
    def public(self) -> str:
        """What the browser knows it by."""
        return f"{self.token}/{self.name}"


@dataclass
class _Visitor:
    """A browser: its open pages, what each has chosen, and its uploads by token."""

    sessions: dict[str, str | None] = field(default_factory=dict)
    events: deque[str] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    uploads: OrderedDict[str, Upload] = field(default_factory=OrderedDict)


class Visitors:
    """Knows which session and which upload is whose; removes files that nobody needs.

    Args:
        home: an empty folder for uploads that belongs to this object.
        on_leave: called with the session of a page that was closed.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        home: Path,
        on_leave: Callable[[str], None] = lambda session: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._on_leave = on_leave
        self._clock = clock
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()
        self._owners: dict[str, str] = {}  # session → cookie
        self._lock = threading.RLock()

    def welcome(self) -> str:
        """The cookie of a new visitor."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            if len(self._visitors) == VISITORS:
                idle = (name for name, one in self._visitors.items() if not one.sessions)
                self._forget(next(idle, next(iter(self._visitors))))
            self._visitors[cookie] = _Visitor()
        return cookie

    def knows(self, cookie: str) -> bool:
        """Whether this server gave the cookie away."""
        with self._lock:
            return cookie in self._visitors

    def enter(self, cookie: str, session: str) -> bool:
        """A page of the visitor says its session; ``False`` when the session is another's."""
        with self._lock:
            if cookie not in self._visitors or not _SESSION.fullmatch(session):
                return False
            if self._owners.setdefault(session, cookie) != cookie:
                return False
            sessions = self._visitors[cookie].sessions
            sessions.setdefault(session, None)
            if len(sessions) > _SESSIONS:
                self.leave(next(iter(sessions)))
            return True

    def owns(self, cookie: str, session: str) -> bool:
        """Whether the session is one of the visitor's."""
        with self._lock:
            return self._owners.get(session) == cookie

    def leave(self, session: str) -> None:
        """The page was closed: its file goes."""
        with self._lock:
            visitor = self._visitors.get(self._owners.pop(session, ""))
            if visitor is not None:
                self._remove(visitor, visitor.sessions.pop(session, None))
        self._on_leave(session)

    def remember(self, cookie: str, event: str) -> None:
        """The visitor asked for something, and may cancel it."""
        with self._lock:
            if cookie in self._visitors:
                self._visitors[cookie].events.append(event)

    def asked_for(self, cookie: str, event: str) -> bool:
        """Whether the request was the visitor's."""
        with self._lock:
            return cookie in self._visitors and event in self._visitors[cookie].events

    def keep(self, cookie: str, name: str, content: bytes) -> Upload | None:
        """Keep an upload; ``None`` for a visitor who is not known."""
        token = secrets.token_urlsafe(16)
        upload = Upload(token, harmless(name), self._home / token, self._clock())
        with self._lock:
            if cookie not in self._visitors:
                return None
            upload.path.write_bytes(content)
            self._visitors[cookie].uploads[token] = upload
            self._tidy()
        return upload

    def find(self, cookie: str, public: str) -> Upload | None:
        """The visitor's own upload under the name that the browser was told."""
        with self._lock:
            visitor = self._visitors.get(cookie)
            upload = visitor.uploads.get(public.partition("/")[0]) if visitor else None
            return upload if upload is not None and upload.public == public else None

    def choose(self, cookie: str, session: str, upload: Upload | None) -> None:
        """The page shows this upload from now on; the one before it goes."""
        with self._lock:
            if self.owns(cookie, session):
                visitor = self._visitors[cookie]
                token = None if upload is None else upload.token
                before, visitor.sessions[session] = visitor.sessions[session], token
                if before != token:
                    self._remove(visitor, before)

    def chosen(self, session: str) -> Upload | None:
        """The upload that the page shows."""
        with self._lock:
            visitor = self._visitors.get(self._owners.get(session, ""))
            token = visitor.sessions.get(session) if visitor else None
            return visitor.uploads.get(token) if visitor and token else None

    def _tidy(self) -> None:
        kept = [(v, upload) for v in self._visitors.values() for upload in v.uploads.values()]
        kept.sort(key=lambda pair: pair[1].since)
        old = [pair for pair in kept if self._clock() - pair[1].since > HOUR]
        for visitor, upload in {pair[1].token: pair for pair in (*old, *kept[:-FILES])}.values():
            self._remove(visitor, upload.token)

    def _forget(self, cookie: str) -> None:
        visitor = self._visitors[cookie]
        for session in list(visitor.sessions):
            self.leave(session)
        for token in list(visitor.uploads):
            self._remove(visitor, token)
        del self._visitors[cookie]

    def _remove(self, visitor: _Visitor, token: str | None) -> None:
        upload = visitor.uploads.pop(token, None) if token else None
        if upload is not None:
            upload.path.unlink(missing_ok=True)


def harmless(name: str) -> str:
    """A file's name without folders and without letters that mean something elsewhere.

    >>> harmless("C:\\\\pictures\\\\my cat.png"), harmless("../../.ssh/<b>"), harmless("..")
    ('my cat.png', '_b_', 'picture')
    """
    base = re.split(r"[/\\]", name)[-1]
    base = re.sub(r"[^\w .()+=@,-]", "_", base).strip(". ")
    while len(base.encode()) > _NAME_BYTES:
        base = base[1:]  # the end says what kind of file it is
    return base or "picture"
