"""The device a pair prefers: how it is asked, and what a look at it finds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pcmedge.device._calls import Backoff
from pcmedge.device._inference import Inputs, ModelSpec
from pcmedge.device.device import Device
from pcmedge.device.results import Tensor
from pcmedge.errors import DeviceStateError, Error, InputError, ModelNotFoundError, UnimplementedError
from pcmedge.protocol import tensors

LATE = "DEADLINE_EXCEEDED"
TOO_LOW = "SELF_TEST"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a look found; ``reason`` (as of a turn-over) is "" if nothing is wrong. ``agreement`` None: not measured."""

    reason: str = ""
    message: str = ""
    agreement: float | None = None


class Primary:
    """``serving`` and ``probing`` are the device with deadlines of their own.

    ``model``: the one meant, None for the only active one. ``name``: what it is called there, once known.
    ``wanted``: the model of the fallback, which it has to match. ``min_agreement`` None: the device judges its own
    self-test.
    """

    def __init__(
        self,
        device: Device,
        wanted: ModelSpec,
        *,
        model: str | None,
        deadline_s: float | None,
        probe_timeout_s: float,
        min_agreement: float | None,
        return_agreement: float | None,
    ) -> None:
        self.device = device
        self.serving = _impatient(device, deadline_s, Backoff(attempts=2, first_s=0.05))
        self.probing = _impatient(device, probe_timeout_s, Backoff(attempts=1))
        self.name = model
        self.blank: Inputs | None = None
        self._model = model
        self._wanted = wanted
        self._deadline_s = deadline_s
        self._min_agreement = min_agreement
        self._return_agreement = return_agreement

    def look(self, *, in_force: bool = False) -> Finding:
        """Whether it answers, in time, as the right model and well enough. Raises what it answers with instead."""
        spec = self._present_spec()
        check_compatible(spec, self._wanted)
        self.name = spec.name
        took_s = self._answer_blank(spec)
        if self._deadline_s is not None and took_s > self._deadline_s:
            return Finding(reason=LATE, message=f"an inference took {took_s:.3g} s, longer than {self._deadline_s:g} s")
        return self._self_test(self._min_agreement if in_force else self._return_agreement)

    def examine(self, *, in_force: bool) -> Finding:
        """As :meth:`look`; an error is a finding."""
        try:
            return self.look(in_force=in_force)
        except Error as error:
            return Finding(reason=error.reason, message=error.message)

    def _present_spec(self) -> ModelSpec:
        """Of the model known there; if that is gone and the caller named none, of the one that is active now."""
        if self.name is not None:
            try:
                return self.probing.model_spec(self.name)
            except ModelNotFoundError:
                if self._model is not None:
                    raise
        return self.probing.model_spec()

    def remember(self, inputs: Inputs) -> None:
        """What to time the device with: zeros of this shape. The values themselves might be what broke it."""
        try:
            self.blank = (
                {name: _zeros(values) for name, values in inputs.items()}
                if isinstance(inputs, Mapping)
                else _zeros(inputs)
            )
        except (TypeError, ValueError):
            # No tensor at all: whoever answers instead says so.
            self.blank = None

    def _answer_blank(self, spec: ModelSpec) -> float:
        """Seconds an inference takes."""
        inputs = self.blank
        if inputs is None:
            inputs = {tensor.name: _blank(tensor) for tensor in spec.inputs}
        started_s = time.monotonic()
        try:
            self.serving.infer_detailed(inputs, model=self.name)
        except InputError:
            # It has an opinion about zeros, so it is there.
            self.blank = None
        return time.monotonic() - started_s

    def _self_test(self, floor: float | None) -> Finding:
        try:
            result = self.probing.self_test(model=self.name)
        except (DeviceStateError, UnimplementedError) as error:
            if type(error) not in (DeviceStateError, UnimplementedError):
                raise
            # No reference inputs in the image, or no self-test on the device.
            if floor is None:
                return Finding()
            return Finding(reason=TOO_LOW, message=f"agreement cannot be measured: {error.message}")
        low = not result.passed if floor is None else result.agreement < floor
        if not low:
            return Finding(agreement=result.agreement)
        wanted = result.threshold if floor is None else floor
        return Finding(
            reason=TOO_LOW,
            message=f"self-test agreement is {result.agreement:.4g}, below {wanted:.4g}",
            agreement=result.agreement,
        )


def _impatient(device: Device, timeout_s: float | None, backoff: Backoff) -> Device:
    """The same connection with another deadline and fewer repetitions: somebody else is there to answer."""
    if type(device) is not Device:
        return device
    session = replace(device._session, timeout_s=timeout_s or device._session.timeout_s)
    return Device(device._transport, session=session, backoff=backoff)


def _zeros(values: Any) -> Any:
    array = np.asarray(values)
    return np.zeros(array.shape, array.dtype) if array.dtype.kind in "biuf" else array


def _blank(tensor: Tensor) -> Any:
    return np.zeros([max(1, size) for size in tensor.shape], tensors.dtype_of(tensor.datatype))


def check_compatible(primary: ModelSpec, fallback: ModelSpec) -> None:
    """InputError naming every difference unless the fallback takes what the primary takes, and answers alike."""
    differences = [
        *_differences("input", primary.inputs, fallback.inputs),
        *_differences("output", primary.outputs, fallback.outputs),
    ]
    if differences:
        raise InputError(
            f"the fallback's model {fallback.name!r} cannot stand in for the primary's {primary.name!r}: "
            f"{'; '.join(differences)}. Make both from the same model",
            argument="fallback",
            primary=primary.name,
            fallback=fallback.name,
        )


def _differences(what: str, primary: tuple[Tensor, ...], fallback: tuple[Tensor, ...]) -> list[str]:
    ours, theirs = [t.name for t in primary], [t.name for t in fallback]
    if ours != theirs:
        return [f"{what}s are called {', '.join(ours)} there and {', '.join(theirs)} here"]
    return [
        f"{what} {a.name!r} is {_spelled(a)} there and {_spelled(b)} here"
        for a, b in zip(primary, fallback, strict=True)
        if a.datatype != b.datatype or not _fits(a.shape, b.shape, exact=what == "input")
    ]


def _fits(primary: tuple[int, ...], fallback: tuple[int, ...], *, exact: bool) -> bool:
    """Sizes are the same, or any size here; of an output one of the two may leave a size open."""
    return len(primary) == len(fallback) and all(
        a == b or b < 0 or (a < 0 and not exact) for a, b in zip(primary, fallback, strict=True)
    )


def _spelled(tensor: Tensor) -> str:
    return f"{tensor.datatype} [{', '.join('any' if size < 0 else str(size) for size in tensor.shape)}]"
