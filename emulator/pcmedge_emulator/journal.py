"""The event journal: what happened to the device, in order, kept over restarts, bounded.

An event is written in the transaction of the change it tells of and published to watchers after the commit, so nobody
hears of what did not happen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from pcmedge_emulator import codec
from pcmedge_emulator.outcomes import Event
from pcmedge_emulator.store import Store, Transaction

KEPT_EVENTS = 4096
DEFAULT_LIMIT = 1000
_COLLECTION = "journal"


class Journal:
    """Thread-safe for readers; writers are serialised by the chip."""

    def __init__(self, store: Store) -> None:
        stored = (codec.decode(value, Event) for value in store.items(_COLLECTION).values())
        self._events: deque[Event] = deque(stored, maxlen=KEPT_EVENTS)
        self._last = self._events[-1].sequence if self._events else 0
        self._changed = threading.Condition()
        self._closed = False

    def next(self, ahead: int = 0) -> int:
        """The sequence number of the next event, or of the one ``ahead`` further on."""
        return self._last + 1 + ahead

    def write(self, transaction: Transaction, event: Event) -> None:
        # Keys sort as text, hence the zeros.
        transaction.put(_COLLECTION, f"{event.sequence:020d}", codec.encode(event))
        if event.sequence % 256 == 0:
            transaction.trim(_COLLECTION, KEPT_EVENTS)

    def publish(self, events: Iterable[Event]) -> None:
        with self._changed:
            for event in events:
                self._events.append(event)
                self._last = event.sequence
            self._changed.notify_all()

    def after(self, sequence: int, limit: int = 0) -> tuple[Event, ...]:
        """At most ``limit`` (0: 1000) events with a larger sequence number, oldest first."""
        with self._changed:
            return self._after(sequence, limit)

    def _after(self, sequence: int, limit: int) -> tuple[Event, ...]:
        return tuple(event for event in self._events if event.sequence > sequence)[: limit or DEFAULT_LIMIT]

    def wait(self, sequence: int, timeout_s: float) -> tuple[Event, ...]:
        """Like :meth:`after`, but waits for one if there is none; empty after the timeout or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._last > sequence, timeout_s)
            return self._after(sequence, 0)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
