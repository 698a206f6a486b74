"""The calibration buffer the device recalibrates with, and the reference inputs of its self-test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcmedge._contract.image_pb2 import CalibrationBuffer
from pcmedge.errors import InputValueError
from pcmedge.image.synthetic import THREE_SCALES, synthetic_buffer

from .calibration import calibration_set, pick
from .graph import Array, Graph

BufferChoice = Any
DEFAULT_REFERENCE = 16
_STORABLE = ("float32", "uint8", "int32", "int64")


@dataclass(frozen=True)
class Buffer:
    """``samples`` as the device will see them (None: no buffer); ``description``: whether they are stored or made."""

    description: CalibrationBuffer
    samples: dict[str, Array] | None

    @property
    def stored(self) -> dict[str, Array] | None:
        return self.samples if self.description.kind == "stored" else None


def choose_buffer(
    graph: Graph, choice: BufferChoice, calibration: Mapping[str, Array], *, count: int, seed: int
) -> Buffer:
    """What ``compile(buffer=...)`` asks for; raises CalibrationError for samples that do not fit the model."""
    if choice is None:
        return Buffer(CalibrationBuffer(kind="none"), None)
    if count < 1:
        raise InputValueError(f"buffer_samples: expected at least 1, found {count}. For no buffer pass buffer=None.")
    if isinstance(choice, str):
        if choice == "synthetic":
            return _synthetic(graph, calibration, count, seed)
        if choice != "calibration":
            raise InputValueError(
                f"buffer: expected 'calibration', 'synthetic', samples or None; found {choice!r}.", found=choice
            )
        samples = pick(calibration, count)
    else:
        samples = calibration_set(graph, choice, what="buffer")
    for name, value in samples.items():
        if str(value.dtype) not in _STORABLE:
            raise InputValueError(
                f"buffer: inputs of type {', '.join(_STORABLE)} can be stored, input '{name}' is {value.dtype}. "
                "Pass buffer=None, or give the model an input of one of these types.",
                input=name,
            )
    total = len(next(iter(samples.values())))
    return Buffer(CalibrationBuffer(kind="stored", samples=total), samples)


def choose_reference(graph: Graph, choice: Any, calibration: Mapping[str, Array]) -> dict[str, Array]:
    """Reference inputs: a number of samples spread over the calibration set (None: 16), or samples."""
    if choice is None or (isinstance(choice, int) and not isinstance(choice, bool)):
        count = DEFAULT_REFERENCE if choice is None else choice
        if count < 1:
            raise InputValueError(f"reference: expected at least one sample for the self-test, found {count}.")
        return pick(calibration, count)
    return calibration_set(graph, choice, what="reference")


def _synthetic(graph: Graph, calibration: Mapping[str, Array], count: int, seed: int) -> Buffer:
    description = CalibrationBuffer(kind="synthetic", samples=count, generator=THREE_SCALES, seed=seed)
    samples: dict[str, Array] = {}
    for stream, name in enumerate(graph.input_names):
        values = calibration[name]
        shape = values.shape[1:]
        axes = tuple(axis for axis in range(values.ndim) if axis != 1) if len(shape) >= 3 else None
        mean = np.atleast_1d(values.mean(axis=axes, dtype=np.float64))
        std = np.atleast_1d(values.std(axis=axes, dtype=np.float64))
        made = description.inputs.add(
            name=name,
            shape=shape,
            mean=mean.tolist(),
            std=std.tolist(),
            minimum=float(values.min()),
            maximum=float(values.max()),
        )
        samples[name] = synthetic_buffer(
            THREE_SCALES,
            seed,
            count,
            shape,
            values.dtype,
            made.mean,
            made.std,
            made.minimum,
            made.maximum,
            stream=stream,
        )
    return Buffer(description, samples)
