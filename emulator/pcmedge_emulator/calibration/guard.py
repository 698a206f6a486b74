"""The guard: a recalibration that would harm is not committed.

It looks three times. Before measuring: is the buffer fit to measure on. After: are the numbers finite and of a size
drift can explain. And last, on the image's own reference inputs over several reads: does the device still agree with
the digital network as well as before, and as well as with global drift compensation alone, which needs no buffer. The
second question is the one that catches a bad buffer on a device nobody has recalibrated for long, where anything would
be better than what is in force. All are compared on the same reads with the same noise, so that noise alone does not
decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge_emulator.calibration.agreement import Agreement

FloatArray = NDArray[np.float32]

GUARD_READS = 4
"""Read-noise realisations the comparison averages over."""

SMALLEST_VARIANCE_RATIO, LARGEST_VARIANCE_RATIO = 0.02, 10.0
"""Bounds of a layer's median of new variance / the image's variance.

A year of uncompensated drift (exponent 0.06, programming 20 s) leaves 0.43^2 = 0.18 of the variance, ten years 0.14;
programming noise adds some percent. An all-zero buffer leaves 0.015.
"""

ERROR_GROWTH, ERROR_ALLOWANCE = 1.1, 0.02
"""The relative error of the outputs may become at most 1.1 times the old one plus 0.02."""

ERROR_GROWTH_ALONE, ERROR_ALLOWANCE_ALONE = 1.25, 0.05
"""And at most 1.25 times that of global drift compensation alone plus 0.05: two methods of equal accuracy differ more
than one method before and after."""


def buffer_refusal(buffer: Mapping[str, NDArray[Any]]) -> str:
    """Why a buffer is not fit to measure on, or "". Every input must vary from sample to sample."""
    for name, samples in buffer.items():
        if len(samples) < 2:
            return f"the calibration buffer has {len(samples)} samples of '{name}'; statistics need 2 or more"
        if samples.dtype.kind == "f" and not np.isfinite(samples).all():
            return f"the calibration buffer holds values of '{name}' that are not finite"
        if samples[0].size and np.array_equal(samples, np.broadcast_to(samples[:1], samples.shape)):
            return f"all {len(samples)} samples of '{name}' in the calibration buffer are the same"
    return ""


def finite_refusal(
    statistics: Mapping[str, tuple[FloatArray, FloatArray]], factors: Mapping[int, float | FloatArray]
) -> str:
    """Why these numbers cannot be computed with at all, or ""; asked even when the guard is not.

    ``statistics`` map node to (mean, variance), float32 [C]; ``factors`` map logical tile to a scalar or [columns].
    """
    for node, (mean, variance) in statistics.items():
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()) or (variance < 0.0).any():
            return f"the measured statistics of '{node}' are not finite"
    for tile, factor in factors.items():
        if not np.isfinite(factor).all() or (np.asarray(factor) <= 0.0).any():
            return f"the drift factor of tile {tile} is not a positive number"
    return ""


def statistics_refusal(
    candidate: Mapping[str, tuple[FloatArray, FloatArray]], image: Mapping[str, tuple[FloatArray, FloatArray]]
) -> str:
    """Why measured statistics are of a size drift cannot explain, or ""."""
    for node, (_, variance) in candidate.items():
        alive = image[node][1] > 0.0
        if not alive.any():
            continue
        ratio = float(np.median(variance[alive] / image[node][1][alive]))
        if not SMALLEST_VARIANCE_RATIO <= ratio <= LARGEST_VARIANCE_RATIO:
            return (
                f"the variance of '{node}' is {ratio:.3g} of what it was when the image was compiled; drift explains "
                f"{SMALLEST_VARIANCE_RATIO} to {LARGEST_VARIANCE_RATIO:g}"
            )
    return ""


def agreement_refusal(
    before: Agreement,
    after: Agreement,
    reference_inputs: int,
    *,
    growth: float = ERROR_GROWTH,
    allowance: float = ERROR_ALLOWANCE,
) -> str:
    """Why the new set is worse than the old, or "".

    One reference input may change sides (a borderline one does so by noise), and the relative error may become
    ``growth`` times the old one plus ``allowance``: it moves before decisions do, and 16 decisions are few.
    """
    tolerance = 1.0 / max(1, reference_inputs)
    lost = before.agreement - after.agreement
    if lost > tolerance + 1e-9:
        return (
            f"self-test agreement would fall from {before.agreement:.3f} to {after.agreement:.3f}, more than one of "
            f"{reference_inputs} reference inputs"
        )
    limit = growth * before.relative_error + allowance
    if not after.relative_error <= limit:
        return (
            f"the relative error on the reference inputs would grow from {before.relative_error:.3f} to "
            f"{after.relative_error:.3f}, beyond {limit:.3f}"
        )
    return ""


def drift_compensation_refusal(alone: Agreement, after: Agreement, reference_inputs: int) -> str:
    """Why statistics measured on the buffer are worse than none, or "".

    ``alone``: the device with global drift compensation and the image's statistics. Much worse than that, the buffer
    does not fit the model.
    """
    why = agreement_refusal(alone, after, reference_inputs, growth=ERROR_GROWTH_ALONE, allowance=ERROR_ALLOWANCE_ALONE)
    return (
        f"the calibration buffer does not fit the model: compared with global drift compensation alone, {why}; replace "
        "the buffer, or use the method 'gdc'"
        if why
        else ""
    )
