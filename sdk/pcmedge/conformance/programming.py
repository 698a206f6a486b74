"""Programming: only whole, verified images that fit, and whatever breaks leaves what was there."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import grpc

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Answer, Bench, mutation, program_requests, right
from pcmedge.conformance.expecting import Broken, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import refusal_of

_LOOKS = 8
"""Programmings at most until one shows its phase 'program'."""


def _refused_whole(bench: Bench, reason: str | tuple[str, ...], request: Any, doing: str) -> None:
    """Program is refused with this reason and leaves everything as it was."""
    before = bench.standing()
    bench.wire.refused(reason, "Program", request, doing)
    bench.unchanged(before, doing)


@rule("R11.1", "A SHA-256 that is not that of the chunks is IMAGE_CORRUPT, and nothing is programmed.", "program")
def checks_the_digest(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)
    for digest in (bytes(32), hashlib.sha256(data[:-1]).digest(), b"", hashlib.sha256(data).digest()[:31]):
        _refused_whole(bench, "IMAGE_CORRUPT", program_requests(data, digest=digest), f"digest {digest[:4].hex()}…")


@rule("R11.2", "More or fewer bytes than the header announced are IMAGE_CORRUPT.", "program")
def checks_the_size(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)
    for size in (len(data) - 1, len(data) + 1):
        _refused_whole(bench, "IMAGE_CORRUPT", program_requests(data, size=size), f"{size} of {len(data)} bytes")


@rule("R11.3", "A stream that ends before its end message programs nothing.", "program")
def needs_the_end(bench: Bench) -> None:
    bench.fresh()
    _refused_whole(bench, "IMAGE_CORRUPT", program_requests(bench.image(2), end=False), "a stream without an end")


@rule("R11.4", "An image cut short is IMAGE_CORRUPT, though its digest is right.", "program")
def refuses_truncated(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)
    for length in (len(data) - 64, len(data) // 2, 192, 10):
        _refused_whole(bench, "IMAGE_CORRUPT", program_requests(data[:length]), f"an image cut to {length} bytes")


@rule("R11.5", "One bit turned over in any part of an image is IMAGE_CORRUPT, though its digest is right.", "program")
def refuses_flipped(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)
    for part, position in probe.places(data).items():
        _refused_whole(bench, "IMAGE_CORRUPT", program_requests(probe.flipped(data, position)), f"a bit in {part}")


@rule("R11.6", "Bytes that are no chip image are IMAGE_CORRUPT.", "program")
def refuses_anything_else(bench: Bench) -> None:
    bench.fresh()
    _refused_whole(bench, "IMAGE_CORRUPT", program_requests(b"PK\x03\x04" + bytes(4000)), "no image at all")
    _refused_whole(bench, ("IMAGE_CORRUPT", "INPUT_VALUE"), program_requests(b""), "an image of no bytes")


@rule("R11.7", "An image that requires a feature the device does not name is IMAGE_FEATURE_UNSUPPORTED.", "program")
def refuses_unknown_features(bench: Bench) -> None:
    bench.fresh()
    data = probe.requiring(bench.image(2), "conformance-unknown-1")
    _refused_whole(bench, "IMAGE_FEATURE_UNSUPPORTED", program_requests(data), "an unknown required feature")
    data = probe.of_container(bench.image(2), 99)
    _refused_whole(bench, "IMAGE_FEATURE_UNSUPPORTED", program_requests(data), "an unknown container version")


@rule("R11.8", "A feature that an image names as optional may be unknown.", "program")
def ignores_optional_features(bench: Bench) -> None:
    bench.fresh()
    bench.program(probe.mentioning(bench.image(2), "conformance-unknown-1"))
    expect_equal("version of the resident image", 2, bench.must_be_resident().model_version)


@rule("R11.9", "An image compiled for other tiles or converters is IMAGE_PROFILE_MISMATCH.", "program")
def refuses_other_profiles(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)

    def other(name: str) -> bytes:
        return probe.profiled(data, lambda profile: setattr(profile, name, getattr(profile, name) + 1))

    for name in ("tile_rows", "tile_columns", "dac_bits", "adc_bits"):
        _refused_whole(bench, "IMAGE_PROFILE_MISMATCH", program_requests(other(name)), f"another {name}")


@rule("R11.10", "Messages out of order, and chunks of more than 1 MiB, are refused.", "program")
def checks_the_order(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2)
    messages = list(program_requests(data))
    faults = ("INPUT_INVALID", "INPUT_VALUE", "IMAGE_CORRUPT")
    _refused_whole(bench, faults, iter(messages[1:]), "a stream without a header")
    _refused_whole(bench, faults, iter([messages[0], messages[0], *messages[1:]]), "two headers")
    large = data + bytes((1 << 20) + 1)
    _refused_whole(bench, faults, program_requests(large, chunk_bytes=len(large)), "a chunk of more than 1 MiB")


@rule(
    "R11.11", "A lease of somebody else and other generations are refused at the header, before any chunk.", "program"
)
def refuses_at_the_header(bench: Bench) -> None:
    here = bench.fresh().program_generation
    waiting = threading.Event()

    def header_only(carried: device_pb2.Mutation) -> Iterator[device_pb2.ProgramRequest]:
        yield next(iter(program_requests(bench.image(2), carried=carried)))
        waiting.wait(2.0)

    try:
        request = header_only(mutation(expected_program_generation=here + 1))
        bench.wire.refused("GENERATION_MISMATCH", "Program", request, "a header that expects another generation")
        if "lease" in bench.capabilities:
            lease = bench.lease(30.0)
            try:
                bench.wire.refused("LEASE_HELD", "Program", header_only(mutation()), "a header without the lease")
            finally:
                bench.release(lease)
    finally:
        waiting.set()


@rule("R11.12", "An image's version and digest are told by the device as they were sent.", "program", "images")
def keeps_what_was_sent(bench: Bench) -> None:
    bench.fresh()
    data = bench.image(2, version=41)
    result = bench.program(data)
    for image in (result.image, bench.must_be_resident()):
        expect_equal("SHA-256 of the image", hashlib.sha256(data).digest(), image.image_sha256)
        expect_equal("version of the image", 41, image.model_version)


@rule(
    "R12.1", "Updates flow: one operation, RUNNING until SUCCEEDED with the result, done never above total.", "program"
)
def reports_progress(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    updates = bench.wire.stream("Program", program_requests(bench.image(2)))
    expect(bool(updates), "updates of Program", "none")
    expect_equal("operation ids", 1, len({update.operation_id for update in updates}))
    expect_equal("kinds", {"program"}, {update.kind for update in updates})
    *before, last = updates
    states = {update.state for update in before}
    expect(states <= {device_pb2.OPERATION_STATE_RUNNING}, "RUNNING before the last update", str(states))
    expect_equal("state of the last update", device_pb2.OPERATION_STATE_SUCCEEDED, last.state)
    expect_equal("result of the last update", "program", last.WhichOneof("result"))
    for before_it, after in itertools.pairwise(updates):
        if before_it.phase == after.phase:
            expect(after.done >= before_it.done, f"progress in phase {after.phase!r}, never back",
                   f"{after.done} after {before_it.done}")  # fmt: skip
    for update in updates:
        expect(update.done <= update.total or not update.total, "done not above total",
               f"{update.done} of {update.total} in {update.phase!r}")  # fmt: skip


@rule("R12.2", "In phase 'program' total is the number of tiles; the result reports each of them.", "program")
def counts_tiles(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    for _ in range(_LOOKS):
        updates = bench.wire.stream("Program", program_requests(bench.image(2)))
        if any(update.phase == "program" and update.total for update in updates):
            # Who reads slowly may miss the phase.
            break
    result = updates[-1].program
    expect_equal("tiles reported", result.image.tiles, len({tile.tile for tile in result.tiles}))
    for update in updates:
        if update.phase == "program" and update.total:
            expect_equal("total in phase 'program'", result.image.tiles, update.total)
            expect_equal("unit in phase 'program'", "tiles", update.unit)
    for tile in result.tiles:
        expect(0 <= tile.converged_fraction <= 1 and tile.rms_error_microsiemens >= 0, "a fraction and an error", tile)


@rule("R12.3", "A failed Program ends with the status of its error, not with an update.", "program")
def ends_with_the_status(bench: Bench) -> None:
    bench.fresh()
    data = probe.requiring(bench.image(2), "conformance-unknown-1")
    updates: list[Any] = []
    try:
        updates.extend(bench.wire.open("Program", program_requests(data)))
    except grpc.RpcError as error:
        expect_equal("reason", "IMAGE_FEATURE_UNSUPPORTED", refusal_of(error, "Program").reason)
    else:
        raise Broken("the stream to end with IMAGE_FEATURE_UNSUPPORTED", f"OK after {updates[-1:]}")


class _Stalled:
    """A Program stream that has sent all but its end, and waits."""

    def __init__(self, bench: Bench, timeout_s: float | None = None) -> None:
        self.end = threading.Event()
        self.go = False
        self._requests = list(program_requests(bench.image(2)))
        self._sent = threading.Event()
        self.call = bench.wire.open("Program", self._messages(), timeout_s=timeout_s)
        # A call that is over, a short deadline being one reason, reads no more; how it ended is for the check to say.
        if not self.call.add_callback(self._sent.set):
            self._sent.set()
        expect(self._sent.wait(30.0), "the device to read the chunks of an image", "it does not")

    def _messages(self) -> Iterator[device_pb2.ProgramRequest]:
        yield from self._requests[:-1]
        self._sent.set()
        self.end.wait(60.0)
        if self.go:
            yield self._requests[-1]

    def finish(self) -> list[Any]:
        """Sends the end; the updates."""
        self.go = True
        self.end.set()
        return list(self.call)

    def fail(self) -> str:
        """Waits for the stream to fail; its code."""
        try:
            list(self.call)
        except grpc.RpcError as error:
            return str(error.code().name)
        finally:
            self.end.set()
        return "OK"


@rule("R13.1", "Until an image has come to its end, the one before answers, as if nothing happened.", "program")
def answers_meanwhile(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    stalled = _Stalled(bench)
    bench.unchanged(before, "chunks of an image came without its end")
    updates = stalled.finish()
    bench.used()
    expect_equal("last state", device_pb2.OPERATION_STATE_SUCCEEDED, updates[-1].state if updates else None)
    expect(right(bench.infer(16).outputs, 2), "the new image to answer after the last update", "another answer")


@rule("R13.2", "Cancelling the stream leaves the old state whole.", "program")
def survives_cancelling(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    stalled = _Stalled(bench)
    stalled.call.cancel()
    expect_equal("code", "CANCELLED", stalled.fail())
    bench.unchanged(before, "a cancelled programming")
    _programs_again(bench)


@rule("R13.3", "A deadline that passes leaves the old state whole.", "program")
def survives_deadlines(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    expect_equal("code", "DEADLINE_EXCEEDED", _Stalled(bench, timeout_s=0.5).fail())
    bench.unchanged(before, "a programming past its deadline")
    _programs_again(bench)


def _programs_again(bench: Bench) -> None:
    """A stream that broke holds nobody off."""
    bench.program(bench.image(2))
    expect(right(bench.infer(16).outputs, 2), "the image programmed next to answer", "another answer")


@rule("R13.4", "CancelOperation leaves the old state whole, or comes too late and the new one is.", "operations")
def survives_cancel_operation(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    bench.used()
    last: Any = None
    try:
        for last in (updates := bench.wire.open("Program", program_requests(bench.image(2)))):
            request = device_pb2.CancelOperationRequest(operation_id=last.operation_id)
            bench.wire.call("CancelOperation", request)
    except grpc.RpcError as error:
        expect_equal("reason", "CANCELLED", refusal_of(error, "Program").reason)
        bench.unchanged(before, "a cancelled operation")
        return
    finally:
        updates.cancel()
    if last is None or last.state != device_pb2.OPERATION_STATE_SUCCEEDED:
        raise Broken("the stream to end with CANCELLED or a result", str(last))
    expect(right(bench.infer(16).outputs, 2), "the new image whole", "another answer")


@rule(
    "R13.5", "While images are programmed, each request is answered by one of them, as its generation says.", "program"
)
def never_mixes_images(bench: Bench) -> None:
    numbers = {bench.fresh().program_generation: 1}
    answers: list[Answer] = []
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(bench.infer(16))
            except Exception as error:
                failures.append(str(error))
                return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in (2, 1, 2, 1):
            numbers[bench.program(bench.image(number)).image.program_generation] = number
    finally:
        stop.set()
        asking.join()
    expect(not failures, "every request answered while images are programmed", failures[0] if failures else "")
    last = 0
    for found in answers:
        generation = found.program_generation
        expect(generation in numbers and generation >= last, f"a program generation of {sorted(numbers)}, in order",
               f"{generation} after {last}")  # fmt: skip
        expect(right(found.outputs, numbers[generation]), f"the answer of generation {generation}", "that of another")
        last = generation


@rule("R14.9", "With program_and_verify the result says how many devices converged.", "program.verify")
def verifies(bench: Bench) -> None:
    bench.fresh()
    result = bench.program(bench.image(2), program_and_verify=device_pb2.ProgramAndVerify(max_iterations=5))
    for tile in result.tiles:
        expect(0 < tile.converged_fraction <= 1, "a converged fraction in (0, 1]", tile.converged_fraction)
    expect(right(bench.infer(16).outputs, 2), "the image to answer", "another answer")
