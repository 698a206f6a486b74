"""Calls made of bytes, whatever they stand for, and how each of them ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from pcmedge.conformance.wire import refusal_of
from pcmedge.protocol.services import METHODS

MOST_REPLIES = 12
"""Read of a stream, which is then cancelled."""

HEALTH = {"Check": False, "Watch": True}
"""Whether its reply is a stream."""


@dataclass(frozen=True)
class Way:
    """What a call's bytes are for: path, messages, kinds of streaming; ``ours``: of the contract, not gRPC's health."""

    name: str
    path: str
    request: Any
    response: Any
    client_streaming: bool
    server_streaming: bool
    ours: bool


def ways() -> dict[str, Way]:
    """Every call a device serves, and one that nobody knows."""
    found = {
        each.name: Way(
            each.name, each.path, each.request, each.response, each.client_streaming, each.server_streaming, True
        )
        for each in METHODS.values()
    }
    request, response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    for name, streaming in HEALTH.items():
        found[name] = Way(name, f"/grpc.health.v1.Health/{name}", request, response, False, streaming, False)
    known = found["GetIdentity"]
    path = "/pcm.device.v1.DeviceService/Nobody"
    found["Nobody"] = Way("Nobody", path, known.request, known.response, False, False, True)
    return found


@dataclass(frozen=True)
class Ended:
    """``code``: name of the gRPC status; ``given_up``: we had enough of a stream; ``replies``: as bytes."""

    code: str
    message: str = ""
    reason: str = ""
    domain: str = ""
    given_up: bool = False
    replies: tuple[bytes, ...] = ()


class Line:
    """A connection for bytes. Thread-safe."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
        self._channel = grpc.insecure_channel(address.removeprefix("grpc://"), options)

    def call(self, way: Way, requests: Sequence[bytes], timeout_s: float) -> Ended:
        """Sends these messages as one call. As many as there are, also where the call takes one."""
        # A stream of requests on our side is what lets a call of one message have none, or several.
        make = self._channel.stream_stream
        replies = make(way.path)(iter(requests), timeout=timeout_s)
        taken: list[bytes] = []
        try:
            for reply in replies:
                taken.append(reply)
                if len(taken) == MOST_REPLIES:
                    replies.cancel()
                    return Ended("CANCELLED", given_up=True, replies=tuple(taken))
        except grpc.RpcError as error:
            found = refusal_of(error, way.name)
            return Ended(found.code, found.message, found.reason, found.domain, replies=tuple(taken))
        return Ended("OK", replies=tuple(taken))

    def close(self) -> None:
        self._channel.close()
