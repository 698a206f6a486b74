"""Devices that break rules 27, 28 and 33 to 35: watching, ages, telemetry, the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pcmedge.image import ChipImage
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    ModelInfo,
    Mutation,
    ProgramOutcome,
    RecalibrationOutcome,
    Telemetry,
)

from wrong_devices.firmware import Call, Firmware

# ------------------------------------------------------------------------------------------------------------- watching


class _Watching(Firmware):
    watched = ""

    def wire(self, call: Call) -> Any:
        return self.watch(call) if call.name == self.watched else call.go_on()

    def watch(self, call: Call) -> Iterator[Any]:
        yield from call.go_on()


class WatchTelemetryEnds(_Watching, rules=("R27",)):
    """Sends three readings and is done."""

    watched = "WatchTelemetry"

    def watch(self, call: Call) -> Iterator[Any]:
        for reading in call.go_on():
            yield reading
            if reading.sequence == 3:
                return


class WatchEventsEnds(_Watching, rules=("R27",)):
    """Sends the events there are and is done: a list in another guise."""

    watched = "WatchEvents"

    def watch(self, call: Call) -> Iterator[Any]:
        yield from (event for event in self._now(call))

    def _now(self, call: Call) -> Iterator[Any]:
        newest = self._state.journal.next() - 1
        if newest <= call.request.after_sequence:
            return
        for event in call.go_on():
            yield event
            if event.sequence >= newest:
                return


class WatchEventsFromNow(_Watching, rules=("R27", "R35")):
    """Follows the journal from the moment of the call on, whatever sequence number it is asked to begin after."""

    watched = "WatchEvents"

    def watch(self, call: Call) -> Iterator[Any]:
        call.request.after_sequence = self._state.journal.next() - 1
        yield from call.go_on()


class StreamsTakeEveryThread(Firmware, rules=("R28",)):
    """Has eight threads; a stream keeps one for as long as it is open, and short calls wait for one."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._threads = threading.Semaphore(8)

    def wire(self, call: Call) -> Any:
        if call.method.server_streaming:
            return self._stream(call)
        self._threads.acquire(timeout=30.0)
        try:
            return call.go_on()
        finally:
            self._threads.release()

    def _stream(self, call: Call) -> Iterator[Any]:
        self._threads.acquire(timeout=30.0)
        try:
            yield from call.go_on()
        finally:
            self._threads.release()


# ----------------------------------------------------------------------------------------------------------------- ages


class _Rejuvenating(Firmware):
    def rejuvenate(self, name: str) -> None:
        now_s = self._state.clock.now()
        self._state.swap(name, lambda at: replace(at, record=replace(at.record, programmed_at_s=now_s)))


class AgeRestartsAtRecalibration(_Rejuvenating, rules=("R33",)):
    """Counts age from the last recalibration: that is how old the statistics are."""

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        outcome = super().recalibrate(name, *args, **options)
        if outcome.committed:
            self.rejuvenate(name)
        return outcome


class AgeRestartsAtActivation(_Rejuvenating, rules=("R33",)):
    """Sets the time of programming when a model is activated, as programming does with what it activates."""

    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        outcome = super().activate(name, mutation=mutation)
        self.rejuvenate(name)
        return outcome


class AgeFromBoot(Firmware, rules=("R33",)):
    """Counts ages from the start of the device: it knows no other time than its uptime."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        outcome = super().program(image, **options)
        self._state.swap(image.name, lambda now: replace(now, record=replace(now.record, programmed_at_s=0.0)))
        return outcome


class AgeByWallClock(Firmware, rules=("R33",)):
    """ListImages subtracts wall-clock times; telemetry and replies go by the device's clock."""

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(replace(m, age_s=time.time() - m.programmed_at_unix_s) for m in super().models())


class AgeOfEveryOther(Firmware, rules=("R33",)):
    """Telemetry tells the age of the oldest model for all of them."""

    def telemetry(self, **options: Any) -> Telemetry:
        found = super().telemetry(**options)
        oldest = max((model.age_s for model in found.models), default=0.0)
        return replace(found, models=tuple(replace(model, age_s=oldest) for model in found.models))


# ------------------------------------------------------------------------------------------------------------ telemetry


class TelemetryFrozen(Firmware, rules=("R34",)):
    """Tells what it read when it was asked first: the cache is never thrown away."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._read: dict[Any, Telemetry] = {}

    def telemetry(self, **options: Any) -> Telemetry:
        return self._read.setdefault(tuple(sorted(options.items())), super().telemetry(**options))


class WatchRepeatsItself(_Watching, rules=("R34",)):
    """A watched telemetry sends its first reading again and again, with new numbers."""

    watched = "WatchTelemetry"

    def watch(self, call: Call) -> Iterator[Any]:
        first = None
        for reading in call.go_on():
            first = first or reading
            first.sequence = reading.sequence
            yield first


class WatchCountsFromZero(_Watching, rules=("R34",)):
    """Numbers the readings of a watched telemetry from 0."""

    watched = "WatchTelemetry"

    def watch(self, call: Call) -> Iterator[Any]:
        for reading in call.go_on():
            reading.sequence -= 1
            yield reading


class CountersResetAtRecalibration(Firmware, rules=("R34",)):
    """Clears all counters of a model when it is recalibrated."""

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        outcome = super().recalibrate(name, *args, **options)
        self._state.resident(name).counters.inferences = 0
        return outcome


class RequestsResetAtProgramming(Firmware, rules=("R34",)):
    """Counts requests from the last programming, not from the start of the device."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        outcome = super().program(image, **options)
        self._state.activity.requests_served = 0
        return outcome


class RecalibrationsFromStart(Firmware, rules=("R34",)):
    """Counts recalibrations from the start of the device: a new programming begins with those of the old."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        before = self._state.residents.get(image.name)
        outcome = super().program(image, **options)
        if before is not None:
            record = before.record
            self._state.swap(
                image.name, lambda now: replace(now, record=replace(now.record, recalibrations=record.recalibrations))
            )
        return outcome


class FailuresNotCounted(Firmware, rules=("R34",)):
    """Counts requests that were answered; those that failed are nobody's."""

    def telemetry(self, **options: Any) -> Telemetry:
        return replace(super().telemetry(**options), requests_failed=0)
