"""Being told of calls that ended, for metrics and the access log. Without observers no call is wrapped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from pcmedge.protocol.services import Method

_MOST_ID = 128


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that ended: nothing of what it carried but its id.

    ``request_id``: of the (first) message, else of the header ``x-request-id``, else made up. ``status``: the name of
    the gRPC status. ``replies``: of a stream.
    """

    name: str
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


def observed(answer: Callable[..., Any], method: Method, observers: Sequence[Observer]) -> Callable[..., Any]:
    """``answer``, whose end every observer is told of."""

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

    def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
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
            name=method.name,
            status=_status(context),
            duration_s=time.perf_counter() - started_s,
            request_id=_request_id(noted.request_id, context),
            peer=context.peer(),
            replies=replies,
        )
        for observer in observers:
            observer(call)

    return stream if method.server_streaming else unary


def _status(context: Any) -> str:
    """OK unless the call was ended otherwise; a caller who left before the end is CANCELLED."""
    code = context.code()
    if code is None:
        return "OK" if context.is_active() else "CANCELLED"
    return code.name if isinstance(code, grpc.StatusCode) else str(code)


def _request_id(found: str, context: grpc.ServicerContext) -> str:
    if not found:
        found = next((str(value) for key, value in context.invocation_metadata() if key == "x-request-id"), "")
    # Somebody else's text: it must not forge lines of a log.
    clean = "".join(letter if letter.isprintable() else "?" for letter in found[:_MOST_ID])
    return clean or uuid.uuid4().hex[:12]


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
