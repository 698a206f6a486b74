"""Messages of the contract to the frozen values of :mod:`pcmedge.protocol.values` and :mod:`pcmedge.device.results`.

A value has the fields of its message under the same names; what differs (nested values, hashes, enumerations, "never"
written as a negative number) is named here, message by message.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.device import results
from pcmedge.device._calls import build_message
from pcmedge.errors import InputValueError
from pcmedge.protocol import values

T = TypeVar("T")


def _value(kind: type[T], message: Any, /, **given: Any) -> T:
    """An instance of a results dataclass from the message's fields of the same names, and those given."""
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in given:
            found = getattr(message, field.name)
            given[field.name] = tuple(found) if isinstance(found, MutableSequence) else found
    return kind(**given)


# Names in Python of the contract's enumerations: RECALIBRATION_METHOD_GDC_PER_COLUMN is "gdc-per-column".
def _names(enum: Any, prefix: str) -> dict[int, str]:
    return {value: name.removeprefix(prefix).lower().replace("_", "-") for name, value in enum.items() if value}


METHODS: Mapping[int, str] = _names(device_pb2.RecalibrationMethod, "RECALIBRATION_METHOD_")
POLICIES: Mapping[int, str] = _names(device_pb2.PolicyKind, "POLICY_KIND_")
CLOCK_MODES: Mapping[int, str] = _names(lab_pb2.ClockMode, "CLOCK_MODE_")
FAULTS: Mapping[int, str] = _names(lab_pb2.FaultKind, "FAULT_KIND_")
HEALTH: Mapping[int, str] = _names(device_pb2.HealthState, "HEALTH_STATE_")
STATES: Mapping[int, str] = _names(device_pb2.OperationState, "OPERATION_STATE_")


def name_of(names: Mapping[int, str], value: int) -> str:
    """The Python name of an enumeration value; "unknown-7" for one of a newer contract."""
    return names.get(value, f"unknown-{value}" if value else "unspecified")


def number(names: Mapping[int, str], name: str, what: str) -> Any:
    """The enumeration value of a Python name; InputValueError listing the names there are."""
    for value, known in names.items():
        if known == name:
            return value
    raise InputValueError(f"{what} is one of {', '.join(names.values())}; found {name!r}", found=name)


def identity(message: device_pb2.Identity) -> results.Identity:
    return _value(results.Identity, message, geometry=_value(values.Geometry, message.geometry))


def lease(message: device_pb2.Lease) -> values.Lease:
    return _value(values.Lease, message)


def progress(message: device_pb2.OperationUpdate) -> results.Progress:
    return _value(results.Progress, message, state=name_of(STATES, message.state))


def model(message: device_pb2.ResidentImage) -> results.ResidentModel:
    return _value(
        results.ResidentModel,
        message,
        name=message.model_name,
        version=message.model_version,
        image_sha256=message.image_sha256.hex(),
    )


def programmed(message: device_pb2.ProgramResult) -> results.ProgramResult:
    tiles = tuple(_value(values.TileProgramming, tile) for tile in message.tiles)
    return _value(results.ProgramResult, message, model=model(message.image), tiles=tiles)


def recalibration(message: device_pb2.RecalibrationResult) -> results.RecalibrationResult:
    return _value(results.RecalibrationResult, message, method=name_of(METHODS, message.method))


def policy(message: device_pb2.RecalibrationPolicy) -> results.Policy:
    return _value(
        results.Policy,
        message,
        kind=name_of(POLICIES, message.kind or device_pb2.POLICY_KIND_MANUAL),
        method=name_of(METHODS, message.method or device_pb2.RECALIBRATION_METHOD_DEFAULT),
        next_in_s=message.next_in_s if message.next_in_s >= 0 else None,
    )


def policy_message(policy: results.Policy) -> device_pb2.RecalibrationPolicy:
    return build_message(
        device_pb2.RecalibrationPolicy,
        kind=number(POLICIES, policy.kind, "a policy's kind"),
        method=number(METHODS, policy.method, "a recalibration method"),
        interval_s=policy.interval_s,
        log_time_ratio=policy.log_time_ratio,
        drift_threshold=policy.drift_threshold,
        agreement_threshold=policy.agreement_threshold,
        reads=policy.reads,
        self_test_interval_s=policy.self_test_interval_s,
        self_test_ratio=policy.self_test_ratio,
        agreement_drop=policy.agreement_drop,
        self_test_spacing_s=policy.self_test_spacing_s,
    )


def buffer(message: device_pb2.CalibrationBufferDescription) -> results.BufferDescription:
    return _value(results.BufferDescription, message, sha256=bytes(message.sha256).hex())


def self_test(message: device_pb2.SelfTestResult) -> values.SelfTest:
    return _value(values.SelfTest, message)


def telemetry(message: device_pb2.Telemetry) -> results.Telemetry:
    return _value(
        results.Telemetry,
        message,
        models=tuple(_model_telemetry(model) for model in message.models),
        health=name_of(HEALTH, message.health),
    )


def _model_telemetry(message: device_pb2.ModelTelemetry) -> results.ModelTelemetry:
    return _value(
        results.ModelTelemetry,
        message,
        name=message.model_name,
        last_recalibration_age_s=_or_none(message.last_recalibration_age_s),
        last_agreement=_or_none(message.last_agreement),
        tiles=tuple(_value(values.TileTelemetry, tile, findings=_findings(tile)) for tile in message.tiles),
        self_tests=tuple(_value(values.SelfTestRecord, record) for record in message.self_tests),
    )


def _or_none(value: float) -> float | None:
    return value if value >= 0 else None


def event(message: device_pb2.Event) -> values.Event:
    return _value(values.Event, message, details=dict(message.details), model=message.model_name)


def tile_readout(bands: list[device_pb2.TileReadout]) -> results.TileReadout:
    """One tile from its bands of rows, which arrive in order."""

    def stacked(field: str) -> Any:
        return np.concatenate(
            [np.frombuffer(getattr(band, field), "<f4").reshape(band.rows, band.columns) for band in bands]
        )

    return _value(
        results.TileReadout,
        bands[0],
        g_plus_microsiemens=stacked("g_plus_microsiemens"),
        g_minus_microsiemens=stacked("g_minus_microsiemens"),
    )


def diagnosis(message: device_pb2.DiagnoseResult) -> values.Diagnosis:
    return _value(
        values.Diagnosis,
        message,
        tiles=tuple(_value(values.TileDiagnosis, tile, findings=_findings(tile)) for tile in message.tiles),
        retired_tiles=tuple(message.retired_tiles),
    )


def _findings(
    message: device_pb2.TileDiagnosis | device_pb2.TileTelemetry,
) -> tuple[values.FaultFinding, ...]:
    return tuple(_finding(found) for found in message.findings)


def _finding(message: device_pb2.FaultFinding) -> values.FaultFinding:
    return _value(
        values.FaultFinding,
        message,
        row=message.row if message.HasField("row") else None,
        column=message.column if message.HasField("column") else None,
    )


def clock(message: lab_pb2.Clock) -> values.Clock:
    return _value(values.Clock, message, mode=name_of(CLOCK_MODES, message.mode))


def advance(message: lab_pb2.AdvanceTimeResponse) -> values.Advance:
    return _value(values.Advance, message, clock=clock(message.clock))


def snapshot(message: lab_pb2.Snapshot) -> values.Snapshot:
    return _value(values.Snapshot, message)


def fault(message: lab_pb2.Fault) -> results.Fault:
    return _value(results.Fault, message, kind=name_of(FAULTS, message.kind))
