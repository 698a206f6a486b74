"""Good requests of every call, as a start for what is changed a little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grpc_health.v1 import health_pb2
from pcmedge._contract import device_pb2, inference_pb2, lab_pb2
from pcmedge.conformance import bench, probe
from pcmedge.protocol.services import METHODS

Requests = list[Any]
MODEL = probe.NAME


class Known:
    """Words only the device can give, remembered from its replies: leases, operations, tiles."""

    def __init__(self) -> None:
        self.lease = ""
        self.operation = ""
        self.leases: list[str] = []

    def learn(self, reply: Any) -> None:
        if lease := getattr(reply, "lease_id", ""):
            self.lease = lease
            self.leases.append(lease)
        self.operation = getattr(reply, "operation_id", "") or self.operation


def _mutation(known: Known) -> Any:
    return device_pb2.Mutation(request_id=bench.new_id(), lease_id=known.lease)


def _infer(*, raw: bool) -> Any:
    return bench.infer_request(probe.samples(2), raw=raw)


def _fault() -> Any:
    return lab_pb2.Fault(kind=lab_pb2.FAULT_KIND_STUCK_AT_RESET, tile=1, amount=0.01)


def _policy() -> Any:
    return device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=3600.0)


_MADE: dict[str, Callable[[Known], Requests]] = {
    "Program": lambda known: list(
        bench.program_requests(probe.image_for(None), carried=_mutation(known), replace=True)
    ),
    "AcquireLease": lambda _: [
        device_pb2.AcquireLeaseRequest(holder="fuzz", duration_s=1.0, request_id=bench.new_id())
    ],
    "RenewLease": lambda known: [device_pb2.RenewLeaseRequest(lease_id=known.lease, duration_s=1.0)],
    "ReleaseLease": lambda known: [device_pb2.ReleaseLeaseRequest(lease_id=known.lease)],
    "WatchOperation": lambda known: [device_pb2.WatchOperationRequest(operation_id=known.operation)],
    "CancelOperation": lambda known: [device_pb2.CancelOperationRequest(operation_id=known.operation)],
    "Recalibrate": lambda known: [
        device_pb2.RecalibrateRequest(
            mutation=_mutation(known), model_name=MODEL, method=device_pb2.RECALIBRATION_METHOD_GDC
        )
    ],
    "SetRecalibrationPolicy": lambda known: [
        device_pb2.SetRecalibrationPolicyRequest(mutation=_mutation(known), model_name=MODEL, policy=_policy())
    ],
    "ReplaceCalibrationBuffer": lambda _: list(bench.buffer_requests(probe.samples(16))),
    "AppendCalibrationBuffer": lambda _: list(bench.buffer_requests(probe.samples(4))),
    "WatchTelemetry": lambda _: [device_pb2.WatchTelemetryRequest(interval_s=0.01, include_tiles=True)],
    "ReadTile": lambda _: [device_pb2.ReadTileRequest(model_name=MODEL, tile=0)],
    "Diagnose": lambda known: [device_pb2.DiagnoseRequest(mutation=_mutation(known), model_name=MODEL)],
    "SetClock": lambda _: [lab_pb2.SetClockRequest(mode=lab_pb2.CLOCK_MODE_ACCELERATED, rate=60.0)],
    "AdvanceTime": lambda _: [lab_pb2.AdvanceTimeRequest(request_id=bench.new_id(), by_s=3600.0)],
    "CreateSnapshot": lambda _: [lab_pb2.CreateSnapshotRequest(request_id=bench.new_id(), name="x")],
    "RestoreSnapshot": lambda _: [lab_pb2.RestoreSnapshotRequest(request_id=bench.new_id(), name="x")],
    "DeleteSnapshot": lambda _: [lab_pb2.DeleteSnapshotRequest(request_id=bench.new_id(), name="x")],
    "InjectFaults": lambda _: [lab_pb2.InjectFaultsRequest(request_id=bench.new_id(), faults=[_fault()])],
    "ClearFaults": lambda _: [lab_pb2.ClearFaultsRequest(request_id=bench.new_id(), tiles=[1])],
    "SetTemperature": lambda _: [lab_pb2.SetTemperatureRequest(celsius=40.0)],
    "SetNoise": lambda _: [lab_pb2.SetNoiseRequest(read_noise_per_mvm="additive")],
    "ModelInfer": lambda _: [_infer(raw=True)],
    "ModelStreamInfer": lambda _: [_infer(raw=True), _infer(raw=False), _infer(raw=True)],
    "ModelReady": lambda _: [inference_pb2.ModelReadyRequest(name=MODEL)],
    "ModelMetadata": lambda _: [inference_pb2.ModelMetadataRequest(name=MODEL)],
    "ModelStatistics": lambda _: [inference_pb2.ModelStatisticsRequest(name=MODEL)],
    "Check": lambda _: [health_pb2.HealthCheckRequest(service="pcm.device.v1.DeviceService")],
    "Watch": lambda _: [health_pb2.HealthCheckRequest()],
}


def requests(name: str, known: Known) -> Sequence[Any]:
    """Of a call that would be answered, were the device in the right state."""
    if name in _MADE:
        return _MADE[name](known)
    message = METHODS[name].request()
    fields = message.DESCRIPTOR.fields_by_name
    if "model_name" in fields:
        message.model_name = MODEL
    if "mutation" in fields:
        message.mutation.CopyFrom(_mutation(known))
    return [message]
