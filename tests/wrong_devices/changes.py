"""Devices that break rules 7, 8 and 10: request ids, expected generations, leases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pcmedge.errors import Error, InputValueError
from pcmedge.image import ChipImage
from pcmedge_emulator.outcomes import Lease, ProgramOutcome, RecalibrationOutcome
from pcmedge_emulator.requests import Requests
from pcmedge_emulator.store import Store

from wrong_devices.firmware import NO_MUTATION, Call, Firmware, Mutation

# ---------------------------------------------------------------------------------------------------------- request ids


class _Answering(Firmware):
    """Looks earlier answers up by :meth:`answered`."""

    def __init__(self, store: Path | None) -> None:
        super().__init__(store)
        self.known = self._state.requests.answered
        self._state.requests.answered = self.answered  # type: ignore[method-assign]

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        return self.known(request_id, verb, kind)


class EveryCallIsNew(_Answering, rules=("R7",)):
    """Takes request ids, writes them to the log, and does everything again that comes again."""

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        return None


class AppendsTwice(_Answering, rules=("R7",)):
    """Remembers what is dangerous to repeat; appending to a buffer was thought to be harmless."""

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        return None if verb == "append-buffer" else self.known(request_id, verb, kind)


class RollsBackTwice(_Answering, rules=("R7",)):
    """Remembers every change but a rollback, which is undone when its reply got lost and the client asks again."""

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        return None if verb == "rollback" else self.known(request_id, verb, kind)


class IdsPerKind(_Answering, rules=("R7",)):
    """Remembers ids per kind of call, so that one id may stand for several changes."""

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        try:
            return self.known(request_id, verb, kind)
        except InputValueError:
            return None


class RemembersLittle(_Answering, rules=("R7",)):
    """Has room for the last hundred ids."""

    def __init__(self, store: Path | None) -> None:
        self._latest: OrderedDict[str, None] = OrderedDict()
        super().__init__(store)

    def answered(self, request_id: str, verb: str, kind: type[Any]) -> Any:
        if request_id and request_id not in self._latest:
            self._latest[request_id] = None
            if len(self._latest) > 100:
                self._latest.popitem(last=False)
            return None
        return self.known(request_id, verb, kind)


class IdsForgottenAtRestart(Firmware, rules=("R7",), restarts=True):
    """Keeps answered ids in memory only."""

    def __init__(self, store: Path | None) -> None:
        super().__init__(store)
        self._state.requests = Requests(Store(None))


class GenerationsBeforeIds(Firmware, rules=("R7",)):
    """Compares expected generations before it looks the id up: the repetition of a call that succeeded is refused,
    because it succeeded."""

    def check_program(self, size: int, *, mutation: Mutation = NO_MUTATION) -> None:
        self._state.check(mutation, None)
        super().check_program(size, mutation=mutation)

    def recalibrate(
        self, name: str, *args: Any, mutation: Mutation = NO_MUTATION, **options: Any
    ) -> RecalibrationOutcome:
        self._state.check(mutation, self._state.resident(name))
        return super().recalibrate(name, *args, mutation=mutation, **options)


class RefusalsRemembered(Firmware, rules=("R7",)):
    """Remembers errors like answers: a call that was refused stays refused when its cause is gone."""

    def __init__(self, store: Path | None) -> None:
        super().__init__(store)
        self._refused: dict[str, Error] = {}
        once = self._state.once

        def remembering(mutation: Mutation, verb: str, kind: type[Any], body: Callable[[], Any]) -> Any:
            if mutation.request_id in self._refused:
                raise self._refused[mutation.request_id]
            try:
                return once(mutation, verb, kind, body)
            except Error as error:
                if mutation.request_id:
                    self._refused[mutation.request_id] = error
                raise

        self._state.once = remembering  # type: ignore[method-assign]


class LongIdsCut(Firmware, rules=("R7",)):
    """Cuts ids to the 128 characters it has room for, so that long ones with one beginning are the same."""

    def wire(self, call: Call) -> Any:
        def cut(mutation: Any) -> None:
            mutation.request_id = mutation.request_id[:128]

        return call.with_mutation(cut)


class EmptyIdIsAnId(Firmware, rules=("R7",)):
    """Looks the empty id up like any other: the second change without one gets the answer of the first."""

    def wire(self, call: Call) -> Any:
        def name(mutation: Any) -> None:
            mutation.request_id = mutation.request_id or f"-{call.name}"

        return call.with_mutation(name)


class SecondAcquireRefused(Firmware, rules=("R7", "R10")):
    """A client whose reply got lost asks for its lease again, and is told that somebody holds it."""

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        return super().acquire_lease(holder, duration_s)


# ---------------------------------------------------------------------------------------------------------- generations


class ExpectedProgramIgnored(Firmware, rules=("R8",)):
    """Does not look at expected program generations."""

    def wire(self, call: Call) -> Any:
        return call.with_mutation(lambda mutation: mutation.ClearField("expected_program_generation"))


class ExpectedStatisticsIgnored(Firmware, rules=("R8",)):
    """Does not look at expected statistics generations; the programmings alone seemed to matter."""

    def wire(self, call: Call) -> Any:
        return call.with_mutation(lambda mutation: mutation.ClearField("expected_statistics_generation"))


class ExpectedIgnoredAtZero(Firmware, rules=("R8",)):
    """Reads proto3 fields without asking for presence: an expected generation of 0 counts as none."""

    def wire(self, call: Call) -> Any:
        def clear(mutation: Any) -> None:
            for name in ("expected_program_generation", "expected_statistics_generation"):
                if not getattr(mutation, name):
                    mutation.ClearField(name)

        return call.with_mutation(clear)


class GenerationNotCounted(Firmware, rules=("R8",)):
    """Programming the same bytes again is no new generation: nothing seemed to change."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        resident, device = self._state.residents.get(image.name), self._state.device
        same = resident is not None and resident.record.image_sha256 == image.sha256
        if same and resident is not None and resident.record.program_generation == device.program_generation:
            self._state.device = replace(device, program_generation=device.program_generation - 1)
            with self._state.store.transaction() as transaction:
                residents = self._state.residents.values()
                transaction.keep_contents({r.record.program_generation for r in residents if r is not resident})
        try:
            return super().program(image, **options)
        finally:
            highest = max(self._state.device.program_generation, device.program_generation)
            self._state.device = replace(self._state.device, program_generation=highest)


class RefusedRecalibrationCounted(Firmware, rules=("R8", "R18")):
    """Takes the next statistics generation when a recalibration starts, and keeps it when the guard refuses."""

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        outcome = super().recalibrate(name, *args, **options)
        if outcome.committed:
            return outcome
        generation = outcome.statistics_generation + 1
        self._state.swap(name, lambda now: replace(now, record=replace(now.record, statistics_generation=generation)))
        return replace(outcome, statistics_generation=generation)
