"""What carries calls: the two protocols every transport follows, and the one to handlers in the same process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from typing import Any, Protocol

from pcmedge.device._calls import Call
from pcmedge.errors import CancelledError, DeadlineError, UnavailableError
from pcmedge.forks import check_same_process
from pcmedge.protocol.dispatch import Dispatcher


class Transport(Protocol):
    """Blocking. Raises typed errors only; ``address`` is what people read in messages."""

    address: str

    def unary(self, call: Call) -> Any:
        """The reply of a call without a streaming reply."""

    def stream(self, call: Call) -> Generator[Any, None, None]:
        """The messages of a streaming reply; closing the iterator cancels the call."""

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """The awaiting twin of :class:`Transport`."""

    address: str

    async def unary(self, call: Call) -> Any: ...

    def stream(self, call: Call) -> AsyncGenerator[Any, None]: ...

    async def close(self) -> None: ...


class LocalContext:
    """A call in the same process.

    Nobody can be taken out of a running computation, so a deadline here ends the call at its next step: while it waits
    for another change of the device, between two tiles, batches, guard reads and recalibrations, and between two
    messages of a watching stream. Then nothing is changed (advancing time: what was done stands) and DeadlineError is
    raised. A call of one step (an inference, a self-test), and one that was past its last step, finishes and is
    answered, late.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._ended = threading.Event()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def late(self) -> bool:
        return self._deadline_s is not None and time.monotonic() >= self._deadline_s

    def active(self) -> bool:
        return not self._ended.is_set() and not self.late

    def on_end(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)
        if self._ended.is_set():
            callback()

    def end(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            for callback in self._callbacks:
                callback()


class LocalTransport:
    """Calls handlers in this process; ``on_close`` releases what they run on.

    A forked child has the handlers but not their threads: there every call is DeviceStateError, and closing does
    nothing.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, address: str = "in process", on_close: Callable[[], None] | None = None
    ) -> None:
        self.address = address
        self._dispatcher = dispatcher
        self._on_close = on_close
        self._process = os.getpid()
        self._closed = False

    def unary(self, call: Call, context: LocalContext | None = None) -> Any:
        """``context`` lets another thread end the call."""
        context = context or LocalContext(call.timeout_s)
        with self._ending(call, context):
            return self._dispatcher.call(call.method.name, call.request, context)

    def stream(self, call: Call, context: LocalContext | None = None) -> Generator[Any, None, None]:
        """``context`` lets another thread end the call."""
        context = context or LocalContext(call.timeout_s)
        with self._ending(call, context):
            for message in self._dispatcher.call(call.method.name, call.request, context):
                yield message
                self.check_process()

    @contextlib.contextmanager
    def _ending(self, call: Call, context: LocalContext) -> Iterator[None]:
        self.check_process()
        if self._closed:
            raise UnavailableError("this device was closed; make a new one", closed=True)
        try:
            yield
        except CancelledError as error:
            if context.late:
                raise deadline_error(call, self.address) from error
            raise
        finally:
            context.end()

    def check_process(self) -> None:
        """DeviceStateError in a forked child."""
        check_same_process(self._process, f"this device ({self.address})")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._on_close is not None and os.getpid() == self._process:
                self._on_close()


def deadline_error(call: Call, address: str) -> DeadlineError:
    return DeadlineError(
        f"{call.method.name} did not finish within {call.timeout_s} s at {address}; give it a larger timeout_s, or "
        "look at the device's telemetry for what keeps it busy",
        address=address,
        call=call.method.name,
    )


class AsyncLocalTransport:
    """The same for an event loop: each step of a call runs in a worker thread."""

    def __init__(self, local: LocalTransport) -> None:
        self.address = local.address
        self._local = local

    async def unary(self, call: Call) -> Any:
        self._local.check_process()
        context = LocalContext(call.timeout_s)
        step = asyncio.ensure_future(asyncio.to_thread(self._local.unary, call, context))
        try:
            return await asyncio.shield(step)
        finally:
            # A cancelled task leaves its worker inside the call: end the call first, then wait for the worker.
            context.end()
            if not step.done():
                await asyncio.wait([step])
                step.exception()

    async def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        self._local.check_process()
        context = LocalContext(call.timeout_s)
        if isinstance(call.request, AsyncIterable):
            call = dataclasses.replace(call, request=_pulled(call.request, asyncio.get_running_loop(), context))
        messages = self._local.stream(call, context)
        end = object()
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = asyncio.ensure_future(asyncio.to_thread(next, messages, end))
                message = await asyncio.shield(step)
                if message is end:
                    return
                yield message
        finally:
            # A cancelled task leaves its worker inside the call: end the call first, then wait for the worker.
            context.end()
            if step is not None and not step.done():
                await asyncio.wait([step])
                step.exception()
            await asyncio.to_thread(messages.close)

    async def close(self) -> None:
        await asyncio.to_thread(self._local.close)


def _pulled(requests: AsyncIterable[Any], loop: asyncio.AbstractEventLoop, context: LocalContext) -> Iterator[Any]:
    """The items of an async iterable, pulled from a worker thread through the loop it belongs to."""
    iterator = aiter(requests)
    end = object()
    waiting: list[concurrent.futures.Future[Any]] = []
    context.on_end(lambda: [future.cancel() for future in waiting])

    async def following() -> Any:
        return await anext(iterator, end)

    while context.active():
        waiting[:] = [asyncio.run_coroutine_threadsafe(following(), loop)]
        try:
            item = waiting[0].result()
        except concurrent.futures.CancelledError:
            return
        if item is end:
            return
        yield item
