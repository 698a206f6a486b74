"""Who the device is, which calls it has, and whether it grows with the contract."""

from __future__ import annotations

import math
import time
from typing import Any

from pcmedge._contract import device_pb2, inference_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, infer_request, mutation, program_requests
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refused
from pcmedge.protocol.services import DEVICE_SERVICE, INFERENCE_SERVICE, LAB_SERVICE

_UNKNOWN_FIELD = b"\xfa\x7d\x04more"
"""Field 2015 of a message, which no message of the contract has: "more"."""


@rule("R1.1", "The identity names contract version, vendor, product and serial number.", changes=False)
def names_itself(bench: Bench) -> None:
    expect(bench.identity.contract_version >= 1, "contract_version 1 or larger", bench.identity.contract_version)
    for name in ("vendor", "product", "serial"):
        expect(bool(getattr(bench.identity, name)), f"a {name} in the identity", "an empty one")


@rule("R1.2", "Fields a device does not know are ignored, in every message.", "infer")
def ignores_unknown_fields(bench: Bench) -> None:
    bench.ready()
    request = device_pb2.GetIdentityRequest.FromString(_UNKNOWN_FIELD)
    expect_equal("serial", bench.identity.serial, bench.wire.call("GetIdentity", request).serial)
    data = infer_request(probe.samples(1)).SerializeToString() + _UNKNOWN_FIELD
    reply = bench.wire.call("ModelInfer", inference_pb2.ModelInferRequest.FromString(data))
    expect_equal("model_name", probe.NAME, reply.model_name)


@rule("R2.1", "Ages are finite and not negative, wall-clock times seconds since the Unix epoch.", "telemetry")
def counts_in_seconds(bench: Bench) -> None:
    image = bench.ready()
    expect(math.isfinite(image.age_s) and image.age_s >= 0, "a finite age of 0 s or more", image.age_s)
    decade_s = 10 * 365 * 86400
    reading = bench.wire.call("GetTelemetry", device_pb2.GetTelemetryRequest())
    for what, found in (("time_unix_s", reading.time_unix_s), ("programmed_at_unix_s", image.programmed_at_unix_s)):
        expect(abs(found - time.time()) < decade_s, f"{what} in seconds, within ten years of {time.time():.0f}", found)


@rule("R2.2", "A chip that holds an image tells its geometry.", "program")
def tells_its_geometry(bench: Bench) -> None:
    bench.ready()
    geometry = bench.wire.call("GetIdentity", device_pb2.GetIdentityRequest()).geometry
    for name in ("tile_rows", "tile_columns", "tiles", "dac_bits", "adc_bits", "g_max_microsiemens"):
        expect(getattr(geometry, name) > 0, f"geometry.{name} larger than 0", getattr(geometry, name))
    expect(geometry.free_tiles < geometry.tiles, "fewer free tiles than tiles", f"{geometry.free_tiles} free")


