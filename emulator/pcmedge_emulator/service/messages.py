"""The chip's outcomes as messages of the contract, and the parts of requests the chip takes.

Outcomes have the fields of their messages under the same names; what differs is named here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.errors import Error, InputValueError, InternalError
from pcmedge.protocol.status import limited, to_detail

from pcmedge_emulator import outcomes
from pcmedge_emulator.calibration.policy import Policy, PolicyKind
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.operations import OperationState, OperationUpdate

M = TypeVar("M", bound=Message)


def _message(kind: type[M], value: Any, /, **given: Any) -> M:
    """A message from the attributes of ``value`` that have its fields' names, and those given."""
    fields = {name: getattr(value, name) for name in kind.DESCRIPTOR.fields_by_name if hasattr(value, name)}
    return kind(**(fields | given))


def _enum(enum: Any, prefix: str, name: str) -> Any:
    return enum.Value(prefix + name.upper().replace("-", "_"))


def _name(enum: Any, prefix: str, value: int, what: str) -> str:
    """The chip's name of an enumeration value. InputValueError for unspecified and unknown ones."""
    if value == 0 or value not in enum.values():
        known = [name for name, number in enum.items() if number]
        raise InputValueError(f"{what} is one of {', '.join(known)}; found {value}", found=value)
    return str(enum.Name(value).removeprefix(prefix).lower().replace("_", "-"))


# ----------------------------------------------------------------------------------------------------------- requests


def mutation(message: device_pb2.Mutation) -> outcomes.Mutation:
    program = message.expected_program_generation if message.HasField("expected_program_generation") else None
    statistics = message.expected_statistics_generation if message.HasField("expected_statistics_generation") else None
    return outcomes.Mutation(
        request_id=message.request_id,
        expected_program_generation=program,
        expected_statistics_generation=statistics,
        lease_id=message.lease_id,
    )


def method(value: int) -> outcomes.Method:
    """Unspecified is the default method."""
    name = _name(device_pb2.RecalibrationMethod, "RECALIBRATION_METHOD_", value or 1, "a recalibration method")
    return outcomes.Method(name)


_FIGURES = (
    "interval_s",
    "log_time_ratio",
    "drift_threshold",
    "agreement_threshold",
    "reads",
    "self_test_interval_s",
    "self_test_ratio",
    "agreement_drop",
    "self_test_spacing_s",
)


def policy_from(message: device_pb2.RecalibrationPolicy) -> Policy:
    """Figures left at 0 take their defaults."""
    figures = {name: getattr(message, name) for name in _FIGURES if getattr(message, name) != 0}
    if "agreement_drop" in figures:
        # The drop alone counts, unless a threshold was given too.
        figures.setdefault("agreement_threshold", 0.0)
    return Policy(
        kind=PolicyKind(_name(device_pb2.PolicyKind, "POLICY_KIND_", message.kind, "a policy's kind")),
        method=method(message.method),
        **figures,
    )


def clock_mode(value: int) -> str:
    return _name(lab_pb2.ClockMode, "CLOCK_MODE_", value, "a clock mode")


def fault_from(message: lab_pb2.Fault) -> Fault:
    kind = FaultKind(_name(lab_pb2.FaultKind, "FAULT_KIND_", message.kind, "a fault's kind"))
    fields = ("tile", "row", "column", "amount", "spread", "minus")
    return Fault(kind=kind, **{name: getattr(message, name) for name in fields})


def program_and_verify(header: device_pb2.ProgramHeader) -> outcomes.ProgramAndVerify | None:
    if not header.HasField("program_and_verify"):
        return None
    return outcomes.ProgramAndVerify(
        margin_microsiemens=header.program_and_verify.margin_microsiemens,
        max_iterations=header.program_and_verify.max_iterations,
    )


# ------------------------------------------------------------------------------------------------------------ replies


def identity(value: outcomes.Identity, capabilities: tuple[str, ...]) -> device_pb2.Identity:
    geometry = _message(device_pb2.ChipGeometry, value.geometry)
    return _message(device_pb2.Identity, value, geometry=geometry, capabilities=capabilities)


def lease(value: outcomes.Lease) -> device_pb2.Lease:
    return _message(device_pb2.Lease, value)


def resident(value: outcomes.ModelInfo) -> device_pb2.ResidentImage:
    return _message(device_pb2.ResidentImage, value, model_name=value.name, model_version=value.version)


def operation(update: OperationUpdate) -> device_pb2.OperationUpdate:
    message = _message(
        device_pb2.OperationUpdate,
        update,
        state=_enum(device_pb2.OperationState, "OPERATION_STATE_", update.state),
        error=None if update.error is None else to_detail(limited(_told(update.error))),
    )
    if update.state is OperationState.SUCCEEDED:
        if isinstance(update.outcome, outcomes.ProgramOutcome):
            message.program.CopyFrom(_programmed(update.outcome))
        elif isinstance(update.outcome, outcomes.RecalibrationOutcome):
            message.recalibration.CopyFrom(_recalibrated(update.outcome))
        elif isinstance(update.outcome, outcomes.Diagnosis):
            message.diagnosis.CopyFrom(diagnosis(update.outcome))
    return message


