"""gRPC's health service, open to everybody: unreadable requests are refused, and made-up names leave nothing behind."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from pcmedge.errors import InputError

from pcmedge_emulator.service.reading import readable, reader

_NAME = "grpc.health.v1.Health"
_UNKNOWN = "unknown"


class Health(health.HealthServicer):  # type: ignore[misc]
    """``services``: those anybody may ask about; all others are one to the servicer, which keeps each name it hears."""

    def __init__(self, services: Collection[str]) -> None:
        super().__init__()
        self._services = frozenset(services)

    def Check(self, request: Any, context: Any) -> Any:
        return super().Check(self._asked(request, context), context)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        return super().Watch(self._asked(request, context), context, send_response_callback)

    def _asked(self, request: Any, context: Any) -> Any:
        try:
            name = readable(request).service
        except InputError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return health_pb2.HealthCheckRequest(service=name if name in self._services else _UNKNOWN)

    def handler(self) -> grpc.GenericRpcHandler:
        """Both calls, for a server."""
        codec = {
            "request_deserializer": reader(health_pb2.HealthCheckRequest),
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        calls = {
            "Check": grpc.unary_unary_rpc_method_handler(self.Check, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self.Watch, **codec),
        }
        return grpc.method_handlers_generic_handler(_NAME, calls)
