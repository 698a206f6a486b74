"""gRPC's health service: open to everybody, and so bounded: whoever asks holds nothing that others need.

Unreadable requests are refused, and made-up names leave nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from pcmedge.errors import Error

from pcmedge_emulator.service.arrivals import Oldest, only_request
from pcmedge_emulator.service.observing import Observer, observed
from pcmedge_emulator.service.reading import reader

_MAX_WATCHES = 16
_MAX_WAITING = 16
HEALTH_SERVICE = "grpc.health.v1.Health"


class Health:
    """State of the services by name; the whole server's name is "".

    ``services``: those anybody may ask about; all others are unknown. ``request_s``: how long a request is waited for.
    Its waiting calls are counted apart from those of other services: whoever needs no token must not push out those who
    have one.

    grpc_health's own servicer is not used: it keeps every name it hears, and a watch that ends while it is being
    registered leaves a thread behind that waits for ever.
    """

    def __init__(self, services: Collection[str], request_s: float) -> None:
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        self._waiting = Oldest(_MAX_WAITING, request_s)
        self._watches = Oldest(_MAX_WATCHES)
        self._changed = threading.Condition()
        self._status = dict.fromkeys(services, unknown) | {"": health_pb2.HealthCheckResponse.SERVING}

    def serving(self, service: str) -> None:
        """KeyError for a service that nobody may ask about."""
        with self._changed:
            if self._status[service] != health_pb2.HealthCheckResponse.NOT_SERVING:
                self._status[service] = health_pb2.HealthCheckResponse.SERVING
            self._changed.notify_all()

    def stopping(self) -> None:
        """NOT_SERVING from now on."""
        with self._changed:
            self._status = dict.fromkeys(self._status, health_pb2.HealthCheckResponse.NOT_SERVING)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread that looks for requests that do not come."""
        self._waiting.close()

    def handlers(self, observers: Sequence[Observer] = ()) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Path to handler; ``observers`` are told of the calls that ended."""
        check, watch = f"{HEALTH_SERVICE}/Check", f"{HEALTH_SERVICE}/Watch"
        codec = {
            "request_deserializer": reader(health_pb2.HealthCheckRequest),
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        return {
            f"/{check}": grpc.stream_unary_rpc_method_handler(
                observed(self._check, check, observers, stream=False), **codec
            ),
            f"/{watch}": grpc.stream_stream_rpc_method_handler(
                observed(self._watch, watch, observers, stream=True), **codec
            ),
        }

    def _name(self, requests: Iterator[Any], context: grpc.ServicerContext, call: str) -> str:
        try:
            return str(only_request(requests, context, self._waiting, call).service)
        except Error as error:
            context.abort(grpc.StatusCode[error.status], error.message)

    def _of(self, name: str) -> int:
        return int(self._status.get(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN))

    def _check(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        name = self._name(requests, context, "Check")
        with self._changed:
            status = self._of(name)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=status)

    def _watch(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        name = self._name(requests, context, "Watch")
        ended = threading.Event()

        def end() -> None:
            with self._changed:
                ended.set()
                self._changed.notify_all()

        if not context.add_callback(end):
            return
        self._watches.add(context)
        try:
            yield from self._states(name, ended)
        finally:
            self._watches.remove(context)

    def _states(self, name: str, ended: threading.Event) -> Iterator[Any]:
        """The state now and after each change, until the call has ended."""
        last: int | None = None
        while (state := self._next(name, last, ended)) is not None:
            yield health_pb2.HealthCheckResponse(status=state)
            last = state

    def _next(self, name: str, last: int | None, ended: threading.Event) -> int | None:
        """Waits for another state than ``last``; None when the call has ended."""
        with self._changed:
            self._changed.wait_for(lambda: ended.is_set() or self._of(name) != last)
            return None if ended.is_set() else self._of(name)
