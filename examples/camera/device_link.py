"""A device that may be slow, go away and come back, asked so that nobody waits longer than a frame's deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Literal

from pcmedge import Device
from pcmedge.errors import BusyError, DeadlineError, Error, InputError, MissingExtraError, NotFoundError

from examples.camera.frames import Picture

OnEvent = Callable[[str, str], None]
RETRY_S = 0.5
"""How long to leave a device alone that was away a moment ago."""
TELEMETRY_S = 1.0
PATIENCE = 3
"""Deadlines missed in a row before a device that is silent counts as away."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of one picture. ``labels``: (label, probability), best first, of an answer.

    ``status``: "answered"; "late", no answer before the deadline; "away", no device. ``reason`` says why there is
    none. ``latency_s``: of the call, from picture to labels.
    """

    status: Literal["answered", "late", "away"]
    labels: tuple[tuple[str, float], ...] = ()
    latency_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Health:
    """Of the chip, a second ago or since it went away. ``drift_factor``: what drift compensation multiplies with."""

    program_generation: int
    age_s: float
    recalibrated_at_age_s: float | None
    recalibrations: int
    drift_factor: float


class DeviceLink:
    """Asks the device that ``open_device()`` opens, in a thread of its own; opens it when it is first needed.

    ``open_device`` may raise any pcmedge error: it is called again. ``on_ready(device)`` is called, in that thread,
    before the first picture and after each time the device was away. ``on_event(kind, message)`` hears of
    "device-ready", "device-away" and "device-back".
    """

    def __init__(
        self,
        open_device: Callable[[], Device],
        *,
        on_event: OnEvent = lambda kind, message: None,
        on_ready: Callable[[Device], None] = lambda device: None,
    ) -> None:
        self._open_device = open_device
        self._on_event = on_event
        self._on_ready = on_ready
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._pending: Future[Reply] | None = None
        self._closed = threading.Event()
        self._misses = 0
        self._retry_at_s = 0.0
        self._look_at_s = 0.0
        self._ready = False
        self._seen = False
        self.device: Device | None = None
        self.health: Health | None = None
        self.away = "it is being opened"
        """Why the device is away; empty while it is not."""

    def ask(self, picture: Picture, until_s: float) -> Reply:
        """The labels of an R, G, B picture, or why there are none, not (much) later than ``until_s`` (monotonic).

        Raises InputError, MissingExtraError or NotFoundError only if the device has never answered: then the
        arguments are wrong. Later everything is a reason to try again.
        """
        if self._pending is not None and not self._finished(self._pending, until_s):
            return self._without("the device is still at an earlier frame")
        if self.away and time.monotonic() < self._retry_at_s:
            return self._without("")
        self._pending = self._worker.submit(self._classify, picture)
        if not self._finished(self._pending, until_s):
            return self._without("no answer within the deadline")
        return self._pending.result()

    @staticmethod
    def _finished(future: Future[Reply], until_s: float) -> bool:
        try:
            future.exception(max(0.0, until_s - time.monotonic()))
        except NotYet:
            return False
        return True

    def _without(self, reason: str) -> Reply:
        return Reply(status="away", reason=self.away) if self.away else Reply(status="late", reason=reason)

    def _classify(self, picture: Picture) -> Reply:
        try:
            device = self._made_ready()
            begin_s = time.perf_counter()
            labels = tuple(device.classify(picture, top_k=3))
            latency_s = time.perf_counter() - begin_s
        except (InputError, MissingExtraError, NotFoundError) as error:
            if not self._seen:
                raise
            return self._lost(error)
        except (BusyError, DeadlineError) as error:
            self._misses += 1
            if self._misses < PATIENCE and self._seen:
                return Reply(status="late", reason=error.message)
            return self._lost(error)
        except Error as error:
            return self._lost(error)
        self._misses = 0
        self._found(device)
        return Reply(status="answered", labels=labels, latency_s=latency_s)

    def _made_ready(self) -> Device:
        if self.device is None:
            self.device = self._open_device()
        if not self._ready:
            self._on_ready(self.device)
            self._ready = True
        return self.device

    def _lost(self, error: Error) -> Reply:
        self._ready = False
        self._retry_at_s = time.monotonic() + RETRY_S
        new, self.away = error.message != self.away, error.message
        if new and not self._closed.is_set():
            self._on_event("device-away", error.message)
        return Reply(status="away", reason=error.message)

    def _found(self, device: Device) -> None:
        if self.away or not self._seen:
            self._on_event("device-back" if self._seen else "device-ready", f"{device.address} answers")
        self.away, self._seen = "", True
        if time.monotonic() >= self._look_at_s and not self._closed.is_set():
            self._look_at_s = time.monotonic() + TELEMETRY_S
            self._worker.submit(self._look, device)

    def _look(self, device: Device) -> None:
        try:
            models = device.telemetry().models
        except Error:
            return  # The next picture finds out.
        if models:
            model = models[0]
            self.health = Health(
                program_generation=model.program_generation,
                age_s=model.age_s,
                recalibrated_at_age_s=model.last_recalibration_age_s,
                recalibrations=model.recalibrations,
                drift_factor=model.median_drift_factor,
            )

    def close(self) -> None:
        """Ends the connection, after the call that is under way."""
        self._closed.set()
        self._worker.shutdown(cancel_futures=True)
        if self.device is not None:
            self.device.close()
