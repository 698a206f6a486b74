"""The companion computer's loop: MAVLink in and out at a steady pace, whatever camera and chip are doing."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from pcmedge import Device

from examples.camera.device_link import DeviceLink, OnEvent
from examples.camera.frames import Capture, Picture
from examples.camera.options import Setting
from examples.camera.overlay import annotate, status_lines
from examples.camera.perception import Seen, Tally, perceive
from examples.drone.phases import Gate, Verdict
from examples.drone.upkeep import Upkeep
from examples.drone.vehicle_link import VehicleLink

STEP_S = 0.05
STEADY = 3
"""Answers in a row that name the same label before it is announced."""
WARNINGS = ("device-away", "camera-away", "recalibration-failed", "recalibration-refused")


class Companion:
    """Looks through ``capture``, asks the device of ``found``, tells the vehicle at ``vehicle``.

    ``report(kind, message)`` gets every event, from one thread. What the vehicle gets is in README.md.
    """

    def __init__(
        self,
        capture: Capture,
        found: Setting,
        vehicle: VehicleLink,
        report: OnEvent,
        *,
        deadline_s: float,
        rate_hz: float,
        reads: int,
    ) -> None:
        self._capture = capture
        self._found = found
        self._vehicle = vehicle
        self._report = report
        self._deadline_s = deadline_s
        self._period_s = 1.0 / rate_hz
        self._events: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._link = DeviceLink(found.open_device, on_event=self.notify, on_ready=self._made_ready)
        self._upkeep = Upkeep(self._link, self.notify, reads=reads)
        self._gate = Gate()
        self._labels: list[str] = []
        self._seen: Seen | None = None
        self._failure: Exception | None = None
        self._steady, self._announced = 0, ""
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="perception", daemon=True)
        self.tally = Tally()

    def notify(self, kind: str, message: str) -> None:
        """An event, from any thread."""
        self._events.put((kind, message))

    def _made_ready(self, device: Device) -> None:
        """In flight the chip must not decide for itself when it is busy measuring."""
        device.set_policy("manual")
        self._labels = list(device.manifest().application.labels)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until ``until()``, :meth:`stop`, or the frames end. Raises what makes asking the device pointless."""
        self._watching.start()
        send_at_s = time.monotonic()
        while not (self._stopping.is_set() or until()) and self._watching.is_alive():
            self._vehicle.step(STEP_S, active=not self._link.away)
            verdict = self._gate.ask(self._vehicle.state(), time.monotonic())
            self._upkeep.step(verdict)
            self._pass_on_events()
            if time.monotonic() >= send_at_s:
                send_at_s = max(send_at_s + self._period_s, time.monotonic())
                self._send_values(verdict)
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        try:
            for seen in perceive(self._capture, self._link, self._found.finder, self._deadline_s):
                self.tally.add(seen, self._found.truth(seen.frame.number))
                self._announce(seen)
                self._seen = seen
        except Exception as error:
            self._failure = error

    def _announce(self, seen: Seen) -> None:
        """A label that several answers in a row agree on, once."""
        if seen.reply is None or not seen.reply.labels:
            return
        label, probability = seen.reply.labels[0]
        before = self._seen.reply.labels[:1] if self._seen and self._seen.reply else ()
        self._steady = self._steady + 1 if before and before[0][0] == label else 1
        if self._steady >= STEADY and label != self._announced:
            self._announced = label
            self.notify("detection", f"{label} {probability:.0%}")

    def _pass_on_events(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                kind, message = self._events.get_nowait()
                self._report(kind, message)
                short = f": {message}" if kind in ("detection", "recalibrated") else ""
                self._vehicle.send_text(f"PCM {kind.replace('-', ' ')}{short}", warning=kind in WARNINGS)

    def _send_values(self, verdict: Verdict) -> None:
        """What is known now; a value that is not known is not sent."""
        seen, health = self._seen, self._link.health
        values: dict[str, float] = {
            "PCM_AWAY": float(bool(self._link.away)),
            "PCM_RECOK": float(verdict.allowed),
            "PCM_BUSY": float(self._upkeep.busy),
        }
        if seen is not None and seen.reply is not None and seen.reply.labels:
            label, probability = seen.reply.labels[0]
            values["PCM_CLASS"] = float(self._labels.index(label)) if label in self._labels else -1.0
            values["PCM_SCORE"] = probability
            values["PCM_LAT_MS"] = 1000 * seen.reply.latency_s
        if health is not None:
            values["PCM_AGE_S"] = health.age_s
            values["PCM_DRIFT"] = health.drift_factor
            values["PCM_RECALS"] = float(health.recalibrations)
        for name, value in values.items():
            self._vehicle.send_value(name, value)

    def picture(self) -> Picture | None:
        """The last frame, annotated; None before the first."""
        if self._seen is None:
            return None
        state, altitude_m = self._vehicle.state(), self._vehicle.altitude_m()
        verdict = self._gate.ask(state, time.monotonic())
        lines = status_lines(self.tally, self._capture.latest.dropped, self._link.health, self._link.away)
        height = "" if altitude_m is None else f" at {altitude_m:.0f} m"
        lines.append(f"vehicle {'armed' if state.armed else 'disarmed'}{height}: {verdict.reason}")
        lines.append(
            "recalibration " + ("running" if self._upkeep.busy else "allowed" if verdict.allowed else "not now")
        )
        return annotate(self._seen, lines)

    def facts(self) -> dict[str, Any]:
        """What the run came to."""
        health = self._link.health
        return {
            **{name: self.tally.statuses[name] for name in ("answered", "fallback", "late", "away")},
            "dropped": self._capture.latest.dropped,
            "right": self.tally.right,
            "judged": self.tally.judged,
            "recalibrations": health.recalibrations if health else 0,
        }

    def stop(self) -> None:
        """Lets :meth:`run` return; may be called by a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Ends camera, recalibration and device, in this order; what they still say is reported."""
        self._capture.close()
        if self._watching.is_alive():
            self._watching.join()
        self._upkeep.close()
        self._link.close()
        self._pass_on_events()
