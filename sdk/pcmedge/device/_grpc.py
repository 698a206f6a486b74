"""The blocking gRPC transport."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from typing import Any

import grpc

from pcmedge.device._calls import Call
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security, channel_options, typed_error
from pcmedge.errors import DeviceStateError, UnavailableError
from pcmedge.protocol.address import Address
from pcmedge.protocol.services import Method


class GrpcTransport:
    """One channel to one device; thread-safe.

    Not for use after ``os.fork()``: gRPC's threads do not survive it. A forked child is told so instead of hanging;
    start workers with the multiprocessing method "spawn" and connect in each.
    """

    def __init__(
        self, address: Address, *, security: Security | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        security = security or Security()
        security.check(address)
        self.address = address.url
        options = channel_options(security, max_message_bytes)
        self._channel = (
            grpc.secure_channel(address.target, security.credentials(), options)
            if address.scheme == "grpcs"
            else grpc.insecure_channel(address.target, options)
        )
        self._metadata = security.metadata()
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._process = os.getpid()
        self._closed = False

    def _stub(self, method: Method) -> Callable[..., Any]:
        if os.getpid() != self._process:
            raise DeviceStateError(
                f"this connection was made in process {self._process} and cannot be used in its fork {os.getpid()}; "
                "connect in each process, and start processes with the method 'spawn'"
            )
        if self._closed:
            raise UnavailableError(f"this connection to {self.address} was closed; connect again", closed=True)
        stub = self._stubs.get(method.name)
        if stub is None:
            stub = self._stubs[method.name] = make_stub(self._channel, method)
        return stub

    def unary(self, call: Call) -> Any:
        stub = self._stub(call.method)
        try:
            return stub(call.request, timeout=call.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._typed(error, call) from None
        except ValueError as error:
            # gRPC's way to say that another thread closed the channel.
            raise UnavailableError(f"this connection to {self.address} was closed: {error}", closed=True) from None

    def stream(self, call: Call) -> Generator[Any, None, None]:
        stub = self._stub(call.method)
        try:
            replies = stub(call.request, timeout=call.timeout_s, metadata=self._metadata)
        except ValueError as error:
            raise UnavailableError(f"this connection to {self.address} was closed: {error}", closed=True) from None
        try:
            yield from replies
        except grpc.RpcError as error:
            raise self._typed(error, call) from None
        finally:
            replies.cancel()

    def start(self, method: Method, request: Any, timeout_s: float | None) -> Any:
        """The bare gRPC call, errors and all: a reply, or gRPC's iterator of replies. For who looks at the wire."""
        return self._stub(method)(request, timeout=timeout_s, metadata=self._metadata)

    def _typed(self, error: Any, call: Call) -> Exception:
        return typed_error(error.code(), error.details(), error.trailing_metadata(), call, self.address)

    def close(self) -> None:
        self._closed = True
        if os.getpid() == self._process:
            with contextlib.suppress(ValueError):
                self._channel.close()


def make_stub(channel: Any, method: Method) -> Callable[..., Any]:
    """A callable for one entry of the table of calls; works with blocking and awaiting channels."""
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    stub: Callable[..., Any] = kinds[method.client_streaming, method.server_streaming](
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    return stub
