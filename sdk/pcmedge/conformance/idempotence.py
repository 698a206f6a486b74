"""Request ids: repeating a change over a bad line does nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import SECOND, Bench, mutation, new_id, program_requests
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule

KEPT = 1024


@rule("R7.1", "Program repeated with its request id returns the first outcome and programs nothing.", "program")
def programs_once(bench: Bench) -> None:
    bench.fresh()
    carried = mutation()
    first = bench.program(bench.image(2), carried=carried)
    again = bench.program(bench.image(2), carried=carried)
    expect_equal("program generation", first.image.program_generation, again.image.program_generation)
    now = bench.must_be_resident()
    expect_equal("program generation on the device", first.image.program_generation, now.program_generation)


@rule("R7.2", "Recalibrate repeated with its request id recalibrates nothing.", "recalibrate.gdc")
def recalibrates_once(bench: Bench) -> None:
    bench.fresh()
    carried = mutation()
    first = bench.recalibrate("GDC", force=True, mutation=carried)
    again = bench.recalibrate("GDC", force=True, mutation=carried)
    expect_equal("the first outcome:", (first.committed, first.statistics_generation),
                 (again.committed, again.statistics_generation))  # fmt: skip
    now = bench.must_be_resident().statistics_generation
    expect_equal("statistics generation on the device", first.statistics_generation, now)


@rule("R7.3", "RollbackStatistics repeated with its request id rolls nothing back.", "rollback", "recalibrate.gdc")
def rolls_back_once(bench: Bench) -> None:
    bench.fresh()
    bench.recalibrate("GDC", force=True)
    same = new_id()
    first, again = bench.rollback(request_id=same), bench.rollback(request_id=same)
    expect_equal("statistics generation", first, again)
    expect_equal("statistics generation on the device", first, bench.must_be_resident().statistics_generation)


@rule("R7.4", "EraseImage repeated with its request id answers as at first, though the image is gone.", "images")
def erases_once(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(1, SECOND))
    same = new_id()
    expect_equal("freed tiles", bench.erase(SECOND, request_id=same), bench.erase(SECOND, request_id=same))
    bench.program(bench.image(1, SECOND))
    bench.erase(SECOND, request_id=same)
    expect(bench.resident(SECOND) is not None, "an image programmed later to stay", "that it was erased")


@rule("R7.5", "AppendCalibrationBuffer repeated with its request id appends nothing.", "buffer")
def appends_once(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(8))
    same = new_id()
    for _ in range(2):
        found = bench.buffer(probe.samples(4), append=True, request_id=same)
        expect_equal("samples", 12, found.samples)
    expect_equal("samples on the device", 12, bench.described().samples)


@rule("R7.6", "A change that others have undone is not done again by repeating its request id.", "images")
def stays_undone(bench: Bench) -> None:
    bench.fresh()
    same = new_id()
    bench.set_active(False, request_id=same)
    bench.set_active(True)
    bench.set_active(False, request_id=same)
    expect(bench.must_be_resident().active, "the image to stay active", "that it was deactivated once more")


@rule("R7.7", "A request id of another kind of call is INPUT_VALUE, and nothing is done.", "images")
def knows_what_an_id_was_for(bench: Bench) -> None:
    bench.fresh()
    same = new_id()
    bench.set_active(True, request_id=same)
    before = bench.standing()
    request = device_pb2.EraseImageRequest(mutation=mutation(same), model_name=probe.NAME)
    bench.wire.refused("INPUT_VALUE", "EraseImage", request, "the request id of an activation")
    bench.unchanged(before, "an erasing with another call's request id")


@rule("R7.8", "A request id is remembered over 1,023 further changes.", "buffer", "images")
def remembers(bench: Bench) -> None:
    bench.fresh()
    same = new_id()
    bench.set_active(False, request_id=same)
    for _ in range(KEPT - 1):
        bench.set_active(True)
    bench.set_active(False, request_id=same)
    expect(bench.must_be_resident().active, f"a request id to be known after {KEPT - 1} others", "a second execution")


@rule("R7.9", "An empty request id protects from nothing: each call counts.", "buffer")
def counts_without_ids(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(4))
    for expected in (8, 12):
        found = bench.buffer(probe.samples(4), append=True, request_id="")
        expect_equal("samples", expected, found.samples)


@rule("R7.10", "Two calls with one request id at the same time are one change.", "buffer")
def does_not_race(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(4))
    for turn in range(1, 6):
        same = new_id()
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(bench.buffer, probe.samples(4), append=True, request_id=same) for _ in range(2)
            ]  # fmt: skip
            for found in calls:
                expect_equal("samples", 4 + 4 * turn, found.result().samples)
    expect_equal("samples on the device", 24, bench.described().samples)


@rule("R7.11", "SetRecalibrationPolicy repeated with its request id changes nothing again.", "policy.interval")
def sets_a_policy_once(bench: Bench) -> None:
    bench.fresh()
    same = new_id()
    interval = device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=1e9)
    bench.wire.call("SetRecalibrationPolicy", bench.policy_request(interval, request_id=same))
    bench.manual()
    bench.wire.call("SetRecalibrationPolicy", bench.policy_request(interval, request_id=same))
    request = device_pb2.GetRecalibrationPolicyRequest(model_name=probe.NAME)
    found = bench.wire.call("GetRecalibrationPolicy", request).kind
    expect_equal("kind of policy", device_pb2.POLICY_KIND_MANUAL, found)


@rule("R7.12", "A request id of more than 128 characters is refused.", "images")
def bounds_ids(bench: Bench) -> None:
    bench.ready()
    request = device_pb2.ActivateImageRequest(mutation=mutation("x" * 129), model_name=probe.NAME)
    bench.wire.refused(("INPUT_VALUE", "INPUT_INVALID"), "ActivateImage", request, "a request id of 129 characters")


@rule("R7.13", "A refused change is not remembered: its request id may be used when the fault is gone.", "program")
def forgets_failures(bench: Bench) -> None:
    bench.fresh()
    carried = mutation()
    wrong = program_requests(bench.image(2), digest=bytes(32), carried=carried)
    bench.wire.refused("IMAGE_CORRUPT", "Program", wrong, "a wrong digest")
    bench.program(bench.image(2), carried=carried)
    expect_equal("version of the image", 2, bench.must_be_resident().model_version)


@rule("R7.15", "A repeated change is answered, though the change itself left the generations it expected.", "program")
def answers_before_it_compares(bench: Bench) -> None:
    carried = mutation(expected_program_generation=bench.fresh().program_generation)
    first, again = (bench.program(bench.image(2), carried=carried).image for _ in range(2))
    expect_equal("program generation", first.program_generation, again.program_generation)
    if "recalibrate.gdc" in bench.capabilities:
        carried = mutation(expected_statistics_generation=bench.must_be_resident().statistics_generation)
        once, twice = (bench.recalibrate("GDC", force=True, mutation=carried) for _ in range(2))
        expect_equal("statistics generation", once.statistics_generation, twice.statistics_generation)


@rule("R7.16", "A change refused for the state of the device may be repeated when that is another.", "images")
def forgets_what_it_could_not_do(bench: Bench) -> None:
    bench.fresh()
    same = new_id()
    request = device_pb2.EraseImageRequest(mutation=mutation(same), model_name=SECOND)
    bench.wire.refused("MODEL_NOT_FOUND", "EraseImage", request, "erasing a model that is not there")
    bench.program(bench.image(1, SECOND))
    bench.erase(SECOND, request_id=same)
    expect(bench.resident(SECOND) is None, "the model to be erased now", "that it is still there")
