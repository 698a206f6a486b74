"""The bookkeeping every chip needs, whatever it is made of: who may change it, what was changed before, what is stored.

:class:`Ledger` has the store, clock, journal, request ids, leases and operations of one device, and the one way of
changing it: a transaction, after which the values in memory are replaced. What those values are is for who inherits
from it: :class:`pcmedge_emulator.state.State` of the emulated chip, :class:`pcmedge_emulator.driver.state.State` of a
vendor's hardware.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from pcmedge.errors import CancelledError, Error, GenerationMismatchError, StoreUnwritableError

from pcmedge_emulator import codec
from pcmedge_emulator.activity import Activity
from pcmedge_emulator.clock import Clock, ClockState
from pcmedge_emulator.journal import DEFAULT_BOUNDS, Journal, JournalBounds
from pcmedge_emulator.lease import LeaseBook
from pcmedge_emulator.operations import Operations
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.requests import Requests
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

GLANCE_S = 0.1
"""How often a change that waits for another looks whether it is still wanted. Seconds."""

Outcome = TypeVar("Outcome")

Answer = tuple[Mutation, str, Any]
"""(the mutation, its verb, its outcome): what a request id is answered with when it comes again."""


class Generations(Protocol):
    """Of a model, or the highest a device ever gave out."""

    @property
    def program_generation(self) -> int: ...

    @property
    def statistics_generation(self) -> int: ...


def check_generations(mutation: Mutation, at: Generations) -> None:
    """GenerationMismatchError unless generations are as the caller expects, if it expects any."""
    for what, expected, found in (
        ("program", mutation.expected_program_generation, at.program_generation),
        ("statistics", mutation.expected_statistics_generation, at.statistics_generation),
    ):
        if expected is not None and expected != found:
            raise GenerationMismatchError(
                f"The caller expected {what} generation {expected}, the device is at {found}. Look at what "
                "changed, then repeat the call with the new number.",
                expected=expected,
                found=found,
                what=what,
            )


def nothing(_: Transaction) -> None:
    """Writes nothing: for a commit of events and answers alone."""


class Ledger(ABC):
    """See the module. ``changing`` serialises mutations and may be held for as long as programming takes.

    ``keep_clock_mode``: the clock goes on from the stored time, but ticks as it was made to.
    """

    def __init__(
        self, store: Store, clock: Clock, *, keep_clock_mode: bool, journal: JournalBounds = DEFAULT_BOUNDS
    ) -> None:
        self.store = store
        self.store_problem = ""
        self.stored_device_s = 0.0
        self.clock = clock
        self.journal = Journal(store, journal)
        self.requests = Requests(store)
        self.leases = LeaseBook()
        self.operations = Operations()
        self.activity = Activity()
        self.changing = threading.RLock()
        stored = store.get("device", "clock")
        if stored is not None:
            clock.resume(codec.decode(stored, ClockState), keep_mode=keep_clock_mode)

    def close(self) -> None:
        """Cancels operations, ends waits for events, gives the store up."""
        self.operations.stop()
        self.journal.close()
        with self.changing:
            self.store.close()

    # ------------------------------------------------------------------------------------------------- who may change

    def once(self, mutation: Mutation, verb: str, kind: type[Outcome], body: Callable[[], Outcome]) -> Outcome:
        """Runs ``body`` unless this request id was answered before; then that answer."""
        with self.requests.claim(mutation.request_id):
            earlier = self.requests.answered(mutation.request_id, verb, kind)
            return body() if earlier is None else earlier

    def repeated(self, mutation: Mutation, verb: str, kind: type[Any]) -> bool:
        """Whether :meth:`once` would run nothing: this request id is being answered, or was."""
        request_id = mutation.request_id
        return self.requests.running(request_id) or self.requests.answered(request_id, verb, kind) is not None

    @contextmanager
    def busy(self, with_what: str, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """One mutation at a time; ``with_what`` is what telemetry says meanwhile ("" for nothing).

        ``cancelled`` is asked while another mutation is waited for; CancelledError if it says so.
        """
        self._take_turn(cancelled)
        try:
            before, self.activity.busy = self.activity.busy, with_what or self.activity.busy
            try:
                yield
            finally:
                self.activity.busy = before
        finally:
            self.changing.release()

    def _take_turn(self, cancelled: Callable[[], bool] | None) -> None:
        if cancelled is None:
            self.changing.acquire()
            return
        while not self.changing.acquire(timeout=GLANCE_S):
            if cancelled():
                raise CancelledError("Cancelled while another change of the device was under way; nothing was changed.")

    # ------------------------------------------------------------------------------------------------ what is written

    def event(self, kind: str, message: str, model: str = "", details: Mapping[str, str] | None = None) -> Event:
        """Of this moment; the journal gives it its number."""
        return Event(
            sequence=0,
            time_unix_s=self.clock.wall_unix_s(),
            device_time_s=self.clock.now(),
            kind=kind,
            message=message,
            model=model,
            details=dict(details or {}) | ({"holder": self.leases.acting} if self.leases.acting else {}),
        )

    @abstractmethod
    def commit(
        self,
        write: Callable[[Transaction], None] = nothing,
        *,
        events: Sequence[Event] = (),
        remember: Answer | None = None,
    ) -> None:
        """One transaction: the change, the device's own records, the events, and the answer to the request id.

        Raises StoreUnwritableError with nothing changed.
        """

    def _transact(
        self,
        write: Callable[[Transaction], None],
        events: Sequence[Event],
        remember: Answer | None,
        replace: Callable[[], None],
    ) -> None:
        """What :meth:`commit` does after its own records: ``replace`` the values in memory before watchers hear of it.

        ``store_problem`` tells of a store that could not be written until a transaction succeeds.
        """
        answer = None
        with self._noting_store_problems(), self.store.transaction() as transaction:
            write(transaction)
            clock = self.clock.state()
            transaction.put("device", "clock", codec.encode(clock))
            numbered = self.journal.write(transaction, events)
            if remember is not None:
                mutation, verb, outcome = remember
                answer = self.requests.write(transaction, mutation.request_id, verb, outcome)
        replace()
        self.stored_device_s = clock.device_time_s
        self.journal.publish(numbered)
        if remember is not None:
            self.requests.publish(remember[0].request_id, answer)

    @contextmanager
    def _noting_store_problems(self) -> Iterator[None]:
        try:
            yield
        except StoreUnwritableError as error:
            self.store_problem = error.message
            raise
        self.store_problem = ""

    def report(self, kind: str, message: str, model: str = "", details: Mapping[str, str] | None = None) -> None:
        """An event on its own. With a store that cannot be written it waits; the caller has an error to raise."""
        with self.changing:
            event = self.event(kind, message, model, details)
            try:
                self.commit(events=[event])
            except Error:
                self.journal.hold(event)
