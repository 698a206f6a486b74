"""Leases: one client at a time programs, erases, activates, deactivates and restores."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from pcmedge._contract import device_pb2, inference_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, infer_request, mutation, new_id, program_requests
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refused


@contextlib.contextmanager
def held(bench: Bench, duration_s: float = 60.0) -> Iterator[device_pb2.Lease]:
    """A lease on the device with the probe on it; given back afterwards."""
    bench.fresh()
    lease = bench.lease(duration_s)
    try:
        yield lease
    finally:
        with contextlib.suppress(Refused):
            bench.release(lease)


def exclusive_calls(bench: Bench, lease_id: str = "") -> Iterator[tuple[str, Any]]:
    """Calls only the holder may make, with a lease id in them."""
    yield "Program", program_requests(bench.image(2), carried=mutation(lease_id=lease_id))
    for call, kind in (
        ("DeactivateImage", device_pb2.DeactivateImageRequest),
        ("ActivateImage", device_pb2.ActivateImageRequest),
        ("EraseImage", device_pb2.EraseImageRequest),
    ):
        yield call, kind(mutation=mutation(lease_id=lease_id), model_name=probe.NAME)


@rule("R10.1", "While a lease is held, others' Program, erase, activate and deactivate are LEASE_HELD.", "lease")
def excludes_others(bench: Bench) -> None:
    with held(bench):
        before = bench.standing()
        for call, request in exclusive_calls(bench):
            refusal = bench.wire.refused("LEASE_HELD", call, request, f"{call} without the lease")
            expect_equal("metadata 'holder' of the error", "conformance", refusal.metadata.get("holder"))
            bench.unchanged(before, f"{call} without the lease")


@rule("R10.2", "A lease id that is not the holder's is LEASE_HELD.", "lease")
def knows_its_holder(bench: Bench) -> None:
    with held(bench):
        before = bench.standing()
        for call, request in exclusive_calls(bench, lease_id="somebody-elses"):
            bench.wire.refused("LEASE_HELD", call, request, f"{call} with another lease id")
        bench.unchanged(before, "calls with another lease id")


@rule("R10.3", "The holder programs, deactivates, activates and erases with the lease's id.", "lease", "images")
def admits_its_holder(bench: Bench) -> None:
    with held(bench) as lease:
        for call, request in exclusive_calls(bench, lease_id=lease.lease_id):
            refusal = bench.wire.refusal(call, request)
            expect(refusal is None, f"{call} with the lease's id to succeed", str(refusal))
        expect(bench.resident() is None, "the image erased by the holder to be gone", "it is there")


@rule(
    "R10.4", "A second lease is LEASE_HELD; asked for again with the request id of the first, it is that one.", "lease"
)
def is_one(bench: Bench) -> None:
    same = new_id()
    lease = bench.lease(30.0, request_id=same)
    try:
        other = device_pb2.AcquireLeaseRequest(holder="other", request_id=new_id())
        bench.wire.refused("LEASE_HELD", "AcquireLease", other, "a second lease")
        expect_equal("lease of the repeated call", lease.lease_id, bench.lease(30.0, request_id=same).lease_id)
    finally:
        bench.release(lease)


@rule("R10.5", "A lease lapses when it is not renewed.", "lease")
def lapses(bench: Bench) -> None:
    bench.fresh()
    lease = bench.lease(1.0)
    expect(0 < lease.remaining_s <= 1.0, "at most 1 s of the lease to remain", lease.remaining_s)
    time.sleep(1.2)
    carried = mutation(lease_id=lease.lease_id)
    request = device_pb2.ActivateImageRequest(mutation=carried, model_name=probe.NAME)
    bench.wire.refused("LEASE_HELD", "ActivateImage", request, "a lease that lapsed")
    bench.set_active(True)


@rule("R10.6", "Renewing prolongs a lease from now on.", "lease")
def is_renewed(bench: Bench) -> None:
    with held(bench, 3.0) as lease:
        began_s = time.monotonic()
        renewed = bench.wire.call("RenewLease", device_pb2.RenewLeaseRequest(lease_id=lease.lease_id, duration_s=30.0))
        expect(20 < renewed.remaining_s <= 30, "about 30 s to remain", renewed.remaining_s)
        time.sleep(max(0.0, began_s + 3.2 - time.monotonic()))
        request = device_pb2.ActivateImageRequest(mutation=mutation(), model_name=probe.NAME)
        bench.wire.refused("LEASE_HELD", "ActivateImage", request, "others after the lease was renewed")


@rule("R10.7", "A lease that was released holds nobody off, and its id is good for nothing more.", "lease")
def is_released(bench: Bench) -> None:
    bench.fresh()
    lease = bench.lease(30.0)
    bench.release(lease)
    bench.set_active(True)
    carried = mutation(lease_id=lease.lease_id)
    request = device_pb2.ActivateImageRequest(mutation=carried, model_name=probe.NAME)
    bench.wire.refused("LEASE_HELD", "ActivateImage", request, "a released lease")
    bench.wire.refused(
        "LEASE_HELD", "RenewLease", device_pb2.RenewLeaseRequest(lease_id=lease.lease_id), "renewing a released lease"
    )


@rule("R10.8", "Inference and reading need no lease while somebody holds one.", "lease", "infer")
def lets_others_ask(bench: Bench) -> None:
    with held(bench):
        expect_equal("rows answered", 4, len(bench.infer(4).outputs))
        bench.must_be_resident()
        if "recalibrate.gdc" in bench.capabilities:
            bench.recalibrate("GDC", force=True)


@rule("R10.9", "Loading and unloading a model of the repository is refused to others while a lease is held.", "lease")
def covers_the_repository(bench: Bench) -> None:
    with held(bench):
        unload = inference_pb2.RepositoryModelUnloadRequest(model_name=probe.NAME)
        bench.wire.refused("LEASE_HELD", "RepositoryModelUnload", unload, "unloading without the lease")
        load = inference_pb2.RepositoryModelLoadRequest(model_name=probe.NAME)
        bench.wire.refused("LEASE_HELD", "RepositoryModelLoad", load, "loading without the lease")
        expect(bench.must_be_resident().active, "the model to stay active", "it is not")


@rule("R10.10", "Restoring a snapshot is refused to others while a lease is held.", "lease", "lab.snapshot")
def covers_restoring(bench: Bench) -> None:
    with held(bench):
        name = "pcmedge-conformance"
        bench.wire.call("CreateSnapshot", lab_pb2.CreateSnapshotRequest(request_id=new_id(), name=name))
        restore = lab_pb2.RestoreSnapshotRequest(request_id=new_id(), name=name)
        bench.wire.refused("LEASE_HELD", "RestoreSnapshot", restore, "restoring without the lease")
    bench.wire.call("DeleteSnapshot", lab_pb2.DeleteSnapshotRequest(request_id=new_id(), name=name))


@rule("R10.11", "A lease lasts 1 to 3,600 seconds; other durations are INPUT_VALUE.", "lease")
def bounds_its_length(bench: Bench) -> None:
    for duration_s in (0.5, 3601.0, -1.0, float("nan")):
        request = device_pb2.AcquireLeaseRequest(holder="conformance", duration_s=duration_s)
        bench.wire.refused("INPUT_VALUE", "AcquireLease", request, f"a lease of {duration_s} s")
    lease = bench.lease()
    bench.release(lease)
    expect(50 < lease.remaining_s <= 60, "60 s when no duration is given", lease.remaining_s)


@rule("R10.12", "Program without a lease takes one for as long as it runs, and gives it back.", "lease", "program")
def takes_its_own(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(2))
    with contextlib.suppress(Refused):
        bench.wire.stream("Program", program_requests(bench.image(), digest=bytes(32)))
    lease = bench.lease(5.0)
    bench.release(lease)
    expect_equal("rows answered", 1, len(bench.wire.call("ModelInfer", infer_request(probe.samples(1))).outputs))


@rule("R10.13", "A lease belongs to who has its id: another client of the same name is LEASE_HELD.", "lease")
def belongs_to_an_id(bench: Bench) -> None:
    with held(bench):
        same_name = device_pb2.AcquireLeaseRequest(holder="conformance", request_id=new_id())
        bench.wire.refused("LEASE_HELD", "AcquireLease", same_name, "a second lease for a holder of the same name")


@rule("R10.14", "Only its id renews and releases a lease.", "lease")
def is_nobody_elses(bench: Bench) -> None:
    with held(bench):
        for lease_id in ("somebody-elses", ""):
            renew = device_pb2.RenewLeaseRequest(lease_id=lease_id, duration_s=3000.0)
            bench.wire.refused("LEASE_HELD", "RenewLease", renew, f"renewing with the id {lease_id!r}")
            bench.wire.refusal("ReleaseLease", device_pb2.ReleaseLeaseRequest(lease_id=lease_id))
        activate = device_pb2.ActivateImageRequest(mutation=mutation(), model_name=probe.NAME)
        bench.wire.refused("LEASE_HELD", "ActivateImage", activate, "others after somebody else released the lease")
