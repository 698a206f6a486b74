"""The sans-io core of the client: scripts yield calls and receive replies; who drives them decides sync or async.

A script is a generator. It yields a :class:`Call` (or :class:`Work` to be done here), is sent the reply (for a
streaming reply, its last message) or has the typed error thrown in, and returns its result. ``Device`` drives scripts
over a blocking transport, ``AsyncDevice`` the same scripts over an awaiting one.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pcmedge._contract import device_pb2, image_pb2
from pcmedge.errors import CertificateError, Error, InputTypeError, InputValueError
from pcmedge.protocol.services import METHODS, Method
from pcmedge.protocol.values import Mutation

if TYPE_CHECKING:
    from pcmedge.device._inference import ModelSpec
    from pcmedge.image import ChipImage

T = TypeVar("T")
M = TypeVar("M", bound=Message)

LONGEST_TIMEOUT_S = 1e9
"""A third of a century; gRPC's own clock counts not much further."""


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


@dataclass(frozen=True)
class Work:
    """Computation on this machine that takes long: an event loop does it in a thread."""

    run: Callable[[], Any]


Script = Generator[Call | Work, Any, T]


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A streaming call whose messages are results of their own, and how one message becomes a result."""

    call: Call
    decode: Callable[[Any], T]


@dataclass
class Peer:
    """Who answers at the other end of a connection; sessions of the same connection share it.

    ``contract``: version and minor of its contract, once it was asked. ``unmet``: its address, as long as nobody has
    looked whether a device of our version answers there.
    """

    contract: tuple[int, int] | None = None
    unmet: str = ""


@dataclass
class Session:
    """What the scripts of one connection share: deadlines in seconds, and what is known about the models.

    ``manifests``: by model name, with the program generation each was read at. ``resident_image``: the image of a
    resident model, where the chip is in this process; None where it is not.
    """

    timeout_s: float = 30.0
    operation_timeout_s: float = 900.0
    specs: dict[str, ModelSpec] = field(default_factory=dict)
    manifests: dict[str, tuple[int, image_pb2.Manifest]] = field(default_factory=dict)
    default_model: str | None = None
    resident_image: Callable[[str], ChipImage] | None = None
    peer: Peer = field(default_factory=Peer)

    def read(self, name: str, request: Message, timeout_s: float | None = None) -> Call:
        """A call that changes nothing and may be repeated."""
        deadline_s = self.timeout_s if timeout_s is None else checked_timeout(timeout_s)
        return Call(method=METHODS[name], request=request, timeout_s=deadline_s, idempotent=True)

    def change(
        self,
        name: str,
        request: Message | Iterable[Message],
        *,
        timeout_s: float | None = None,
        on_message: Callable[[Any], None] | None = None,
    ) -> Call:
        """A call that changes the device; never repeated by itself."""
        deadline_s = self.timeout_s if timeout_s is None else checked_timeout(timeout_s)
        return Call(method=METHODS[name], request=request, timeout_s=deadline_s, on_message=on_message)

    def watch(self, name: str, request: Message, decode: Callable[[Any], T]) -> Stream[T]:
        return Stream(Call(method=METHODS[name], request=request, timeout_s=None), decode)

    def forget_models(self) -> None:
        self.specs.clear()
        self.manifests.clear()
        self.default_model = None


def checked_timeout(timeout_s: float, name: str = "timeout_s") -> float:
    """A deadline as it was given. InputTypeError, InputValueError if it is not a number of seconds above 0."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, Real):
        raise InputTypeError(f"{name} is a number of seconds; found {timeout_s!r}", argument=name)
    if not (math.isfinite(timeout_s) and 0 < timeout_s <= LONGEST_TIMEOUT_S):
        raise InputValueError(
            f"{name} is more than 0 and at most {LONGEST_TIMEOUT_S:.0e} seconds; found {timeout_s!r}", argument=name
        )
    return float(timeout_s)


def build_message(kind: type[M], /, **values: Any) -> M:
    """A message of the contract with these fields. InputTypeError, InputValueError naming the one that does not fit."""
    try:
        return kind(**values)
    except (TypeError, ValueError):
        for name, value in values.items():
            expected = _EXPECTED.get(kind.DESCRIPTOR.fields_by_name[name].type, "another type")
            text = f"{name} is {expected}; found {value!r}"
            try:
                kind(**{name: value})
            except TypeError:
                raise InputTypeError(text, argument=name) from None
            except ValueError:
                raise InputValueError(text, argument=name) from None
        raise


_EXPECTED: Mapping[int, str] = {
    FieldDescriptor.TYPE_UINT32: f"a whole number from 0 to {2**32 - 1}",
    FieldDescriptor.TYPE_UINT64: f"a whole number from 0 to {2**64 - 1}",
    FieldDescriptor.TYPE_INT32: f"a whole number from {-(2**31)} to {2**31 - 1}",
    FieldDescriptor.TYPE_INT64: f"a whole number from {-(2**63)} to {2**63 - 1}",
    FieldDescriptor.TYPE_FLOAT: "a number",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_BOOL: "True or False",
    FieldDescriptor.TYPE_STRING: "text",
}


def mutation_message(mutation: Mutation | None) -> device_pb2.Mutation:
    """The contract's Mutation; one without a request id gets a fresh one."""
    mutation = mutation or Mutation()
    if not isinstance(mutation, Mutation):
        raise InputTypeError(f"mutation is a pcmedge.device.Mutation; found {mutation!r}", argument="mutation")
    return build_message(
        device_pb2.Mutation,
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
    """Only an unreachable device is worth repeating; a passed deadline, a full queue, a closed connection and a
    certificate that was refused are not.
    """
    return error.status == "UNAVAILABLE" and "closed" not in error.metadata and not isinstance(error, CertificateError)
