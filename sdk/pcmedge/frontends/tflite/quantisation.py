"""Affine quantisation of TFLite: value = (code - zero point) * scale, per tensor or per channel of one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Quantisation:
    """``scale`` float32 and ``zero_point`` int64, one value each or one per index of ``axis``."""

    scale: Array
    zero_point: Array
    axis: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1

    def real(self, codes: Array) -> Array:
        """The float32 values that codes stand for; exact up to one rounding."""
        shape = [1] * codes.ndim
        if not self.per_tensor:
            shape[self.axis] = -1
        elif not codes.ndim:
            shape = []
        scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape)
        values: Array = ((codes.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
        return values

    def same(self, other: Quantisation | None) -> bool:
        """Whether codes of the one are codes of the other."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def clamped(self, dtype: np.dtype[Any], low: float | None, high: float | None) -> tuple[float | None, float | None]:
        """Bounds of a fused activation on the grid of the codes; None where the codes saturate there anyway.

        As TFLite does (``CalculateActivationRangeQuantized``): the bound is rounded to a code.
        """
        info = np.iinfo(dtype)
        scale, zero = float(self.scale.reshape(-1)[0]), int(self.zero_point.reshape(-1)[0])

        def bound(value: float | None, least: bool) -> float | None:
            if value is None:
                return None
            code = zero + round(value / scale)
            inside = code > info.min if least else code < info.max
            return (code - zero) * scale if inside else None

        return bound(low, True), bound(high, False)
