"""gRPC's health service: open to everybody, and so bounded: whoever asks holds nothing that others need.

Unreadable requests are refused, and made-up names leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from pcmedge.errors import Error

from pcmedge_emulator.service.arrivals import Oldest, only_request
from pcmedge_emulator.service.reading import reader

_MAX_WATCHES = 16
_MAX_WAITING = 16
_UNKNOWN = "unknown"
_SERVICE = "/grpc.health.v1.Health"


class Health:
    """State of the services by name.

    ``services``: those anybody may ask about; all others are one to the servicer, which keeps each name it hears.
    ``request_s``: how long a request is waited for. Its waiting calls are counted apart from those of other services:
    whoever needs no token must not push out those who have one.
    """

    def __init__(self, services: Collection[str], request_s: float) -> None:
        self._services = frozenset(services)
        self._waiting = Oldest(_MAX_WAITING, request_s)
        self._watches = Oldest(_MAX_WATCHES)
        self._servicer = health.HealthServicer(experimental_non_blocking=False)

    def serving(self, service: str) -> None:
        self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stopping(self) -> None:
        """NOT_SERVING from now on."""
        self._servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Ends the thread that looks for requests that do not come."""
        self._waiting.close()

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Path to handler."""
        codec = {
            "request_deserializer": reader(health_pb2.HealthCheckRequest),
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        return {
            f"{_SERVICE}/Check": grpc.stream_unary_rpc_method_handler(self._check, **codec),
            f"{_SERVICE}/Watch": grpc.stream_stream_rpc_method_handler(self._watch, **codec),
        }

    def _request(self, requests: Iterator[Any], context: grpc.ServicerContext, call: str) -> Any:
        try:
            name = only_request(requests, context, self._waiting, call).service
        except Error as error:
            context.abort(grpc.StatusCode[error.status], error.message)
        return health_pb2.HealthCheckRequest(service=name if name in self._services else _UNKNOWN)

    def _check(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        return self._servicer.Check(self._request(requests, context, "Check"), context)

    def _watch(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        request = self._request(requests, context, "Watch")
        self._watches.add(context)
        try:
            yield from self._servicer.Watch(request, context)
        finally:
            self._watches.remove(context)
