"""The bookkeeping every chip needs: who may change it, what was changed before, and what survives a power cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pcmedge.errors import CancelledError, Error, GenerationMismatchError, ModelNotFoundError, NotProgrammedError

from pcmedge_emulator import codec
from pcmedge_emulator.clock import Clock, ClockState
from pcmedge_emulator.driver import residents
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.journal import Journal
from pcmedge_emulator.lease import LeaseBook
from pcmedge_emulator.operations import Operations
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.requests import Requests
from pcmedge_emulator.store import Store, Transaction

Outcome = TypeVar("Outcome")
_GLANCE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Counters:
    """The highest generations ever given out, and the starts of the device."""

    program_generation: int = 0
    statistics_generation: int = 0
    boots: int = 0


class Book:
    """What a chip remembers. Memory follows the store: :meth:`commit` writes, then :attr:`models` is replaced."""

    def __init__(self, directory: Path | None, load: Callable[[Any, tuple[int, ...]], Any]) -> None:
        self.store = Store(directory)
        try:
            self._open(load)
        except BaseException:
            self.store.close()
            raise

    def _open(self, load: Callable[[Any, tuple[int, ...]], Any]) -> None:
        self.clock = Clock.real()
        stored = self.store.get("device", "clock")
        if stored is not None:
            self.clock.resume(codec.decode(stored, ClockState), keep_mode=True)
        self.journal = Journal(self.store)
        self.requests = Requests(self.store)
        self.leases = LeaseBook()
        self.operations = Operations()
        self.changing = threading.RLock()
        self.busy_with = ""
        self.models: Mapping[str, Model] = {
            record.name: Model(
                record=record,
                image=image,
                loaded=load(image, record.tiles),
                compensation=arrays.get("compensation", {}),
                previous=arrays.get("previous"),
                buffer=arrays.get("buffer"),
            )
            for record, image, arrays in residents.read(self.store)
        }
        counters = self.store.get("device", "counters")
        before = Counters() if counters is None else codec.decode(counters, Counters)
        self.counters = replace(before, boots=before.boots + 1)
        self.commit(events=[self.event("started", "The device started.", details={"boots": str(self.counters.boots)})])

    def close(self) -> None:
        self.operations.stop()
        self.journal.close()
        with self.changing:
            self.store.close()

    def model(self, name: str) -> Model:
        """ModelNotFoundError, or NotProgrammedError on an empty device."""
        found = self.models.get(name)
        if found is not None:
            return found
        if not self.models:
            raise NotProgrammedError(f"The device holds no image, so no model '{name}'. Program one first.", model=name)
        known = ", ".join(sorted(self.models))
        raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {known}.", model=name)

    # -------------------------------------------------------------------------------------------------------- changing

    def once(self, mutation: Mutation, verb: str, kind: type[Outcome], body: Callable[[], Outcome]) -> Outcome:
        """Runs ``body`` unless this request id was answered before; then that answer."""
        with self.requests.claim(mutation.request_id):
            earlier = self.requests.answered(mutation.request_id, verb, kind)
            return body() if earlier is None else earlier

    def check(self, mutation: Mutation, model: Model | None) -> None:
        """GenerationMismatchError unless the model's (without one: the device's) generations are as expected."""
        at: Any = self.counters if model is None else model.record
        for what in ("program", "statistics"):
            expected, found = getattr(mutation, f"expected_{what}_generation"), getattr(at, f"{what}_generation")
            if expected is not None and expected != found:
                raise GenerationMismatchError(
                    f"The caller expected {what} generation {expected}, the device is at {found}. Look at what "
                    "changed, then repeat the call with the new number.",
                    expected=expected,
                    found=found,
                    what=what,
                )

    @contextmanager
    def busy(self, with_what: str, cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """One change at a time; ``with_what`` is what telemetry says meanwhile. CancelledError while waiting."""
        while not self.changing.acquire(timeout=_GLANCE_S):
            if cancelled():
                raise CancelledError("Cancelled while another change was under way; nothing was changed.")
        before, self.busy_with = self.busy_with, with_what or self.busy_with
        try:
            yield
        finally:
            self.busy_with = before
            self.changing.release()

    def event(self, kind: str, message: str, model: str = "", details: Mapping[str, str] | None = None) -> Event:
        return Event(
            sequence=0,
            time_unix_s=time.time(),
            device_time_s=self.clock.now(),
            kind=kind,
            message=message,
            model=model,
            details=dict(details or {}),
        )

    def commit(
        self,
        write: Callable[[Transaction], None] = lambda _: None,
        *,
        events: Sequence[Event] = (),
        counters: Counters | None = None,
        put: Sequence[Model] = (),
        gone: Sequence[str] = (),
        remember: tuple[Mutation, str, Any] | None = None,
    ) -> None:
        """One transaction: models put and gone, counters, clock, events, and the answer to the request id.

        Raises StoreUnwritableError with nothing changed.
        """
        counters = counters or self.counters
        kept = {name: model for name, model in self.models.items() if name not in gone}
        kept |= {model.record.name: model for model in put}
        answer = None
        with self.store.transaction() as transaction:
            for name in gone:
                residents.delete(transaction, self.models[name])
            write(transaction)
            for model in put:
                residents.write(transaction, model)
            transaction.keep_contents(model.record.program_generation for model in kept.values())
            transaction.put("device", "counters", codec.encode(counters))
            transaction.put("device", "clock", codec.encode(self.clock.state()))
            numbered = self.journal.write(transaction, events)
            if remember is not None:
                mutation, verb, outcome = remember
                answer = self.requests.write(transaction, mutation.request_id, verb, outcome)
        self.counters = counters
        self.models = kept
        self.journal.publish(numbered)
        if remember is not None:
            self.requests.publish(remember[0].request_id, answer)

    def report(self, kind: str, error: Error, model: str) -> None:
        """An event about a change that did not happen. With a store that cannot be written it waits."""
        with self.changing:
            event = self.event(kind, error.message, model, {"reason": error.reason})
            try:
                self.commit(events=[event])
            except Error:
                self.journal.hold(event)
