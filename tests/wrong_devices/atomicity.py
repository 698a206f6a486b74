"""Devices that break rules 12 to 16: atomic programming, what is told of it, and long calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pcmedge._contract import device_pb2
from pcmedge.errors import CancelledError, Error, UnavailableError
from pcmedge.image import ChipImage
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.operations import OperationState
from pcmedge_emulator.outcomes import InferOutcome, ProgramOutcome

from wrong_devices.firmware import Call, Firmware, Refused


class ErasesFirst(Firmware, rules=("R13", "R11")):
    """Erases the model of the same name before it checks and programs the new image, to have its tiles."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        if image.name in self._state.residents:
            self._state.install(remove=[image.name])
        return super().program(image, **options)


class CancelledHalfway(Firmware, rules=("R13", "R16")):
    """Writes what it has when it is cancelled: the old image answers with scale factors of the new one."""

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        try:
            return super().program(image, **options)
        except CancelledError:
            half = Parameters(drift_factors={0: 0.5})
            self._state.swap(image.name, lambda resident: replace(resident, parameters=half))
            raise


class CancelledButProgrammed(Firmware, rules=("R13", "R16")):
    """Says CANCELLED and has the new image all the same: the programmer's state machine does not listen."""

    def program(self, image: ChipImage, *, cancelled: Any = None, **options: Any) -> ProgramOutcome:
        outcome = super().program(image, **options)
        if cancelled is not None and cancelled():
            raise CancelledError(f"programming '{image.name}' was cancelled; the device is as it was before")
        return outcome


class SilentWhileProgramming(Firmware, rules=("R13",)):
    """Nothing answers inference while tiles are written, although other tiles are."""

    _writing = False

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        self._writing = True
        try:
            return super().program(image, **options)
        finally:
            self._writing = False

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        if self._writing:
            raise UnavailableError("the device is being programmed; repeat the request")
        return super().infer(name, inputs)


class FailedProgramForgetsOthers(Firmware, rules=("R11", "R13")):
    """Frees all tiles before it verifies: a refused image leaves the device empty."""

    def wire(self, call: Call) -> Any:
        return self._guarded(call) if call.name == "Program" else call.go_on()

    def _guarded(self, call: Call) -> Iterator[Any]:
        try:
            yield from call.go_on()
        except Refused as refused:
            if refused.info.reason == "IMAGE_CORRUPT":
                self._state.install(remove=list(self._state.residents))
            raise


# -------------------------------------------------------------------------------------------------------------- updates


class _Updating(Firmware):
    """Updates of Program pass :meth:`told`, which may leave some out (None)."""

    def told(self, update: Any) -> Any:
        return update

    def wire(self, call: Call) -> Any:
        return self._told(call) if call.name == "Program" else call.go_on()

    def _told(self, call: Call) -> Iterator[Any]:
        for update in call.go_on():
            told = self.told(update)
            if told is not None:
                yield told


class ProgressInPercent(_Updating, rules=("R12",)):
    """Counts per cent where tiles are to be counted."""

    def told(self, update: Any) -> Any:
        if update.phase == "program" and update.total:
            update.done, update.total = 100 * update.done // update.total, 100
        return update


class NoLastUpdate(_Updating, rules=("R12",)):
    """Ends the stream when the last tile is written; what became of it is for the client to find out."""

    def told(self, update: Any) -> Any:
        return update if update.state == device_pb2.OPERATION_STATE_RUNNING else None


class ResultWithoutTiles(_Updating, rules=("R12",)):
    """SUCCEEDED comes without a result."""

    def told(self, update: Any) -> Any:
        update.ClearField("program")
        return update


class FailureAsUpdate(Firmware, rules=("R12",)):
    """Ends a programming that failed with an update that says so, and the call with OK."""

    def wire(self, call: Call) -> Any:
        return self._told(call) if call.name == "Program" else call.go_on()

    def _told(self, call: Call) -> Iterator[Any]:
        try:
            yield from call.go_on()
        except Refused as refused:
            detail = device_pb2.ErrorDetail(reason=refused.info.reason, message=refused.status.message)
            yield device_pb2.OperationUpdate(kind="program", state=device_pb2.OPERATION_STATE_FAILED, error=detail)


class ReplacesUnasked(Firmware, rules=("R14",)):
    """Makes room for an image by erasing residents, whether the client allowed that or not."""

    def program(self, image: ChipImage, *, replace: bool = False, **options: Any) -> ProgramOutcome:
        return super().program(image, replace=True, **options)


class OutageNotTold(_Updating, rules=("R14",)):
    """Erases residents for an image that was allowed to replace them, and does not say which."""

    def told(self, update: Any) -> Any:
        if update.HasField("program"):
            del update.program.replaced_models[:]
            update.program.outage_s = 0.0
        return update


# ----------------------------------------------------------------------------------------------------------- operations


class WatchingFailsToo(Firmware, rules=("R15",)):
    """Who watches an operation that fails gets its error as the status of the watching."""

    def wire(self, call: Call) -> Any:
        return self._watched(call) if call.name == "WatchOperation" else call.go_on()

    def _watched(self, call: Call) -> Iterator[Any]:
        operation = self.operations.get(call.request.operation_id)
        for update in call.go_on():
            if update.HasField("error"):
                error: Error | None = operation.latest.error
                raise error or CancelledError("the operation was cancelled")
            yield update


class FinishedForgotten(Firmware, rules=("R15",)):
    """Frees an operation's memory when it has ended, so that nobody can ask what became of it."""

    def wire(self, call: Call) -> Any:
        if call.name == "WatchOperation":
            self._forget()
        if call.name == "ListOperations":
            self._forget()
        return call.go_on()

    def _forget(self) -> None:
        operations = self.operations
        for update in operations.list():
            if update.state is not OperationState.RUNNING:
                operations._operations.pop(update.operation_id, None)


class CancelDoesNothing(Firmware, rules=("R16",)):
    """Acknowledges CancelOperation and goes on."""

    def wire(self, call: Call) -> Any:
        if call.name != "CancelOperation":
            return call.go_on()
        latest = self.operations.get(call.request.operation_id).latest
        return device_pb2.OperationUpdate(
            operation_id=latest.operation_id, kind=latest.kind, state=device_pb2.OPERATION_STATE_RUNNING
        )
