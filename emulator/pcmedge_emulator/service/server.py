"""The gRPC server: a thread pool over the handlers, health, errors with ErrorInfo, one listener per address."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from grpc_status import rpc_status
from pcmedge.errors import BusyError, CancelledError, Error, UnimplementedError
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import LAB_SERVICE, METHODS, SERVICES, Method
from pcmedge.protocol.status import to_status

from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.access import Access, TokenFile
from pcmedge_emulator.service.arrivals import Oldest, only_request
from pcmedge_emulator.service.binding import bind, checked, release
from pcmedge_emulator.service.handlers import DEFAULT_SCHEDULING, Handlers
from pcmedge_emulator.service.health import Health
from pcmedge_emulator.service.limits import DEFAULT_LIMITS, Limits
from pcmedge_emulator.service.scheduling import Scheduling
from pcmedge_emulator.service.tls import ServerTls
from pcmedge_emulator.service.uploads import UPLOADS, Uploads

MAX_MESSAGE_BYTES = 64 << 20
THREADS = 32
_LOG = logging.getLogger("pcmedge_emulator.service")
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
        chip: Chip,
        listen: str,
        *,
        lab: bool,
        threads: int,
        max_message_bytes: int,
        scheduling: Scheduling,
        tls: ServerTls | None,
        access: Access,
        insecure: bool,
        limits: Limits,
    ) -> None:
        address = checked(parse_address(listen, listen=True), tls, insecure=insecure)
        credentials = None if tls is None else tls.credentials()
        # Streams and inferences that compute leave threads for short calls, and so do inferences that wait: the queue
        # is full before the pool is. Threads are started when they are needed.
        shared = max(1, threads - _RESERVED_THREADS)
        workers = threads + shared + scheduling.max_queue_size + scheduling.max_batch_size
        self._handlers = Handlers(
            chip, lab=lab, scheduling=scheduling, at_once=shared, max_image_bytes=limits.max_image_bytes
        )
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
                *limits.options(),
            ],
            maximum_concurrent_rpcs=workers + 3 * threads,
        )
        self._waiting = Oldest(threads, limits.request_s)
        self._health = Health(self._waiting)
        streams = threading.BoundedSemaphore(shared)
        calls = _Calls(self._handlers, streams, Uploads(limits), access, self._waiting, self._health)
        self._server.add_generic_rpc_handlers((calls,))
        try:
            self._address = bind(self._server, address, credentials)
            self._server.start()
        except BaseException:
            self._server.stop(None)
            self._pool.shutdown(wait=False)
            self._waiting.close()
            self._handlers.stop()
            raise
        for service in ("", *SERVICES):
            if service != LAB_SERVICE or lab:
                self._health.serving(service)
        if not self._address.local and tls is None:
            _LOG.warning("%s is readable and changeable by everybody on the way: no TLS", self._address)
        if not self._address.local and access.open and (tls is None or tls.client_ca_file is None):
            _LOG.warning("%s answers everybody who can reach it: no tokens, no client certificates", self._address)
        self._stopping = threading.Lock()
        self._stopped = False

    @property
    def address(self) -> str:
        """Where clients connect, with the real port."""
        return self._address.url

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until the server has stopped; True if it has within ``timeout_s``."""
        return not self._server.wait_for_termination(timeout_s)

    def stop(self, grace_s: float = 5.0) -> None:
        """Health says NOT_SERVING, new calls are refused, those under way have ``grace_s`` seconds to finish."""
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            self._health.stopping()
            self._handlers.close()
            self._server.stop(grace_s).wait()
            self._handlers.stop()
            self._pool.shutdown(wait=False)
            self._waiting.close()
            release(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    chip: Chip,
    listen: str = "grpc://127.0.0.1:0",
    *,
    lab: bool = False,
    threads: int = THREADS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    scheduling: Scheduling = DEFAULT_SCHEDULING,
    tls: ServerTls | None = None,
    tokens: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Server:
    """Serve a chip at ``grpc://host:port``, ``host:port`` (port 0: any free one) or ``unix:///path``.

    ``lab``: also offer LabService. ``threads``: calls answered at once, those that wait for the chip not counted.
    ``scheduling``: dynamic batching and the queue of inference requests. ``tls``: certificate and key; the address is
    then ``grpcs://``. ``tokens``: a token file (:mod:`pcmedge.protocol.tokens`); every call then needs a token with the
    role of the call, but health. ``insecure``: listen without TLS where other machines reach it. ``limits``: bounds of
    what clients may take.

    Raises AddressInUseError if somebody listens there already, InputValueError for an address this machine cannot
    listen on and for files that are not what they should be, InsecureAddressError, FileMissingError.
    """
    return Server(
        chip,
        listen,
        lab=lab,
        threads=threads,
        max_message_bytes=max_message_bytes,
        scheduling=scheduling,
        tls=tls,
        access=Access(None if tokens is None else TokenFile(tokens)),
        insecure=insecure,
        limits=limits,
    )


class _Calls(grpc.GenericRpcHandler):
    """Every call of the contract by its path; an unknown path answers UNIMPLEMENTED with ErrorInfo like any error.

    Who calls is asked before anything of the request is read.
    """

    def __init__(
        self,
        handlers: Handlers,
        streams: threading.BoundedSemaphore,
        uploads: Uploads,
        access: Access,
        waiting: Oldest,
        health: Health,
    ) -> None:
        self._access = access
        self._health = health.handlers()
        self._by_path = {
            method.path: (method, _method_handler(handlers, method, streams, uploads, waiting))
            for method in METHODS.values()
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = self._by_path.get(details.method)
        if found is None:
            open_to_all = self._health.get(details.method)
            return open_to_all or _refused(UnimplementedError(f"this device does not know the call {details.method}"))
        method, handler = found
        refusal = self._access.refusal(method, details.invocation_metadata or ())
        return handler if refusal is None else _refused(refusal)


def _refused(error: Error) -> grpc.RpcMethodHandler[Any, Any]:
    """Answers at once, whatever kind of call it is: a stream's handler does not wait for a request."""

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        _abort(context, error)

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(answer)
    return handler


def _method_handler(
    handlers: Handlers, method: Method, streams: threading.BoundedSemaphore, uploads: Uploads, waiting: Oldest
) -> grpc.RpcMethodHandler[Any, Any]:
    def answer(requests: Iterator[Any], grpc_context: grpc.ServicerContext) -> Any:
        context = _Context(grpc_context)
        if not method.client_streaming:
            return handlers.call(method.name, only_request(requests, grpc_context, waiting, method.name), context)
        received = _received(requests, method.name)
        if method.name not in UPLOADS:
            return handlers.call(method.name, received, context)
        return handlers.call(method.name, uploads.begin(received, context, method.name), context)

    def unary(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        try:
            return answer(requests, context)
        except Error as error:
            _abort(context, error)

    def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        if not streams.acquire(blocking=False):
            _abort(context, BusyError("the device has as many open streams as it can serve; close one, or try later"))
        try:
            yield from answer(requests, context)
        except Error as error:
            _abort(context, error)
        finally:
            streams.release()

    # All as streams of requests, unary ones too: see pcmedge_emulator.service.arrivals.
    make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.stream_unary_rpc_method_handler
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        stream if method.server_streaming else unary,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )
    return handler


def _received(requests: Iterator[Any], name: str) -> Iterator[Any]:
    """gRPC's request iterator raises a bare RpcError when the client cancels or is gone."""
    try:
        yield from requests
    except grpc.RpcError as error:
        raise CancelledError(f"the client went away during {name}; nothing was changed", call=name) from error


def _abort(context: grpc.ServicerContext, error: Error) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError("unreachable: abort_with_status raises")
