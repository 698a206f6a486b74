"""Devices that break rule 10: leases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from pcmedge_emulator.lease import LeaseBook
from pcmedge_emulator.outcomes import Lease

from wrong_devices.firmware import Firmware


class _Leasing(Firmware):
    book: ClassVar[Callable[[], LeaseBook]] = LeaseBook

    def __init__(self, store: Path | None) -> None:
        super().__init__(store)
        self._state.leases = type(self).book()


class _Unguarded(LeaseBook):
    def check(self, lease_id: str) -> None:
        pass

    @contextlib.contextmanager
    def exclusive(self, lease_id: str, purpose: str) -> Iterator[None]:
        yield


class LeaseIgnored(_Leasing, rules=("R10",)):
    """Hands leases out and asks for them nowhere."""

    book = _Unguarded


class _ProgramOnly(LeaseBook):
    @contextlib.contextmanager
    def exclusive(self, lease_id: str, purpose: str) -> Iterator[None]:
        with super().exclusive(lease_id, purpose) if purpose.startswith("programming") else contextlib.nullcontext():
            yield


class LeaseGuardsProgramOnly(_Leasing, rules=("R10",)):
    """Asks for the lease where an image is programmed, not where one is erased, activated or deactivated."""

    book = _ProgramOnly


class LeaseNeverLapses(_Leasing, rules=("R10",)):
    """The timer that ends a lease never fires."""

    book = staticmethod(lambda: LeaseBook(lambda: 0.0))


class _ByName(LeaseBook):
    def acquire(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        with self._lock:
            held = self._current()
            if held is not None and held.holder == holder:
                return self._outcome(held)
        return super().acquire(holder, duration_s, request_id)


class LeaseByName(_Leasing, rules=("R10",)):
    """Knows clients by the name they give: two of one name share a lease."""

    book = _ByName


class _Anybody(LeaseBook):
    def _own(self, lease_id: str) -> Any:
        return self._current() or super()._own(lease_id)


class AnybodyRenewsAndReleases(_Leasing, rules=("R10",)):
    """Renews and releases the lease that is held, whatever id it is asked with."""

    book = _Anybody


class LapsedLeaseStillGood(_Leasing, rules=("R10",)):
    """A lease id that lapsed while nobody else wanted it goes on working as if it had been renewed."""

    class _Forgiving(LeaseBook):
        @contextlib.contextmanager
        def exclusive(self, lease_id: str, purpose: str) -> Iterator[None]:
            with super().exclusive(lease_id if self._current() else "", purpose):
                yield

        def check(self, lease_id: str) -> None:
            super().check(lease_id if self._current() else "")

    book = _Forgiving


class LeaseSurvivesRestart(Firmware, rules=("R10", "R38"), restarts=True):
    """Keeps the lease in flash, so that a client that is gone locks others out after the power cut too."""

    _kept: ClassVar[dict[Path | None, LeaseBook]] = {}

    def __init__(self, store: Path | None) -> None:
        super().__init__(store)
        self._state.leases = self._kept.pop(store, self._state.leases)

    def close(self) -> None:
        self._kept[self.folder] = self._state.leases
        super().close()
