"""Adaptive batch-norm statistics (AdaBS): as published, and paired.

As published (Joshi et al. 2020, Methods): feed n mini-batches of m samples through the analog network and update the
running statistics of every batch norm,  mu <- p mu + (1 - p) mu_B,  var <- p var + (1 - p) var_B,  p = 0.015^(1/n), so
that the old statistics keep a weight of 1.5 %. n = 13 and m = 200 for CIFAR-10.

Paired: one pass over the whole buffer; statistics move only by what differs from the digital ones on the same samples
(docs/calibration.md, and :mod:`pcmedge_emulator.engine.statistics` for the equations).

Either is measured on several reads of the chip and averaged: what the 1/f noise of one read adds to the statistics is
gone by the time of an inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import CancelledError, InputValueError

from pcmedge_emulator.outcomes import Method

PUBLISHED_BATCHES = 13
PUBLISHED_BATCH_SIZE = 200
REMAINING_WEIGHT = 0.015
"""Weight the old statistics keep after all n batches."""

PAIRED_READS = 8
"""Reads of the chip that paired statistics are averaged over; docs/calibration.md says what more would gain."""

MOST_READS = 64

FloatArray = NDArray[np.float32]
Statistics = Mapping[str, tuple[FloatArray, FloatArray]]
Inputs = Mapping[str, NDArray[Any]]


def sample_count(buffer: Inputs) -> int:
    return min((int(samples.shape[0]) for samples in buffer.values()), default=0)


def default_reads(method: Method) -> int:
    """Reads of the chip a recalibration measures on unless asked for a number: the published method has one."""
    return PAIRED_READS if method is Method.ADABS_PAIRED else 1


def averaged(measured: Sequence[Statistics]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Mean over reads of the means and of the variances, per node; float32 [C]."""
    return {
        node: tuple(  # type: ignore[misc]
            np.mean([statistics[node][moment] for statistics in measured], axis=0, dtype=np.float64).astype(np.float32)
            for moment in (0, 1)
        )
        for node in measured[0]
    }


def schedule(samples: int, batches: int = 0, batch_size: int = 0) -> tuple[int, ...]:
    """Sizes of the n mini-batches a buffer is cut into, in its order; none if it is empty.

    Left to itself: as few batches of at most m = 200 as hold all samples, of equal size (they differ by one at most),
    up to the published n = 13; what lies beyond 13 x 200 is not used. Few and large, because a mini-batch's variance is
    biased by (m - 1)/m: 64 samples are one batch of 64. ``batches`` alone: so many batches of equal size, as far as
    there are 2 samples for each. ``batch_size``: batches of exactly this size (of all samples, if there are fewer), as
    many as the buffer fills, up to ``batches`` or 13.
    """
    if batches < 0 or batch_size < 0 or batch_size == 1:
        raise InputValueError(
            f"AdaBS takes 1 or more batches of 2 or more samples (0: {PUBLISHED_BATCHES} of {PUBLISHED_BATCH_SIZE}), "
            f"got {batches} of {batch_size}."
        )
    if samples == 0:
        return ()
    if batch_size:
        m = min(batch_size, samples)
        return (m,) * min(batches or PUBLISHED_BATCHES, samples // m)
    fewest = math.ceil(samples / PUBLISHED_BATCH_SIZE)
    n = min(batches, max(1, samples // 2)) if batches else min(PUBLISHED_BATCHES, fewest)
    used = min(samples, n * PUBLISHED_BATCH_SIZE)
    return tuple(used // n + (batch < used % n) for batch in range(n))


def momentum(batches: int) -> float:
    """p = 0.015^(1/n)."""
    return float(REMAINING_WEIGHT ** (1.0 / batches))


def published(
    measure: Callable[[Inputs], Statistics],
    buffer: Inputs,
    running: Statistics,
    *,
    batches: int = 0,
    batch_size: int = 0,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> tuple[dict[str, tuple[FloatArray, FloatArray]], int]:
    """(new statistics, samples used). ``measure`` returns batch mean and population variance per node, float32 [C]."""
    sizes = schedule(sample_count(buffer), batches, batch_size)
    if not sizes:
        raise InputValueError("AdaBS needs a calibration buffer with samples; this one is empty.")
    n = len(sizes)
    p = momentum(n)
    statistics = {
        node: (np.asarray(mean, np.float64), np.asarray(var, np.float64)) for node, (mean, var) in running.items()
    }
    first = 0
    for batch, size in enumerate(sizes):
        if cancelled():
            raise CancelledError("The recalibration was cancelled while measuring; the statistics are as before.")
        measured = measure({name: values[first : first + size] for name, values in buffer.items()})
        for node, (mean, var) in measured.items():
            old_mean, old_var = statistics[node]
            statistics[node] = (p * old_mean + (1.0 - p) * mean, p * old_var + (1.0 - p) * var)
        first += size
        progress(batch + 1, n)
    return {node: (mean.astype(np.float32), var.astype(np.float32)) for node, (mean, var) in statistics.items()}, first
