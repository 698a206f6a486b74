"""What was answered to which request id, so that repeating a call over a bad line does nothing twice.

The answer is stored in the transaction of the change, so it survives a restart exactly when the change does.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar

from pcmedge.errors import InputValueError

from pcmedge_emulator import codec
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

KEPT_REQUESTS = 1024
"""Answers kept; a request id older than the last 1024 mutations is new again."""
LONGEST_ID = 128
_COLLECTION = "requests"

Outcome = TypeVar("Outcome")


class Requests:
    """Thread-safe."""

    def __init__(self, store: Store) -> None:
        stored = {request_id: json.loads(value) for request_id, value in store.items(_COLLECTION).items()}
        by_age = sorted(stored.items(), key=lambda item: item[1]["ordinal"])
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict(by_age)
        self._ordinal = by_age[-1][1]["ordinal"] if by_age else 0
        self._changed = threading.Condition()
        self._running: set[str] = set()

    @contextlib.contextmanager
    def claim(self, request_id: str) -> Iterator[None]:
        """Within the block no other call with this id runs; such a call waits. An empty id claims nothing."""
        if not request_id:
            yield
            return
        if len(request_id) > LONGEST_ID:
            raise InputValueError(f"A request id has at most {LONGEST_ID} characters, got {len(request_id)}.")
        with self._changed:
            self._changed.wait_for(lambda: request_id not in self._running)
            self._running.add(request_id)
        try:
            yield
        finally:
            with self._changed:
                self._running.discard(request_id)
                self._changed.notify_all()

    def running(self, request_id: str) -> bool:
        """Whether a call with this id is under way; repeating it would wait for that one."""
        with self._changed:
            return request_id in self._running

    def answered(self, request_id: str, verb: str, kind: type[Outcome]) -> Outcome | None:
        """The first outcome of this id, or None. InputValueError if the id belonged to another kind of call."""
        with self._changed:
            answer = self._answers.get(request_id) if request_id else None
        if answer is None:
            return None
        if answer["verb"] != verb:
            raise InputValueError(
                f"Request id '{request_id}' was used for '{answer['verb']}', now for '{verb}'. Use a new id for every "
                "intended change.",
                request_id=request_id,
            )
        return codec.decode(answer["outcome"].encode(), kind)

    def write(self, transaction: Transaction, request_id: str, verb: str, outcome: Any) -> dict[str, Any] | None:
        """Into the transaction of the change; hand the result to :meth:`publish` after the commit."""
        if not request_id:
            return None
        answer = {"ordinal": self._ordinal + 1, "verb": verb, "outcome": codec.encode(outcome).decode()}
        transaction.put(_COLLECTION, request_id, json.dumps(answer).encode())
        if len(self._answers) >= KEPT_REQUESTS:
            transaction.delete(_COLLECTION, next(iter(self._answers)))
        return answer

    def publish(self, request_id: str, answer: dict[str, Any] | None) -> None:
        if answer is None:
            return
        with self._changed:
            if len(self._answers) >= KEPT_REQUESTS:
                self._answers.popitem(last=False)
            self._answers[request_id] = answer
            self._ordinal = answer["ordinal"]
