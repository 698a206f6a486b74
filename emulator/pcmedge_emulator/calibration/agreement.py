"""Agreement with the digital network on the reference inputs an image brings along: for self-tests and the guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.image import ChipImage

from pcmedge_emulator.calibration.adabs import sample_count

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well outputs agree with the digital ones.

    ``agreement``: share of decisions (largest entry along the last axis) that are the digital one's.
    ``relative_error``: root mean square of (device - digital) over the standard deviation of the digital outputs.
    ``mean_absolute_difference``: mean of abs(device - digital), in the unit of the output.
    """

    agreement: float
    relative_error: float
    mean_absolute_difference: float = -1.0


def agreement(outputs: NDArray[Any], digital: NDArray[Any]) -> Agreement:
    """Compares one output of the device with the digital one, both [samples, ...]."""
    device, wanted = np.asarray(outputs, np.float64), np.asarray(digital, np.float64)
    if wanted.ndim < 2 or wanted.shape[-1] < 2:
        # One number per sample decides nothing by itself: the decisions are the entries of the whole sample.
        device, wanted = device.reshape(len(device), -1), wanted.reshape(len(wanted), -1)
    same = np.mean(device.argmax(axis=-1) == wanted.argmax(axis=-1))
    spread = float(wanted.std())
    error = float(np.sqrt(np.mean(np.square(device - wanted))))
    finite = bool(np.isfinite(device).all())
    return Agreement(
        agreement=float(same) if finite else 0.0,
        relative_error=(error / spread if spread > 0.0 else error) if finite else float("inf"),
        mean_absolute_difference=float(np.mean(np.abs(device - wanted))) if finite else float("inf"),
    )


NOT_MEASURED = Agreement(agreement=-1.0, relative_error=-1.0)


def mean_agreement(reads: list[Agreement]) -> Agreement:
    return Agreement(
        agreement=float(np.mean([read.agreement for read in reads])),
        relative_error=float(np.mean([read.relative_error for read in reads])),
        mean_absolute_difference=float(np.mean([read.mean_absolute_difference for read in reads])),
    )


def reference(image: ChipImage) -> tuple[Tensors, Callable[[Tensors], Agreement]] | None:
    """The image's reference inputs, and how outputs for them agree with the digital ones; None if it has none."""
    inputs, outputs = image.reference_set()
    if not sample_count(inputs) or not outputs:
        return None
    wanted = image.manifest.application.class_output
    name = wanted if wanted in outputs else next(iter(outputs))
    return inputs, lambda got: agreement(got[name], outputs[name])


def reference_inputs(image: ChipImage) -> int:
    """How many reference inputs the image has."""
    return sample_count(image.reference_set()[0])
