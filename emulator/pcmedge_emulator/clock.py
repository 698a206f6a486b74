"""The device's clock: real, accelerated or manual; it never runs backwards.

Device time is seconds since the device first existed. A real clock follows the wall clock, so time during which no
emulator ran counts as age; an accelerated one does so at its rate; a manual one moves only when told to. When the wall
clock is set back, device time stands where it was and goes on from there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pcmedge.errors import ClockError, InputValueError

from pcmedge_emulator.outcomes import ClockReading

LONGEST_S = 1e15
"""The most device time there is, seconds: 30 million years. Beyond 1e30 s single precision ends."""

FASTEST = 1e9
"""The highest rate of an accelerated clock, device seconds per second."""


class ClockMode(StrEnum):
    REAL = "real"
    ACCELERATED = "accelerated"
    MANUAL = "manual"


@dataclass(frozen=True, kw_only=True)
class ClockState:
    """What is kept over a restart: the device time that was current at a moment of the wall clock."""

    mode: ClockMode
    rate: float
    device_time_s: float
    wall_unix_s: float


def _rate(mode: ClockMode, rate: float) -> float:
    """The rate that goes with a mode; InputValueError if an accelerated rate is not a positive finite number."""
    if mode is ClockMode.REAL:
        return 1.0
    if mode is ClockMode.MANUAL:
        return 0.0
    if not 0.0 < rate <= FASTEST:
        raise InputValueError(
            f"An accelerated clock needs a rate larger than 0 and at most {FASTEST:g} device seconds per second, got "
            f"{rate!r}.",
            rate=rate,
        )
    return float(rate)


class Clock:
    """Thread-safe. Made by :meth:`real`, :meth:`accelerated`, :meth:`manual` or :meth:`parse`.

    ``wall`` returns seconds since the Unix epoch and exists so that a test can set the wall clock.
    """

    def __init__(
        self,
        mode: ClockMode,
        rate: float = 1.0,
        *,
        start_s: float = 0.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not (math.isfinite(start_s) and start_s >= 0.0):
            raise InputValueError(f"Device time starts at 0 seconds or later, got {start_s!r}.", start_s=start_s)
        self._lock = threading.Lock()
        self._wall = wall
        self._mode = mode
        self._rate = _rate(mode, rate)
        self._device_s = float(start_s)
        self._wall_s = wall()

    @classmethod
    def real(cls, *, wall: Callable[[], float] = time.time) -> Clock:
        return cls(ClockMode.REAL, wall=wall)

    @classmethod
    def accelerated(cls, rate: float, *, wall: Callable[[], float] = time.time) -> Clock:
        return cls(ClockMode.ACCELERATED, rate, wall=wall)

    @classmethod
    def manual(cls, *, wall: Callable[[], float] = time.time) -> Clock:
        return cls(ClockMode.MANUAL, wall=wall)

    @classmethod
    def parse(cls, value: str | float) -> Clock:
        """ "real", "manual" or a rate (a number, or a string such as "3600" or "x3600")."""
        if value in (ClockMode.REAL, ClockMode.MANUAL):
            return cls(ClockMode(value))
        try:
            if isinstance(value, bool):
                raise TypeError
            rate = float(value.removeprefix("x")) if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            raise InputValueError(
                f"A clock is 'real', 'manual' or a rate in device seconds per second, got {value!r}.", clock=value
            ) from None
        return cls.accelerated(rate)

    @property
    def mode(self) -> ClockMode:
        return self._mode

    @property
    def rate(self) -> float:
        return self._rate

    def _step(self) -> float:
        """Moves the pair (device time, wall time) to this moment. The lock is held."""
        wall = self._wall()
        elapsed = max(0.0, wall - self._wall_s)
        self._device_s += elapsed * self._rate
        self._wall_s = wall
        return self._device_s

    def now(self) -> float:
        """Device time in seconds. Never smaller than what an earlier call returned."""
        with self._lock:
            return self._step()

    def wall_unix_s(self) -> float:
        return self._wall()

    def reading(self) -> ClockReading:
        with self._lock:
            return ClockReading(mode=self._mode.value, rate=self._rate, device_time_s=self._step())

    def advance(self, by_s: float) -> float:
        """Moves a manual or accelerated clock forward. ClockError on a real clock."""
        if not (math.isfinite(by_s) and by_s >= 0.0):
            raise InputValueError(f"Time advances by 0 seconds or more, got {by_s!r}.", by_s=by_s)
        with self._lock:
            if self._device_s + by_s > LONGEST_S:
                raise InputValueError(
                    f"Device time goes up to {LONGEST_S:g} s; it is {self._device_s:g} s, so it cannot advance by "
                    f"{by_s:g} s.",
                    by_s=by_s,
                )
            if self._mode is ClockMode.REAL:
                raise ClockError(
                    "A real clock cannot be advanced: it follows the wall clock. Set the clock to manual or "
                    "accelerated first.",
                    mode=self._mode,
                )
            self._step()
            self._device_s += by_s
            return self._device_s

    def take_back(self, to_s: float) -> None:
        """Undoes an :meth:`advance` that nobody was told of: back to ``to_s``, if the clock is later."""
        with self._lock:
            self._device_s = min(self._device_s, to_s)

    def set_mode(self, mode: ClockMode, rate: float = 1.0) -> None:
        """Changes the mode from this moment on; device time goes on from where it is."""
        new_rate = _rate(mode, rate)
        with self._lock:
            self._step()
            self._mode, self._rate = mode, new_rate

    def state(self) -> ClockState:
        with self._lock:
            device_s = self._step()
            return ClockState(mode=self._mode, rate=self._rate, device_time_s=device_s, wall_unix_s=self._wall_s)

    def resume(self, state: ClockState, *, keep_mode: bool = False) -> None:
        """Goes on from a stored state: the time since then passed under the stored mode and rate.

        ``keep_mode``: from now on tick as this clock was made to, not as the stored one did.
        """
        with self._lock:
            wall = self._wall()
            self._device_s = state.device_time_s + max(0.0, wall - state.wall_unix_s) * state.rate
            self._wall_s = wall
            if not keep_mode:
                self._mode, self._rate = state.mode, state.rate
