"""The calibration buffer: replaced and appended as a whole, with digital statistics that must be its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, buffer_requests, mutation
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule

_REPLACE, _APPEND = "ReplaceCalibrationBuffer", "AppendCalibrationBuffer"


def statistics(image: bytes, node: str | None = None, mean: Any = None, variance: Any = None) -> Any:
    """Digital statistics of the probe's batch norm, those of ``samples(64)`` unless others are given."""
    hidden = probe.samples(64).reshape(64, probe.CLASSES, -1).sum(axis=2)
    each = device_pb2.NodeStatistics(
        node=probe.norm_node() if node is None else node,
        mean=hidden.mean(axis=0).tolist() if mean is None else mean,
        variance=hidden.var(axis=0).tolist() if variance is None else variance,
    )
    return device_pb2.CalibrationStatistics(image_sha256=image, nodes=[each])


def _stands(bench: Bench, before: Any, doing: str) -> None:
    expect_equal(f"the buffer as before {doing}:", before.SerializeToString(), bench.described().SerializeToString())


@rule("R20.1", "A replaced buffer holds the samples sent, and says it is the application's.", "buffer")
def is_replaced(bench: Bench) -> None:
    bench.fresh()
    data = probe.samples(24)
    found = bench.buffer(data)
    for description in (found, bench.described()):
        expect_equal("source", "application", description.source)
        expect_equal("samples", 24, description.samples)
        expect_equal("bytes", data.nbytes, description.bytes)
        expect_equal("SHA-256 of the samples", hashlib.sha256(data.tobytes()).digest(), description.sha256)


@rule("R20.2", "Appended samples come behind those at hand.", "buffer")
def is_appended(bench: Bench) -> None:
    bench.fresh()
    data = probe.samples(24)
    bench.buffer(data[:8])
    found = bench.buffer(data[8:], append=True)
    expect_equal("samples", 24, found.samples)
    expect_equal("SHA-256 of all samples", hashlib.sha256(data.tobytes()).digest(), found.sha256)


@rule("R20.3", "Bytes that do not fill the samples are INPUT_SHAPE, and the buffer stands.", "buffer")
def checks_its_shape(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(8))
    before = bench.described()
    data = probe.samples(4).tobytes()
    for call in (_REPLACE, _APPEND):
        for wrong, count in ((data[:-1], 4), (data, 5), (b"", 0)):
            bench.wire.refused("INPUT_SHAPE", call, buffer_requests(wrong, count=count), f"{len(wrong)} bytes")
            _stands(bench, before, f"{call} of {len(wrong)} bytes for {count} samples")


@rule("R20.4", "Samples that are not finite are INPUT_VALUE, and the buffer stands.", "buffer")
def checks_its_values(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(8))
    before = bench.described()
    for value in (np.nan, np.inf):
        data = probe.samples(4).copy()
        data[2, 3] = value
        bench.wire.refused("INPUT_VALUE", _REPLACE, buffer_requests(data), f"a sample with {value}")
        _stands(bench, before, f"samples with {value}")


