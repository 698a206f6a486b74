"""Inference through the Open Inference Protocol: what is answered, and what the reply says about it."""

from __future__ import annotations

import math

import numpy as np

from pcmedge._contract import inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, answer, infer_request, right
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule


@rule("R21.1", "Metadata tell the model's inputs and outputs as the image has them, the batch axis first.", "infer")
def describes_itself(bench: Bench) -> None:
    bench.ready()
    reply = bench.wire.call("ModelMetadata", inference_pb2.ModelMetadataRequest(name=probe.NAME))
    expect_equal("name", probe.NAME, reply.name)
    inputs = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in reply.inputs]
    outputs = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in reply.outputs]
    expect_equal("inputs", [(probe.INPUT, "FP32", [-1, probe.WIDTH])], inputs)
    expect_equal("outputs", [(probe.OUTPUT, "FP32", [-1, probe.CLASSES])], outputs)


@rule("R21.2", "model_version is the program generation; another one is MODEL_NOT_FOUND, an empty one any.", "infer")
def has_versions(bench: Bench) -> None:
    generation = bench.ready().program_generation
    for version in ("", str(generation)):
        expect_equal("version of the reply", str(generation), bench.infer(version=version).version)
    for version in (str(generation + 1), "first"):
        request = infer_request(probe.samples(1), version=version)
        bench.wire.refused("MODEL_NOT_FOUND", "ModelInfer", request, f"version {version!r}")


@rule(
    "R21.3", "Loading and unloading activate and deactivate; the index says READY and UNAVAILABLE.", "infer", "images"
)
def is_a_repository(bench: Bench) -> None:
    bench.fresh()
    bench.used()
    bench.wire.call("RepositoryModelUnload", inference_pb2.RepositoryModelUnloadRequest(model_name=probe.NAME))
    expect_equal("active after unloading", False, bench.must_be_resident().active)
    expect_equal("state after unloading", "UNAVAILABLE", _state(bench))
    expect_equal("in the index of ready models", "", _state(bench, ready=True))
    bench.wire.call("RepositoryModelLoad", inference_pb2.RepositoryModelLoadRequest(model_name=probe.NAME))
    expect_equal("active after loading", True, bench.must_be_resident().active)
    expect_equal("state after loading", "READY", _state(bench))


def _state(bench: Bench, ready: bool = False) -> str:
    reply = bench.wire.call("RepositoryIndex", inference_pb2.RepositoryIndexRequest(ready=ready))
    return next((str(model.state) for model in reply.models if model.name == probe.NAME), "")


@rule("R21.4", "Loading takes no parameters.", "infer")
def takes_no_parameters(bench: Bench) -> None:
    bench.ready()
    request = inference_pb2.RepositoryModelLoadRequest(model_name=probe.NAME)
    request.parameters["config"].string_param = "{}"
    bench.wire.refused("INPUT_INVALID", "RepositoryModelLoad", request, "parameters of loading")


@rule("R21.5", "Readiness of server and model follows what is active.", "infer", "images")
def is_ready_when_active(bench: Bench) -> None:
    generation = bench.fresh().program_generation
    for active in (True, False, True):
        bench.set_active(active)
        for version in ("", str(generation)):
            request = inference_pb2.ModelReadyRequest(name=probe.NAME, version=version)
            expect_equal(f"ready when active is {active}", active, bench.wire.call("ModelReady", request).ready)
    request = inference_pb2.ModelReadyRequest(name=probe.NAME, version=str(generation + 1))
    expect_equal("ready in another version", False, bench.wire.call("ModelReady", request).ready)
    expect_equal("live", True, bench.wire.call("ServerLive", inference_pb2.ServerLiveRequest()).live)
    expect_equal("ready", True, bench.wire.call("ServerReady", inference_pb2.ServerReadyRequest()).ready)


@rule("R21.6", "A batch of any size is answered row by row, each with the answer to its own sample.", "infer")
def answers_batches(bench: Bench) -> None:
    bench.ready()
    for count in (1, 2, 7, 33, 130):
        found = bench.infer(count)
        expect_equal(f"shape of the answer to {count} samples", (count, probe.CLASSES), found.outputs.shape)
        expect(count < 7 or right(found.outputs), f"the answers to {count} different samples, in order",
               found.outputs.argmax(axis=1).tolist())  # fmt: skip


@rule("R21.7", "The reply carries the request's id and model name.", "infer")
def keeps_the_id(bench: Bench) -> None:
    bench.ready()
    for request_id in ("", "17", "ü" * 20):
        reply = bench.infer(1, request_id=request_id).message
        expect_equal("id", request_id, reply.id)
        expect_equal("model_name", probe.NAME, reply.model_name)


@rule("R21.8", "Outputs asked for by name are answered, an unknown one is INPUT_INVALID.", "infer")
def selects_outputs(bench: Bench) -> None:
    bench.ready()
    request = infer_request(probe.samples(1))
    request.outputs.add(name=probe.OUTPUT)
    expect_equal("rows", 1, len(answer(bench.wire.call("ModelInfer", request)).outputs))
    request.outputs.add(name="nowhere")
    bench.wire.refused("INPUT_INVALID", "ModelInfer", request, "an output the model does not have")


