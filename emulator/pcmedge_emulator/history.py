"""What self-tests of a model have found since it was programmed: a bounded list, kept over restarts.

A record goes to the store with the next chance: at once if nobody is changing the device, else with that change or the
next self-test, because a self-test never waits for either.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from pcmedge_emulator import codec
from pcmedge_emulator.outcomes import SelfTestRecord
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

KEPT_SELF_TESTS = 256
_COLLECTION = "self-tests"

Stored = Mapping[int, Mapping[int, SelfTestRecord]]
"""Sequence number -> record, by program generation."""


class SelfTestHistory:
    """Of one programming of one image. Thread-safe. ``stored``: what the store has of it already."""

    def __init__(self, generation: int, stored: Mapping[int, SelfTestRecord] | None = None) -> None:
        self._generation = generation
        self._lock = threading.Lock()
        self._records: deque[tuple[int, SelfTestRecord]] = deque(sorted((stored or {}).items()), maxlen=KEPT_SELF_TESTS)
        self._saved = self._records[-1][0] if self._records else 0

    def add(self, record: SelfTestRecord) -> None:
        with self._lock:
            self._records.append((self._records[-1][0] + 1 if self._records else 1, record))

    def records(self) -> tuple[SelfTestRecord, ...]:
        """Oldest first."""
        with self._lock:
            return tuple(record for _, record in self._records)

    def write(self, transaction: Transaction) -> int:
        """Writes what the store lacks and deletes what is kept no more; the number for :meth:`saved`."""
        with self._lock:
            news = [(number, record) for number, record in self._records if number > self._saved]
        for number, record in news:
            transaction.put(_COLLECTION, _key(self._generation, number), codec.encode(record))
            transaction.delete(_COLLECTION, _key(self._generation, number - KEPT_SELF_TESTS))
        return news[-1][0] if news else self._saved

    def saved(self, number: int) -> None:
        with self._lock:
            self._saved = max(self._saved, number)


def _key(generation: int, number: int) -> str:
    return f"{generation:020d}/{number:020d}"


def stored_self_tests(store: Store) -> Stored:
    """All histories in the store, those of snapshots' programmings among them."""
    found: dict[int, dict[int, SelfTestRecord]] = {}
    for key, value in store.items(_COLLECTION).items():
        generation, _, number = key.partition("/")
        found.setdefault(int(generation), {})[int(number)] = codec.decode(value, SelfTestRecord)
    return found


def keep_self_tests(store: Store, transaction: Transaction, generations: set[int]) -> None:
    """Deletes the histories of all other programmings."""
    for key in store.items(_COLLECTION):
        if int(key.partition("/")[0]) not in generations:
            transaction.delete(_COLLECTION, key)
