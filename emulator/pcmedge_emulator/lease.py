"""The programming lease: one client at a time programs, erases and activates.

A lease lives in memory only: a restart ends it, as pulling the plug does on a real device.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pcmedge.errors import InputValueError, LeaseHeldError

from pcmedge_emulator.outcomes import Lease

DEFAULT_DURATION_S = 60.0
LONGEST_DURATION_S = 3600.0


@dataclass
class _Held:
    lease_id: str
    holder: str
    request_id: str
    ends_s: float


def _duration(duration_s: float) -> float:
    if duration_s == 0.0:
        return DEFAULT_DURATION_S
    if not (math.isfinite(duration_s) and 1.0 <= duration_s <= LONGEST_DURATION_S):
        raise InputValueError(
            f"A lease lasts 1 to {LONGEST_DURATION_S:.0f} seconds (0: {DEFAULT_DURATION_S:.0f}), got {duration_s!r}.",
            duration_s=duration_s,
        )
    return duration_s


class LeaseBook:
    """Thread-safe. ``monotonic`` returns seconds and exists for tests."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._acting = threading.local()
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._held: _Held | None = None

    def _current(self) -> _Held | None:
        if self._held is not None and self._held.ends_s <= self._monotonic():
            self._held = None
        return self._held

    def _refuse(self, held: _Held) -> LeaseHeldError:
        remaining_s = held.ends_s - self._monotonic()
        until = f"for another {remaining_s:.0f} s unless renewed" if math.isfinite(remaining_s) else "until it is done"
        return LeaseHeldError(
            f"'{held.holder}' holds the programming lease {until}. Wait, or ask the holder to release it.",
            holder=held.holder,
            remaining_s=f"{remaining_s:.3f}",
        )

    def _outcome(self, held: _Held) -> Lease:
        return Lease(lease_id=held.lease_id, holder=held.holder, remaining_s=held.ends_s - self._monotonic())

    def acquire(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        """A new lease; the same one again for a repeated request id. LeaseHeldError while another is alive."""
        duration_s = _duration(duration_s)
        with self._lock:
            held = self._current()
            if held is not None:
                if request_id and held.request_id == request_id:
                    return self._outcome(held)
                raise self._refuse(held)
            ends_s = self._monotonic() + duration_s
            self._held = _Held(uuid.uuid4().hex, holder or "unnamed client", request_id, ends_s)
            return self._outcome(self._held)

    def _own(self, lease_id: str) -> _Held:
        held = self._current()
        if held is None:
            raise LeaseHeldError("This lease has lapsed or was released. Acquire a new one.", lease_id=lease_id)
        if held.lease_id != lease_id:
            raise self._refuse(held)
        return held

    def renew(self, lease_id: str, duration_s: float = 0.0) -> Lease:
        """Counts the duration from now. LeaseHeldError if the lease lapsed or is somebody else's."""
        duration_s = _duration(duration_s)
        with self._lock:
            held = self._own(lease_id)
            held.ends_s = self._monotonic() + duration_s
            return self._outcome(held)

    def release(self, lease_id: str) -> None:
        """Releasing a lease that has lapsed is no error; releasing somebody else's is."""
        with self._lock:
            if self._current() is not None:
                self._own(lease_id)
                self._held = None

    def _admit(self, lease_id: str) -> _Held | None:
        held = self._current()
        if held is None:
            if lease_id:
                raise LeaseHeldError("This lease has lapsed or was released. Acquire a new one.", lease_id=lease_id)
            return None
        if held.lease_id == lease_id and math.isfinite(held.ends_s):
            return held
        raise self._refuse(held)

    @property
    def acting(self) -> str:
        """Holder of the lease under which this thread changes the device; "" without one."""
        holder: str = getattr(self._acting, "holder", "")
        return holder

    def check(self, lease_id: str) -> None:
        """LeaseHeldError if :meth:`exclusive` would refuse at this moment."""
        with self._lock:
            self._admit(lease_id)

    @contextlib.contextmanager
    def exclusive(self, lease_id: str, purpose: str) -> Iterator[None]:
        """Within the block the caller programs: under its own lease, which cannot lapse meanwhile, or one just for it.

        LeaseHeldError at once if somebody else holds the lease.
        """
        with self._lock:
            held = self._admit(lease_id)
            if held is None:
                mine, ends_s = _Held(uuid.uuid4().hex, purpose, "", math.inf), -math.inf
                self._held = mine
            else:
                mine, ends_s = held, held.ends_s
                mine.ends_s = math.inf
                self._acting.holder = held.holder
        try:
            yield
        finally:
            self._acting.holder = ""
            with self._lock:
                mine.ends_s = ends_s
                self._current()
