"""Which of two devices is in force, since when and why; and whose fault an error is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pcmedge.errors import (
    AddressInUseError,
    CompileError,
    Error,
    FileUnwritableError,
    ImageError,
    InputError,
    MissingExtraError,
    NotFoundError,
    UnavailableError,
)

Role = Literal["primary", "fallback"]

KEPT_TURNOVERS = 1024

_CALLERS = (
    InputError,
    NotFoundError,
    ImageError,
    CompileError,
    MissingExtraError,
    AddressInUseError,
    FileUnwritableError,
)


def is_devices_fault(error: Error) -> bool:
    """Whether another device might do what this one could not.

    So for one that is gone, late, busy, not programmed or broken; not for the caller's own mistakes.
    """
    return not isinstance(error, _CALLERS)


@dataclass(frozen=True, kw_only=True)
class Turnover:
    """One change of the device in force, as :meth:`pcmedge.FallbackDevice.turnovers` lists them.

    ``sequence`` grows by one from 1. ``reason``: the reason of the error that caused it ("UNAVAILABLE",
    "DEADLINE_EXCEEDED", "NOT_PROGRAMMED", ...; docs/device-contract.md), "SELF_TEST" when agreement is too low, or
    "RECOVERED". ``message`` is the sentence for people.
    """

    sequence: int
    time_unix_s: float
    from_device: Role
    to_device: Role
    reason: str
    message: str


class Switch:
    """Thread-safe. Starts with the primary in force.

    An *epoch* is the time between two turn-overs. Who wants to turn over says in which epoch the reason was found: of
    many requests that fail at once the first turns over, and one that was slow to fail does not undo a later return.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._role: Role = "primary"
        self._epoch = 0
        self._since_unix_s = time.time()
        self._kept: deque[Turnover] = deque(maxlen=KEPT_TURNOVERS)
        self._closed = False

    @property
    def in_force(self) -> Role:
        return self._role

    @property
    def since_unix_s(self) -> float:
        return self._since_unix_s

    @property
    def count(self) -> int:
        """Turn-overs so far."""
        return self._epoch

    @property
    def closed(self) -> bool:
        return self._closed

    def now(self) -> tuple[Role, int]:
        """(the device in force, the epoch). UnavailableError after :meth:`close`."""
        with self._changed:
            if self._closed:
                raise UnavailableError("this pair of devices was closed; make a new one", closed=True)
            return self._role, self._epoch

    def turn(self, epoch: int, to: Role, reason: str, message: str) -> bool:
        """Puts the other device in force, unless somebody has done so since ``epoch``; whether it did."""
        with self._changed:
            if self._closed or epoch != self._epoch or to == self._role:
                return False
            self._epoch += 1
            self._since_unix_s = time.time()
            self._kept.append(
                Turnover(
                    sequence=self._epoch,
                    time_unix_s=self._since_unix_s,
                    from_device=self._role,
                    to_device=to,
                    reason=reason,
                    message=message,
                )
            )
            self._role = to
            self._changed.notify_all()
            return True

    def turnovers(self, after: int = 0) -> tuple[Turnover, ...]:
        with self._changed:
            return tuple(turnover for turnover in self._kept if turnover.sequence > after)

    def watch(self, after: int = 0) -> Iterator[Turnover]:
        """Those kept, then each as it happens; ends when the switch is closed."""
        while found := self._wait(after):
            for turnover in found:
                after = turnover.sequence
                yield turnover

    def _wait(self, after: int) -> tuple[Turnover, ...]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._epoch > after)
            return tuple(turnover for turnover in self._kept if turnover.sequence > after)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
