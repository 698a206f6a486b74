"""Memory that was freed goes back to the system when the service has come to rest.

glibc keeps free pages between pieces that are in use, up to 20 MiB after mixed load, as the last large requests left
them. Giving them back takes milliseconds and holds up who allocates, so it is done when nobody asks for anything.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

CALM_S = 1.0
"""The process rests for as long before memory is given back."""

IDLE_SHARE = 0.1
"""What a process that rests uses of one processor, at most."""


def trim() -> None:
    """Gives free pages of every heap back; does nothing with another C library than glibc."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    malloc_trim(0)


class Calm:
    """Calls ``give_back`` once each time the process comes to rest. For one thread, which glances now and then."""

    def __init__(
        self,
        give_back: Callable[[], None] = trim,
        *,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._give_back, self._clock, self._used = give_back, clock, used
        self._glanced_s = self._worked_s = clock()
        self._used_s = used()
        self._due = True

    def glance(self) -> None:
        now_s, used_s = self._clock(), self._used()
        if used_s - self._used_s > IDLE_SHARE * (now_s - self._glanced_s):
            self._worked_s, self._due = now_s, True
        elif self._due and now_s - self._worked_s >= CALM_S:
            self._due = False
            self._give_back()
            # What that took is no work.
            now_s, used_s = self._clock(), self._used()
        self._glanced_s, self._used_s = now_s, used_s
