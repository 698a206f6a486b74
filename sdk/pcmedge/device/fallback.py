"""A PCM device with another one that answers while it cannot: the application goes on."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields
from numbers import Real
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from numpy.typing import ArrayLike

from pcmedge.device._answering import Answering, Ask
from pcmedge.device._calls import checked_timeout
from pcmedge.device._inference import Inputs, ModelSpec, Outputs, plain_outputs
from pcmedge.device._ordered import ordered
from pcmedge.device._pickling import PAIR, reduced
from pcmedge.device._primary import Finding, Primary
from pcmedge.device._stand_in import opened
from pcmedge.device._stream import check_options
from pcmedge.device._teller import Teller
from pcmedge.device._turnover import Role, Switch, Turnover
from pcmedge.device._watcher import Pace, Watcher
from pcmedge.device.device import Device, stream_item
from pcmedge.device.results import InferResult
from pcmedge.errors import (
    Error,
    InputError,
    InputValueError,
    UnimplementedError,
)
from pcmedge.forks import check_same_process

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FallbackResult(InferResult):
    """An answer and which of the two devices gave it. ``latency_s`` covers everything that was tried."""

    answered_by: Role


@dataclass(frozen=True, kw_only=True)
class FallbackStatus:
    """``since_unix_s``: when ``in_force`` became so. ``primary_problem``: what the last look at the primary found, ""
    for nothing. ``primary_agreement``: of its last self-test, None if there was none.
    """

    in_force: Role
    since_unix_s: float
    turnovers: int
    primary_problem: str
    primary_agreement: float | None


class FallbackDevice:
    """Answers from ``primary``, and from ``fallback`` while the primary cannot; thread-safe; a context manager.

    ::

        with pcmedge.FallbackDevice("grpc://10.0.0.7:7390", fallback, on_turnover=print) as device:
            answer = device.infer(batch)

    ``primary``: an address or a :class:`Device`; it may be down. ``fallback``: a :class:`Device`, an address, or the
    path of a ``.tflite``, ``.onnx`` or ``.pcmi`` file to run here, with a model of the same inputs and outputs; it must
    be there. Closing the pair closes both.

    It turns to the fallback when the primary cannot be reached, is busy, not programmed, or fails inside; when an
    answer takes longer than ``deadline_s``; and when its self-test fails: at the start and every
    ``self_test_interval_s`` (None: at the start only), by the device's own threshold or ``min_agreement``. The request
    that noticed is answered by the fallback, once, so none is lost. What the caller did wrong (InputError,
    NotFoundError) is raised and turns nothing over.

    Meanwhile the primary is looked at in the background, first after ``probe_first_s``, then after twice as long each
    time, up to ``probe_longest_s``. It is back when ``recovery_probes`` looks in a row found that it answers, in time,
    as the same model, and passes its self-test (``return_agreement``, by default ``min_agreement``). If it goes away
    again within ``stable_s``, it is waited for longer than before. ``probe_timeout_s`` is the deadline of each call of
    a look.

    ``model``: which one, if several are active. ``on_turnover`` is called with each :class:`Turnover`, in order, in a
    thread of its own; :meth:`turnovers` and :meth:`watch_turnovers` list them.

    A forked child cannot use the pair (DeviceStateError); make one in each process.

    Calls not named below go to the device in force; ``primary`` and ``fallback`` are there for what concerns one of
    them. Raises InputError when the two do not fit each other, and whatever the fallback raises when asked for its
    model.
    """

    def __init__(
        self,
        primary: Device | str | os.PathLike[str],
        fallback: Device | str | os.PathLike[str],
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        min_agreement: float | None = None,
        return_agreement: float | None = None,
        self_test_interval_s: float | None = 60.0,
        probe_first_s: float = 0.5,
        probe_longest_s: float = 30.0,
        probe_timeout_s: float = 10.0,
        recovery_probes: int = 2,
        stable_s: float = 60.0,
        on_turnover: Callable[[Turnover], object] | None = None,
    ) -> None:
        first_s = checked_timeout(probe_first_s, "probe_first_s")
        pace = Pace(
            first_s=first_s,
            longest_s=max(first_s, checked_timeout(probe_longest_s, "probe_longest_s")),
            recovery_probes=_count("recovery_probes", recovery_probes),
            stable_s=checked_timeout(stable_s, "stable_s"),
            self_test_interval_s=_optional("self_test_interval_s", self_test_interval_s),
        )
        self._deadline_s = _optional("deadline_s", deadline_s)
        self._process = os.getpid()
        self._switch = Switch()
        self._model = model
        floor = _share("min_agreement", min_agreement)
        if primary is fallback:
            raise InputValueError("primary and fallback are the same device, which protects from nothing; pass two")
        with contextlib.ExitStack() as stack:
            self.primary = _opened(primary, stack)
            self.fallback = _opened(fallback, stack)
            self._spec: ModelSpec = self.fallback.model_spec(model)
            self._primary = Primary(
                self.primary,
                self._spec,
                model=model,
                deadline_s=self._deadline_s,
                probe_timeout_s=checked_timeout(probe_timeout_s, "probe_timeout_s"),
                min_agreement=floor,
                return_agreement=floor if return_agreement is None else _share("return_agreement", return_agreement),
            )
            finding = self._first_look()
            stack.pop_all()
        self._watcher = Watcher(self._primary, self._switch, pace, finding)
        self._answering = Answering(
            self._primary, self.fallback, self._spec, self._switch, self._watcher, self._deadline_s
        )
        self._teller = Teller(self._switch, on_turnover)
        self._watcher.start()
        self._teller.start()

    def _first_look(self) -> Finding:
        try:
            finding = self._primary.look()
        except InputError:
            raise
        except Error as error:
            finding = Finding(reason=error.reason, message=error.message)
        if finding.reason:
            self._switch.turn(0, "fallback", finding.reason, finding.message)
        return finding

    # ------------------------------------------------------------------------------------------------------- answering

    def infer_detailed(
        self, inputs: Inputs, *, model: str | None = None, timeout_s: float | None = None
    ) -> FallbackResult:
        """As :meth:`Device.infer_detailed`, and which device answered.

        ``timeout_s`` bounds each of the two attempts. UnavailableError if neither device can answer.
        """
        started_s = time.perf_counter()
        quick_s = timeout_s
        if self._deadline_s is not None:
            quick_s = self._deadline_s if timeout_s is None else min(checked_timeout(timeout_s), self._deadline_s)

        def ask(device: Device, name: str | None, last: bool) -> InferResult:
            return device.infer_detailed(inputs, model=name, timeout_s=timeout_s if last else quick_s)

        role, result = self._answer(ask, model, inputs)
        given = {field.name: getattr(result, field.name) for field in fields(InferResult)}
        given["latency_s"] = time.perf_counter() - started_s
        return FallbackResult(**given, answered_by=role)

    def infer(self, inputs: Inputs, *, model: str | None = None, timeout_s: float | None = None) -> Outputs:
        """As :meth:`Device.infer`: an array in, an array out. ``timeout_s`` bounds each of the two attempts."""
        return plain_outputs(self.infer_detailed(inputs, model=model, timeout_s=timeout_s))

    def classify(self, picture: ArrayLike, *, top_k: int = 5, model: str | None = None) -> list[tuple[str, float]]:
        """As :meth:`Device.classify`: the most likely (label, probability) of one picture, best first."""

        def ask(device: Device, name: str | None, last: bool) -> list[tuple[str, float]]:
            return device.classify(picture, top_k=top_k, model=name)

        return self._answer(ask, model)[1]

    def model_spec(self, model: str | None = None) -> ModelSpec:
        """Names, datatypes and shapes of a model's inputs and outputs, of the device in force."""
        return self._answer(lambda device, name, last: device.model_spec(name), model)[1]

    def infer_stream(
        self,
        batches: Iterable[Inputs],
        *,
        model: str | None = None,
        window: int = 8,
        detailed: bool = False,
        errors: Literal["raise", "yield"] = "raise",
    ) -> Generator[Any, None, None]:
        """Many batches, at most ``window`` under way at once: results in the order of ``batches``, each once.

        Options as of :meth:`Device.infer_stream`. It goes on when the device in force changes; each batch is a request
        of its own, with its own deadline. ``detailed``: yield :class:`FallbackResult`.
        """
        check_options(window, errors)

        def answer(batch: Inputs) -> InferResult | Error:
            try:
                return self.infer_detailed(batch, model=model)
            except Error as error:
                return error

        answers = ordered(answer, batches, window)
        try:
            for answered in answers:
                yield stream_item(answered, detailed, errors)
                self._check_process()
        finally:
            answers.close()

    def _answer(self, ask: Ask[T], model: str | None, inputs: Inputs | None = None) -> tuple[Role, T]:
        self._check_process()
        return self._answering.answer(ask, model, inputs)

    # ------------------------------------------------------------------------------------------------- what is in force

    @property
    def in_force(self) -> Role:
        """Which device the next request is asked of: "primary" or "fallback"."""
        return self._switch.in_force

    def status(self) -> FallbackStatus:
        """Which device is in force, since when, and what is wrong with the primary."""
        self._check_process()
        finding = self._watcher.finding
        return FallbackStatus(
            in_force=self._switch.in_force,
            since_unix_s=self._switch.since_unix_s,
            turnovers=self._switch.count,
            primary_problem=finding.message,
            primary_agreement=finding.agreement,
        )

    def turnovers(self, after: int = 0) -> tuple[Turnover, ...]:
        """The last 1024 changes of the device in force, those with a sequence larger than ``after``, oldest first."""
        self._check_process()
        return self._switch.turnovers(after)

    def watch_turnovers(self, after: int = 0) -> Iterator[Turnover]:
        """Those after ``after``, then each as it happens; ends when the pair is closed."""
        self._check_process()
        for turnover in self._switch.watch(after):
            yield turnover
            self._check_process()

    def _check_process(self) -> None:
        """The pair's own threads are what a fork would lack: nobody would look after the primary."""
        check_same_process(self._process, "this pair of devices")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._check_process()
        role, _ = self._switch.now()
        one, other = (self.primary, self.fallback) if role == "primary" else (self.fallback, self.primary)
        try:
            return getattr(one, name)
        except AttributeError:
            if not hasattr(other, name):
                raise
        raise UnimplementedError(
            f"the {role} is in force, and it has no {name}; ask the other device itself, or wait for its return",
            call=name,
        )

    def close(self) -> None:
        """Ends both devices and whatever watches them. In a forked child it does nothing: they are the parent's."""
        if os.getpid() != self._process:
            return
        self._switch.close()
        self.primary.close()
        self._watcher.stop()
        self.fallback.close()
        self._teller.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, PAIR)

    def __repr__(self) -> str:
        return f"<FallbackDevice {self.primary!r}, else {self.fallback!r}; {self.in_force} in force>"


def _opened(device: Device | str | os.PathLike[str], stack: contextlib.ExitStack) -> Device:
    """A device as it is, or one made here, which is closed if nothing comes of the pair."""
    return device if isinstance(device, Device) else stack.enter_context(opened(device))


def _optional(name: str, seconds: float | None) -> float | None:
    return None if seconds is None else checked_timeout(seconds, name)


def _share(name: str, value: float | None) -> float | None:
    if value is not None and not (isinstance(value, Real) and math.isfinite(value) and 0.0 <= value <= 1.0):
        raise InputValueError(f"{name} is a share from 0 to 1, or None; found {value!r}", argument=name)
    return value


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputValueError(f"{name} is a whole number, 1 or more; found {value!r}", argument=name)
    return value
