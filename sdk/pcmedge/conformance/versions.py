"""The version a device tells, and that it names what it does not know instead of guessing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, buffer_requests, infer_request, mutation, program_requests
from pcmedge.conformance.errors import statuses
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.protocol.version import CONTRACT_VERSION

_NO_VALUE = 1_000_003
"""A number that no enumeration of the contract will come to."""

_NO_PART = b"\xfa\x7d\x04more"
"""Field 2015 of a message, which no message of the contract has."""


@rule("R49.1", "In the services of this version the identity tells this version.", changes=False)
def tells_its_version(bench: Bench) -> None:
    expect_equal("contract_version", CONTRACT_VERSION, bench.identity.contract_version)


def _unknown_values(bench: Bench) -> Iterator[tuple[str, Any]]:
    policy = device_pb2.RecalibrationPolicy(kind=_NO_VALUE)  # type: ignore[arg-type]
    fault = lab_pb2.Fault(kind=_NO_VALUE)  # type: ignore[arg-type]
    for capability, call, request in (
        (
            "recalibrate.",
            "Recalibrate",
            device_pb2.RecalibrateRequest(
                mutation=mutation(),
                model_name=probe.NAME,
                method=_NO_VALUE,  # type: ignore[arg-type]
            ),
        ),
        ("policy.", "SetRecalibrationPolicy", bench.policy_request(policy)),
        ("lab.clock", "SetClock", lab_pb2.SetClockRequest(mode=_NO_VALUE)),  # type: ignore[arg-type]
        ("lab.faults", "InjectFaults", lab_pb2.InjectFaultsRequest(faults=[fault])),
    ):
        if any(each.startswith(capability) for each in bench.capabilities):
            yield call, request


@rule("R50.1", "An enumeration value of a request that the contract does not have is INPUT_VALUE.")
def names_unknown_values(bench: Bench) -> None:
    bench.ready()
    asked = list(_unknown_values(bench))
    if not asked:
        raise NotApplicable("no capability of this device has requests with an enumeration")
    bench.used()
    for call, request in asked:
        bench.wire.refused("INPUT_VALUE", call, request, f"value {_NO_VALUE} of an enumeration")


@rule("R50.2", "A part of a stream that the contract does not have is INVALID_ARGUMENT, and nothing is changed.")
def names_unknown_parts(bench: Bench) -> None:
    before = bench.ready().program_generation
    header, *rest = program_requests(bench.image())
    samples, *more = buffer_requests(probe.samples(4))
    streams: dict[str, tuple[str, list[Any]]] = {
        "program": ("Program", [header, device_pb2.ProgramRequest.FromString(_NO_PART), *rest]),
        "buffer": (
            "ReplaceCalibrationBuffer",
            [samples, device_pb2.CalibrationBufferRequest.FromString(_NO_PART), *more],
        ),
    }
    present = [stream for capability, stream in streams.items() if capability in bench.capabilities]
    if not present:
        raise NotApplicable("no capability of this device takes a stream of parts")
    bench.used()
    for call, requests in present:
        found = bench.wire.refusal(call, iter(requests))
        expect(found is not None and (found.code, found.domain) == ("INVALID_ARGUMENT", "pcm"),
               f"INVALID_ARGUMENT with ErrorInfo for an unknown part of {call}", str(found or "success"))  # fmt: skip
    expect_equal("program generation", before, bench.must_be_resident().program_generation)


@rule("R50.3", "A failed request of a stream has the status of its reason in pcm_error_status.", "infer.stream")
def tells_statuses_in_streams(bench: Bench) -> None:
    bench.ready()
    wrong = (infer_request(probe.samples(1)[:, :3]), infer_request(probe.samples(1), version="999999999"))
    known = statuses()
    for reply in bench.wire.stream("ModelStreamInfer", iter(wrong)):
        parameters = reply.infer_response.parameters
        told = {name: parameters[name].string_param for name in ("pcm_error_reason", "pcm_error_status")
                if name in parameters}  # fmt: skip
        expected = known.get(told.get("pcm_error_reason", ""), "that of a known reason")
        expect_equal("pcm_error_status", expected, told.get("pcm_error_status", "none"))