@rule("R20.5", "With statistics of their own samples are paired; without, the buffer has none.", "buffer.statistics")
def travels_with_statistics(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    found = bench.wire.call(_REPLACE, buffer_requests(probe.samples(64), statistics(image)))
    expect_equal("has_reference_statistics", True, found.has_reference_statistics)
    found = bench.wire.call(_APPEND, buffer_requests(probe.samples(64), statistics(image)))
    expect_equal("has_reference_statistics after appending with statistics", True, found.has_reference_statistics)
    found = bench.buffer(probe.samples(8), append=True)
    expect_equal("has_reference_statistics after appending without", False, found.has_reference_statistics)
    found = bench.buffer(probe.samples(64))
    expect_equal("has_reference_statistics without any", False, found.has_reference_statistics)


@rule("R20.6", "Statistics of another image, of unknown, missing or repeated nodes, not finite or negative are "
               "INPUT_VALUE.", "buffer.statistics")  # fmt: skip
def checks_its_statistics(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    bench.buffer(probe.samples(8))
    before = bench.described()
    nan, good = float("nan"), [1.0] * probe.CLASSES
    faults: dict[str, tuple[Any, ...]] = {
        "another image": (statistics(bytes(32)),),
        "no image": (statistics(b""),),
        "an unknown node": (statistics(image, node="nowhere"),),
        "no node at all": (device_pb2.CalibrationStatistics(image_sha256=image),),
        "a node twice": (statistics(image), statistics(image)),
        "a mean that is not finite": (statistics(image, mean=[nan, 0, 0, 0]),),
        "an infinite variance": (statistics(image, variance=[float("inf"), 1, 1, 1]),),
        "a negative variance": (statistics(image, mean=good, variance=[-1, 1, 1, 1]),),
    }
    for doing, messages in faults.items():
        bench.wire.refused("INPUT_VALUE", _REPLACE, buffer_requests(probe.samples(64), *messages), doing)
        _stands(bench, before, doing)


@rule("R20.7", "Statistics of another number of channels are INPUT_SHAPE.", "buffer.statistics")
def counts_channels(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    before = bench.described()
    message = statistics(image, mean=[0.0] * 5, variance=[1.0] * 5)
    bench.wire.refused("INPUT_SHAPE", _REPLACE, buffer_requests(probe.samples(64), message), "five channels of four")
    _stands(bench, before, "statistics of five channels")


@rule("R20.8", "Samples with statistics cannot be appended to a buffer without: DEVICE_STATE.", "buffer.statistics")
def cannot_combine_nothing(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    bench.buffer(probe.samples(8))
    before = bench.described()
    request = buffer_requests(probe.samples(64), statistics(image))
    bench.wire.refused("DEVICE_STATE", _APPEND, request, "statistics for a buffer that has none")
    _stands(bench, before, "an appending with statistics")


@rule("R20.9", "A stream of samples that its caller cancels leaves the buffer as it was.", "buffer")
def survives_a_caller(bench: Bench) -> None:
    bench.fresh()
    bench.buffer(probe.samples(8))
    before = bench.described()

    def broken() -> Iterator[device_pb2.CalibrationBufferRequest]:
        yield from buffer_requests(probe.samples(32))
        raise RuntimeError("the line breaks here")

    refusal = bench.wire.refusal(_REPLACE, broken())
    expect(refusal is not None, "a broken stream to fail", "success")
    _stands(bench, before, "a broken stream")


@rule("R20.10", "A buffer of an unknown model is MODEL_NOT_FOUND.", "buffer")
def knows_its_model(bench: Bench) -> None:
    bench.ready()
    nowhere = "pcmedge-conformance-nowhere"
    describe = device_pb2.DescribeCalibrationBufferRequest(model_name=nowhere)
    bench.wire.refused("MODEL_NOT_FOUND", "DescribeCalibrationBuffer", describe, "an unknown model")
    header = device_pb2.CalibrationBufferHeader(mutation=mutation(), model_name=nowhere)
    request = iter([device_pb2.CalibrationBufferRequest(header=header)])
    bench.wire.refused("MODEL_NOT_FOUND", _REPLACE, request, "an unknown model")


@rule("R20.11", "Buffer changes only from the generations expected.", "buffer")
def is_changed_from_there(bench: Bench) -> None:
    here = bench.fresh().program_generation
    before = bench.described()
    wrong = buffer_requests(probe.samples(8), expected_program_generation=here + 1)
    bench.wire.refused("GENERATION_MISMATCH", _REPLACE, wrong, "another program generation")
    _stands(bench, before, "a change expected elsewhere")


@rule("R20.12", "Statistics of an unknown node beside the right ones are INPUT_VALUE.", "buffer.statistics")
def knows_all_its_nodes(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    bench.buffer(probe.samples(8))
    before = bench.described()
    messages = (statistics(image), statistics(image, node="nowhere"))
    bench.wire.refused("INPUT_VALUE", _REPLACE, buffer_requests(probe.samples(64), *messages), "one node too many")
    _stands(bench, before, "statistics of one node too many")
