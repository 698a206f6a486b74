"""Scripts of what only an emulator answers: moving time, snapshots, faults, noise."""

from __future__ import annotations

from collections.abc import Sequence

from pcmedge._contract import lab_pb2
from pcmedge.device import _decode
from pcmedge.device._calls import Script, Session, build_message, new_request_id
from pcmedge.device.results import Fault
from pcmedge.durations import parse_duration
from pcmedge.errors import InputTypeError
from pcmedge.protocol.values import Advance, Clock, Snapshot


def clock(session: Session) -> Script[Clock]:
    """Mode, rate and time of the device's clock."""
    return _decode.clock((yield session.read("GetClock", lab_pb2.GetClockRequest())))


def set_clock(session: Session, mode: str, *, rate: float = 1.0) -> Script[Clock]:
    """Let the clock be "real", "accelerated" (``rate`` device seconds per second) or "manual" from now on."""
    request = build_message(
        lab_pb2.SetClockRequest,
        request_id=new_request_id(),
        mode=_decode.number(_decode.CLOCK_MODES, mode, "a clock mode"),
        rate=rate if mode == "accelerated" else 0.0,
    )
    return _decode.clock((yield session.change("SetClock", request)))


def advance(session: Session, by: str | float, *, timeout_s: float | None = None) -> Script[Advance]:
    """Move a manual or accelerated clock forward by "1d", "12h", "90s", "1y" or seconds.

    What the recalibration policy would have run on the way is run, at most 256 times. Raises ClockError on a real
    clock. A deadline or a cancellation stops it between two of these; time stands as far as it got (``clock()``).
    """
    request = lab_pb2.AdvanceTimeRequest(request_id=new_request_id(), by_s=parse_duration(by))
    deadline_s = session.operation_timeout_s if timeout_s is None else timeout_s
    reply = yield session.change("AdvanceTime", request, timeout_s=deadline_s)
    return _decode.advance(reply)


def snapshot(session: Session, name: str) -> Script[Snapshot]:
    """Keep the whole device state under a name (1 to 64 characters of [A-Za-z0-9._-])."""
    request = build_message(lab_pb2.CreateSnapshotRequest, request_id=new_request_id(), name=name)
    return _decode.snapshot((yield session.change("CreateSnapshot", request, timeout_s=session.operation_timeout_s)))


def restore(session: Session, name: str) -> Script[Snapshot]:
    """Put the device back into a kept state."""
    request = build_message(lab_pb2.RestoreSnapshotRequest, request_id=new_request_id(), name=name)
    session.forget_models()
    return _decode.snapshot((yield session.change("RestoreSnapshot", request, timeout_s=session.operation_timeout_s)))


def snapshots(session: Session) -> Script[tuple[Snapshot, ...]]:
    """The states kept."""
    reply = yield session.read("ListSnapshots", lab_pb2.ListSnapshotsRequest())
    return tuple(_decode.snapshot(snapshot) for snapshot in reply.snapshots)


def delete_snapshot(session: Session, name: str) -> Script[None]:
    """Forget a kept state."""
    yield session.change(
        "DeleteSnapshot", build_message(lab_pb2.DeleteSnapshotRequest, request_id=new_request_id(), name=name)
    )


def set_noise(session: Session, read_noise_per_mvm: str) -> Script[str]:
    """Read noise of each matrix-vector product: "off", "additive" or "input-dependent"; returns what is set."""
    request = build_message(lab_pb2.SetNoiseRequest, request_id=new_request_id(), read_noise_per_mvm=read_noise_per_mvm)
    reply = yield session.change("SetNoise", request)
    return str(reply.read_noise_per_mvm)


def inject_faults(session: Session, faults: Sequence[Fault]) -> Script[tuple[Fault, ...]]:
    """Break the silicon: from now on, over programming and restarts. Returns all faults there are.

    All or none: InputValueError for a fault this chip cannot have. Capability "lab.faults".
    """
    request = lab_pb2.InjectFaultsRequest(request_id=new_request_id())
    for fault in faults:
        if not isinstance(fault, Fault):
            raise InputTypeError(f"faults are pcmedge.device.Fault; found {fault!r}", argument="faults")
        message = build_message(
            lab_pb2.Fault,
            kind=_decode.number(_decode.FAULTS, fault.kind, "a fault's kind"),
            tile=fault.tile,
            row=fault.row,
            column=fault.column,
            amount=fault.amount,
            spread=fault.spread,
            minus=fault.minus,
        )
        request.faults.append(message)
    reply = yield session.change("InjectFaults", request)
    return tuple(_decode.fault(fault) for fault in reply.faults)


def clear_faults(session: Session, tiles: Sequence[int] = ()) -> Script[tuple[Fault, ...]]:
    """Mend these physical tiles (none named: all), also from being retired; returns the faults that are left.

    Capability "lab.faults".
    """
    request = build_message(lab_pb2.ClearFaultsRequest, request_id=new_request_id(), tiles=list(tiles))
    reply = yield session.change("ClearFaults", request)
    return tuple(_decode.fault(fault) for fault in reply.faults)


def faults(session: Session) -> Script[tuple[Fault, ...]]:
    """The faults there are. Capability "lab.faults"."""
    reply = yield session.read("ListFaults", lab_pb2.ListFaultsRequest())
    return tuple(_decode.fault(fault) for fault in reply.faults)


def set_temperature(session: Session, celsius: float) -> Script[float]:
    """Set the chip's temperature in degrees Celsius; returns it. Capability "lab.temperature"."""
    request = build_message(lab_pb2.SetTemperatureRequest, request_id=new_request_id(), celsius=celsius)
    reply = yield session.change("SetTemperature", request)
    return float(reply.celsius)
