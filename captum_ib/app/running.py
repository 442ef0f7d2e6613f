"""What is being explained for whom, so that it can be stopped."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Running:
    """The events that end the methods of each open page, see ``captum_ib.hooks.stopping``."""

    def __init__(self) -> None:
        self._events: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._ended = False
        self._lock = threading.Lock()

    @contextmanager
    def event(self, session: str) -> Iterator[threading.Event]:
        """An event that is set when the page of this session stops, is closed, or all ends."""
        event = threading.Event()
        with self._lock:
            self._events[session].add(event)
            if self._ended:
                event.set()
        try:
            yield event
        finally:
            event.set()
            with self._lock:
                self._events[session].discard(event)
                if not self._events[session]:
                    del self._events[session]

    def stop(self, session: str) -> None:
        """End what runs for this page."""
        with self._lock:
            for event in self._events.get(session, ()):
                event.set()

    def stop_all(self) -> None:
        """End what runs for anybody, and what is still waiting."""
        with self._lock:
            self._ended = True
            for events in self._events.values():
                for event in events:
                    event.set()
