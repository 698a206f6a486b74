"""Requests that are wrong: refused with the reason that names the fault, before any converter sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcmedge._contract import inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, infer_request, right
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule


def _request(shape: tuple[int, ...], datatype: str = "FP32", size: int | None = None) -> Any:
    """A raw request of zeros; ``size``: bytes of it, if not those of its shape."""
    request = inference_pb2.ModelInferRequest(model_name=probe.NAME)
    request.inputs.add(name=probe.INPUT, datatype=datatype, shape=shape)
    width = {"FP32": 4, "FP64": 8, "INT8": 1, "INT64": 8, "UINT8": 1}.get(datatype, 4)
    length = int(np.prod(shape)) * width if size is None else size
    request.raw_input_contents.append(bytes(length))
    return request


@rule("R25.1", "Input that is not finite is INPUT_VALUE, raw and typed.", "infer")
def refuses_nan(bench: Bench) -> None:
    bench.ready()
    for value in (np.nan, np.inf, -np.inf):
        for raw in (True, False):
            samples = probe.samples(3).copy()
            samples[1, 5] = value
            request = infer_request(samples, raw=raw)
            found = bench.wire.refused("INPUT_VALUE", "ModelInfer", request, f"input with {value}")
            expect_equal("status", "INVALID_ARGUMENT", found.code)


@rule("R25.2", "Another shape than the model's, and an empty batch, are INPUT_SHAPE with INVALID_ARGUMENT.", "infer")
def refuses_shapes(bench: Bench) -> None:
    bench.ready()
    for shape in ((1, probe.WIDTH + 1), (1, probe.WIDTH - 1), (probe.WIDTH,), (1, 4, 4), (0, probe.WIDTH)):
        found = bench.wire.refused("INPUT_SHAPE", "ModelInfer", _request(shape), f"shape {list(shape)}")
        expect_equal("status", "INVALID_ARGUMENT", found.code)


@rule("R25.3", "Bytes that do not fill the shape are INPUT_SHAPE with INVALID_ARGUMENT.", "infer")
def counts_bytes(bench: Bench) -> None:
    bench.ready()
    for size in (0, 1, 63, 65, 128):
        request = _request((1, probe.WIDTH), size=size)
        found = bench.wire.refused("INPUT_SHAPE", "ModelInfer", request, f"{size} bytes for a shape of 64")
        expect_equal("status", "INVALID_ARGUMENT", found.code)


@rule("R25.4", "Another datatype than the model's is INPUT_TYPE; nothing is converted silently.", "infer")
def refuses_types(bench: Bench) -> None:
    bench.ready()
    for datatype in ("FP64", "INT8", "UINT8", "INT64", "COMPLEX9"):
        request = _request((1, probe.WIDTH), datatype)
        found = bench.wire.refused("INPUT_TYPE", "ModelInfer", request, f"datatype {datatype}")
        expect_equal("status", "INVALID_ARGUMENT", found.code)


@rule("R25.5", "A missing, unknown or repeated input is refused.", "infer")
def refuses_names(bench: Bench) -> None:
    bench.ready()
    missing = inference_pb2.ModelInferRequest(model_name=probe.NAME)
    unknown = infer_request(probe.samples(1))
    unknown.inputs[0].name = "nowhere"
    twice = infer_request(probe.samples(1))
    twice.inputs.add(name=probe.INPUT, datatype="FP32", shape=[1, probe.WIDTH])
    twice.raw_input_contents.append(twice.raw_input_contents[0])
    for doing, request in (("no input", missing), ("an unknown input", unknown), ("an input twice", twice)):
        bench.wire.refused(("INPUT_VALUE", "INPUT_INVALID"), "ModelInfer", request, doing)


@rule("R25.6", "A model that is not resident is MODEL_NOT_FOUND.", "infer")
def refuses_models(bench: Bench) -> None:
    bench.ready()
    request = infer_request(probe.samples(1), "pcmedge-conformance-nowhere")
    bench.wire.refused("MODEL_NOT_FOUND", "ModelInfer", request, "an unknown model")


@rule("R25.7", "A refused request leaves no trace in the next one's answer.", "infer")
def forgets_what_it_refused(bench: Bench) -> None:
    bench.ready()
    for _ in range(5):
        bench.wire.refusal("ModelInfer", _request((1, probe.WIDTH + 1)))
        expect(right(bench.infer(16).outputs), "the right answer after a refused request", "another one")


@rule("R26.1", "Shared memory and classification are refused as UNIMPLEMENTED, not ignored.", "infer")
def refuses_extensions(bench: Bench) -> None:
    bench.ready()
    shared = infer_request(probe.samples(1))
    shared.inputs[0].parameters["shared_memory_region"].string_param = "region"
    bench.wire.refused("UNIMPLEMENTED", "ModelInfer", shared, "an input in shared memory")
    classified = infer_request(probe.samples(1))
    output = classified.outputs.add(name=probe.OUTPUT)
    output.parameters["classification"].int64_param = 3
    bench.wire.refused("UNIMPLEMENTED", "ModelInfer", classified, "the classification extension")
