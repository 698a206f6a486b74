"""Confidence bounds for the statistical tests of the physics.

Every bound is two-sided with 99.9 % confidence for a whole family of comparisons (Bonferroni over its members), so that
one test with a fixed seed would fail by chance once in a thousand seeds. Errors of a mean are normal at the sample
sizes used.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()


def quantile(family: int = 1, confidence: float = 0.999) -> float:
    """How many standard errors a member of a family of comparisons may be off."""
    return NORMAL.inv_cdf(1 - (1 - confidence) / 2 / family)


def assert_mean(samples: np.ndarray, expected: float, *, family: int = 1, what: str = "mean") -> None:
    """The sample mean agrees with ``expected`` within its own standard error."""
    values = np.asarray(samples, dtype=np.float64)
    error = values.std(ddof=1) / math.sqrt(values.size)
    off = (values.mean() - expected) / error
    assert abs(off) <= quantile(family), f"{what}: {values.mean():.6g}, expected {expected:.6g}, {off:.2f} errors off"


def assert_moments(samples: np.ndarray, mean: float, second: float, *, family: int = 1, what: str = "") -> None:
    """Mean and variance agree with the expected first and second moment (two comparisons)."""
    assert_mean(samples, mean, family=2 * family, what=f"{what} mean")
    squares = (np.asarray(samples, dtype=np.float64) - mean) ** 2
    assert_mean(squares, second - mean**2, family=2 * family, what=f"{what} variance")


def rectified_moments(mean: float, sigma: float) -> tuple[float, float]:
    """E[X] and E[X^2] of X = max(0, N(mean, sigma^2))."""
    if sigma == 0:
        return max(mean, 0.0), max(mean, 0.0) ** 2
    z = mean / sigma
    return (
        mean * NORMAL.cdf(z) + sigma * NORMAL.pdf(z),
        (mean**2 + sigma**2) * NORMAL.cdf(z) + mean * sigma * NORMAL.pdf(z),
    )


def folded_moments(mean: float, sigma: float) -> tuple[float, float]:
    """E[X] and E[X^2] of X = |N(mean, sigma^2)|."""
    z = mean / sigma
    return mean * (1 - 2 * NORMAL.cdf(-z)) + 2 * sigma * NORMAL.pdf(z), mean**2 + sigma**2


def assert_distribution(samples: np.ndarray, cdf: np.ndarray, *, family: int = 1, what: str = "") -> None:
    """Kolmogorov-Smirnov: ``cdf`` is the expected distribution function at the *sorted* samples."""
    n = samples.size
    steps = np.arange(1, n + 1) / n
    distance = max(float(np.max(steps - cdf)), float(np.max(cdf - (steps - 1 / n))))
    critical = math.sqrt(-0.5 * math.log(0.001 / family / 2)) / math.sqrt(n)
    assert distance <= critical, f"{what}: distance {distance:.5f}, at most {critical:.5f}"


def normal_cdf(z: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
