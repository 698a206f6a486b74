"""Errors: a status, a stable reason that belongs to it, and a message for people, whatever went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pcmedge import errors
from pcmedge._contract import device_pb2, inference_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, buffer_requests, infer_request, mutation, program_requests
from pcmedge.conformance.expecting import expect
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refusal

_NOWHERE = "pcmedge-conformance-nowhere"
_LONGEST = 1500


def statuses() -> dict[str, str]:
    """gRPC status of every reason of the contract."""
    found: dict[str, str] = {}
    kinds: list[type[errors.Error]] = [errors.Error]
    while kinds:
        kind = kinds.pop()
        found.setdefault(kind.reason, kind.status)
        kinds += kind.__subclasses__()
    return found


def _wrong_calls(bench: Bench) -> Iterator[tuple[str, str, Any]]:
    """(capability, call, request) of requests that nobody can fulfil."""
    nowhere = {"model_name": _NOWHERE}
    short = infer_request(probe.samples(1))
    short.raw_input_contents[0] = b"\0\0\0"
    typed = infer_request(probe.samples(1))
    typed.inputs[0].datatype = "INT64"
    yield "infer", "ModelInfer", infer_request(probe.samples(1), _NOWHERE)
    yield "infer", "ModelInfer", short
    yield "infer", "ModelInfer", typed
    yield "infer", "ModelInfer", infer_request(probe.samples(1), version="999999999")
    yield "infer", "ModelMetadata", inference_pb2.ModelMetadataRequest(name=_NOWHERE)
    yield "infer", "RepositoryModelLoad", inference_pb2.RepositoryModelLoadRequest(model_name=_NOWHERE)
    yield "program", "Program", program_requests(b"this is no image")
    yield "program", "Program", program_requests(bench.image(), digest=bytes(32))
    yield "program", "Program", iter([device_pb2.ProgramRequest(chunk=b"first")])
    yield "images", "ActivateImage", device_pb2.ActivateImageRequest(mutation=mutation(), **nowhere)
    yield "images", "EraseImage", device_pb2.EraseImageRequest(mutation=mutation(), **nowhere)
    yield "lease", "RenewLease", device_pb2.RenewLeaseRequest(lease_id="none")
    yield "lease", "AcquireLease", device_pb2.AcquireLeaseRequest(holder="x", duration_s=-5.0)
    yield "operations", "WatchOperation", device_pb2.WatchOperationRequest(operation_id="none")
    yield "operations", "CancelOperation", device_pb2.CancelOperationRequest(operation_id="none")
    yield "rollback", "RollbackStatistics", device_pb2.RollbackStatisticsRequest(mutation=mutation(), **nowhere)
    yield "buffer", "ReplaceCalibrationBuffer", buffer_requests(b"odd", count=1)
    yield "buffer", "DescribeCalibrationBuffer", device_pb2.DescribeCalibrationBufferRequest(**nowhere)
    yield "recalibrate.gdc", "Recalibrate", bench.recalibrate_request(model_name=_NOWHERE)
    yield "lab.snapshot", "RestoreSnapshot", lab_pb2.RestoreSnapshotRequest(name=_NOWHERE)
    yield "self-test", "SelfTest", device_pb2.SelfTestRequest(**nowhere)
    yield "telemetry.watch", "WatchTelemetry", device_pb2.WatchTelemetryRequest(interval_s=float("nan"))
    yield "tile.read", "ReadTile", device_pb2.ReadTileRequest(model_name=probe.NAME, tile=4_000_000)


def _refusals(bench: Bench) -> Iterator[Refusal]:
    bench.ready()
    for capability, call, request in _wrong_calls(bench):
        if capability not in bench.capabilities:
            continue
        found = bench.wire.refusal(call, request)
        expect(found is not None, f"{call} to refuse a request that nobody can fulfil", "success")
        assert found is not None
        yield found


@rule("R5.1", "Every error carries google.rpc.ErrorInfo with domain pcm and a reason of the contract's table.")
def has_a_reason(bench: Bench) -> None:
    known = statuses()
    for found in _refusals(bench):
        expect(found.domain == "pcm" and found.reason in known, f"ErrorInfo of domain pcm from {found.call}",
               f"{found}, domain {found.domain!r}")  # fmt: skip


@rule("R5.2", "The gRPC status of an error is the one the table gives its reason.")
def has_the_status(bench: Bench) -> None:
    known = statuses()
    for found in _refusals(bench):
        expected = known.get(found.reason, "a status of the table")
        expect(found.code == expected, f"{expected} with reason {found.reason or '(none)'}", str(found))


@rule("R5.3", "Message and metadata of an error have at most 1,500 bytes each, however long what was asked.", "infer")
def is_short(bench: Bench) -> None:
    bench.ready()
    long = "x" * 20_000
    requests: list[tuple[str, Any]] = [("ModelMetadata", inference_pb2.ModelMetadataRequest(name=long))]
    requests.append(("ModelInfer", infer_request(probe.samples(1), long)))
    for call, request in requests:
        found = bench.wire.refusal(call, request)
        expect(found is not None and bool(found.reason), f"{call} to refuse a name of 20,000 letters with a reason",
               str(found))  # fmt: skip
        assert found is not None
        size = sum(len(key) + len(value.encode()) for key, value in found.metadata.items())
        expect(len(found.message.encode()) <= _LONGEST, "a message of at most 1,500 bytes", len(found.message))
        expect(size <= _LONGEST, "metadata of at most 1,500 bytes", size)


@rule("R6.1", "An error's message says in words what is wrong, and shows no inside of the device.")
def explains(bench: Bench) -> None:
    for found in _refusals(bench):
        expect(len(found.message.split()) >= 3, f"a sentence from {found.call}", repr(found.message))
        inside = [word for word in ("Traceback", 'File "', "0x7f") if word in found.message]
        expect(not inside, f"no inside of the device in the message of {found.call}", found.message)


@rule("R6.2", "What a caller did wrong is never INTERNAL.")
def foresees(bench: Bench) -> None:
    for found in _refusals(bench):
        expect(found.reason != "INTERNAL" and found.code not in ("INTERNAL", "UNKNOWN"),
               f"a reason that names the fault from {found.call}", str(found))  # fmt: skip


@rule("R5.4", "An error's details hold one ErrorInfo, not several.")
def has_one_reason(bench: Bench) -> None:
    for found in _refusals(bench):
        expect(found.infos == 1, f"one ErrorInfo in the details from {found.call}", f"{found.infos} of them")
