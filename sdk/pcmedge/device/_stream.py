"""Streaming inference: a bounded number of batches under way, results in order, no hang when a side goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from numbers import Integral
from queue import SimpleQueue
from typing import Any

from pcmedge._contract import inference_pb2
from pcmedge.device._calls import Call
from pcmedge.device._inference import (
    Inputs,
    ModelSpec,
    infer_request,
    infer_result,
)
from pcmedge.device.results import InferResult
from pcmedge.device.transport import AsyncTransport, Transport
from pcmedge.errors import Error, InputTypeError, InputValueError
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import from_stream_reply

Answer = InferResult | Error


class _Pending:
    """The batches under way, oldest first: when each was sent, or why it could not be; and what the caller's iterable
    raised.
    """

    def __init__(self) -> None:
        self.sent: deque[float | Error] = deque()
        self.failure: BaseException | None = None

    def request(self, spec: ModelSpec, batch: Inputs, number: int) -> inference_pb2.ModelInferRequest:
        """The request of a batch. One that cannot become tensors goes without any: its refusal keeps its place."""
        try:
            request = infer_request(spec, batch, str(number))
        except Error as error:
            self.sent.append(error)
            return inference_pb2.ModelInferRequest(model_name=spec.name, id=str(number))
        self.sent.append(time.perf_counter())
        return request

    def answer(self, reply: inference_pb2.ModelStreamInferResponse) -> Answer:
        sent = self.sent.popleft()
        if isinstance(sent, Error):
            return sent
        return from_stream_reply(reply) or infer_result(reply.infer_response, time.perf_counter() - sent)


def check_options(window: int, errors: str) -> None:
    """InputTypeError, InputValueError for options no stream has."""
    if isinstance(window, bool) or not isinstance(window, Integral):
        raise InputTypeError(f"window is the number of batches under way; found {window!r}", argument="window")
    if window < 1:
        raise InputValueError(f"window is the number of batches under way, at least 1; found {window}")
    if errors not in ("raise", "yield"):
        raise InputValueError(f'errors is "raise" or "yield"; found {errors!r}', argument="errors")


def infer_stream(
    transport: Transport, spec: ModelSpec, batches: Iterable[Inputs], window: int
) -> Generator[Answer, None, None]:
    """Answers (results or typed errors) in the order of ``batches``, at most ``window`` of them under way."""
    # A place for each batch under way. Not a Semaphore: that one is written in Python, and slow to wake its waiter.
    room: SimpleQueue[None] = SimpleQueue()
    for _ in range(window):
        room.put(None)
    over = threading.Event()
    pending = _Pending()

    def requests() -> Iterator[inference_pb2.ModelInferRequest]:
        # Runs in a thread of gRPC's: an exception here would be swallowed, so it is kept for the caller.
        try:
            for number, batch in enumerate(batches):
                room.get()
                if over.is_set():
                    return
                yield pending.request(spec, batch, number)
        except GeneratorExit:
            raise
        except BaseException as error:
            pending.failure = error

    replies = transport.stream(Call(method=METHODS["ModelStreamInfer"], request=requests(), timeout_s=None))
    try:
        for reply in replies:
            answer = pending.answer(reply)
            room.put(None)
            yield answer
        if pending.failure is not None:
            raise pending.failure
    finally:
        over.set()
        room.put(None)
        replies.close()


async def async_infer_stream(
    transport: AsyncTransport, spec: ModelSpec, batches: Iterable[Inputs] | AsyncIterable[Inputs], window: int
) -> AsyncGenerator[Answer, None]:
    """The awaiting twin of :func:`infer_stream`."""
    room = asyncio.Semaphore(window)
    over = asyncio.Event()
    pending = _Pending()

    async def requests() -> AsyncIterator[inference_pb2.ModelInferRequest]:
        number = 0
        try:
            async for batch in _async(batches):
                await room.acquire()
                if over.is_set():
                    return
                yield pending.request(spec, batch, number)
                number += 1
        except Exception as error:
            pending.failure = error

    replies = transport.stream(Call(method=METHODS["ModelStreamInfer"], request=requests(), timeout_s=None))
    try:
        async for reply in replies:
            answer = pending.answer(reply)
            room.release()
            yield answer
        if pending.failure is not None:
            raise pending.failure
    finally:
        over.set()
        room.release()
        await replies.aclose()


async def _async(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
