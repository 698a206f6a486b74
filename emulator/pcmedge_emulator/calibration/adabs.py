"""Adaptive batch-norm statistics (AdaBS): as published, and paired.

As published (Joshi et al. 2020, Methods): feed n mini-batches of m samples through the analog network and update the
running statistics of every batch norm,  mu <- p mu + (1 - p) mu_B,  var <- p var + (1 - p) var_B,  p = 0.015^(1/n), so
that the old statistics keep a weight of 1.5 %. n = 13 and m = 200 for CIFAR-10.

Paired: one pass over the whole buffer; statistics move only by what differs from the digital ones on the same samples
(docs/calibration.md, and :mod:`pcmedge_emulator.engine.statistics` for the equations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import CancelledError, InputValueError

PUBLISHED_BATCHES = 13
PUBLISHED_BATCH_SIZE = 200
REMAINING_WEIGHT = 0.015
"""Weight the old statistics keep after all n batches."""

FloatArray = NDArray[np.float32]
Statistics = Mapping[str, tuple[FloatArray, FloatArray]]
Inputs = Mapping[str, NDArray[Any]]


def sample_count(buffer: Inputs) -> int:
    return min((int(samples.shape[0]) for samples in buffer.values()), default=0)


def schedule(samples: int, batches: int = 0, batch_size: int = 0) -> tuple[int, int]:
    """(n, m) for a buffer: n = 13 and m = 200 unless given, cut to the buffer at hand.

    m is cut before n, because a mini-batch's variance is biased by (m - 1)/m: 64 samples are one batch of 64.
    """
    if batches < 0 or batch_size < 0 or batch_size == 1:
        raise InputValueError(
            f"AdaBS takes 1 or more batches of 2 or more samples (0: {PUBLISHED_BATCHES} of {PUBLISHED_BATCH_SIZE}), "
            f"got {batches} of {batch_size}."
        )
    m = min(batch_size or PUBLISHED_BATCH_SIZE, samples)
    n = min(batches or PUBLISHED_BATCHES, samples // m if m else 0)
    return n, m


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
    n, m = schedule(sample_count(buffer), batches, batch_size)
    if n == 0:
        raise InputValueError("AdaBS needs a calibration buffer with samples; this one is empty.")
    p = momentum(n)
    statistics = {
        node: (np.asarray(mean, np.float64), np.asarray(var, np.float64)) for node, (mean, var) in running.items()
    }
    for batch in range(n):
        if cancelled():
            raise CancelledError("The recalibration was cancelled while measuring; the statistics are as before.")
        measured = measure({name: values[batch * m : (batch + 1) * m] for name, values in buffer.items()})
        for node, (mean, var) in measured.items():
            old_mean, old_var = statistics[node]
            statistics[node] = (p * old_mean + (1.0 - p) * mean, p * old_var + (1.0 - p) * var)
        progress(batch + 1, n)
    return {node: (mean.astype(np.float32), var.astype(np.float32)) for node, (mean, var) in statistics.items()}, n * m
