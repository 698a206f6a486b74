"""The awaiting gRPC transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import grpc.aio

from pcmedge.device._calls import Call
from pcmedge.device._grpc import make_stub
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security, channel_options, typed_error
from pcmedge.errors import UnavailableError
from pcmedge.protocol.address import Address
from pcmedge.protocol.services import Method


class AsyncGrpcTransport:
    """One channel to one device, for the event loop it was made in."""

    def __init__(
        self, address: Address, *, security: Security | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        security = security or Security()
        security.check(address)
        self.address = address.url
        options = channel_options(security, max_message_bytes)
        self._channel = (
            grpc.aio.secure_channel(address.target, security.credentials(), options)
            if address.scheme == "grpcs"
            else grpc.aio.insecure_channel(address.target, options)
        )
        self._metadata = security.metadata()
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._closed = False

    def _stub(self, method: Method) -> Callable[..., Any]:
        if self._closed:
            raise UnavailableError(f"this connection to {self.address} was closed; connect again", closed=True)
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
        replies = self._stub(call.method)(call.request, timeout=call.timeout_s, metadata=self._metadata)
        try:
            async for reply in replies:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise self._typed(error, call) from None
        finally:
            replies.cancel()

    def _typed(self, error: grpc.aio.AioRpcError, call: Call) -> Exception:
        trailing: Any = error.trailing_metadata()
        return typed_error(error.code(), error.details(), tuple(trailing or ()), call, self.address)

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()
