"""Calls as gRPC brings them: who may make them, their requests as they arrive, their errors with ErrorInfo."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status
from pcmedge.errors import BusyError, CancelledError, Error, UnimplementedError
from pcmedge.protocol.services import METHODS, Method
from pcmedge.protocol.status import to_status
from pcmedge.protocol.version import OURS

from pcmedge_emulator.service.access import Access
from pcmedge_emulator.service.arrivals import Oldest, only_request
from pcmedge_emulator.service.draining import Drain
from pcmedge_emulator.service.handlers import Handlers
from pcmedge_emulator.service.health import Health
from pcmedge_emulator.service.observing import UNKNOWN, Observer, observed
from pcmedge_emulator.service.reading import readable, reader
from pcmedge_emulator.service.uploads import UPLOADS, Uploads

_PARTING_S = 0.01
"""How long after the last message of a stream it may turn out that its client broke off. Seconds."""


class _Context:
    """A gRPC call as handlers see it."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def active(self) -> bool:
        return self._context.is_active()

    def on_end(self, callback: Callable[[], object]) -> None:
        def ended() -> None:
            callback()

        if not self._context.add_callback(ended):
            callback()


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What every call passes on its way to the handlers.

    ``streams``: how many may be open. ``waiting``: calls whose request has not come. ``observers`` are told of every
    call that ended, refused ones too.
    """

    access: Access
    drain: Drain
    streams: threading.BoundedSemaphore
    uploads: Uploads
    waiting: Oldest
    observers: Sequence[Observer] = ()


class Calls(grpc.GenericRpcHandler):
    """Every call of the contract by its path; an unknown path answers UNIMPLEMENTED with ErrorInfo like any error.

    Who calls is asked before anything of the request is read.
    """

    def __init__(self, handlers: Handlers, doors: Doors, health: Health) -> None:
        self._doors = doors
        self._health = health.handlers(doors.observers)
        self._by_path = {method.path: (method, _method_handler(handlers, method, doors)) for method in METHODS.values()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = self._by_path.get(details.method)
        if found is None:
            return self._health.get(details.method) or self._refused(_unknown(details.method), UNKNOWN, details.method)
        method, handler = found
        refusal = self._doors.access.refusal(method, details.invocation_metadata or ())
        return handler if refusal is None else self._refused(refusal, method.name)

    def _refused(self, error: Error, name: str, path: str = "") -> grpc.RpcMethodHandler[Any, Any]:
        """Answers with the error at once, whatever kind of call it is: a handler of streams waits for no request."""

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
            _abort(context, error)

        told = observed(answer, name, self._doors.observers, stream=False, path=path)
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(told)
        return handler


def _unknown(path: str) -> UnimplementedError:
    told = f"this device does not know the call {path}; it speaks contract {OURS}, GetIdentity lists what it can do"
    return UnimplementedError(told, call=path, contract=OURS)


def _method_handler(handlers: Handlers, method: Method, doors: Doors) -> grpc.RpcMethodHandler[Any, Any]:
    def answer(requests: Iterator[Any], grpc_context: grpc.ServicerContext) -> Any:
        context = _Context(grpc_context)
        if not method.client_streaming:
            return handlers.call(method.name, only_request(requests, grpc_context, doors.waiting, method.name), context)
        received = _received(requests, method.name)
        if method.name in UPLOADS:
            received = doors.uploads.begin(received, context, method.name)
        if not method.server_streaming:
            received = _whole(received, method.name, context)
        return handlers.call(method.name, received, context)

    def unary(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        try:
            with doors.drain.call():
                return answer(requests, context)
        except Error as error:
            _abort(context, error)

    def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        if not doors.streams.acquire(blocking=False):
            _abort(context, BusyError("the device has as many open streams as it can serve; close one, or try later"))
        try:
            with doors.drain.call():
                yield from answer(requests, context)
        except Error as error:
            _abort(context, error)
        finally:
            doors.streams.release()

    # All as streams of requests, unary ones too: see pcmedge_emulator.service.arrivals.
    make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.stream_unary_rpc_method_handler
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        observed(
            stream if method.server_streaming else unary, method.name, doors.observers, stream=method.server_streaming
        ),
        request_deserializer=reader(method.request),
        response_serializer=method.response.SerializeToString,
    )
    return handler


def _received(requests: Iterator[Any], name: str) -> Iterator[Any]:
    """gRPC's request iterator raises a bare RpcError when the client cancels or is gone."""
    try:
        for request in requests:
            yield readable(request)
    except grpc.RpcError as error:
        raise _gone(name) from error


def _whole(requests: Iterator[Any], name: str, context: _Context) -> Iterator[Any]:
    """Requests whose end is the order to act on them.

    When a client breaks off, gRPC may end its requests as if they were complete and say only then that it is gone.
    """
    yield from requests
    time.sleep(_PARTING_S)
    if not context.active():
        raise _gone(name)


def _gone(name: str) -> CancelledError:
    return CancelledError(f"the client went away during {name}; nothing was changed", call=name)


def _abort(context: grpc.ServicerContext, error: Error) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError("unreachable: abort_with_status raises")
