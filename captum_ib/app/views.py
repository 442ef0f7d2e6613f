"""What each open page shows, kept so that it can be drawn anew without running again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from captum_ib.app.asking import Answer
from captum_ib.visualization import Style

KEPT = 64
"""Pages whose answers are kept; the one that was used longest ago goes first."""


@dataclass(frozen=True)
class View:
    """What a page shows.

    Attributes:
        style: how its maps look.
        answer: what is known so far; ``None`` before the first.
        token: under which its files are kept; empty while there are none.
        files: their names.
    """

    style: Style = field(default_factory=Style)
    answer: Answer | None = None
    token: str = ""
    files: tuple[str, ...] = ()


class Views:
    """The view of each session; those of closed pages are forgotten.

    Args:
        kept: so many at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> View:
        """What the page of this session shows."""
        with self._lock:
            return self._views.get(session, View())

    def style(self, session: str, style: Style) -> View:
        """The page's maps look like this from now on."""
        return self._put(session, style=style)

    def show(
        self, session: str, answer: Answer | None, token: str = "", files: tuple[str, ...] = ()
    ) -> View:
        """The page shows this from now on."""
        return self._put(session, answer=answer, token=token, files=files)

    def forget(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            self._views.pop(session, None)

    def _put(self, session: str, **changes: object) -> View:
        with self._lock:
            view = replace(self._views.pop(session, View()), **changes)
            self._views[session] = view
            while len(self._views) > self._kept:
                self._views.popitem(last=False)
            return view
