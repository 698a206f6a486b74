"""A device that may be slow, go away and come back, asked so that nobody waits longer than a frame's deadline."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Literal

from pcmedge import Device, FallbackDevice
from pcmedge.errors import BusyError, DeadlineError, Error, InputError, MissingExtraError, NotFoundError

from examples.camera.frames import Picture

OnEvent = Callable[[str, str], None]
AnyDevice = Device | FallbackDevice
RETRY_S = 0.5
"""How long to leave a device alone that was away a moment ago."""
TELEMETRY_S = 1.0
PATIENCE = 3
"""Deadlines missed in a row before a device that is silent counts as away."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of one picture. ``labels``: (label, probability), best first, of an answer.

    ``status``: "answered"; "fallback", answered by the other device; "late", no answer before the deadline; "away", no
    device. ``reason`` says why there is no answer of the chip. ``latency_s``: of the call, from picture to labels.
    """

    status: Literal["answered", "fallback", "late", "away"]
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

    ``on_ready(chip)`` is called, in that thread, before the chip is first asked and after each time it was away.
    ``on_event(kind, message)`` hears of "device-ready", "device-away" and "device-back"; of a FallbackDevice they are
    about the chip, whoever answers.
    """

    def __init__(
        self,
        open_device: Callable[[], AnyDevice],
        *,
        on_event: OnEvent = lambda kind, message: None,
        on_ready: Callable[[Device], None] = lambda chip: None,
    ) -> None:
        self._open_device = open_device
        self._on_event = on_event
        self._on_ready = on_ready
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._pending: Future[Reply] | None = None
        self._closing = threading.Event()
        self._device: AnyDevice | None = None
        self._misses = 0
        self._silent = True
        self._retry_at_s = 0.0
        self._look_at_s = 0.0
        self._prepared = False
        self._answered = self._chip_seen = False
        self._told = ""
        """The reason of the last "device-away"; empty after "device-back"."""
        self.health: Health | None = None
        self.away = "it is being opened"
        """Why the chip does not answer; empty while it does."""

    @property
    def chip(self) -> Device | None:
        """The device itself, or the one that is preferred; None before it was opened."""
        return self._device.primary if isinstance(self._device, FallbackDevice) else self._device

    @property
    def drifted(self) -> bool:
        """Whether the chip is away only because it failed its self-test: recalibration may help."""
        return self._told == "SELF_TEST"

    def ask(self, picture: Picture, until_s: float) -> Reply:
        """The labels of an R, G, B picture, or why there are none, not (much) later than ``until_s`` (monotonic).

        Raises InputError, MissingExtraError or NotFoundError only if the device has never answered: then the
        arguments are wrong. Later everything is a reason to try again.
        """
        if self._pending is not None and not _finished(self._pending, until_s):
            return self._without("the device is still at an earlier frame")
        if self._silent and time.monotonic() < self._retry_at_s:
            return self._without("")
        self._pending = self._worker.submit(self._classify, picture)
        if not _finished(self._pending, until_s):
            return self._without("no answer within the deadline")
        return self._pending.result()

    def _without(self, reason: str) -> Reply:
        return Reply(status="away", reason=self.away) if self._silent else Reply(status="late", reason=reason)

    def _classify(self, picture: Picture) -> Reply:
        try:
            device = self._ready()
            begin_s = time.perf_counter()
            labels = tuple(device.classify(picture, top_k=3))
            latency_s = time.perf_counter() - begin_s
        except (InputError, MissingExtraError, NotFoundError) as error:
            if not self._answered:
                raise
            return self._lost(error)
        except (BusyError, DeadlineError) as error:
            self._misses += 1
            if self._misses < PATIENCE and self._answered:
                return Reply(status="late", reason=error.message)
            return self._lost(error)
        except Error as error:
            return self._lost(error)
        self._misses, self._silent, self._answered = 0, False, True
        if isinstance(device, FallbackDevice) and device.in_force == "fallback":
            self._set_away(device.turnovers()[-1].reason, device.status().primary_problem)
            if self.drifted:
                self._look_later()
            return Reply(status="fallback", labels=labels, latency_s=latency_s, reason=self.away)
        self._set_back()
        self._look_later()
        return Reply(status="answered", labels=labels, latency_s=latency_s)

    def _ready(self) -> AnyDevice:
        if self._device is None:
            self._device = self._open_device()
        if not self._prepared:
            self._prepare(self._device)
        return self._device

    def _prepare(self, device: AnyDevice) -> None:
        if not isinstance(device, FallbackDevice):
            self._on_ready(device)
            self._prepared = True
        elif device.in_force == "primary":
            # If that fails the pair will notice too, and answer.
            with contextlib.suppress(Error):
                self._on_ready(device.primary)
                self._prepared = True

    def _lost(self, error: Error) -> Reply:
        self._silent = True
        self._retry_at_s = time.monotonic() + RETRY_S
        self._set_away(error.reason, error.message)
        return Reply(status="away", reason=error.message)

    def _set_away(self, reason: str, message: str) -> None:
        self.away, self._prepared = message or reason, False
        if reason != self._told and not self._closing.is_set():
            self._told = reason
            self._on_event("device-away", self.away)

    def _set_back(self) -> None:
        if self.away:
            address = self.chip.address if self.chip else ""
            self._on_event("device-back" if self._chip_seen else "device-ready", f"{address} answers")
        self.away, self._told, self._chip_seen = "", "", True

    def _look_later(self) -> None:
        """Telemetry, after this answer and before the next."""
        if time.monotonic() >= self._look_at_s and not self._closing.is_set():
            self._look_at_s = time.monotonic() + TELEMETRY_S
            self._worker.submit(self._look)

    def _look(self) -> None:
        try:
            models = self.chip.telemetry().models if self.chip else ()
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
        self._closing.set()
        self._worker.shutdown(cancel_futures=True)
        if self._device is not None:
            self._device.close()


def _finished(future: Future[Reply], until_s: float) -> bool:
    try:
        future.exception(max(0.0, until_s - time.monotonic()))
    except NotYet:
        return False
    return True
