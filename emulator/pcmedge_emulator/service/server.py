"""The gRPC server: a thread pool over the handlers, health, bounds, one listener per address."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from pcmedge.log_events import event
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import LAB_SERVICE, SERVICES

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.service.access import Access, TokenFile
from pcmedge_emulator.service.arrivals import Oldest
from pcmedge_emulator.service.binding import bind, checked, release
from pcmedge_emulator.service.calls import Calls, Doors
from pcmedge_emulator.service.draining import Drain
from pcmedge_emulator.service.handlers import DEFAULT_SCHEDULING, Handlers
from pcmedge_emulator.service.health import Health
from pcmedge_emulator.service.lab_handlers import SnapshotBounds
from pcmedge_emulator.service.limits import DEFAULT_LIMITS, Limits
from pcmedge_emulator.service.observing import HERE, Observer
from pcmedge_emulator.service.scheduling import Scheduling
from pcmedge_emulator.service.tls import ServerTls
from pcmedge_emulator.service.uploads import Uploads

MAX_MESSAGE_BYTES = 64 << 20
THREADS = 32
_LOG = logging.getLogger("pcmedge_emulator.service")
_RESERVED_THREADS = 8
"""Threads that streams cannot take, so that short calls are always answered."""


class Server:
    """A chip served at an address; made by :func:`serve`. A context manager: leaving it stops the server.

    The chip belongs to whoever made it and is not closed here.
    """

    def __init__(
        self,
        chip: DeviceChip,
        listen: str,
        *,
        lab: bool,
        threads: int,
        max_message_bytes: int,
        scheduling: Scheduling,
        observers: Sequence[Observer],
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
        workers = threads + shared + scheduling.max_queue_size + scheduling.max_batch_size + _RESERVED_THREADS
        self._handlers = Handlers(
            chip,
            lab=lab,
            scheduling=scheduling,
            at_once=shared,
            max_image_bytes=limits.max_image_bytes,
            snapshots=SnapshotBounds(count=limits.max_snapshots, bytes=limits.max_snapshot_bytes),
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
        healthy = ("", *(service for service in SERVICES if service != LAB_SERVICE or lab))
        self._waiting = Oldest(max(threads, _RESERVED_THREADS), limits.request_s)
        self._health = Health(healthy, limits.request_s)
        self._drain = Drain()
        doors = Doors(
            access=access,
            drain=self._drain,
            streams=threading.BoundedSemaphore(shared),
            uploads=Uploads(limits),
            waiting=self._waiting,
            observers=observers,
        )
        self._server.add_generic_rpc_handlers((Calls(self._handlers, doors, self._health),))
        try:
            self._address = bind(self._server, address, credentials)
            self._server.start()
        except BaseException:
            self._server.stop(None)
            self._pool.shutdown(wait=False)
            self._waiting.close()
            self._health.close()
            self._handlers.stop()
            raise
        for service in healthy:
            self._health.serving(service)
        if not self._address.local and tls is None:
            told = event("without-tls", address=self.address)
            _LOG.warning("%s is readable and changeable by everybody on the way: no TLS", self._address, extra=told)
        if not self._address.local and access.open and (tls is None or tls.client_ca_file is None):
            open_to_all = "%s answers everybody who can reach it: no tokens, no client certificates"
            _LOG.warning(open_to_all, self._address, extra=event("without-tokens", address=self.address))
        self._stopping = threading.Lock()
        self._stopped = False
        self._process = os.getpid()

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
        """Health says NOT_SERVING, new calls are refused, those under way have ``grace_s`` seconds to finish.

        In a forked child it does nothing: the server is the parent's.
        """
        if os.getpid() != self._process:
            return
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            self._health.stopping()
            started_s = time.monotonic()
            self._drain.begin()
            self._handlers.close()
            self._drain.wait(grace_s)
            self._server.stop(max(0.0, grace_s - (time.monotonic() - started_s))).wait()
            self._handlers.stop()
            self._pool.shutdown(wait=False)
            self._waiting.close()
            self._health.close()
            release(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def check_served(
    listen: str, *, tls: ServerTls | None = None, tokens: str | os.PathLike[str] | None = None, insecure: bool = False
) -> None:
    """Raises what :func:`serve` would for its address and files, for callers that change a device before they serve it.

    Whether somebody listens at the address already shows only when it is served.
    """
    checked(parse_address(listen, listen=True), tls, insecure=insecure)
    if tls is not None:
        tls.credentials()
    if tokens is not None:
        TokenFile(tokens)


def serve(
    chip: DeviceChip,
    listen: str = "grpc://127.0.0.1:0",
    *,
    lab: bool = False,
    threads: int = THREADS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    scheduling: Scheduling = DEFAULT_SCHEDULING,
    observers: Sequence[Observer] = (),
    tls: ServerTls | None = None,
    tokens: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Server:
    """Serve a chip at ``grpc://host:port``, ``host:port`` (port 0: any free one) or ``unix:///path``.

    ``lab``: also offer LabService. ``threads``: calls answered at once, those that wait for the chip not counted.
    ``scheduling``: dynamic batching and the queue of inference requests. ``observers`` are told of every call that
    ended, refused ones too, in the thread that answered it. ``tls``: certificate and key; the address is then
    ``grpcs://``. ``tokens``: a token file (:mod:`pcmedge.protocol.tokens`); every call then needs a token with the role
    of the call, but health. ``insecure``: listen without TLS where other machines reach it. ``limits``: bounds of what
    clients may take.

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
        observers=observers,
        tls=tls,
        access=Access(None if tokens is None else TokenFile(tokens)),
        insecure=insecure,
        limits=limits,
    )
