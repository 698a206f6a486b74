"""Being told of calls that ended, for metrics and the access log. Without observers no call is wrapped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

UNKNOWN = "unknown"
"""The name of every call that is none of this device's: what a caller makes up must not become names of metrics."""

_MOST_LETTERS = 128


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that ended: nothing of what it carried but its id.

    ``name``: as in the contract, "grpc.health.v1.Health/Check" or "/Watch", or :data:`UNKNOWN`, whose ``path`` is what
    was called. ``request_id``: of the (first) message, else of the header ``x-request-id``, else made up. ``status``:
    the name of the gRPC status. ``replies``: of a stream.
    """

    name: str
    path: str = ""
    status: str
    duration_s: float
    request_id: str
    peer: str
    replies: int


Observer = Callable[[Call], None]


class _Here:
    """Who asks is in this process and waits for as long as it takes."""

    def active(self) -> bool:
        return True

    def on_end(self, callback: Callable[[], object]) -> None:
        callback()


HERE = _Here()


def observed(
    answer: Callable[..., Any], name: str, observers: Sequence[Observer], *, stream: bool, path: str = ""
) -> Callable[..., Any]:
    """``answer``, whose end every observer is told of. ``stream``: of replies."""
    if not observers:
        return answer

    def unary(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        started_s = time.perf_counter()
        noted = _Noted(requests)
        replies = 0
        try:
            reply = answer(noted, context)
            replies = 1
            return reply
        finally:
            tell(noted, context, started_s, replies)

    def replying(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        started_s = time.perf_counter()
        noted = _Noted(requests)
        replies = 0
        try:
            for reply in answer(noted, context):
                replies += 1
                yield reply
        finally:
            tell(noted, context, started_s, replies)

    def tell(noted: _Noted, context: grpc.ServicerContext, started_s: float, replies: int) -> None:
        call = Call(
            name=name,
            path=_printable(path),
            status=_status(context),
            duration_s=time.perf_counter() - started_s,
            request_id=_request_id(noted.request_id, context),
            peer=context.peer(),
            replies=replies,
        )
        for observer in observers:
            observer(call)

    return replying if stream else unary


def _status(context: Any) -> str:
    """OK unless the call was ended otherwise; a caller who left before the end is CANCELLED."""
    code = context.code()
    if code is None:
        return "OK" if context.is_active() else "CANCELLED"
    return code.name if isinstance(code, grpc.StatusCode) else str(code)


def _request_id(found: str, context: grpc.ServicerContext) -> str:
    if not found:
        found = next((str(value) for key, value in context.invocation_metadata() if key == "x-request-id"), "")
    return _printable(found) or uuid.uuid4().hex[:12]


def _printable(text: str) -> str:
    """Somebody else's text: it must not forge lines of a log, nor fill it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MOST_LETTERS])


class _Noted:
    """The requests of a call as they come; the id in the first of them is kept, and nothing else."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests
        self._first = True
        self.request_id = ""

    def __iter__(self) -> _Noted:
        return self

    def __next__(self) -> Any:
        request = next(self._requests)
        if self._first:
            self._first = False
            self.request_id = _told(request)
        return request


def _told(request: Any) -> str:
    mutation = getattr(request, "mutation", None) or getattr(getattr(request, "header", None), "mutation", None)
    return getattr(request, "id", "") or getattr(request, "request_id", "") or getattr(mutation, "request_id", "")
