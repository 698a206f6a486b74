"""The event journal: what happened to the device, in order, kept over restarts, bounded by count and bytes.

An event is written in the transaction of the change it tells of and published to watchers after the commit, so nobody
hears of what did not happen. It gets its number there: one that cannot be stored waits for the next transaction that
can, because a number that was shown and then lost with the power would be given to another event. The oldest events
leave in the transaction that makes them too many. Sequence numbers go on for ever, so a reader who comes too late
learns how many events it missed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from pcmedge_emulator import codec
from pcmedge_emulator.arguments import whole
from pcmedge_emulator.outcomes import Event
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

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
        self._waiting: deque[Event] = deque(maxlen=bounds.max_events)
        self._changed = threading.Condition()
        self._closed = False
        for value in store.items(_COLLECTION).values():
            self._add(codec.decode(value, Event), len(value))
        self._rotate()

    @property
    def last(self) -> int:
        """The sequence number of the newest event; 0 if there never was one."""
        return self._last

    @property
    def waiting(self) -> int:
        """How many events have not been stored yet, and are not shown."""
        return len(self._waiting)

    def write(self, transaction: Transaction, events: Sequence[Event]) -> tuple[Event, ...]:
        """Numbers events, those that wait before the new ones, stores them and deletes what is then kept no more.

        Hand the result to :meth:`publish` after the commit.
        """
        numbered = tuple(
            replace(event, sequence=number) for number, event in enumerate([*self._waiting, *events], self._last + 1)
        )
        if not numbered:
            return numbered
        new = [codec.encode(event) for event in numbered]
        for event, value in zip(numbered, new, strict=True):
            transaction.put(_COLLECTION, _key(event.sequence), value)
        sizes = [*self._sizes, *map(len, new)]
        dropped = _too_many(sizes, self._bounds)
        transaction.delete_before(_COLLECTION, _key(numbered[-1].sequence - (len(sizes) - dropped) + 1))
        return numbered

    def publish(self, numbered: Iterable[Event]) -> None:
        """Shows what :meth:`write` returned to readers, now that it is stored."""
        with self._changed:
            self._waiting.clear()
            for event in numbered:
                self._add(event, len(codec.encode(event)))
            self._rotate()
            self._changed.notify_all()

    def hold(self, event: Event) -> None:
        """Keeps an event that could not be stored for the next :meth:`write`; the newest as many as are kept at all."""
        self._waiting.append(event)

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
