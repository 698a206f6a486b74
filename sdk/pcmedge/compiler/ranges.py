"""Converter ranges: from how large the numbers were on the calibration set to the value of one code.

Both converters round half to even and saturate. A range that covers the largest value seen wastes codes on a rare
outlier; the mean-square-optimal one clips some. Neither ever falls below the 99.9th percentile: in trials on ResNet-32
ranges at the 99th percentile, or at 3 or 4 standard deviations, cost 2 to 6 points of accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .graph import Array

RangeChoice = Literal["mse", "max"]

# Head room of the ADC over the calibration set: programming noise and other inputs make sums larger than any seen.
ADC_MARGIN = 1.1
PERCENTILE = 0.999
_TINY = 1e-30
_BINS = 4096
_CANDIDATES = 48


class Magnitudes:
    """Distribution of |values| in bounded memory: a histogram whose range doubles (neighbouring bins merge) as needed.

    At least 2048 of the 4096 bins lie below the largest value seen. ``lowest`` and ``highest`` are exact.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.range = 0.0
        self.lowest = math.inf
        self.highest = -math.inf

    def add(self, values: Array) -> None:
        """Count an array of any shape (float32)."""
        if not values.size:
            return
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        largest = self.largest
        if largest == 0:
            self.counts[0] += values.size
            return
        self._grow(largest)
        # Of subnormal values the factor is beyond float32.
        factor = np.float32(_BINS / self.range) if self.range > _TINY else np.float64(_BINS / self.range)
        index = (np.abs(values.reshape(-1)) * factor).astype(np.int32)
        np.minimum(index, _BINS - 1, out=index)
        self.counts += np.bincount(index, minlength=_BINS)

    @property
    def largest(self) -> float:
        """The largest |value| seen; 0 if none was."""
        return max(abs(self.lowest), abs(self.highest)) if self.highest >= self.lowest else 0.0

    @property
    def centres(self) -> Array:
        """Middle of each bin; the first, which holds the exact zeros, counts as zero."""
        centres = (np.arange(_BINS) + 0.5) * (self.range / _BINS)
        centres[0] = 0.0
        return centres

    def quantile(self, fraction: float) -> float:
        """Upper edge of the bin below which ``fraction`` of the values lie, at most the largest value."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self.counts), fraction * total))
        return min(self.largest, (index + 1) * self.range / _BINS)

    def _grow(self, largest: float) -> None:
        wanted = 2.0 ** math.ceil(math.log2(largest))
        if self.range == 0:
            self.range = wanted
        while self.range < wanted:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(_BINS // 2, np.int64)])
            self.range *= 2


@dataclass(frozen=True)
class DacRange:
    """One code is worth ``step`` in the unit of the layer's input (exactly a float32)."""

    step: float
    signed: bool
    levels: int
    """Largest code."""

    def codes(self, values: Array) -> Array:
        """What the DAC makes of values: float32 integers in [-levels or 0, levels]; rounds half to even, saturates."""
        codes = np.rint(values / np.float32(self.step))
        return np.clip(codes, -self.levels if self.signed else 0, self.levels, out=codes)


def full_scale(bits: int, *, signed: bool) -> int:
    """Largest code of a converter; a signed one is symmetric."""
    return int(2 ** (bits - 1) - 1) if signed else int(2**bits - 1)


def choose_dac(seen: Magnitudes, bits: int, choice: RangeChoice) -> DacRange:
    """DAC range of one block's input: unsigned only if the calibration set never went below zero."""
    signed = seen.lowest < 0
    levels = full_scale(bits, signed=signed)
    covered = seen.largest if choice == "max" else best_range(seen, levels)
    # An input that was zero throughout (a dead layer) still needs some range.
    return DacRange(float(np.float32((covered or 1.0) / levels)), signed, levels)


def choose_adc(seen: Magnitudes, bits: int, choice: RangeChoice, bound: float) -> float:
    """ADC step of one tile, in DAC codes per ADC code; ``bound``, the largest |sum| possible, is used if all were 0."""
    levels = full_scale(bits, signed=True)
    covered = seen.largest if choice == "max" else best_range(seen, levels)
    return float(np.float32((covered * ADC_MARGIN if covered else bound) / levels))


def best_range(seen: Magnitudes, levels: int) -> float:
    """The full-scale value with the least mean square error of rounding and saturation together.

    Searched between the 99.9th percentile (at least a tenth of the maximum) and the maximum.
    """
    largest = seen.largest
    if largest == 0:
        return 0.0
    lowest = max(seen.quantile(PERCENTILE), 0.1 * largest)
    centres, counts = seen.centres, seen.counts
    used = counts > 0
    centres, counts = centres[used], counts[used]
    best, least = largest, math.inf
    for covered in np.linspace(largest, lowest, _CANDIDATES):
        step = covered / levels
        rounded = np.minimum(np.rint(centres / step), levels) * step
        error = float(np.dot(counts, np.square(centres - rounded)))
        if error < least * (1 - 1e-12):
            best, least = float(covered), error
    return best
