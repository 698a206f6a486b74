"""What a device is busy with and has done since it started."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

SERVING_WINDOW_S = 2.0
"""The device says "serving" for this long after a request."""


@dataclass
class Activity:
    """Counters only, changed in place. ``busy``: the change under way as telemetry names it, "" for none."""

    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    started_s: float = field(default_factory=time.monotonic)
    busy: str = ""
    last_request_s: float = float("-inf")
    requests_served: int = 0
    requests_failed: int = 0

    def served(self, requests: int) -> None:
        with self.lock:
            self.requests_served += requests
            self.last_request_s = time.monotonic()

    def failed(self) -> None:
        with self.lock:
            self.requests_failed += 1

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_s

    def state(self) -> str:
        """The change under way, "serving" right after a request, else ""."""
        if self.busy:
            return self.busy
        return "serving" if time.monotonic() - self.last_request_s < SERVING_WINDOW_S else ""