@rule("R22.1", "A request with raw contents is answered raw, one with typed contents typed.", "infer")
def answers_in_kind(bench: Bench) -> None:
    bench.ready()
    raw, typed = bench.infer(16), bench.infer(16, raw=False)
    expect(bool(raw.message.raw_output_contents), "raw contents for a raw request", "none")
    expect(not typed.message.raw_output_contents, "typed contents for a typed request", "raw ones")
    expect(right(raw.outputs) and right(typed.outputs), "the same answer either way", "different ones")


@rule("R23.1", "Every reply says age, generations, noise and serial number, each in its type.", "infer")
def says_where_it_is_from(bench: Bench) -> None:
    image = bench.ready()
    found = bench.infer(2)
    kinds = {
        "pcm_age_s": "double_param",
        "pcm_program_generation": "int64_param",
        "pcm_statistics_generation": "int64_param",
        "pcm_noise": "bool_param",
        "pcm_device_serial": "string_param",
    }
    for name, kind in kinds.items():
        expect(name in found.message.parameters, f"the parameter {name}", ", ".join(found.message.parameters) or "none")
        expect_equal(f"type of {name}", kind, found.message.parameters[name].WhichOneof("parameter_choice"))
    expect(math.isfinite(found.age_s) and found.age_s >= 0, "a finite age of 0 s or more", found.age_s)
    expect_equal("serial", bench.identity.serial, found.serial)
    expect_equal("program generation", image.program_generation, found.program_generation)
    expect_equal("statistics generation", image.statistics_generation, found.statistics_generation)


@rule("R24.1", "A stream is answered in order, one reply per request, each to its own samples.", "infer.stream")
def streams_in_order(bench: Bench) -> None:
    bench.ready()
    samples = probe.samples(4)
    requests = [infer_request(samples[i % 4 : i % 4 + 1], request_id=str(i)) for i in range(40)]
    replies = bench.wire.stream("ModelStreamInfer", iter(requests))
    expect_equal("number of replies", len(requests), len(replies))
    ids = [reply.infer_response.id for reply in replies]
    expect_equal("ids in the order of the requests:", [request.id for request in requests], ids)
    winners = np.array([int(answer(reply.infer_response).outputs.argmax()) for reply in replies])
    share = float((winners == np.arange(40) % 4).mean())
    expect(share >= 0.97, "each reply to be the answer to its request", f"{share:.0%} of them are")


@rule("R24.2", "A failed request yields error_message and its reason, and the stream goes on.", "infer.stream")
def streams_past_failures(bench: Bench) -> None:
    bench.ready()
    wrong = infer_request(np.full((1, probe.WIDTH), np.nan, np.float32), request_id="wrong")
    short = infer_request(probe.samples(1)[:, :3], request_id="short")
    good = [infer_request(probe.samples(1), request_id=str(i)) for i in range(3)]
    replies = bench.wire.stream("ModelStreamInfer", iter([good[0], wrong, good[1], short, good[2]]))
    expect_equal("replies", 5, len(replies))
    for place, reason in ((1, "INPUT_VALUE"), (3, "INPUT_SHAPE")):
        reply = replies[place]
        expect(bool(reply.error_message), "an error_message", "none")
        parameters = reply.infer_response.parameters
        found = parameters["pcm_error_reason"].string_param if "pcm_error_reason" in parameters else "none"
        expect_equal("pcm_error_reason", reason, found)
    for place in (0, 2, 4):
        expect_equal("error_message of a right request", "", replies[place].error_message)
        expect_equal("rows", 1, len(answer(replies[place].infer_response).outputs))


@rule("R24.3", "An empty stream ends at once without replies.", "infer.stream")
def streams_nothing(bench: Bench) -> None:
    bench.ready()
    expect_equal("replies", 0, len(bench.wire.stream("ModelStreamInfer", iter(()))))


@rule("R21.9", "The version in a reply is the program generation, whatever version the image has.", "infer")
def versions_are_programmings(bench: Bench) -> None:
    bench.fresh()
    generation = bench.program(bench.image(1, version=41)).image.program_generation
    expect_equal("version of the reply", str(generation), bench.infer(1).version)
    request = infer_request(probe.samples(1), version="41")
    if generation != 41:
        bench.wire.refused("MODEL_NOT_FOUND", "ModelInfer", request, "the version of the image")


@rule("R23.2", "Replies in a stream say the same as those of single calls.", "infer.stream")
def says_so_in_streams(bench: Bench) -> None:
    bench.ready()
    alone = bench.infer(1).message.parameters
    for reply in bench.wire.stream("ModelStreamInfer", iter([infer_request(probe.samples(1)) for _ in range(2)])):
        parameters = reply.infer_response.parameters
        kinds = {name: parameters[name].WhichOneof("parameter_choice") for name in parameters}
        expect_equal("parameters and their types:",
                     {name: alone[name].WhichOneof("parameter_choice") for name in alone}, kinds)  # fmt: skip


@rule("R24.4", "An error in a stream carries the metadata it has alone.", "infer.stream")
def carries_metadata(bench: Bench) -> None:
    bench.ready()
    for request in (infer_request(probe.samples(1)[:, :3]), infer_request(probe.samples(1), version="999999999")):
        alone = bench.wire.refusal("ModelInfer", request)
        expect(alone is not None, "a wrong request to be refused", "an answer")
        (reply,) = bench.wire.stream("ModelStreamInfer", iter([request]))
        start = "pcm_error_metadata_"
        found = {name.removeprefix(start) for name in reply.infer_response.parameters if name.startswith(start)}
        assert alone is not None
        expect_equal("metadata of the error in a stream:", sorted(alone.metadata), sorted(found))
