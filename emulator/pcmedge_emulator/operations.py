"""Long-running mutations as operations: an id, progress, cancel, and as many watchers as like to look.

An operation runs in a thread of its own, so a client that goes away does not stop it; cancelling does.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pcmedge.errors import CancelledError, Error, InternalError, NotFoundError

GLANCE_S = 0.2
"""How often a watcher for whom there is nothing new looks whether it is still wanted. Seconds."""

KEPT_OPERATIONS = 64
"""Finished operations that can still be asked for; the oldest are forgotten first."""


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class OperationUpdate:
    """Where an operation stands. ``unit`` says what ``done`` and ``total`` count: "tiles", "batches", "reads", "bytes".

    ``outcome`` is the chip's outcome on SUCCEEDED, ``error`` what would have been raised on FAILED and CANCELLED; who
    raises it raises a copy, for an error keeps the frames it passed and all they held.
    """

    operation_id: str
    kind: str
    state: OperationState
    phase: str
    done: int
    total: int
    unit: str
    elapsed_s: float
    outcome: Any = None
    error: Error | None = None


Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""

Cancelled = Callable[[], bool]
"""Whether the work is to stop."""

Work = Callable[[Progress, Cancelled], Any]
"""Called with ``progress(phase, done, total)`` and ``cancelled() -> bool``; returns the outcome or raises."""

_UNITS = {"verify": "checks", "program": "tiles", "baseline": "tiles", "store": "images"}
_UNITS |= {"read": "tiles", "measure": "batches", "guard": "reads"}


def no_progress(phase: str, done: int, total: int) -> None:
    """Nobody wants to know."""


def never() -> bool:
    """Nobody cancels."""
    return False


class Operation:
    """One running or finished operation; made by :meth:`Operations.start`."""

    def __init__(self, kind: str) -> None:
        self._changed = threading.Condition()
        self._started_s = time.monotonic()
        self._cancel = threading.Event()
        self._version = 0
        self._update = OperationUpdate(
            operation_id=uuid.uuid4().hex,
            kind=kind,
            state=OperationState.RUNNING,
            phase="start",
            done=0,
            total=0,
            unit="",
            elapsed_s=0.0,
        )

    @property
    def id(self) -> str:
        return self._update.operation_id

    @property
    def latest(self) -> OperationUpdate:
        with self._changed:
            return self._update

    def cancel(self) -> OperationUpdate:
        """Asks the operation to stop at its next step; it may still succeed if it was past the last one."""
        self._cancel.set()
        return self.latest

    def updates(self, glance: Callable[[], None] = lambda: None) -> Iterator[OperationUpdate]:
        """The latest update at once, then each change (a slow watcher sees fewer), the final one last.

        ``glance`` is called between updates, now and then; what it raises ends the watching.
        """
        seen = -1
        while True:
            with self._changed:
                while self._version == seen:
                    if not self._changed.wait(GLANCE_S):
                        glance()
                seen, update = self._version, self._update
            yield update
            if update.state is not OperationState.RUNNING:
                return
            glance()

    def result(self) -> Any:
        """Waits for the end; returns the outcome or raises the error."""
        with self._changed:
            self._changed.wait_for(lambda: self._update.state is not OperationState.RUNNING)
            update = self._update
        if update.error is not None:
            raise copy.copy(update.error)
        return update.outcome

    def _put(self, **changes: Any) -> None:
        with self._changed:
            elapsed_s = time.monotonic() - self._started_s
            self._update = replace(self._update, elapsed_s=elapsed_s, **changes)
            self._version += 1
            self._changed.notify_all()

    def _progress(self, phase: str, done: int, total: int) -> None:
        self._put(phase=phase, done=done, total=total, unit=_UNITS.get(phase, ""))

    def _run(self, work: Work) -> None:
        try:
            outcome = work(self._progress, self._cancel.is_set)
        except CancelledError as error:
            self._put(state=OperationState.CANCELLED, error=copy.copy(error))
        except Error as error:
            self._put(state=OperationState.FAILED, error=copy.copy(error))
        except Exception as error:
            internal = InternalError(f"{type(error).__name__}: {error}")
            internal.__cause__ = error
            self._put(state=OperationState.FAILED, error=internal)
        else:
            self._put(state=OperationState.SUCCEEDED, outcome=outcome)


class Operations:
    """The operations of one device, running and recently finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: OrderedDict[str, Operation] = OrderedDict()

    def start(self, kind: str, work: Work) -> Operation:
        operation = Operation(kind)
        with self._lock:
            self._operations[operation.id] = operation
            finished = [o.id for o in self._operations.values() if o.latest.state is not OperationState.RUNNING]
            for forgotten in finished[: max(0, len(finished) - KEPT_OPERATIONS)]:
                del self._operations[forgotten]
        threading.Thread(target=operation._run, args=(work,), name=f"pcm-{kind}", daemon=True).start()
        return operation

    def get(self, operation_id: str) -> Operation:
        with self._lock:
            found = self._operations.get(operation_id)
        if found is None:
            raise NotFoundError(f"No operation has the id '{operation_id}'. List the operations to see them.")
        return found

    def list(self) -> tuple[OperationUpdate, ...]:
        """Oldest first."""
        with self._lock:
            operations = tuple(self._operations.values())
        return tuple(operation.latest for operation in operations)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Cancels what runs and waits for it."""
        for update in self.list():
            self.get(update.operation_id).cancel()
        deadline = time.monotonic() + timeout_s
        for update in self.list():
            operation = self.get(update.operation_id)
            with operation._changed:
                operation._changed.wait_for(
                    lambda op=operation: op._update.state is not OperationState.RUNNING,  # type: ignore[misc]
                    max(0.0, deadline - time.monotonic()),
                )
