"""Resident images: what takes whose place, what answers, which tiles are taken."""

from __future__ import annotations

from pcmedge._contract import device_pb2, image_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import SECOND, Bench, infer_request, program_requests, right
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule

_MOST_FILLERS = 40


@rule("R14.1", "An image takes the place of a resident one of the same model name.", "program")
def replaces_its_name(bench: Bench) -> None:
    bench.fresh()
    free = bench.free_tiles()
    result = bench.program(bench.image(2))
    expect_equal("replaced_models", [probe.NAME], list(result.replaced_models))
    expect_equal("free tiles", free, bench.free_tiles())
    expect_equal("version of the resident image", 2, bench.must_be_resident().model_version)
    expect(right(bench.infer(16).outputs, 2), "the answers of the new image", "others")


@rule("R14.2", "Several images are resident at once, each answering under its name.", "program", "images")
def holds_several(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(2, SECOND))
    for name, number in ((probe.NAME, 1), (SECOND, 2)):
        expect(right(bench.infer(16, name).outputs, number), f"answers of the image programmed as {name}", "others")
    bench.erase(SECOND)
    expect(right(bench.infer(16).outputs), "the other model to go on answering", "another answer")


@rule("R14.3", "Programming takes tiles, erasing frees as many, and says so.", "program", "images")
def counts_tiles(bench: Bench) -> None:
    bench.fresh()
    free = bench.free_tiles()
    tiles = bench.program(bench.image(2, SECOND)).image.tiles
    expect_equal("free tiles after programming", free - tiles, bench.free_tiles())
    expect_equal("freed tiles", tiles, bench.erase(SECOND))
    expect_equal("free tiles after erasing", free, bench.free_tiles())
    erased = infer_request(probe.samples(1), SECOND)
    bench.wire.refused("MODEL_NOT_FOUND", "ModelInfer", erased, "an erased model")


@rule(
    "R14.4", "With keep_inactive an image is resident and does not answer until it is activated.", "program", "images"
)
def keeps_inactive(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(2, SECOND), keep_inactive=True)
    expect_equal("active", False, bench.must_be_resident(SECOND).active)
    bench.wire.refused("NOT_PROGRAMMED", "ModelInfer", infer_request(probe.samples(1), SECOND), "an inactive model")
    expect_equal("active after ActivateImage", True, bench.set_active(True, SECOND).active)
    expect(right(bench.infer(16, SECOND).outputs, 2), "the answers of the activated image", "others")


@rule("R14.5", "A deactivated image keeps its tiles, statistics and age, and answers NOT_PROGRAMMED.", "images")
def deactivates(bench: Bench) -> None:
    image, free = bench.fresh(), bench.free_tiles()
    bench.set_active(False)
    bench.wire.refused("NOT_PROGRAMMED", "ModelInfer", infer_request(probe.samples(1)), "an inactive model")
    now = bench.must_be_resident()
    expect_equal("free tiles", free, bench.free_tiles())
    expect_equal("generations", (image.program_generation, image.statistics_generation),
                 (now.program_generation, now.statistics_generation))  # fmt: skip
    expect(now.age_s >= image.age_s, f"an age of {image.age_s} s or more", now.age_s)
    bench.set_active(True)
    expect(right(bench.infer(16).outputs), "the answers of before", "others")


@rule("R14.6", "Without free tiles Program is TILES_OCCUPIED, and the residents go on.", "program", "images")
def refuses_when_full(bench: Bench) -> None:
    image = bench.fresh()
    count = bench.free_tiles() // max(image.tiles, 1)
    if count > _MOST_FILLERS:
        raise NotApplicable(f"{count} more images fit; the suite fills chips for at most {_MOST_FILLERS}")
    names = [f"{probe.NAME}-fill-{number}" for number in range(count)]
    try:
        for name in names:
            bench.program(bench.image(1, name))
        before = bench.standing()
        request = program_requests(bench.image(2))
        bench.wire.refused("TILES_OCCUPIED", "Program", request, "an image without free tiles")
        bench.unchanged(before, "a programming without free tiles")
        if "program.replace" in bench.capabilities:
            result = bench.program(bench.image(2), replace=True)
            expect(probe.NAME in result.replaced_models, "the replaced model in the result",
                   list(result.replaced_models))  # fmt: skip
            expect(result.outage_s >= 0, "an outage in seconds", result.outage_s)
            expect_equal("version of the resident image", 2, bench.must_be_resident().model_version)
    finally:
        for name in names:
            if bench.resident(name) is not None:
                bench.erase(name)


@rule("R14.7", "ListImages tells digest, size and version of an image, and its manifest if asked.", "images")
def tells_what_it_holds(bench: Bench) -> None:
    data = bench.image(2)
    bench.fresh()
    bench.program(data)
    reply = bench.wire.call("ListImages", device_pb2.ListImagesRequest(include_manifests=True))
    expect_equal("number of manifests", len(reply.images), len(reply.manifests))
    for image, manifest in zip(reply.images, reply.manifests, strict=True):
        if image.model_name != probe.NAME:
            continue
        expect_equal("size_bytes", len(data), image.size_bytes)
        expect_equal("model_version", 2, image.model_version)
        model = image_pb2.Manifest.FromString(manifest).model
        expect_equal("name in the manifest", probe.NAME, model.name)
        return
    expect(False, f"{probe.NAME} in ListImages", [image.model_name for image in reply.images])


@rule("R14.8", "An image of another name that was not asked for is MODEL_NOT_FOUND in every call.", "images")
def knows_its_models(bench: Bench) -> None:
    bench.ready()
    name = "pcmedge-conformance-nowhere"
    for call, kind in (
        ("ActivateImage", device_pb2.ActivateImageRequest),
        ("DeactivateImage", device_pb2.DeactivateImageRequest),
        ("EraseImage", device_pb2.EraseImageRequest),
    ):
        bench.wire.refused("MODEL_NOT_FOUND", call, kind(model_name=name), "an unknown model")
