"""Generations: what they count, and changes that are only wanted from where the caller stands."""

from __future__ import annotations

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, mutation, program_requests
from pcmedge.conformance.expecting import expect_equal
from pcmedge.conformance.rules import rule


@rule("R8.1", "Every programming counts one program generation; one that failed counts none.", "program")
def counts_programmings(bench: Bench) -> None:
    first = bench.fresh().program_generation
    expect_equal("program generation", first + 1, bench.program(bench.image(2)).image.program_generation)
    bench.wire.refused("IMAGE_CORRUPT", "Program", program_requests(bench.image(), digest=bytes(32)), "a wrong digest")
    expect_equal("program generation", first + 2, bench.program(bench.image()).image.program_generation)
    expect_equal("program generation listed", first + 2, bench.must_be_resident().program_generation)
    if "images" in bench.capabilities:
        bench.erase()
        found = bench.program(bench.image()).image.program_generation
        expect_equal("program generation after erasing", first + 3, found)


@rule("R8.2", "Every committed recalibration counts one statistics generation.", "recalibrate.gdc")
def counts_recalibrations(bench: Bench) -> None:
    first = bench.fresh().statistics_generation
    for number in (1, 2):
        result = bench.recalibrate("GDC", force=True)
        expect_equal("committed", True, result.committed)
        expect_equal("statistics generation", first + number, result.statistics_generation)
    expect_equal("statistics generation listed", first + 2, bench.must_be_resident().statistics_generation)


@rule("R8.3", "Replies, metadata, images, telemetry and self-test tell the same generations.", "recalibrate.gdc")
def tells_one_story(bench: Bench) -> None:
    bench.fresh()
    bench.recalibrate("GDC", force=True)
    image, found = bench.must_be_resident(), bench.infer()
    expected = (image.program_generation, image.statistics_generation)
    expect_equal("generations of a reply", expected, (found.program_generation, found.statistics_generation))
    expect_equal("model_version of a reply", str(expected[0]), found.version)
    reply = bench.wire.call("ModelMetadata", inference_pb2.ModelMetadataRequest(name=probe.NAME))
    expect_equal("versions of ModelMetadata", [str(expected[0])], list(reply.versions))
    if "telemetry" in bench.capabilities:
        models = bench.wire.call("GetTelemetry", device_pb2.GetTelemetryRequest()).models
        told = [(m.program_generation, m.statistics_generation) for m in models if m.model_name == probe.NAME]
        expect_equal("generations of telemetry", [expected], told)
    if "self-test" in bench.capabilities:
        tested = bench.wire.call("SelfTest", device_pb2.SelfTestRequest(model_name=probe.NAME))
        told_by_test = (tested.program_generation, tested.statistics_generation)
        expect_equal("generations of the self-test", expected, told_by_test)


@rule("R8.4", "Programming from another program generation than expected is GENERATION_MISMATCH.", "program")
def programs_only_from_there(bench: Bench) -> None:
    here = bench.fresh().program_generation
    before = bench.standing()
    carried = mutation(expected_program_generation=here + 7)
    request = program_requests(bench.image(2), carried=carried)
    bench.wire.refused("GENERATION_MISMATCH", "Program", request, f"generation {here + 7} expected at {here}")
    bench.unchanged(before, "a programming expected elsewhere")
    bench.program(bench.image(2), carried=mutation(expected_program_generation=here))


@rule("R8.5", "Images change only from the generations expected.", "images")
def changes_only_from_there(bench: Bench) -> None:
    here = bench.fresh()
    before = bench.standing()
    elsewhere = mutation(expected_program_generation=here.program_generation + 1)
    for call, kind in (
        ("DeactivateImage", device_pb2.DeactivateImageRequest),
        ("EraseImage", device_pb2.EraseImageRequest),
        ("ActivateImage", device_pb2.ActivateImageRequest),
    ):
        request = kind(mutation=elsewhere, model_name=probe.NAME)
        bench.wire.refused("GENERATION_MISMATCH", call, request, "another program generation")
        bench.unchanged(before, f"{call} expected elsewhere")
    bench.set_active(
        True,
        expected_program_generation=here.program_generation,
        expected_statistics_generation=here.statistics_generation,
    )


@rule("R8.6", "Recalibrating from another statistics generation than expected is refused.", "recalibrate.gdc")
def recalibrates_only_from_there(bench: Bench) -> None:
    here = bench.fresh().statistics_generation
    before = bench.standing()
    request = bench.recalibrate_request(
        "GDC", force=True, mutation=mutation(expected_statistics_generation=here + 1)
    )  # fmt: skip
    bench.wire.refused("GENERATION_MISMATCH", "Recalibrate", request, f"generation {here + 1} expected at {here}")
    bench.unchanged(before, "a recalibration expected elsewhere")
    result = bench.recalibrate("GDC", force=True, mutation=mutation(expected_statistics_generation=here))
    expect_equal("statistics generation", here + 1, result.statistics_generation)


@rule("R8.7", "A rollback from another statistics generation than expected is refused.", "rollback", "recalibrate.gdc")
def rolls_back_only_from_there(bench: Bench) -> None:
    bench.fresh()
    here = bench.recalibrate("GDC", force=True).statistics_generation
    wrong = mutation(expected_statistics_generation=here + 1)
    request = device_pb2.RollbackStatisticsRequest(mutation=wrong, model_name=probe.NAME)
    bench.wire.refused("GENERATION_MISMATCH", "RollbackStatistics", request, "another statistics generation")
    expect_equal("statistics generation", here, bench.must_be_resident().statistics_generation)
    expect_equal("statistics generation", here + 1, bench.rollback(expected_statistics_generation=here))


@rule("R8.8", "Generation 0 can be expected like any other: it is not the same as expecting none.", "recalibrate.gdc")
def knows_zero(bench: Bench) -> None:
    bench.fresh()
    bench.recalibrate("GDC", force=True)
    before = bench.standing()
    again = bench.recalibrate_request("GDC", force=True, mutation=mutation(expected_statistics_generation=0))
    bench.wire.refused("GENERATION_MISMATCH", "Recalibrate", again, "statistics generation 0 expected")
    program = program_requests(bench.image(2), carried=mutation(expected_program_generation=0))
    bench.wire.refused("GENERATION_MISMATCH", "Program", program, "program generation 0 expected")
    bench.unchanged(before, "changes expected at generation 0")


@rule("R8.9", "Programming the same image once more counts a program generation too.", "program")
def counts_the_same_again(bench: Bench) -> None:
    bench.fresh()
    first, again = (bench.program(bench.image()).image.program_generation for _ in range(2))
    expect_equal("program generation", first + 1, again)
    expect_equal("program generation of a reply", again, bench.infer(1).program_generation)
