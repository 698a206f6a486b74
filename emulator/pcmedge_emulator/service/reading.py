"""Bytes of a request to a message. Left to itself, gRPC answers bytes it cannot parse INTERNAL, as if we had failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from pcmedge.errors import InputError


@dataclass(frozen=True)
class Unreadable:
    """Stands where a message would, until somebody may answer the call; ``kind``: the message's full name."""

    kind: str
    size: int


def reader(kind: Any) -> Callable[[bytes], Any]:
    """Deserialises messages of a class; what cannot be parsed becomes :class:`Unreadable`."""

    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return Unreadable(kind.DESCRIPTOR.full_name, len(data))

    return read


def readable(request: Any) -> Any:
    """The request. InputError if its bytes were no message of its class."""
    if isinstance(request, Unreadable):
        raise InputError(
            f"expected the message {request.kind}, found {request.size} bytes that cannot be parsed as one; make the "
            "call with stubs of this contract",
            expected=request.kind,
        )
    return request
