"""Recalibration of the chip in a thread: begun when it is due and safe, cancelled when it is safe no more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from pcmedge import Device
from pcmedge.device import Progress, RecalibrationResult
from pcmedge.errors import CancelledError, Error

from examples.camera.device_link import DeviceLink
from examples.drone.phases import Verdict, recalibration_due

AFTER_FAILURE_S, AFTER_SUCCESS_S = 5.0, 10.0


class Upkeep:
    """Call :meth:`step` often. ``on_event(kind, message)`` hears of "recalibrating", then "recalibrated",
    "recalibration-refused" (by the device's guard), "recalibration-interrupted" or "recalibration-failed".

    ``reads``: of the chip, that statistics are averaged over; 0 for the device's default. The device keeps its old
    statistics whenever a recalibration does not end well, and answers meanwhile.
    """

    def __init__(self, link: DeviceLink, on_event: Callable[[str, str], None], *, reads: int = 0) -> None:
        self._link = link
        self._on_event = on_event
        self._reads = reads
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._operation = ""
        self._tried: tuple[int, float] = (0, 0.0)
        """Program generation and age of the last recalibration that ended, committed or refused."""
        self._not_before_s = 0.0

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def step(self, verdict: Verdict) -> None:
        """Begin, go on or interrupt, as ``verdict`` and the chip's age want it. Does not wait."""
        if self.busy:
            if not verdict.allowed:
                self._interrupt()
            return
        chip, health = self._link.chip, self._link.health
        failing = self._link.drifted
        if not verdict.allowed or (self._link.away and not failing) or chip is None or health is None:
            return
        last_age_s = health.recalibrated_at_age_s or 0.0
        if health.program_generation == self._tried[0]:
            last_age_s = max(last_age_s, self._tried[1])
        if time.monotonic() >= self._not_before_s and (failing or recalibration_due(health.age_s, last_age_s)):
            self._stop.clear()
            self._operation = ""
            self._on_event("recalibrating", f"{verdict.reason}, chip age {health.age_s:.0f} s")
            arguments = (chip, health.program_generation)
            self._thread = threading.Thread(target=self._run, args=arguments, name="recalibration", daemon=True)
            self._thread.start()

    def _run(self, chip: Device, program_generation: int) -> None:
        try:
            result = chip.recalibrate(reads=self._reads, progress=self._progress)
        except CancelledError:
            self._on_event("recalibration-interrupted", "not safe any more; the chip keeps its old statistics")
        except Error as error:
            self._not_before_s = time.monotonic() + AFTER_FAILURE_S
            self._on_event("recalibration-failed", error.message)
        else:
            # A refused one counts too: the same measurement would be refused again. One that did not mend a failing
            # self-test may be tried again, when the pair of devices has had time to see it.
            self._not_before_s = time.monotonic() + AFTER_SUCCESS_S
            self._tried = program_generation, result.age_s
            self._tell(result)

    def _tell(self, result: RecalibrationResult) -> None:
        if result.committed:
            self._on_event("recalibrated", f"agreement {result.agreement_before:.0%} -> {result.agreement_after:.0%}")
        else:
            self._on_event("recalibration-refused", result.refusal)

    def _progress(self, step: Progress) -> None:
        self._operation = step.operation_id
        if self._stop.is_set():
            self._cancel()

    def _interrupt(self) -> None:
        """At once where the operation is known; else, or if that fails, at its next sign of progress."""
        if not self._stop.is_set():
            self._stop.set()
            self._cancel()

    def _cancel(self) -> None:
        """How the operation ends is the device's to say: it may have been done already."""
        chip, operation = self._link.chip, self._operation
        if chip is not None and operation:
            with contextlib.suppress(Error):
                chip.cancel_operation(operation)

    def close(self) -> None:
        if self._thread is not None:
            self._interrupt()
            self._thread.join()
