"""Devices that break rule 35: the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pcmedge_emulator.outcomes import NO_MUTATION, Event, Mutation

from wrong_devices.firmware import Firmware


class _Journaling(Firmware):
    """Events of the kinds in ``unwritten`` are not written."""

    unwritten: tuple[str, ...] = ()

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        commit = self._state.commit

        def sparing(*args: Any, events: Sequence[Event] = (), **options: Any) -> None:
            commit(*args, events=[event for event in events if event.kind not in self.unwritten], **options)

        self._state.commit = sparing  # type: ignore[method-assign]


class PolicyChangeUnwritten(_Journaling, rules=("R35",)):
    """A change of policy is a setting, not an event."""

    unwritten = ("policy-changed",)


class RollbackUnwritten(_Journaling, rules=("R35",)):
    """The journal has recalibrations, and not what took them back."""

    unwritten = ("rolled-back",)


class ActivationsUnwritten(_Journaling, rules=("R35",)):
    """The journal does not have which images were activated and deactivated."""

    unwritten = ("activated", "deactivated")


class BufferChangeUnwritten(_Journaling, rules=("R35",)):
    """The journal does not have that the calibration buffer is another one."""

    unwritten = ("buffer-changed",)


class RefusalWrittenAsChange(Firmware, rules=("R35",)):
    """Writes "programmed" into the journal before it programs, also for what it then refuses."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        report = self._state.report

        def early(kind: str, *args: Any, **options: Any) -> None:
            report("programmed" if kind == "failed" else kind, *args, **options)

        self._state.report = early  # type: ignore[method-assign]


class RepetitionWrittenAgain(Firmware, rules=("R7", "R35")):
    """Gives a repeated request its first answer, and writes the change into the journal once more."""

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> Any:
        before = self._state.journal.last
        outcome = super().rollback(name, mutation=mutation)
        if self._state.journal.last == before:
            self._state.report("rolled-back", f"Model '{name}' has the previous statistics again.", name)
        return outcome


class JournalLeaps(Firmware, rules=("R35",), restarts=True):
    """Leaves a gap in the sequence numbers at a restart, to be sure that none is used twice."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        if self._state.device.boots > 1:
            self._state.journal._last += 1000


class JournalReusesNumber(Firmware, rules=("R35",), restarts=True):
    """Stores the last sequence number before it counts: the first event after a restart has that of the last one
    before."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._first = self._state.journal.last if self._state.device.boots > 1 else 1 << 62

    def _told(self, events: Sequence[Event], after: int) -> tuple[Event, ...]:
        shifted = (replace(e, sequence=e.sequence - 1) if e.sequence >= self._first else e for e in events)
        return tuple(event for event in shifted if event.sequence > after)

    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]:
        return self._told(super().events(max(0, after), limit), after)

    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]:
        found = super().wait_events(after + (after >= self._first - 1), timeout_s)
        return self._told(found, after)
