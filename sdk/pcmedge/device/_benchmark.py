"""How fast a device answers: latency percentiles and throughput by batch size, over any connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge.device._inference import Inputs, ModelSpec, named_arrays
from pcmedge.device.device import Device
from pcmedge.errors import InputError, InputShapeError, InputValueError
from pcmedge.protocol import tensors

Progress = Callable[[str, int, int], None]
"""Called with (batch size, calls done, all of them)."""

MOST_BATCH = 65536


@dataclass(frozen=True, kw_only=True)
class BatchTiming:
    """Latencies of one batch size, seconds as the caller sees them; ``samples_per_s``: over all calls together."""

    batch: int
    calls: int
    p50_s: float
    p90_s: float
    p99_s: float
    mean_s: float
    min_s: float
    max_s: float
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """``warmup``: calls of every batch size before those that count. ``streamed``: over one stream, one at a time."""

    device: str
    model: str
    warmup: int
    streamed: bool
    batches: tuple[BatchTiming, ...]

    @property
    def best(self) -> BatchTiming:
        """The batch size with the highest throughput."""
        return max(self.batches, key=lambda timing: timing.samples_per_s)


def benchmark(
    device: Device,
    inputs: Inputs | None = None,
    *,
    model: str | None = None,
    batches: Sequence[int] = (1, 8, 32),
    calls: int = 100,
    warmup: int = 10,
    stream: bool = False,
    progress: Progress | None = None,
) -> Benchmark:
    """Ask ``device`` ``calls`` times for each batch size, one request after the other, and time every answer.

    ``inputs``: samples along the first axis, repeated to the sizes wanted; without them standard normal numbers (zeros
    for integers) of the shape the model says. Sizes take turns, so that a change in the machine's speed meets all of
    them. ``stream``: over one stream per size instead of one call per request. A latency holds everything between
    handing over arrays and holding the answer: conversion, the line, waiting, computation.

    Raises InputValueError for sizes and counts that are none, InputShapeError when the model leaves an axis open that
    only inputs can fill, and what inference raises.
    """
    chosen = tuple(_count("batches", size, 1, MOST_BATCH) for size in batches)
    if not chosen:
        raise InputValueError("a benchmark needs at least one batch size", argument="batches")
    calls, warmup = _count("calls", calls, 1), _count("warmup", warmup, 0)
    spec = device.model_spec(model)
    samples = _made_up(spec) if inputs is None else _given(spec, inputs)
    asked = {size: _Asker(device, spec.name, _repeated(samples, size), stream) for size in dict.fromkeys(chosen)}
    taken: dict[int, list[float]] = {size: [] for size in asked}
    total = (warmup + calls) * len(asked)
    try:
        for turn in range(warmup + calls):
            for number, (size, asker) in enumerate(asked.items()):
                seconds = asker.seconds()
                if turn >= warmup:
                    taken[size].append(seconds)
                if progress is not None:
                    progress(f"batch {size}", turn * len(asked) + number + 1, total)
    finally:
        for asker in asked.values():
            asker.close()
    return Benchmark(
        device=device.address,
        model=spec.name,
        warmup=warmup,
        streamed=stream,
        batches=tuple(_timing(size, seconds) for size, seconds in taken.items()),
    )


class _Asker:
    """Asks for one batch again and again."""

    def __init__(self, device: Device, model: str, inputs: Mapping[str, NDArray[Any]], stream: bool) -> None:
        self._device, self._model, self._inputs = device, model, inputs
        self._answers = device.infer_stream(self._endless(), model=model, window=1) if stream else None

    def _endless(self) -> Any:
        while True:
            yield self._inputs

    def seconds(self) -> float:
        begin = time.perf_counter()
        if self._answers is None:
            self._device.infer(self._inputs, model=self._model)
        else:
            next(self._answers)
        return time.perf_counter() - begin

    def close(self) -> None:
        if self._answers is not None:
            self._answers.close()


def _timing(size: int, seconds: Sequence[float]) -> BatchTiming:
    p50, p90, p99 = np.percentile(seconds, (50, 90, 99))
    return BatchTiming(
        batch=size,
        calls=len(seconds),
        p50_s=float(p50),
        p90_s=float(p90),
        p99_s=float(p99),
        mean_s=float(np.mean(seconds)),
        min_s=min(seconds),
        max_s=max(seconds),
        samples_per_s=size * len(seconds) / sum(seconds),
    )


def _count(name: str, value: object, least: int, most: int | None = None) -> int:
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise InputValueError(f"{name}: expected {bounds}, found {value!r}", argument=name)
    return number


def _made_up(spec: ModelSpec) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    found = {}
    for tensor in spec.inputs:
        shape = tensor.shape[1:]
        if any(size < 0 for size in shape):
            raise InputShapeError(
                f"input {tensor.name!r} of model {spec.name!r} has shape {list(tensor.shape)}, in which -1 beyond the "
                "batch may be any size; pass inputs",
                tensor=tensor.name,
            )
        dtype = tensors.dtype_of(tensor.datatype)
        values = rng.standard_normal((1, *shape)) if dtype.kind == "f" else np.zeros((1, *shape))
        found[tensor.name] = values.astype(dtype)
    return found


def _given(spec: ModelSpec, inputs: Inputs) -> dict[str, NDArray[Any]]:
    arrays = named_arrays(spec, inputs)
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"inputs of a benchmark have samples along the first axis, as many for every input; found {sorted(counts)}"
        )
    return arrays


def _repeated(samples: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """The first ``size`` samples, from the beginning again where there are fewer."""
    return {name: np.ascontiguousarray(values[np.arange(size) % len(values)]) for name, values in samples.items()}
