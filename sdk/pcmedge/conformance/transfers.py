"""How an image comes over: parts in order and of a size, and a cancel that comes while it is being taken on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, mutation, program_requests
from pcmedge.conformance.expecting import Broken, NotApplicable, expect, expect_equal
from pcmedge.conformance.recalibration import APART
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import refusal_of

_MESSAGES_OUT_OF_ORDER = ("INPUT_INVALID", "INPUT_VALUE")
_TRIES = 5


@rule("R11.13", "A chunk of more than 1 MiB is refused for its size, before anything else is asked of it.", "program")
def bounds_chunks(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    answered = threading.Event()

    def parts() -> Iterator[device_pb2.ProgramRequest]:
        yield device_pb2.ProgramRequest(header=device_pb2.ProgramHeader(mutation=mutation(), image_size=3 << 20))
        yield device_pb2.ProgramRequest(chunk=bytes((1 << 20) + 1))
        answered.wait(2.0)

    bench.wire.refused(_MESSAGES_OUT_OF_ORDER, "Program", parts(), "a chunk of 1 MiB and a byte")
    answered.set()
    bench.unchanged(before, "a chunk that was too large")


@rule("R11.14", "A header that comes after chunks is refused, though all is there.", "program")
def begins_with_the_header(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    header, first, *rest = program_requests(bench.image(2))
    late = iter([first, header, *rest])
    bench.wire.refused(_MESSAGES_OUT_OF_ORDER, "Program", late, "a chunk before the header")
    bench.unchanged(before, "a chunk before the header")


@rule(
    "R13.6", "A programming that is cancelled while it waits for another change leaves the old state whole.",
    "operations", "recalibrate.adabs", "recalibrate.reads", "buffer",
)  # fmt: skip
def survives_waiting(bench: Bench) -> None:
    here = bench.fresh()
    bench.buffer(probe.samples(256))
    before, level = bench.standing(), bench.level()
    for _ in range(_TRIES):
        slow = bench.wire.open("Recalibrate", bench.recalibrate_request("ADABS", force=True, reads=64))
        try:
            next(iter(slow), None)
            came_in_time = _cancelled(bench)
        finally:
            slow.cancel()
            _settle(bench)
        image = bench.must_be_resident()
        if came_in_time:
            expect_equal("image after a programming that was cancelled", here.image_sha256, image.image_sha256)
            expect_equal("program generation", here.program_generation, image.program_generation)
        if came_in_time and image.statistics_generation == here.statistics_generation:
            # The recalibration was cancelled too, so everything has to be as it was.
            bench.unchanged(before, "a programming that was cancelled")
            now = bench.level()
            expect(1 / APART < now / level < APART, f"a winning output of about {level:.3g}", f"{now:.3g}")
            return
        here = bench.fresh()
        bench.buffer(probe.samples(256))
        before = bench.standing()
    raise NotApplicable(f"each of {_TRIES} programmings was over before it could be cancelled")


def _cancelled(bench: Bench) -> bool:
    """Begins a programming and cancels it; whether that came in time."""
    updates = bench.wire.open("Program", program_requests(bench.image(2)))
    last: Any = None
    try:
        for update in updates:
            if last is None:
                request = device_pb2.CancelOperationRequest(operation_id=update.operation_id)
                bench.wire.call("CancelOperation", request)
            last = update
    except grpc.RpcError as error:
        found = refusal_of(error, "Program")
        if found.reason != "CANCELLED":
            raise Broken("the stream to end with CANCELLED or a result", str(found)) from None
        return True
    return False


def _settle(bench: Bench) -> None:
    """Waits until no operation runs any more."""
    ends_s = time.monotonic() + 60.0
    running = device_pb2.OPERATION_STATE_RUNNING
    while any(
        each.state == running
        for each in bench.wire.call("ListOperations", device_pb2.ListOperationsRequest()).operations
    ):
        expect(time.monotonic() < ends_s, "cancelled operations to end within a minute", "one that goes on")
        time.sleep(0.02)
