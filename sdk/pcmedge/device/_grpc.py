"""The blocking gRPC transport."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

import grpc

from pcmedge.device._calls import Call
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security, channel_options, typed_error
from pcmedge.errors import UnavailableError
from pcmedge.forks import check_grpc, check_same_process, kept_in_children
from pcmedge.protocol.address import Address
from pcmedge.protocol.services import Method

_CLOSING_S = 5.0
"""For how long closing a connection waits for its calls to end."""
_BROKEN_OFF_S = 0.5
"""The same after a Ctrl-C, which may have broken one off that never ends."""


class GrpcTransport:
    """One channel to one device; thread-safe.

    A forked child that uses it gets a connection of its own. Where gRPC does not work after a fork it raises
    DeviceStateError instead of hanging; so does a stream that was open before the fork.
    """

    def __init__(
        self, address: Address, *, security: Security | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        security = security or Security()
        security.check(address)
        self.address = address.url
        self._target, self._security = address, security
        self._options = channel_options(security, max_message_bytes)
        self._metadata = security.metadata()
        self._closed = False
        self._open()

    def _open(self) -> None:
        check_grpc(_probe)
        target, credentials = self._target.target, self._security.credentials
        # A child leaves its parent's channel alone, for good: gRPC would wait for threads the child does not have.
        self._channel = kept_in_children(
            grpc.secure_channel(target, credentials(), self._options)
            if self._target.scheme == "grpcs"
            else grpc.insecure_channel(target, self._options)
        )
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._process = os.getpid()

    def _stub(self, method: Method) -> Callable[..., Any]:
        if self._closed:
            raise UnavailableError(f"this connection to {self.address} was closed; connect again", closed=True)
        if os.getpid() != self._process:
            self._open()
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
        process = os.getpid()
        try:
            replies = kept_in_children(stub(call.request, timeout=call.timeout_s, metadata=self._metadata))
        except ValueError as error:
            raise UnavailableError(f"this connection to {self.address} was closed: {error}", closed=True) from None
        try:
            for reply in replies:
                yield reply
                check_same_process(process, f"this stream of {call.method.name}")
        except grpc.RpcError as error:
            raise self._typed(error, call) from None
        finally:
            if os.getpid() == process:
                replies.cancel()

    def start(self, method: Method, request: Any, timeout_s: float | None) -> Any:
        """The bare gRPC call, errors and all: a reply, or gRPC's iterator of replies. For who looks at the wire."""
        return self._stub(method)(request, timeout=timeout_s, metadata=self._metadata)

    def _typed(self, error: Any, call: Call) -> Exception:
        return typed_error(error.code(), error.details(), error.trailing_metadata(), call, self.address)

    def close(self) -> None:
        self._closed = True
        if os.getpid() != self._process:
            return
        # gRPC waits for every call to end, and for ever for one that Ctrl-C broke off while it was being made.
        ending = threading.Thread(target=_close, args=(self._channel,), name="pcm-closing", daemon=True)
        ending.start()
        ending.join(_BROKEN_OFF_S if isinstance(sys.exc_info()[1], KeyboardInterrupt) else _CLOSING_S)


def _close(channel: Any) -> None:
    with contextlib.suppress(ValueError):
        channel.close()


def _probe(target: str) -> bool:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target, options) as channel, contextlib.suppress(grpc.RpcError):
        call: Callable[..., Any] = channel.unary_unary("/probe")
        call(b"", timeout=60)
    return True


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
