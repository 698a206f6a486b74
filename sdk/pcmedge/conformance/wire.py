"""Calls as they are on the wire: raw messages, and errors with everything they carried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from pcmedge.conformance.expecting import Broken
from pcmedge.device._grpc import GrpcTransport
from pcmedge.device._grpc_common import Security
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import METHODS, Method
from pcmedge.protocol.status import DETAILS_KEY


@dataclass(frozen=True)
class Refusal:
    """An error as it arrived. ``reason`` and ``domain`` are empty if its details hold no ErrorInfo.

    ``infos``: how many ErrorInfo its details hold; the first one counts.
    """

    call: str
    code: str
    message: str
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    infos: int = 0

    def __str__(self) -> str:
        return f"{self.call} answered {self.code} / {self.reason or 'no reason'} ({self.message[:200]!r})"


class Refused(Exception):
    """A call was answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def refusal_of(error: Any, call: str) -> Refusal:
    """What a gRPC error carried."""
    code, message = error.code().name, error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        try:
            details = [each for each in Status.FromString(value).details if each.Is(ErrorInfo.DESCRIPTOR)]
            info = ErrorInfo()
            if details and details[0].Unpack(info):
                return Refusal(call, code, message, info.reason, info.domain, dict(info.metadata), len(details))
        except DecodeError:
            return Refusal(call, code, f"{message} (its details cannot be parsed)")
    return Refusal(call, code, message)


class Wire:
    """One connection. ``timeout_s``: of short calls; ``operation_timeout_s``: of programming and recalibration."""

    def __init__(
        self, url: str, *, security: Security | None = None, timeout_s: float, operation_timeout_s: float
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._operation_timeout_s = operation_timeout_s
        self._security = security
        self._transport = GrpcTransport(parse_address(url), security=security)

    @property
    def has_token(self) -> bool:
        return self._security is not None and bool(self._security.token)

    def with_token(self, token: str | None) -> Wire:
        """Another connection to the same device, whose calls carry this token; the caller closes it."""
        return Wire(
            self.url,
            security=replace(self._security or Security(), token=token),
            timeout_s=self.timeout_s,
            operation_timeout_s=self._operation_timeout_s,
        )

    def reconnect(self) -> None:
        """A new connection: gRPC waits longer and longer before it tries an address again that was gone."""
        self._transport.close()
        self._transport = GrpcTransport(parse_address(self.url), security=self._security)

    def call(self, name: str, request: Any, *, timeout_s: float | None = None) -> Any:
        """The reply of a call without a streaming reply. Refused."""
        try:
            return self._transport.start(METHODS[name], request, timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise Refused(refusal_of(error, name)) from None

    def open(self, name: str, request: Any, *, timeout_s: float | None = None) -> Any:
        """gRPC's own call of one with a streaming reply: iterate it, cancel it."""
        return self._transport.start(METHODS[name], request, timeout_s or self._operation_timeout_s)

    def stream(self, name: str, request: Any, *, timeout_s: float | None = None) -> list[Any]:
        """All messages of a streaming reply. Refused."""
        return list(self.messages(name, request, timeout_s=timeout_s))

    def messages(self, name: str, request: Any, *, timeout_s: float | None = None) -> Iterator[Any]:
        """The messages of a streaming reply as they come; closing the iterator cancels the call. Refused."""
        replies = self.open(name, request, timeout_s=timeout_s)
        try:
            yield from replies
        except grpc.RpcError as error:
            raise Refused(refusal_of(error, name)) from None
        finally:
            replies.cancel()

    def refusal(self, name: str, request: Any, *, timeout_s: float | None = None) -> Refusal | None:
        """The error a call is answered with; None if it succeeded, a stream read to its end."""
        try:
            if METHODS[name].server_streaming:
                self.stream(name, request, timeout_s=timeout_s)
            else:
                self.call(name, request, timeout_s=timeout_s)
        except Refused as refused:
            return refused.refusal
        return None

    def refused(self, reason: str | Iterable[str], name: str, request: Any, doing: str) -> Refusal:
        """The error of a call that must be refused with (one of) these reasons; Broken if it is not."""
        reasons = (reason,) if isinstance(reason, str) else tuple(reason)
        found = self.refusal(name, request)
        expected = f"{' or '.join(reasons)} for {doing}"
        if found is None:
            raise Broken(expected, f"{name} succeeded")
        if found.reason not in reasons or found.domain != "pcm":
            raise Broken(expected, str(found))
        return found

    def bytes_call(self, path: str, request: bytes) -> bytes:
        """A call outside of the contract's table, by its path. Refused."""
        try:
            return bytes(self._transport.start(cast(Method, _Uncharted(path)), request, self.timeout_s))
        except grpc.RpcError as error:
            raise Refused(refusal_of(error, path)) from None

    def close(self) -> None:
        self._transport.close()


class _Bytes:
    """Stands where a message class would."""

    @staticmethod
    def SerializeToString(request: bytes) -> bytes:
        return request

    @staticmethod
    def FromString(data: bytes) -> bytes:
        return data


class _Uncharted:
    """What a stub is made of, for a call by its path with bytes for messages."""

    def __init__(self, path: str) -> None:
        self.name = self.path = path
        self.request = self.response = _Bytes
        self.client_streaming = self.server_streaming = False
