"""The few shapes of curve the published device fits are made of, as frozen, printable values.

Each maps the relative conductance g = G / g_max (unit 1, any shape, float32) to a coefficient of the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SMALLEST_RELATIVE_CONDUCTANCE = 1e-7
"""Where a logarithm of g is cut off; aihwkit's ``_ZERO_CLIP``."""


class Curve(Protocol):
    def __call__(self, g: Array) -> Array: ...


@dataclass(frozen=True)
class Polynomial:
    """c0 + c1 g + c2 g^2 + ..."""

    coefficients: tuple[float, ...]

    def __call__(self, g: Array) -> Array:
        result = np.full_like(g, self.coefficients[-1])
        for coefficient in reversed(self.coefficients[:-1]):
            result *= g
            result += np.float32(coefficient)
        return result


@dataclass(frozen=True)
class ClippedLogarithm:
    """clip(slope ln g + intercept, low, high), ln the natural logarithm."""

    slope: float
    intercept: float
    low: float
    high: float

    def __call__(self, g: Array) -> Array:
        result = np.maximum(g, np.float32(SMALLEST_RELATIVE_CONDUCTANCE))
        np.log(result, out=result)
        result *= np.float32(self.slope)
        result += np.float32(self.intercept)
        return np.clip(result, np.float32(self.low), np.float32(self.high), out=result)


@dataclass(frozen=True)
class CappedInversePower:
    """min(scale / max(g^exponent, floor), cap)."""

    scale: float
    exponent: float
    floor: float
    cap: float

    def __call__(self, g: Array) -> Array:
        # exp(e ln g) instead of a power: numpy vectorises the one and not the other.
        result = np.maximum(g, np.finfo(np.float32).tiny)
        np.log(result, out=result)
        result *= np.float32(self.exponent)
        np.exp(result, out=result)
        np.maximum(result, np.float32(self.floor), out=result)
        np.divide(np.float32(self.scale), result, out=result)
        return np.minimum(result, np.float32(self.cap), out=result)


@dataclass(frozen=True)
class Piecewise:
    """``below(g)`` for g < threshold, ``above(g)`` from the threshold on."""

    threshold: float
    below: Curve
    above: Curve

    def __call__(self, g: Array) -> Array:
        return np.where(g < np.float32(self.threshold), self.below(g), self.above(g))


ZERO = Polynomial((0.0,))
