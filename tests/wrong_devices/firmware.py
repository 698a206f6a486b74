"""The good device that every wrong one is made of, and the two places where a fault is put into it.

A wrong device is a subclass of :class:`Firmware`. It overrides verbs of the emulated chip where the fault is in what
the device does, and :meth:`Firmware.wire` where it is in what goes over the line.
"""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from unittest import mock

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from pcmedge.errors import Error
from pcmedge.image.profiles import get_profile
from pcmedge.protocol.services import METHODS, Method
from pcmedge.protocol.status import DETAILS_KEY, to_status
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import NO_MUTATION, Mutation
from pcmedge_emulator.service.handlers import DEFAULT_SCHEDULING
from pcmedge_emulator.service.scheduling import Scheduling
from pcmedge_emulator.service.server import MAX_MESSAGE_BYTES, THREADS, Server, serve

__all__ = ["NO_MUTATION", "Call", "Firmware", "Mutation", "Refused", "Running", "refusal", "running"]


_TILES = 12
"""Few enough to be filled."""


class Refused(Exception):
    """A status other than OK on its way to the client."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def info(self) -> ErrorInfo:
        found = ErrorInfo()
        if self.status.details:
            self.status.details[0].Unpack(found)
        return found

    def as_(self, *, code: int | None = None, message: str | None = None, info: ErrorInfo | None = None) -> Refused:
        """The same refusal with parts replaced."""
        changed = Status()
        changed.CopyFrom(self.status)
        if code is not None:
            changed.code = code
        if message is not None:
            changed.message = message
        if info is not None:
            del changed.details[:]
            changed.details.add().Pack(info)
        return Refused(changed)

    def bare(self) -> Refused:
        """Without details, as a server answers that knows gRPC and nothing of this contract."""
        return Refused(Status(code=self.status.code, message=self.status.message))


def refusal(error: Error) -> Refused:
    return Refused(to_status(error))


@dataclass(frozen=True)
class Call:
    """One call as it came in. ``answer`` lets the good device answer it: a message, or an iterator of messages."""

    method: Method
    request: Any
    context: grpc.ServicerContext
    answer: Callable[[Any], Any]

    @property
    def name(self) -> str:
        return self.method.name

    def go_on(self) -> Any:
        return self.answer(self.request)

    def with_mutation(self, change: Callable[[Any], None]) -> Any:
        """Goes on with what every change carries altered, be it in the request or in the header of a stream."""

        def altered(message: Any) -> Any:
            if message.DESCRIPTOR.name in ("ProgramRequest", "CalibrationBufferRequest"):
                if message.HasField("header"):
                    change(message.header.mutation)
            elif "mutation" in message.DESCRIPTOR.fields_by_name:
                change(message.mutation)
            return message

        if self.method.client_streaming:
            return self.answer(altered(message) for message in self.request)
        return self.answer(altered(self.request))


class Firmware(Chip):
    """Keeps the contract."""

    # Subclasses do not: ``class Wrong(Firmware, rules=("R8",))``. ``restarts``: the fault shows after a restart only.
    # ``scheduling``, ``message_bytes``, ``threads`` are its server's.
    rules: ClassVar[tuple[str, ...]] = ()
    restarts: ClassVar[bool] = False
    scheduling: ClassVar[Scheduling] = DEFAULT_SCHEDULING
    message_bytes: ClassVar[int] = MAX_MESSAGE_BYTES
    threads: ClassVar[int] = THREADS

    def __init_subclass__(cls, *, rules: tuple[str, ...] = (), restarts: bool = False) -> None:
        super().__init_subclass__()
        cls.rules, cls.restarts = rules, restarts

    def __init__(self, store: Path | None) -> None:
        profile = get_profile("pcm-512x512")
        profile.tiles = _TILES
        super().__init__(profile=profile, clock=Clock.manual(), store=store)
        self.folder = store

    @classmethod
    def device_name(cls) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def story(cls) -> str:
        """The fault in a sentence or two."""
        return " ".join((cls.__doc__ or "").split())

    @classmethod
    def libraries(cls) -> contextlib.AbstractContextManager[Any]:
        """What the firmware was built with instead of the good parts, for as long as the device runs."""
        return contextlib.nullcontext()

    def wire(self, call: Call) -> Any:
        return call.go_on()


class _Line:
    """gRPC's context, but a status to abort with is raised, so that :meth:`Firmware.wire` meets it."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort_with_status(self, status: Any) -> NoReturn:
        for key, value in status.trailing_metadata:
            if key == DETAILS_KEY:
                raise Refused(Status.FromString(value))
        raise Refused(Status(code=status.code.value[0], message=status.details))


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        method = METHODS.get(details.method.rpartition("/")[2])
        return handler if handler is None or method is None else self._between(handler, method)

    def _between(self, handler: Any, method: Method) -> Any:
        # The service receives every call as a stream of requests, also one that has a single one.
        kind = "stream_stream" if method.server_streaming else "stream_unary"
        good: Callable[[Any, Any], Any] = getattr(handler, kind)

        def call(requests: Any, context: grpc.ServicerContext) -> Any:
            line: Any = _Line(context)
            if method.client_streaming:
                return self._firmware.wire(Call(method, requests, context, lambda asked: good(asked, line)))
            request = next(requests)
            return self._firmware.wire(Call(method, request, context, lambda asked: good(iter((asked,)), line)))

        def single(requests: Any, context: grpc.ServicerContext) -> Any:
            try:
                return call(requests, context)
            except (Refused, Error) as error:
                _abort(context, error)

        def streamed(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from call(requests, context)
            except (Refused, Error) as error:
                _abort(context, error)

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            streamed if method.server_streaming else single,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _abort(context: grpc.ServicerContext, error: Refused | Error) -> NoReturn:
    status = error.status if isinstance(error, Refused) else to_status(error)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("unreachable: abort_with_status raises")


class Running:
    """A device on a real port. ``restart`` cuts its power and brings it back at the same address."""

    def __init__(self, firmware: type[Firmware], folder: Path | None) -> None:
        self._firmware, self._folder = firmware, folder
        self.chip, self._server = self._start("grpc://127.0.0.1:0")
        self.address = self._server.address

    def _start(self, listen: str) -> tuple[Firmware, Server]:
        firmware = self._firmware
        chip = firmware(self._folder)
        # The service takes no interceptors; its server is made with one all the same.
        interceptors = functools.partial(grpc.server, interceptors=[_Interceptor(chip)])
        with mock.patch.object(grpc, "server", interceptors):
            server = serve(
                chip,
                listen,
                lab=True,
                threads=firmware.threads,
                scheduling=firmware.scheduling,
                max_message_bytes=firmware.message_bytes,
            )
        return chip, server

    def stop(self) -> None:
        self._server.stop(0.0)
        self.chip.close()

    def restart(self) -> None:
        self.stop()
        self.chip, self._server = self._start(self.address)


@contextlib.contextmanager
def running(firmware: type[Firmware], *, persistent: bool = False) -> Iterator[Running]:
    """The device served; ``persistent``: with a store, so that it can be restarted."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if persistent else None
        stack.enter_context(firmware.libraries())
        found = Running(firmware, folder)
        try:
            yield found
        finally:
            found.stop()
