"""Driving scripts: the only place that knows whether the world is blocking or awaiting."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, ParamSpec, TypeVar

from pcmedge.device._calls import Backoff, Call, Script, Session, Stream, Work, may_repeat
from pcmedge.device._versions import asks, check_contract, explained, version_of
from pcmedge.device.transport import AsyncTransport, Transport
from pcmedge.errors import Error, UnimplementedError

P = ParamSpec("P")
T = TypeVar("T")


class Driver:
    """Runs scripts over a blocking transport."""

    def __init__(self, transport: Transport, session: Session, backoff: Backoff) -> None:
        self._transport = transport
        self._session = session
        self._backoff = backoff

    def _run(self, script: Script[T]) -> T:
        return _driven(script, self._answer)

    def _meet(self) -> None:
        """Looks who answers, where nobody has yet. ContractVersionError."""
        if address := self._session.peer.unmet:
            _driven(check_contract(self._session, address), self._reply)

    def _answer(self, call: Call | Work) -> Any:
        if isinstance(call, Work):
            return call.run()
        self._meet()
        try:
            return self._reply(call)
        except UnimplementedError as error:
            raise self._explained(call.method.name, error) from None

    def _explained(self, name: str, error: UnimplementedError) -> Error:
        if (question := asks(self._session, name)) is not None:
            with contextlib.suppress(Error):
                self._session.peer.contract = version_of(self._attempt(question))
        return explained(self._session, name, error)

    def _reply(self, call: Call) -> Any:
        failure: Error | None = None
        for wait_s, attempt in self._backoff.tries(call):
            if wait_s:
                # Not sleep(0): that still costs a timer, a tenth of a millisecond.
                time.sleep(wait_s)
            try:
                return self._attempt(attempt)
            except Error as error:
                if not may_repeat(error):
                    raise
                failure = error
        assert failure is not None
        raise failure

    def _attempt(self, call: Call) -> Any:
        if not call.method.server_streaming:
            return self._transport.unary(call)
        last = None
        messages = self._transport.stream(call)
        try:
            for last in messages:
                if call.on_message is not None:
                    call.on_message(last)
        finally:
            messages.close()
        return last

    def _watch(self, stream: Stream[T]) -> Generator[T, None, None]:
        self._meet()
        messages = self._transport.stream(stream.call)
        try:
            for message in messages:
                yield stream.decode(message)
        except UnimplementedError as error:
            raise self._explained(stream.call.method.name, error) from None
        finally:
            messages.close()


def _driven(script: Script[T], answer: Callable[[Any], Any]) -> T:
    """The result of a script whose calls ``answer`` makes."""
    try:
        call = next(script)
        while True:
            try:
                reply = answer(call)
            except Error as error:
                call = script.throw(error)
            else:
                call = script.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


class AsyncDriver:
    """Runs the same scripts over an awaiting transport."""

    def __init__(self, transport: AsyncTransport, session: Session, backoff: Backoff) -> None:
        self._transport = transport
        self._session = session
        self._backoff = backoff

    async def _run(self, script: Script[T]) -> T:
        return await _awaited(script, self._answer)

    async def _meet(self) -> None:
        if address := self._session.peer.unmet:
            await _awaited(check_contract(self._session, address), self._reply)

    async def _answer(self, call: Call | Work) -> Any:
        if isinstance(call, Work):
            return await asyncio.to_thread(call.run)
        await self._meet()
        try:
            return await self._reply(call)
        except UnimplementedError as error:
            raise await self._explained(call.method.name, error) from None

    async def _explained(self, name: str, error: UnimplementedError) -> Error:
        if (question := asks(self._session, name)) is not None:
            with contextlib.suppress(Error):
                self._session.peer.contract = version_of(await self._attempt(question))
        return explained(self._session, name, error)

    async def _reply(self, call: Call) -> Any:
        failure: Error | None = None
        for wait_s, attempt in self._backoff.tries(call):
            if wait_s:
                await asyncio.sleep(wait_s)
            try:
                return await self._attempt(attempt)
            except Error as error:
                if not may_repeat(error):
                    raise
                failure = error
        assert failure is not None
        raise failure

    async def _attempt(self, call: Call) -> Any:
        if not call.method.server_streaming:
            return await self._transport.unary(call)
        last = None
        messages = self._transport.stream(call)
        try:
            async for last in messages:
                if call.on_message is not None:
                    call.on_message(last)
        finally:
            await messages.aclose()
        return last

    async def _watch(self, stream: Stream[T]) -> AsyncGenerator[T, None]:
        await self._meet()
        messages = self._transport.stream(stream.call)
        try:
            async for message in messages:
                yield stream.decode(message)
        except UnimplementedError as error:
            raise await self._explained(stream.call.method.name, error) from None
        finally:
            await messages.aclose()


async def _awaited(script: Script[T], answer: Callable[[Any], Coroutine[Any, Any, Any]]) -> T:
    """The awaiting twin of :func:`_driven`."""
    try:
        call = next(script)
        while True:
            try:
                reply = await answer(call)
            except Error as error:
                call = script.throw(error)
            else:
                call = script.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


def call(script: Callable[Concatenate[Session, P], Script[T]]) -> Callable[Concatenate[Driver, P], T]:
    """A method that runs a script to its end."""

    @functools.wraps(script)
    def method(self: Driver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(script(self._session, *args, **kwargs))

    return _signed(method, script, "{}")


def watch(
    start: Callable[Concatenate[Session, P], Stream[T]],
) -> Callable[Concatenate[Driver, P], Generator[T, None, None]]:
    """A method that returns an iterator over a stream's results; closing it ends the call."""

    @functools.wraps(start)
    def method(self: Driver, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._watch(start(self._session, *args, **kwargs))

    return _signed(method, start, "Generator[{}, None, None]")


def async_call(
    script: Callable[Concatenate[Session, P], Script[T]],
) -> Callable[Concatenate[AsyncDriver, P], Coroutine[Any, Any, T]]:
    """The awaiting twin of :func:`call`."""

    @functools.wraps(script)
    async def method(self: AsyncDriver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(script(self._session, *args, **kwargs))

    return _signed(method, script, "{}")


def async_watch(
    start: Callable[Concatenate[Session, P], Stream[T]],
) -> Callable[Concatenate[AsyncDriver, P], AsyncGenerator[T, None]]:
    """The awaiting twin of :func:`watch`."""

    @functools.wraps(start)
    def method(self: AsyncDriver, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._watch(start(self._session, *args, **kwargs))

    return _signed(method, start, "AsyncGenerator[{}, None]")


M = TypeVar("M", bound=Callable[..., Any])


def _signed(method: M, script: Callable[..., Any], returns: str) -> M:
    """Give the method the signature that help() and editors should show: self first, the script's own result."""
    signature = inspect.signature(script)
    _, *parameters = signature.parameters.values()
    result = re.sub(r"^(?:Script|Stream)\[(.*)\]$", r"\1", str(signature.return_annotation))
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *parameters], return_annotation=returns.format(result)
    )
    del method.__wrapped__  # type: ignore[attr-defined]
    return method