def _calls(model: str) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Per capability: calls that a device without it refuses as UNIMPLEMENTED, and with it does not."""
    samples = device_pb2.CalibrationBufferHeader(mutation=mutation(), model_name="")
    named = {"model_name": model}
    return {
        "program": (("Program", program_requests(b"")),),
        "images": (
            ("ListImages", device_pb2.ListImagesRequest()),
            ("ActivateImage", device_pb2.ActivateImageRequest()),
            ("DeactivateImage", device_pb2.DeactivateImageRequest()),
            ("EraseImage", device_pb2.EraseImageRequest()),
        ),
        "infer": (
            ("ServerLive", inference_pb2.ServerLiveRequest()),
            ("ModelInfer", inference_pb2.ModelInferRequest()),
        ),
        "infer.stream": (("ModelStreamInfer", iter([inference_pb2.ModelInferRequest()])),),
        "lease": (
            ("RenewLease", device_pb2.RenewLeaseRequest(lease_id="none")),
            ("AcquireLease", device_pb2.AcquireLeaseRequest(duration_s=-1.0)),
        ),
        "operations": (
            ("ListOperations", device_pb2.ListOperationsRequest()),
            ("WatchOperation", device_pb2.WatchOperationRequest(operation_id="none")),
            ("CancelOperation", device_pb2.CancelOperationRequest(operation_id="none")),
        ),
        "rollback": (("RollbackStatistics", device_pb2.RollbackStatisticsRequest()),),
        "buffer": (
            ("DescribeCalibrationBuffer", device_pb2.DescribeCalibrationBufferRequest(**named)),
            ("ReplaceCalibrationBuffer", iter([device_pb2.CalibrationBufferRequest(header=samples)])),
        ),
        "self-test": (("SelfTest", device_pb2.SelfTestRequest(**named)),),
        "telemetry": (("GetTelemetry", device_pb2.GetTelemetryRequest()),),
        "telemetry.watch": (("WatchTelemetry", device_pb2.WatchTelemetryRequest(interval_s=-1.0)),),
        "events": (("ListEvents", device_pb2.ListEventsRequest()),),
        "tile.read": (("ReadTile", device_pb2.ReadTileRequest(model_name="", tile=0)),),
        "lab.clock": (("GetClock", lab_pb2.GetClockRequest()),),
        "lab.snapshot": (("ListSnapshots", lab_pb2.ListSnapshotsRequest()),),
        "lab.faults": (("ListFaults", lab_pb2.ListFaultsRequest()),),
        "lab.temperature": (("SetTemperature", lab_pb2.SetTemperatureRequest()),),
    }


@rule("R3.1", "The calls of every capability the identity lists are there.")
def has_what_it_lists(bench: Bench) -> None:
    for capability, calls in _calls("").items():
        for name, request in calls if capability in bench.capabilities else ():
            refusal = bench.wire.refusal(name, request)
            there = refusal is None or (refusal.reason != "UNIMPLEMENTED" and refusal.code != "UNIMPLEMENTED")
            expect(there, f"{name}, as capability {capability!r} promises", str(refusal))


@rule("R3.2", "A call whose capability is absent answers UNIMPLEMENTED with that reason.")
def refuses_what_it_lacks(bench: Bench) -> None:
    for capability, calls in _calls("").items():
        for name, request in calls if capability not in bench.capabilities else ():
            bench.wire.refused("UNIMPLEMENTED", name, request, f"{name} without capability {capability!r}")


@rule("R3.3", "A call the contract does not have answers UNIMPLEMENTED with that reason.", changes=False)
def refuses_unknown_calls(bench: Bench) -> None:
    for service in (DEVICE_SERVICE, INFERENCE_SERVICE):
        try:
            bench.wire.bytes_call(f"/{service}/NoSuchCall", b"")
        except Refused as refused:
            found = refused.refusal
            expect((found.code, found.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED"), "UNIMPLEMENTED", str(found))
        else:
            expect(False, "UNIMPLEMENTED for a call that does not exist", "an answer")


@rule("R3.4", "Capabilities are listed once each, what builds on another capability with that one.", changes=False)
def lists_capabilities(bench: Bench) -> None:
    names = list(bench.identity.capabilities)
    expect_equal("each capability once:", sorted(set(names)), sorted(names))
    for name in names:
        base = name.partition(".")[0]
        if base in ("infer", "program", "telemetry", "events", "buffer", "lab"):
            expect(base in names, f"capability {base!r} beside {name!r}", ", ".join(names))


@rule("R4.1", "Messages of up to 64 MiB are read.", "infer")
def reads_large_messages(bench: Bench) -> None:
    bench.ready()
    request = infer_request(probe.samples(1))
    request.raw_input_contents[0] = bytes(48 << 20)
    bench.wire.refused("INPUT_SHAPE", "ModelInfer", request, "a request of 48 MiB whose shape says 64 bytes")


@rule("R27.1", "gRPC's health service says SERVING for the device and for each service it serves.", changes=False)
def is_healthy(bench: Bench) -> None:
    services = ["", DEVICE_SERVICE, INFERENCE_SERVICE] + ([LAB_SERVICE] if "lab" in bench.capabilities else [])
    for service in services:
        request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
        found = bench.wire.bytes_call("/grpc.health.v1.Health/Check", request)
        expect_equal(f"health of {service or 'the device'!r}", b"\x08\x01", found)


@rule("R38.1", "The device is back after a restart, with the serial number and capabilities it had.", restarts=True)
def comes_back(bench: Bench) -> None:
    bench.restart()
    now = bench.wire.call("GetIdentity", device_pb2.GetIdentityRequest())
    expect_equal("serial", bench.identity.serial, now.serial)
    expect_equal("capabilities", sorted(bench.capabilities), sorted(now.capabilities))


@rule("R1.3", "The features of images that the identity names include those every image needs.", "program")
def knows_images(bench: Bench) -> None:
    needed = set(probe.shipped(1).manifest.required_features)
    if not needed:
        raise NotApplicable("the probe image requires no feature")
    expect(needed <= set(bench.identity.image_features), f"image_features with {sorted(needed)}",
           sorted(bench.identity.image_features))  # fmt: skip


@rule("R2.3", "Images and events tell wall-clock times in seconds since the Unix epoch too.", "images")
def dates_in_seconds(bench: Bench) -> None:
    bench.ready()
    told = {"programmed_at_unix_s in ListImages": bench.must_be_resident().programmed_at_unix_s}
    if "events" in bench.capabilities:
        events = bench.wire.call("ListEvents", device_pb2.ListEventsRequest()).events
        told |= {f"time_unix_s of event {event.sequence}": event.time_unix_s for event in events}
    for what, found in told.items():
        expect(abs(found - time.time()) < 10 * 365 * 86400, f"{what} in seconds, about {time.time():.0f}", found)
