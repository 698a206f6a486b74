"""What stands between the calls of clients and the chip: how many requests compute, wait, and share a run.

The words are Triton's: ``max_batch_size``, ``max_queue_delay``, ``max_queue_size``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from pcmedge.errors import BusyError, CancelledError, InputTypeError, InputValueError, UnavailableError

from pcmedge_emulator.arguments import whole
from pcmedge_emulator.outcomes import InferOutcome
from pcmedge_emulator.processors import available_cores

MOST = 1024
"""Every request that waits holds a thread, so neither bound may be larger."""
MOST_AT_ONCE = 64
LONGEST_DELAY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """How a service brings requests to the chip.

    * ``max_batch_size``: samples of one run of the engine at most, requests of several clients together; 1 (the
      default) computes every request alone. A larger request is computed alone, it is never refused for its size.
    * ``max_queue_delay_s``: seconds a request waits for company at most while nothing else keeps it waiting. With 0
      (the default) a batch is what arrived while the ones before were computed.
    * ``max_batches_at_once``: batches computed at the same time; None (the default) for two, one on a single processor.
      With one, the chip rests while a batch is answered and its clients send what is next.
    * ``max_queue_size``: requests that wait at most, those being computed not counted; one more is answered BUSY.

    Raises InputTypeError, InputValueError.

    >>> serve(chip, scheduling=Scheduling(max_batch_size=32, max_queue_delay_s=0.002))
    """

    max_batch_size: int = 1
    max_queue_delay_s: float = 0.0
    max_queue_size: int = 128
    max_batches_at_once: int | None = None

    def __post_init__(self) -> None:
        whole("max_batch_size", self.max_batch_size, 1, MOST)
        whole("max_queue_size", self.max_queue_size, 1, MOST)
        if self.max_batches_at_once is not None:
            whole("max_batches_at_once", self.max_batches_at_once, 1, MOST_AT_ONCE)
        delay_s = self.max_queue_delay_s
        if isinstance(delay_s, bool) or not isinstance(delay_s, int | float):
            raise InputTypeError(f"max_queue_delay_s is a number of seconds, got {delay_s!r}.", value=delay_s)
        if not (math.isfinite(delay_s) and 0.0 <= delay_s <= LONGEST_DELAY_S):
            raise InputValueError(
                f"max_queue_delay_s is 0 to {LONGEST_DELAY_S:g} seconds, got {delay_s!r}.", value=delay_s
            )
        if delay_s > 0.0 and self.max_batch_size == 1:
            raise InputValueError(
                "max_queue_delay_s is how long a request waits for others to share a batch with; with max_batch_size 1 "
                "there are none. Set max_batch_size, or leave the delay at 0.",
                value=delay_s,
            )

    @property
    def batches_at_once(self) -> int:
        """What ``max_batches_at_once`` means on this machine."""
        return self.max_batches_at_once or min(2, available_cores())

    @property
    def batches(self) -> bool:
        """Whether requests may be computed together."""
        return self.max_batch_size > 1


class Caller(Protocol):
    """Who waits for a request's answer."""

    def active(self) -> bool:
        """False once nobody wants the answer: the caller is gone, or the deadline has passed."""


@dataclass(frozen=True)
class Answer:
    """A request's outcome, how long it waited for its turn, and how long its run of the engine took. Nanoseconds."""

    outcome: InferOutcome
    queue_ns: int
    infer_ns: int


Executed = Callable[[str, int, int], None]
"""Told of every run of the engine that succeeded: model, samples, nanoseconds."""


class Submitted(Protocol):
    """A request that was taken on."""

    def result(self) -> Answer:
        """The answer, waited for or computed here. Raises what the inference raises, CancelledError."""

    def leave(self) -> None:
        """Nobody wants the answer any more."""


class Scheduler(Protocol):
    """Takes requests to the chip: :class:`~pcmedge_emulator.service.turns.Turns` or
    :class:`~pcmedge_emulator.service.batching.Batcher`.

    ``ahead``: how many requests of one stream are worth submitting before the first of them is answered.
    """

    @property
    def ahead(self) -> int: ...

    def submit(
        self, name: str, inputs: Mapping[str, NDArray[Any]], caller: Caller, *, patient: bool = False
    ) -> Submitted: ...

    def wake(self) -> None: ...

    def counts(self) -> tuple[int, int]: ...

    def drain(self) -> None: ...

    def close(self) -> None: ...


def samples_of(inputs: Mapping[str, NDArray[Any]]) -> int:
    """Samples of a request: the longest first axis of its inputs."""
    return max((array.shape[0] for array in inputs.values() if array.ndim), default=1)


def full(scheduling: Scheduling) -> BusyError:
    most = scheduling.max_queue_size
    return BusyError(
        f"expected fewer than {most} inference requests waiting for the chip, found {most}; repeat the request later, "
        "send larger batches from fewer clients, or serve with a larger --max-queue-size",
        max_queue_size=most,
    )


def gone() -> CancelledError:
    return CancelledError("the caller is gone, or its deadline has passed; the request left the queue, not computed")


def shutting_down() -> UnavailableError:
    return UnavailableError("the device is shutting down; connect again when it is back")
