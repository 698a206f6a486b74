"""The event journal: what happened to the device, in order, kept over restarts, bounded by count and bytes.

An event is written in the transaction of the change it tells of and published to watchers after the commit, so nobody
hears of what did not happen. The oldest events leave in the transaction that makes them too many. Sequence numbers
go on for ever, so a reader who comes too late learns how many events it missed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from pcmedge_emulator import codec
from pcmedge_emulator.arguments import whole
from pcmedge_emulator.outcomes import Event
from pcmedge_emulator.store import Store, Transaction

DEFAULT_LIMIT = 1000
MOST_EVENTS, MOST_BYTES = 1 << 20, 1 << 30
_COLLECTION = "journal"


@dataclass(frozen=True, kw_only=True)
class JournalBounds:
    """The newest events are kept: at most ``max_events``, of at most ``max_bytes`` as stored; the newest in any case.

    Raises InputTypeError, InputValueError.
    """

    max_events: int = 4096
    max_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        whole("journal_max_events", self.max_events, 1, MOST_EVENTS)
        whole("journal_max_bytes", self.max_bytes, 1, MOST_BYTES)


DEFAULT_BOUNDS = JournalBounds()


class Journal:
    """Thread-safe for readers; writers are serialised by the chip."""

    def __init__(self, store: Store, bounds: JournalBounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds
        self._events: deque[Event] = deque()
        self._sizes: deque[int] = deque()
        self._last = 0
        self._unstored: list[Event] = []
        self._changed = threading.Condition()
        self._closed = False
        for value in store.items(_COLLECTION).values():
            self._add(codec.decode(value, Event), len(value))
        self._rotate()

    def next(self, ahead: int = 0) -> int:
        """The sequence number of the next event, or of the one ``ahead`` further on."""
        return self._last + 1 + ahead

    def write(self, transaction: Transaction, events: Sequence[Event]) -> None:
        """Stores events, with those that could not be stored before, and deletes what is then kept no more."""
        if not events:
            return
        new = [codec.encode(event) for event in events]
        for event in self._unstored:
            transaction.put(_COLLECTION, _key(event.sequence), codec.encode(event))
        for event, value in zip(events, new, strict=True):
            transaction.put(_COLLECTION, _key(event.sequence), value)
        sizes = [*self._sizes, *map(len, new)]
        dropped = _too_many(sizes, self._bounds)
        transaction.delete_before(_COLLECTION, _key(events[-1].sequence - (len(sizes) - dropped) + 1))

    def publish(self, events: Iterable[Event], *, stored: bool = True) -> None:
        """Shows events to readers; not ``stored``: they go to the store with the next ones that do."""
        with self._changed:
            published = list(events)
            for event in published:
                self._add(event, len(codec.encode(event)))
            self._rotate()
            if published:
                self._unstored = [] if stored else [*self._unstored, *published][-self._bounds.max_events :]
            self._changed.notify_all()

    def _add(self, event: Event, size: int) -> None:
        self._events.append(event)
        self._sizes.append(size)
        self._last = event.sequence

    def _rotate(self) -> None:
        for _ in range(_too_many(self._sizes, self._bounds)):
            self._events.popleft()
            self._sizes.popleft()

    def after(self, sequence: int, limit: int = 0) -> tuple[Event, ...]:
        """At most ``limit`` (0: 1000) events with a larger sequence number, oldest first.

        The first has ``lost_before``: how many between ``sequence`` and itself are no longer kept.
        """
        with self._changed:
            return self._after(sequence, limit)

    def _after(self, sequence: int, limit: int) -> tuple[Event, ...]:
        found = [event for event in self._events if event.sequence > sequence][: limit or DEFAULT_LIMIT]
        if found and found[0].sequence > sequence + 1:
            found[0] = replace(found[0], lost_before=found[0].sequence - sequence - 1)
        return tuple(found)

    def wait(self, sequence: int, timeout_s: float) -> tuple[Event, ...]:
        """Like :meth:`after`, but waits for one if there is none; empty after the timeout or when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._last > sequence, timeout_s)
            return self._after(sequence, 0)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _key(sequence: int) -> str:
    # Keys sort as text, hence the zeros.
    return f"{sequence:020d}"


def _too_many(sizes: Collection[int], bounds: JournalBounds) -> int:
    """How many of the oldest have to go."""
    left, total = len(sizes), sum(sizes)
    for size in sizes:
        if left <= 1 or (left <= bounds.max_events and total <= bounds.max_bytes):
            break
        left, total = left - 1, total - size
    return len(sizes) - left
