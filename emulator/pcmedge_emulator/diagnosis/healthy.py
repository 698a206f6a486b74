"""What a healthy cell reads: mean, variance and far tails of its reading at an age, from the device statistics alone.

The distribution has no closed form (a cut normal, times a power with a folded normal exponent, times a normal, less the
same of a RESET device), and a self-test of 100,000 cells with one false alarm in 1,000 needs tails of 1e-8. So it is
sampled from the functions of :mod:`pcmedge_emulator.physics` themselves, the tails by importance sampling: every normal
number is drawn with twice the standard deviation and the sample carries the ratio of the densities as its weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.physics.drift import drift, sample_drift_exponents
from pcmedge_emulator.physics.programming import program
from pcmedge_emulator.physics.read_noise import read
from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LEVELS = 25
SAMPLES = 1 << 15
WIDTH = 2.0
"""Standard deviation of the normal numbers that look for the tails."""


class _Wide(np.random.Generator):
    """Normal numbers of standard deviation ``width``; ``log_weight`` is the log of the density ratio so far."""

    def __init__(self, seed: int, width: float) -> None:
        super().__init__(np.random.SFC64(seed))
        self.width = width
        self.log_weight: Any = 0.0

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        drawn = super().standard_normal(size, dtype=dtype, out=out)
        if self.width != 1.0:
            drawn *= dtype(self.width)
            self.log_weight = self.log_weight + (
                math.log(self.width) - 0.5 * (1 - self.width**-2) * np.square(drawn, dtype=np.float64)
            )
        return drawn


@dataclass(frozen=True, eq=False)
class HealthyCells:
    """Of a cell with target magnitude ``levels`` (unit 1, ascending): mean and variance of its reading times the sign
    of its target, and for each tail probability what it falls below (``low``) and exceeds (``high``) that rarely."""

    levels: Float64
    mean: Float64
    variance: Float64
    low: dict[float, Float64]
    high: dict[float, Float64]

    def at(self, values: Float64, magnitude: npt.NDArray[np.floating]) -> Float64:
        """A table of this class at any target magnitude from 0 to 1."""
        result: Float64 = np.interp(magnitude, self.levels, values)
        return result


def healthy_cells(
    technology: Technology, age_s: float, tails: tuple[float, ...], *, reads: int, noisy: bool
) -> HealthyCells:
    """The statistics of (G+ - G-) / g_max as read out at ``age_s``, the mean of ``reads`` products.

    ``technology`` at the chip's g_max. ``tails``: probabilities of either side. ``noisy``: products draw short-term
    noise. The converters are not in it. Deterministic.
    """
    levels = np.linspace(0.0, 1.0, LEVELS) ** 2
    noise = technology.short_term_noise / math.sqrt(reads) if noisy else 0.0
    plain = _readings(levels, technology, age_s, noise, _Wide(1, 1.0))
    wide = _Wide(2, WIDTH)
    sample = _readings(levels, technology, age_s, noise, wide)
    if np.ndim(wide.log_weight) == 0:
        wide.log_weight = np.zeros_like(sample)
    order = np.argsort(sample, axis=1)
    sample = np.take_along_axis(sample, order, axis=1)
    weight = np.take_along_axis(np.exp(wide.log_weight), order, axis=1) / SAMPLES
    below, above = np.cumsum(weight, axis=1), np.cumsum(weight[:, ::-1], axis=1)
    low, high = {}, {}
    for tail in tails:
        # The first sample where the tail is not below the probability any more; one before it, to be on the safe side.
        low[tail] = _at(sample, np.argmax(below >= tail, axis=1) - 1)
        high[tail] = _at(sample[:, ::-1], np.argmax(above >= tail, axis=1) - 1)
    return HealthyCells(levels, plain.mean(axis=1), plain.var(axis=1), low, high)


def _at(ordered: Float64, index: npt.NDArray[np.int64]) -> Float64:
    return ordered[np.arange(len(ordered)), np.maximum(index, 0)]


def _readings(levels: Float64, technology: Technology, age_s: float, noise: float, rng: _Wide) -> Float64:
    """Samples [levels, SAMPLES] of the signed reading."""
    g_max = technology.g_max_microsiemens
    pair = []
    for target in (levels * g_max, np.zeros(LEVELS)):
        wanted = np.broadcast_to(target[:, None], (LEVELS, SAMPLES)).astype(np.float32)
        programmed = program(wanted, technology, rng)
        nu = sample_drift_exponents(wanted, technology, rng)
        pair.append(read(drift(programmed, nu, age_s, technology.t0_s), programmed, age_s, technology, rng) / g_max)
    signal = (pair[0] - pair[1]).astype(np.float64)
    spread = noise * np.sqrt(pair[0] + pair[1])
    result: Float64 = signal + spread * rng.standard_normal(signal.shape, np.float32)
    return result
