"""The requests of a stream of inferences: one after another, or ahead of the answers so that a stream fills batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from pcmedge.protocol.dispatch import CallContext

from pcmedge_emulator.service.scheduling import Caller


class Leaving(Protocol):
    """Something taken on for a caller."""

    def leave(self) -> None:
        """Nobody wants the answer any more."""


T = TypeVar("T", bound=Leaving)


class _Stream(Generic[T]):
    """The caller of all requests of one stream, and what was taken on for it and is not answered yet."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._open: list[T] = []

    def active(self) -> bool:
        return not self.over and self._context.active()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def begin(self, taken: T) -> None:
        with self._lock:
            self._open.append(taken)
        if self.over:
            taken.leave()

    def done(self, taken: T) -> None:
        with self._lock:
            self._open.remove(taken)

    def end(self) -> None:
        self._over.set()
        with self._lock:
            left = list(self._open)
        for taken in left:
            taken.leave()


def one_by_one(
    requests: Iterator[Any], context: CallContext, take: Callable[[Any, Caller], T]
) -> Iterator[tuple[Any, T | Exception]]:
    """Each request and what ``take`` made of it, or the error it raised; pulled when the one before is answered."""
    stream: _Stream[T] = _Stream(context)
    context.on_end(stream.end)
    try:
        for request in requests:
            try:
                taken = take(request, stream)
            except Exception as error:
                yield request, error
            else:
                stream.begin(taken)
                yield request, taken
                stream.done(taken)
    finally:
        stream.end()


def read_ahead(
    requests: Iterator[Any],
    context: CallContext,
    take: Callable[[Any, Caller], T],
    wake: Callable[[], None],
    most: int,
) -> Iterator[tuple[Any, T | Exception]]:
    """As :func:`one_by_one`, but each request is taken as soon as it arrives; at most ``most`` are not answered yet.

    The consumer has answered a request when it asks for the next one. When the stream ends early, what was taken on for
    it leaves; ``wake`` is called then, for a ``take`` that waits. Raises what ``requests`` raises.
    """
    stream: _Stream[T] = _Stream(context)
    room = threading.Semaphore(most)
    found: queue.SimpleQueue[tuple[Any, T | Exception] | Exception | None] = queue.SimpleQueue()

    def end() -> None:
        stream.end()
        room.release()
        wake()

    def read() -> None:
        try:
            while room.acquire() and not stream.over:
                try:
                    request = next(requests)
                except StopIteration:
                    return
                try:
                    taken = take(request, stream)
                except Exception as error:
                    found.put((request, error))
                else:
                    stream.begin(taken)
                    found.put((request, taken))
        except Exception as error:
            found.put(error)
        finally:
            found.put(None)

    context.on_end(end)
    # A daemon, and never joined: it may wait for a request, and gRPC ends that wait only after the call is over.
    threading.Thread(target=read, name="pcm-stream", daemon=True).start()
    try:
        while (item := found.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
            if not isinstance(item[1], Exception):
                stream.done(item[1])
            room.release()
    finally:
        end()
