"""Requests to a pair of devices: the one in force is asked, and the other one if that was the device's fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pcmedge.device._inference import Inputs, ModelSpec
from pcmedge.device._primary import LATE, Finding, Primary
from pcmedge.device._turnover import Role, Switch, is_devices_fault
from pcmedge.device._watcher import Watcher
from pcmedge.device.device import Device
from pcmedge.errors import Error, NotFoundError, UnavailableError

T = TypeVar("T")
Ask = Callable[[Device, str | None, bool], T]
"""A request: (device, model name there, whether nobody comes after this device) to the answer."""


class Answering:
    """Turns over when the primary is at fault, and wakes the watcher then. ``spec``: of the fallback's model."""

    def __init__(
        self,
        primary: Primary,
        fallback: Device,
        spec: ModelSpec,
        switch: Switch,
        watcher: Watcher,
        deadline_s: float | None,
    ) -> None:
        self._primary = primary
        self._fallback = fallback
        self._spec = spec
        self._switch = switch
        self._watcher = watcher
        self._deadline_s = deadline_s

    def answer(self, ask: Ask[T], model: str | None, inputs: Inputs | None = None) -> tuple[Role, T]:
        """Who answered, and the answer. UnavailableError if neither device could; the caller's own mistakes."""
        role, epoch = self._switch.now()
        if role == "primary":
            first, second = self._ask_primary, self._ask_fallback
        else:
            first, second = self._ask_fallback, self._ask_primary
        try:
            return role, first(ask, model, False, epoch)
        except Error as error:
            if not self._may_turn(error, model):
                raise
            failure = error
            self._failed(role, epoch, error, inputs)
        other: Role = "fallback" if role == "primary" else "primary"
        try:
            return other, second(ask, model, True, -1)
        except Error as error:
            if not is_devices_fault(error):
                raise
            raise UnavailableError(
                f"neither device could answer: the {role} said: {failure.message}; the {other}: {error.message}",
                **{role: failure.reason, other: error.reason},
            ) from failure

    def _ask_primary(self, ask: Ask[T], model: str | None, last: bool, epoch: int) -> T:
        started_s = time.monotonic()
        answer = ask(self._primary.serving, model or self._primary.name, last)
        took_s = time.monotonic() - started_s
        if self._deadline_s is not None and took_s > self._deadline_s:
            # In process nothing can be taken out of a running inference: late, but an answer.
            self._turn(epoch, LATE, f"an answer took {took_s:.3g} s, longer than {self._deadline_s:g} s")
        return answer

    def _ask_fallback(self, ask: Ask[T], model: str | None, last: bool, epoch: int) -> T:
        return ask(self._fallback, model or self._spec.name, True)

    def _may_turn(self, error: Error, model: str | None) -> bool:
        """Whether to ask the other device. A model the caller named and nobody has is the caller's mistake."""
        if not isinstance(error, NotFoundError):
            return is_devices_fault(error)
        if model is None:
            return True
        try:
            self._fallback.model_spec(model)
        except Error:
            return False
        return True

    def _failed(self, role: Role, epoch: int, error: Error, inputs: Inputs | None) -> None:
        if role == "primary" and self._turn(epoch, error.reason, error.message) and inputs is not None:
            self._primary.remember(inputs)

    def _turn(self, epoch: int, reason: str, message: str) -> bool:
        turned = self._switch.turn(epoch, "fallback", reason, message)
        if turned:
            self._watcher.finding = Finding(reason=reason, message=message)
            self._watcher.wake()
        return turned
