"""The gRPC server: a thread pool over the handlers, health, errors with ErrorInfo, one listener per address."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from pcmedge.errors import BusyError, CancelledError, Error, UnimplementedError
from pcmedge.protocol.address import Address, parse_address
from pcmedge.protocol.services import LAB_SERVICE, METHODS, SERVICES, Method
from pcmedge.protocol.status import to_status

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.service.binding import bind, release
from pcmedge_emulator.service.draining import Drain
from pcmedge_emulator.service.handlers import DEFAULT_SCHEDULING, Handlers
from pcmedge_emulator.service.healthy import Health
from pcmedge_emulator.service.observing import HERE, Observer, observed
from pcmedge_emulator.service.reading import readable, reader
from pcmedge_emulator.service.scheduling import Scheduling

MAX_MESSAGE_BYTES = 64 << 20
THREADS = 32
_LOG = logging.getLogger("pcmedge_emulator.service")
_PARTING_S = 0.01
"""How long after the last message of a stream it may turn out that its client broke off. Seconds."""
_RESERVED_THREADS = 8
"""Threads that streams cannot take, so that short calls are always answered."""


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


class Server:
    """A chip served at an address; made by :func:`serve`. A context manager: leaving it stops the server.

    The chip belongs to whoever made it and is not closed here.
    """

    def __init__(
        self,
        chip: DeviceChip,
        listen: Address,
        *,
        lab: bool,
        threads: int,
        max_message_bytes: int,
        scheduling: Scheduling,
        observers: Sequence[Observer],
    ) -> None:
        # Streams and inferences that compute leave threads for short calls, and so do inferences that wait: the queue
        # is full before the pool is. Threads are started when they are needed.
        shared = max(1, threads - _RESERVED_THREADS)
        workers = threads + shared + scheduling.max_queue_size + scheduling.max_batch_size
        self._handlers = Handlers(chip, lab=lab, scheduling=scheduling, at_once=shared)
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="pcm-rpc")
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # Clients ping an idle connection to notice when a device fell off the network.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
            maximum_concurrent_rpcs=workers + 3 * threads,
        )
        healthy = ("", *(service for service in SERVICES if service != LAB_SERVICE or lab))
        self._health = Health(healthy)
        self._server.add_generic_rpc_handlers((self._health.handler(),))
        streams = threading.BoundedSemaphore(shared)
        self._drain = Drain()
        self._server.add_generic_rpc_handlers((_Calls(self._handlers, streams, observers, self._drain),))
        try:
            self._address = bind(self._server, listen)
            self._server.start()
        except BaseException:
            self._server.stop(None)
            self._pool.shutdown(wait=False)
            self._handlers.stop()
            raise
        for service in healthy:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        if not self._address.local:
            _LOG.warning("%s answers everybody who can reach it, unencrypted", self._address)
        self._stopping = threading.Lock()
        self._stopped = False

    @property
    def address(self) -> str:
        """Where clients connect, with the real port."""
        return self._address.url

    def ask(self, name: str, request: Any) -> Any:
        """Answers a call of the contract that has one request and one reply, in process. Raises what it raises."""
        return self._handlers.call(name, request, HERE)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until the server has stopped; True if it has within ``timeout_s``."""
        return not self._server.wait_for_termination(timeout_s)

    def stop(self, grace_s: float = 5.0) -> None:
        """Health says NOT_SERVING, new calls are refused, those under way have ``grace_s`` seconds to finish."""
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            self._health.enter_graceful_shutdown()
            started_s = time.monotonic()
            self._drain.begin()
            self._handlers.close()
            self._drain.wait(grace_s)
            self._server.stop(max(0.0, grace_s - (time.monotonic() - started_s))).wait()
            self._handlers.stop()
            self._pool.shutdown(wait=False)
            release(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    chip: DeviceChip,
    listen: str = "grpc://127.0.0.1:0",
    *,
    lab: bool = False,
    threads: int = THREADS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    scheduling: Scheduling = DEFAULT_SCHEDULING,
    observers: Sequence[Observer] = (),
) -> Server:
    """Serve a chip at ``grpc://host:port``, ``host:port`` (port 0: any free one) or ``unix:///path``.

    ``lab``: also offer LabService. ``threads``: calls answered at once, those that wait for the chip not counted.
    ``scheduling``: dynamic batching and the queue of inference requests. ``observers`` are told of every call
    that ended, in the thread that answered it. Raises AddressInUseError if somebody listens there already,
    InputValueError for an address this machine cannot listen on.
    """
    return Server(
        chip,
        parse_address(listen, listen=True),
        lab=lab,
        threads=threads,
        max_message_bytes=max_message_bytes,
        scheduling=scheduling,
        observers=observers,
    )


class _Calls(grpc.GenericRpcHandler):
    """Every call of the contract by its path; an unknown path answers UNIMPLEMENTED with ErrorInfo like any error."""

    def __init__(
        self, handlers: Handlers, streams: threading.BoundedSemaphore, observers: Sequence[Observer], drain: Drain
    ) -> None:
        self._by_path = {
            method.path: _method_handler(handlers, method, streams, observers, drain) for method in METHODS.values()
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = self._by_path.get(details.method)
        return found or grpc.unary_unary_rpc_method_handler(_unknown(details.method))


def _unknown(path: str) -> Callable[[bytes, grpc.ServicerContext], NoReturn]:
    def answer(request: bytes, context: grpc.ServicerContext) -> NoReturn:
        _abort(context, UnimplementedError(f"this device does not know the call {path}", call=path))

    return answer


def _method_handler(
    handlers: Handlers, method: Method, streams: threading.BoundedSemaphore, observers: Sequence[Observer], drain: Drain
) -> grpc.RpcMethodHandler[Any, Any]:
    def unary(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with drain.call():
                return handlers.call(method.name, _requests(request, method, context), _Context(context))
        except Error as error:
            _abort(context, error)

    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if not streams.acquire(blocking=False):
            _abort(context, BusyError("the device has as many open streams as it can serve; close one, or try later"))
        try:
            with drain.call():
                yield from handlers.call(method.name, _requests(request, method, context), _Context(context))
        except Error as error:
            _abort(context, error)
        finally:
            streams.release()

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    answer: Callable[..., Any] = stream if method.server_streaming else unary
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        observed(answer, method, observers) if observers else answer,
        request_deserializer=reader(method.request),
        response_serializer=method.response.SerializeToString,
    )
    return handler


def _requests(request: Any, method: Method, context: grpc.ServicerContext) -> Any:
    if not method.client_streaming:
        return readable(request)
    received = _received(request, method.name)
    return received if method.server_streaming else _whole(received, method.name, context)


def _received(requests: Iterator[Any], name: str) -> Iterator[Any]:
    """gRPC's request iterator raises a bare RpcError when the client cancels or is gone."""
    try:
        for request in requests:
            yield readable(request)
    except grpc.RpcError as error:
        raise _gone(name) from error


def _whole(requests: Iterator[Any], name: str, context: grpc.ServicerContext) -> Iterator[Any]:
    """Requests whose end is the order to act on them.

    When a client breaks off, gRPC may end its requests as if they were complete and say only then that it is gone.
    """
    yield from requests
    time.sleep(_PARTING_S)
    if not context.is_active():
        raise _gone(name)


def _gone(name: str) -> CancelledError:
    return CancelledError(f"the client went away during {name}; nothing was changed", call=name)


def _abort(context: grpc.ServicerContext, error: Error) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError("unreachable: abort_with_status raises")
