"""The calibration buffer the device recalibrates with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcmedge._contract.image_pb2 import CalibrationBuffer
from pcmedge.errors import InputValueError
from pcmedge.image.synthetic import GENERATORS, WHITE, synthetic_buffer

from .calibration import calibration_set, pick
from .coverage import InputMeter, herd
from .graph import Array, Graph
from .layers import Layer

BufferChoice = Any
LEAST_POOL = 96
"""Synthetic samples to choose from, or twice as many as are wanted."""
_CHANNELS = (1, 3, 4)
"""Of pictures, as inputs of networks have them."""
_STORABLE = ("float32", "int8", "uint8", "int32", "int64")


@dataclass(frozen=True)
class Buffer:
    """``samples`` as the device will see them (None: no buffer); ``description``: whether they are stored or made."""

    description: CalibrationBuffer
    samples: dict[str, Array] | None

    @property
    def stored(self) -> dict[str, Array] | None:
        return self.samples if self.description.kind == "stored" else None


def choose_buffer(
    graph: Graph,
    layers: Sequence[Layer],
    choice: BufferChoice,
    calibration: Mapping[str, Array],
    *,
    count: int,
    seed: int,
) -> Buffer:
    """What ``compile(buffer=...)`` asks for; raises CalibrationError for samples that do not fit the model."""
    if choice is None:
        return Buffer(CalibrationBuffer(kind="none"), None)
    if count < 1:
        raise InputValueError(f"buffer_samples: expected at least 1, found {count}. For no buffer pass buffer=None.")
    if isinstance(choice, str):
        if choice == "synthetic":
            return synthetic(graph, layers, calibration, count, seed)
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


def synthetic(graph: Graph, layers: Sequence[Layer], calibration: Mapping[str, Array], count: int, seed: int) -> Buffer:
    """Of every generator's samples those that together drive the analog layers as the calibration set does on average;
    the generator that comes closest."""
    described = CalibrationBuffer(kind="synthetic", samples=count, seed=seed)
    for name in graph.input_names:
        values = calibration[name]
        shape = values.shape[1:]
        if len(shape) == 3 and shape[2] in _CHANNELS and shape[0] not in _CHANNELS:
            raise InputValueError(
                f"synthetic samples are made with their channels first (NCHW); input '{name}' of shape {list(shape)} "
                "has them last, as TFLite models do. Use samples instead: buffer='calibration' and reference=16, or "
                "your own.",
                input=name,
            )
        axes = tuple(axis for axis in range(values.ndim) if axis != 1) if len(shape) >= 3 else None
        described.inputs.add(
            name=name,
            shape=shape,
            mean=np.atleast_1d(values.mean(axis=axes, dtype=np.float64)).tolist(),
            std=np.atleast_1d(values.std(axis=axes, dtype=np.float64)).tolist(),
            minimum=float(values.min()),
            maximum=float(values.max()),
        )
    meter = InputMeter(graph, layers, calibration)
    pictures = any(len(made.shape) >= 3 for made in described.inputs)
    best: Buffer | None = None
    for generator in GENERATORS if pictures else (WHITE,):
        described.generator = generator
        del described.chosen[:]
        pool = _made(graph, described, calibration, range(max(LEAST_POOL, 2 * count)))
        described.chosen.extend(herd(meter.means(pool), meter.target, count))
        samples = _made(graph, described, calibration, described.chosen)
        described.coverage = meter.coverage(meter.means(samples))
        if best is None or described.coverage > best.description.coverage:
            kept = CalibrationBuffer()
            kept.CopyFrom(described)
            best = Buffer(kept, samples)
    assert best is not None
    return best


def _made(
    graph: Graph, described: CalibrationBuffer, calibration: Mapping[str, Array], numbers: Sequence[int]
) -> dict[str, Array]:
    return {
        name: synthetic_buffer(
            described.generator,
            described.seed,
            len(numbers),
            tuple(made.shape),
            calibration[name].dtype,
            made.mean,
            made.std,
            made.minimum,
            made.maximum,
            stream=stream,
            chosen=numbers,
        )
        for stream, (name, made) in enumerate(zip(graph.input_names, described.inputs, strict=True))
    }
