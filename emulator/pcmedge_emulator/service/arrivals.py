"""Calls that began and whose request has not come: a few are waited for, not for long, the oldest goes first.

gRPC itself waits for the one request of a unary call in a thread of the pool, for as long as the client likes, and
counts the call: a few hundred calls begun and not finished would keep everybody else out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from pcmedge.errors import CancelledError, InputError

from pcmedge_emulator.service.reading import readable

_GLANCES = 4


class Oldest:
    """Calls under way, of which the oldest is cancelled when there are more than ``most``, or when it is older than
    ``longest_s`` (None: any age). :meth:`close` ends the thread that looks.
    """

    def __init__(self, most: int, longest_s: float | None = None) -> None:
        self._most = most
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._calls: dict[grpc.ServicerContext, float] = {}
        self._closed = threading.Event()
        if longest_s is not None:
            threading.Thread(target=self._look, args=(longest_s,), name="pcm-arrivals", daemon=True).start()

    def add(self, context: grpc.ServicerContext) -> None:
        oldest = None
        with self._lock:
            self._calls[context] = time.monotonic()
            if len(self._calls) > self._most:
                oldest = next(iter(self._calls))
                del self._calls[oldest]
        if oldest is not None:
            oldest.cancel()

    def remove(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._calls.pop(context, None)

    def _look(self, longest_s: float) -> None:
        while not self._closed.wait(longest_s / _GLANCES):
            before_s = time.monotonic() - longest_s
            with self._lock:
                late = [context for context, since_s in self._calls.items() if since_s < before_s]
                for context in late:
                    del self._calls[context]
            for context in late:
                context.cancel()

    def close(self) -> None:
        self._closed.set()


def only_request(requests: Iterator[Any], context: grpc.ServicerContext, waiting: Oldest, call: str) -> Any:
    """The one request of a unary call. InputError if there is none or it cannot be read, CancelledError if the client
    went away or was not waited for any longer.
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
