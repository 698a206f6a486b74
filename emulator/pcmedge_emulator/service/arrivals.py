"""Calls that began and whose request has not come: a few are waited for, not for long, the oldest goes first.

gRPC itself waits for the one request of a unary call in a thread of the pool, for as long as the client likes, and
counts the call: a few hundred calls begun and not finished would keep everybody else out.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from pcmedge.errors import CancelledError, InputError

from pcmedge_emulator.service.reading import readable

_GLANCES = 4
_GLANCE_S = 0.25
_PATIENCE_S = 1.0
"""A call that began as long ago is not one of a burst whose requests are on their way."""


class Oldest:
    """Calls under way, of which the oldest are cancelled when there are more than ``most``, and those older than
    ``longest_s`` (None: any age). With ``longest_s`` none is cancelled in its first second, and :meth:`close` ends the
    thread that looks.
    """

    def __init__(self, most: int, longest_s: float | None = None) -> None:
        self._most = most
        self._patience_s = 0.0 if longest_s is None else min(_PATIENCE_S, longest_s)
        self._lock = threading.Lock()
        self._calls: dict[grpc.ServicerContext, float] = {}
        self._closed = threading.Event()
        if longest_s is not None:
            threading.Thread(target=self._look, args=(longest_s,), name="pcm-arrivals", daemon=True).start()

    def add(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._calls[context] = time.monotonic()
            late = self._too_many()
        for each in late:
            each.cancel()

    def remove(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._calls.pop(context, None)

    def _too_many(self) -> list[grpc.ServicerContext]:
        """Takes out the oldest of those that are more than ``most``, as far as they had time enough."""
        return self._taken(time.monotonic() - self._patience_s, len(self._calls) - self._most)

    def _taken(self, before_s: float, count: int) -> list[grpc.ServicerContext]:
        oldest = itertools.islice(self._calls.items(), max(0, count))
        found = [context for context, since_s in oldest if since_s <= before_s]
        for context in found:
            del self._calls[context]
        return found

    def _look(self, longest_s: float) -> None:
        while not self._closed.wait(min(longest_s / _GLANCES, _GLANCE_S)):
            with self._lock:
                late = self._taken(time.monotonic() - longest_s, len(self._calls)) + self._too_many()
            for context in late:
                context.cancel()

    def close(self) -> None:
        self._closed.set()


def only_request(requests: Iterator[Any], context: grpc.ServicerContext, waiting: Oldest, call: str) -> Any:
    """The one request of a unary call.

    InputError if there is none or it cannot be parsed, CancelledError if the client went away or was not waited for any
    longer.
    """
    waiting.add(context)
    try:
        request = next(requests, None)
    except grpc.RpcError as error:
        raise CancelledError(f"the client of {call} went away before its request was there", call=call) from error
    finally:
        waiting.remove(context)
    if request is None:
        raise InputError(f"{call} takes exactly one request, found none", call=call)
    return readable(request)
