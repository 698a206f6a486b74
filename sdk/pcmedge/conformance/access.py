"""Tokens: who calls is asked before anything else, and what a call needs is in the table of roles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, infer_request, mutation, program_requests
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refusal, Wire

_UNKNOWN = "pcm_conformance-does-not-know-this-token"


def _asked() -> Iterator[tuple[str, Any]]:
    """(call, request) of every kind of call: with one reply and many, changing and reading."""
    yield "GetIdentity", device_pb2.GetIdentityRequest()
    yield "ServerLive", inference_pb2.ServerLiveRequest()
    yield "ModelInfer", infer_request(probe.samples(1))
    yield "WatchEvents", device_pb2.WatchEventsRequest()
    yield "EraseImage", device_pb2.EraseImageRequest(mutation=mutation(), model_name=probe.NAME)
    yield "Program", program_requests(b"never read")


@contextlib.contextmanager
def _calling(bench: Bench, token: str | None) -> Iterator[Wire]:
    """A connection with another token than the suite's."""
    if not bench.wire.has_token:
        raise NotApplicable("the suite calls without a token, so the device asks for none")
    other = bench.wire.with_token(token)
    try:
        yield other
    finally:
        other.close()


def _unauthenticated(found: Refusal | None, call: str) -> None:
    told = None if found is None else (found.code, found.reason, found.domain)
    expect_equal(f"the answer to {call}", ("UNAUTHENTICATED", "UNAUTHENTICATED", "pcm"), told)


@rule("R46.1", "Without a token every call is UNAUTHENTICATED, whatever it carries.", changes=False)
def asks_for_a_token(bench: Bench) -> None:
    with _calling(bench, None) as nobody:
        for call, request in _asked():
            _unauthenticated(nobody.refusal(call, request), call)


@rule("R46.2", "With an unknown token every call is UNAUTHENTICATED, and the token is not repeated.", changes=False)
def knows_its_tokens(bench: Bench) -> None:
    with _calling(bench, _UNKNOWN) as stranger:
        for call, request in _asked():
            found = stranger.refusal(call, request)
            _unauthenticated(found, call)
            expect(_UNKNOWN not in str((found and found.message, found and found.metadata)),
                   "an error that does not quote the token", str(found))  # fmt: skip


@rule("R46.3", "Health is open: it answers without a token.", changes=False)
def health_is_open(bench: Bench) -> None:
    with _calling(bench, None) as nobody:
        reply = nobody.bytes_call("/grpc.health.v1.Health/Check", b"")
        expect_equal("the reply of grpc.health.v1.Health/Check", b"\x08\x01", reply)


@rule(
    "R46.4",
    "A token of the role infer infers and looks; what changes the device is PERMISSION_DENIED.",
    "infer",
)
def roles_bound_calls(bench: Bench) -> None:
    if bench.infer_token is None:
        raise NotApplicable("no token of the role infer was given (--infer-token-file)")
    bench.ready()
    with _calling(bench, bench.infer_token) as user:
        for call, request in _asked():
            if call in ("EraseImage", "Program"):
                found = user.refusal(call, request)
                told = None if found is None else (found.code, found.reason, found.metadata.get("required"))
                expect_equal(f"the answer to {call}", ("PERMISSION_DENIED", "PERMISSION_DENIED", "operate"), told)
                expect_equal("metadata role", "infer", found.metadata.get("role") if found else None)
            elif call != "WatchEvents":
                user.call(call, request)
    expect(bench.resident(probe.NAME) is not None, "the image still there", "it was erased")
