"""Which calls are under way, and the end of taking new ones.

gRPC's own shutdown resets calls that reach it while it tells clients to go, and they see CANCELLED. So calls are
refused here first, as UNAVAILABLE, while those under way finish; gRPC is stopped when nothing is left to reset.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pcmedge.errors import UnavailableError

LINGER_S = 0.25
"""For as long, at least, new calls are refused with a word before gRPC refuses them without."""


class Drain:
    """Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._draining = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call that is answered. UnavailableError once the service drains."""
        with self._changed:
            if self._draining:
                raise UnavailableError("the device is shutting down; connect again when it is back")
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                if self._draining:
                    self._changed.notify_all()

    def begin(self) -> None:
        """From now on new calls are refused."""
        with self._changed:
            self._draining = True

    def wait(self, timeout_s: float) -> None:
        """Returns when no call is under way and clients had a moment to hear of it, or after ``timeout_s``."""
        started_s = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 0, timeout_s)
        time.sleep(max(0.0, min(timeout_s, LINGER_S) - (time.monotonic() - started_s)))
