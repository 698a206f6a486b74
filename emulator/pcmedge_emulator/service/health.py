"""gRPC's health service: open to everybody, and so bounded: whoever asks holds nothing that others need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from pcmedge.errors import Error

from pcmedge_emulator.service.arrivals import Oldest, only_request
from pcmedge_emulator.service.reading import reader

_MAX_WATCHES = 16
_SERVICE = "/grpc.health.v1.Health"
_UNKNOWN = "unknown"


class Health:
    """State of the services by name; ``waiting``: calls whose request has not come."""

    def __init__(self, waiting: Oldest) -> None:
        self._waiting = waiting
        self._watches = Oldest(_MAX_WATCHES)
        self._servicer = health.HealthServicer(experimental_non_blocking=False)
        self._services: set[str] = set()

    def serving(self, service: str) -> None:
        self._services.add(service)
        self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stopping(self) -> None:
        """NOT_SERVING from now on."""
        self._servicer.enter_graceful_shutdown()

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
            request = only_request(requests, context, self._waiting, call)
        except Error as error:
            context.abort(grpc.StatusCode[error.status], error.message)
        # The servicer keeps every name that anybody watched, for ever; made-up ones are all one to it.
        name = request.service if request.service in self._services else _UNKNOWN
        return health_pb2.HealthCheckRequest(service=name)

    def _check(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        return self._servicer.Check(self._request(requests, context, "Check"), context)

    def _watch(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        request = self._request(requests, context, "Watch")
        self._watches.add(context)
        try:
            yield from self._servicer.Watch(request, context)
        finally:
            self._watches.remove(context)
