"""The awaiting gRPC transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import grpc.aio

from pcmedge.device._calls import Call
from pcmedge.device._grpc import make_stub
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security, channel_options, typed_error
from pcmedge.errors import UnavailableError
from pcmedge.forks import check_grpc, check_same_process, kept_in_children
from pcmedge.protocol.address import Address
from pcmedge.protocol.services import Method


class AsyncGrpcTransport:
    """One channel to one device, for the event loop it was made in.

    In a forked child, which has an event loop of its own, as :class:`pcmedge.device._grpc.GrpcTransport`.
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
        self._channel = kept_in_children(
            grpc.aio.secure_channel(target, credentials(), self._options)
            if self._target.scheme == "grpcs"
            else grpc.aio.insecure_channel(target, self._options)
        )
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._process = os.getpid()

    def _stub(self, method: Method) -> Callable[..., Any]:
        if self._closed:
            raise UnavailableError(f"this connection to {self.address} was closed; connect again", closed=True)
        if os.getpid() != self._process:
            self._open()
        if method.name not in self._stubs:
            self._stubs[method.name] = make_stub(self._channel, method)
        return self._stubs[method.name]

    async def unary(self, call: Call) -> Any:
        stub = self._stub(call.method)
        try:
            return await stub(call.request, timeout=call.timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise self._typed(error, call) from None

    async def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        stub = self._stub(call.method)
        replies = kept_in_children(stub(call.request, timeout=call.timeout_s, metadata=self._metadata))
        process = os.getpid()
        try:
            async for reply in replies:
                yield reply
                check_same_process(process, f"this stream of {call.method.name}")
        except grpc.aio.AioRpcError as error:
            raise self._typed(error, call) from None
        finally:
            if os.getpid() == process:
                replies.cancel()

    def _typed(self, error: grpc.aio.AioRpcError, call: Call) -> Exception:
        trailing: Any = error.trailing_metadata()
        return typed_error(error.code(), error.details(), tuple(trailing or ()), call, self.address)

    async def close(self) -> None:
        self._closed = True
        if os.getpid() == self._process:
            await self._channel.close()


def _probe(target: str) -> bool:
    """Whether grpc.aio works in this forked child; it crashes in one of a process with open channels, whoever's."""
    if any(issubclass(type(each), grpc.aio.Channel | grpc.aio.Server) for each in gc.get_objects()):
        return False

    async def ask() -> None:
        async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            with contextlib.suppress(grpc.aio.AioRpcError):
                call: Callable[..., Any] = channel.unary_unary("/probe")
                await call(b"", timeout=60)

    asyncio.run(ask())
    return True