def _told(error: Error) -> Error:
    """The error without what nobody foresaw; who started the operation gets that under an incident number."""
    if isinstance(error, InternalError) and error.__cause__ is not None:
        return InternalError(f"it failed inside the device ({type(error.__cause__).__name__}); its log tells more")
    return error


def _programmed(value: outcomes.ProgramOutcome) -> device_pb2.ProgramResult:
    return device_pb2.ProgramResult(
        image=resident(value.model),
        replaced_models=value.replaced_models,
        outage_s=value.outage_s,
        tiles=[_message(device_pb2.TileProgramming, tile) for tile in value.tiles],
    )


def _recalibrated(value: outcomes.RecalibrationOutcome) -> device_pb2.RecalibrationResult:
    method = _enum(device_pb2.RecalibrationMethod, "RECALIBRATION_METHOD_", value.method)
    return _message(device_pb2.RecalibrationResult, value, method=method)


def policy(value: Policy, next_in_s: float) -> device_pb2.RecalibrationPolicy:
    return _message(
        device_pb2.RecalibrationPolicy,
        value,
        kind=_enum(device_pb2.PolicyKind, "POLICY_KIND_", value.kind),
        method=_enum(device_pb2.RecalibrationMethod, "RECALIBRATION_METHOD_", value.method),
        next_in_s=next_in_s if np.isfinite(next_in_s) else -1.0,
    )


def buffer(value: outcomes.BufferDescription) -> device_pb2.CalibrationBufferDescription:
    return _message(device_pb2.CalibrationBufferDescription, value)


def self_test(value: outcomes.SelfTestOutcome) -> device_pb2.SelfTestResult:
    return _message(device_pb2.SelfTestResult, value)


def telemetry(value: outcomes.Telemetry, sequence: int, *, queued: int, rejected: int) -> device_pb2.Telemetry:
    models = [
        _message(
            device_pb2.ModelTelemetry,
            model,
            model_name=model.name,
            tiles=[_message(device_pb2.TileTelemetry, tile, findings=_findings(tile.findings)) for tile in model.tiles],
            self_tests=[_message(device_pb2.SelfTestRecord, record) for record in model.self_tests],
        )
        for model in value.models
    ]
    return _message(
        device_pb2.Telemetry,
        value,
        models=models,
        sequence=sequence,
        requests_queued=queued,
        requests_rejected=rejected,
        health=_enum(device_pb2.HealthState, "HEALTH_STATE_", value.health),
    )


def event(value: outcomes.Event) -> device_pb2.Event:
    return _message(device_pb2.Event, value, model_name=value.model)


def tile_band(value: outcomes.TileReadout, first_row: int, rows: int) -> device_pb2.TileReadout:
    band = slice(first_row, first_row + rows)
    return device_pb2.TileReadout(
        tile=value.tile,
        layer=value.layer,
        first_row=first_row,
        rows=len(value.g_plus[band]),
        columns=value.columns,
        g_plus_microsiemens=np.ascontiguousarray(value.g_plus[band], "<f4").tobytes(),
        g_minus_microsiemens=np.ascontiguousarray(value.g_minus[band], "<f4").tobytes(),
        age_s=value.age_s,
    )


def clock(value: outcomes.ClockReading) -> lab_pb2.Clock:
    return _message(lab_pb2.Clock, value, mode=_enum(lab_pb2.ClockMode, "CLOCK_MODE_", value.mode))


def advanced(value: outcomes.AdvanceOutcome) -> lab_pb2.AdvanceTimeResponse:
    return lab_pb2.AdvanceTimeResponse(clock=clock(value.clock), recalibrations=value.recalibrations)


def snapshot(value: outcomes.SnapshotInfo) -> lab_pb2.Snapshot:
    return _message(lab_pb2.Snapshot, value)


def faults(values: tuple[Fault, ...]) -> lab_pb2.ListFaultsResponse:
    found = [
        _message(lab_pb2.Fault, value, kind=_enum(lab_pb2.FaultKind, "FAULT_KIND_", value.kind)) for value in values
    ]
    return lab_pb2.ListFaultsResponse(faults=found)


def diagnosis(value: outcomes.Diagnosis) -> device_pb2.DiagnoseResult:
    tiles = [_message(device_pb2.TileDiagnosis, tile, findings=_findings(tile.findings)) for tile in value.tiles]
    return _message(device_pb2.DiagnoseResult, value, tiles=tiles)


def _findings(values: tuple[outcomes.FaultFinding, ...]) -> list[device_pb2.FaultFinding]:
    return [_message(device_pb2.FaultFinding, finding) for finding in values]
