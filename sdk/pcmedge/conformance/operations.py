"""Long calls as operations: listed, watched by anybody, cancelled."""

from __future__ import annotations

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, program_requests
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refused


def _watch(bench: Bench, operation_id: str) -> list[device_pb2.OperationUpdate]:
    return bench.wire.stream(
        "WatchOperation", device_pb2.WatchOperationRequest(operation_id=operation_id), timeout_s=60.0
    )


@rule(
    "R15.1",
    "A finished programming can be listed and watched; watching it ends with its result.",
    "operations",
    "program",
)
def shows_programmings(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    last = bench.wire.stream("Program", program_requests(bench.image(2)))[-1]
    listed = bench.wire.call("ListOperations", device_pb2.ListOperationsRequest()).operations
    expect(last.operation_id in {each.operation_id for each in listed}, "the operation in ListOperations", "it is not")
    watched = _watch(bench, last.operation_id)
    expect_equal("state of the last watched update", last.state, watched[-1].state if watched else None)
    told = watched[-1].program.image.program_generation
    expect_equal("program generation of the watched result", last.program.image.program_generation, told)


@rule("R15.2", "A recalibration is an operation too, with its result.", "operations", "recalibrate.gdc")
def shows_recalibrations(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    updates = bench.wire.stream("Recalibrate", bench.recalibrate_request("GDC", force=True))
    expect_equal("kinds", {"recalibrate"}, {update.kind for update in updates})
    watched = _watch(bench, updates[-1].operation_id)[-1]
    told = watched.recalibration.statistics_generation
    expect_equal("statistics generation watched", updates[-1].recalibration.statistics_generation, told)


@rule(
    "R15.3",
    "A watched operation that failed ends with FAILED and its error; the watching call ends with OK.",
    "operations",
)
def shows_failures(bench: Bench) -> None:
    bench.fresh()
    known = {each.operation_id for each in _listed(bench)}
    other = probe.profiled(bench.image(2), lambda profile: setattr(profile, "tile_rows", profile.tile_rows + 1))
    bench.wire.refused("IMAGE_PROFILE_MISMATCH", "Program", program_requests(other), "another profile")
    failed = [each for each in _listed(bench) if each.operation_id not in known]
    if not failed:
        raise NotApplicable("the device refuses such an image before an operation begins")
    try:
        last = _watch(bench, failed[0].operation_id)[-1]
    except Refused as refused:
        expect(False, "the watching call to end with OK", str(refused))
        return
    expect_equal("state", device_pb2.OPERATION_STATE_FAILED, last.state)
    expect_equal("reason in the update", "IMAGE_PROFILE_MISMATCH", last.error.reason)
    expect_equal("status in the update", "FAILED_PRECONDITION", last.error.status)


def _listed(bench: Bench) -> list[device_pb2.OperationUpdate]:
    return list(bench.wire.call("ListOperations", device_pb2.ListOperationsRequest()).operations)


@rule("R15.4", "An operation nobody knows is NOT_FOUND.", "operations", changes=False)
def knows_its_operations(bench: Bench) -> None:
    watch = device_pb2.WatchOperationRequest(operation_id="conformance-none")
    bench.wire.refused("NOT_FOUND", "WatchOperation", watch, "an unknown operation")
    cancel = device_pb2.CancelOperationRequest(operation_id="conformance-none")
    bench.wire.refused("NOT_FOUND", "CancelOperation", cancel, "an unknown operation")


@rule("R16.1", "Cancelling an operation that is over changes nothing about it.", "operations", "program")
def cancels_nothing_late(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    last = bench.wire.stream("Program", program_requests(bench.image(2)))[-1]
    update = bench.wire.call("CancelOperation", device_pb2.CancelOperationRequest(operation_id=last.operation_id))
    expect_equal("state", device_pb2.OPERATION_STATE_SUCCEEDED, update.state)
    expect_equal("version of the resident image", 2, bench.must_be_resident().model_version)


@rule("R16.2", "A recalibration whose caller goes away leaves one whole set of statistics.", "recalibrate.gdc")
def survives_a_caller(bench: Bench) -> None:
    before = bench.fresh().statistics_generation
    bench.used()
    call = bench.wire.open("Recalibrate", bench.recalibrate_request("GDC", force=True))
    next(iter(call), None)
    call.cancel()
    # Serialised behind whatever is left of the first one.
    result = bench.recalibrate("GDC", force=True)
    expect(result.statistics_generation - before in (1, 2), f"statistics generation {before + 1} or {before + 2}",
           result.statistics_generation)  # fmt: skip
