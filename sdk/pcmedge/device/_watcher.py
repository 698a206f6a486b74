"""The thread that looks after a pair: brings the primary back, and notices when it gets worse."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from pcmedge.device._primary import Finding, Primary
from pcmedge.device._turnover import Switch

RECOVERED = "RECOVERED"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds and counts as of :class:`pcmedge.FallbackDevice`."""

    first_s: float
    longest_s: float
    recovery_probes: int
    stable_s: float
    self_test_interval_s: float | None


@dataclass
class _Patience:
    """How long to wait for the next look at a primary that is away.

    From ``first_s``, twice as long after each look in vain. One that goes away again soon after it came back is waited
    for longer than the time before, so that it does not flap.
    """

    pace: Pace
    wait_s: float = field(init=False)
    back_s: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self.wait_s = self.pace.first_s

    def lost(self) -> None:
        if time.monotonic() - self.back_s < self.pace.stable_s:
            self.in_vain()
        else:
            self.wait_s = self.pace.first_s

    def in_vain(self) -> None:
        self.wait_s = min(self.pace.longest_s, 2.0 * self.wait_s)

    def back(self) -> None:
        self.back_s = time.monotonic()


class Watcher:
    """Runs from :meth:`start` until the switch is closed and :meth:`stop` called."""

    def __init__(self, primary: Primary, switch: Switch, pace: Pace, finding: Finding) -> None:
        self.finding = finding
        self._primary = primary
        self._switch = switch
        self._pace = pace
        self._patience = _Patience(pace)
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pcm-fallback", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """The device in force has changed."""
        self._wake.set()

    def stop(self) -> None:
        """After the switch was closed."""
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        epoch_away, good = -1, 0
        while not self._switch.closed:
            role, epoch = self._switch.in_force, self._switch.count
            if role == "primary":
                if not self._woken(self._pace.self_test_interval_s):
                    self._watch(epoch)
                continue
            if epoch != epoch_away:
                epoch_away, good = epoch, 0
                self._patience.lost()
            if self._woken(self._pace.first_s if good else self._patience.wait_s):
                continue
            good = self._probe(epoch, good)

    def _woken(self, wait_s: float | None) -> bool:
        """Waits; whether something has happened meanwhile. Shortened at random: many clients do not come at once."""
        woken = self._wake.wait(None if wait_s is None else wait_s * random.uniform(2 / 3, 1))
        self._wake.clear()
        return woken

    def _watch(self, epoch: int) -> None:
        """A self-test of a primary that serves."""
        finding = self._primary.examine(in_force=True)
        if self._switch.count == epoch:
            self.finding = finding
        if finding.reason:
            self._switch.turn(epoch, "fallback", finding.reason, finding.message)

    def _probe(self, epoch: int, good: int) -> int:
        """A look at a primary that is away; how many in a row found nothing wrong."""
        self.finding = finding = self._primary.examine(in_force=False)
        if finding.reason:
            self._patience.in_vain()
            return 0
        good += 1
        if good >= self._pace.recovery_probes:
            agreement = "" if finding.agreement is None else f", with a self-test agreement of {finding.agreement:.4g}"
            self._patience.back()
            self._switch.turn(epoch, "primary", RECOVERED, f"it answers again{agreement}")
        return good
