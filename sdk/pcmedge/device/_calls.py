"""The sans-io core of the client: scripts yield calls and receive replies; who drives them decides sync or async.

A script is a generator. It yields a :class:`Call`, is sent the reply (for a streaming reply, its last message) or has
the typed error thrown in, and returns its result. ``Device`` drives scripts over a blocking transport, ``AsyncDevice``
the same scripts over an awaiting one.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.message import Message

from pcmedge._contract import device_pb2, image_pb2
from pcmedge.device.results import Mutation
from pcmedge.errors import Error
from pcmedge.protocol.services import METHODS, Method

if TYPE_CHECKING:
    from pcmedge.device._inference import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the contract to be made.

    ``timeout_s``: deadline over all attempts, None for none. ``idempotent``: may be repeated when the device cannot be
    reached. ``on_message``: called with each message of a streaming reply.
    """

    method: Method
    request: Message | Iterable[Message] | AsyncIterable[Message]
    timeout_s: float | None
    idempotent: bool = False
    on_message: Callable[[Any], None] | None = None


Script = Generator[Call, Any, T]


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A streaming call whose messages are results of their own, and how one message becomes a result."""

    call: Call
    decode: Callable[[Any], T]


@dataclass
class Session:
    """What the scripts of one connection share: deadlines in seconds, and what is known about the models."""

    timeout_s: float = 30.0
    operation_timeout_s: float = 900.0
    specs: dict[str, ModelSpec] = field(default_factory=dict)
    applications: dict[str, image_pb2.Application] = field(default_factory=dict)
    default_model: str | None = None

    def read(self, name: str, request: Message, timeout_s: float | None = None) -> Call:
        """A call that changes nothing and may be repeated."""
        return Call(method=METHODS[name], request=request, timeout_s=timeout_s or self.timeout_s, idempotent=True)

    def change(
        self,
        name: str,
        request: Message | Iterable[Message],
        *,
        timeout_s: float | None = None,
        on_message: Callable[[Any], None] | None = None,
    ) -> Call:
        """A call that changes the device; never repeated by itself."""
        return Call(method=METHODS[name], request=request, timeout_s=timeout_s or self.timeout_s, on_message=on_message)

    def watch(self, name: str, request: Message, decode: Callable[[Any], T]) -> Stream[T]:
        return Stream(Call(method=METHODS[name], request=request, timeout_s=None), decode)

    def forget_models(self) -> None:
        self.specs.clear()
        self.applications.clear()
        self.default_model = None


def mutation_message(mutation: Mutation | None) -> device_pb2.Mutation:
    """The contract's Mutation; one without a request id gets a fresh one."""
    mutation = mutation or Mutation()
    return device_pb2.Mutation(
        request_id=mutation.request_id or new_request_id(),
        expected_program_generation=mutation.expected_program_generation,
        expected_statistics_generation=mutation.expected_statistics_generation,
        lease_id=mutation.lease_id,
    )


def new_request_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How an idempotent call is repeated while the device cannot be reached (gRPC status UNAVAILABLE).

    Waits grow from ``first_s`` by ``factor`` up to ``longest_s``, each shortened by up to a third at random so that
    many clients do not come back at once.
    """

    attempts: int = 5
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 2.0

    def tries(self, call: Call) -> Iterator[tuple[float, Call]]:
        """(seconds to wait first, the call with what is left of its deadline) for each attempt.

        Ends when attempts or the deadline are used up.
        """
        started_s = time.monotonic()
        yield 0.0, call
        wait_s = self.first_s
        for _ in range(self.attempts - 1 if call.idempotent else 0):
            pause_s = wait_s * random.uniform(2 / 3, 1)
            left_s = None
            if call.timeout_s is not None:
                left_s = started_s + call.timeout_s - time.monotonic() - pause_s
                if left_s <= 0:
                    return
            yield pause_s, replace(call, timeout_s=left_s)
            wait_s = min(wait_s * self.factor, self.longest_s)


def may_repeat(error: Error) -> bool:
    """Only an unreachable device is worth repeating; a passed deadline, a full queue, a closed connection are not."""
    return error.status == "UNAVAILABLE" and "closed" not in error.metadata
