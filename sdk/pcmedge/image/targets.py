"""How an image stores a normalised conductance g in [-1, 1]: as the int16 code of 32767 g, or as g in float32."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

TargetFormat = Literal["int16", "float32"]
Targets = NDArray[np.int16] | NDArray[np.float32]

INT16: Final = "<i2"
FLOAT32: Final = "<f4"
DTYPES: Final[dict[TargetFormat, str]] = {"int16": INT16, "float32": FLOAT32}
"""The segment's ``dtype`` for each choice of a compilation."""
FULL_SCALE: Final = 32767
"""The int16 code of a weight at g = 1."""


def full_scale(dtype: DTypeLike) -> int:
    """What a stored target is divided by to give g: 32767 for int16, 1 for float32."""
    return FULL_SCALE if np.dtype(dtype) == np.int16 else 1


def encode(g: NDArray[np.float64], dtype: DTypeLike) -> Targets:
    """Normalised conductances (float64, any shape) as they are stored; clipped at full scale."""
    scale = full_scale(dtype)
    if scale == 1:
        return np.clip(g, -1, 1).astype(FLOAT32)
    return np.clip(np.rint(g * scale), -scale, scale).astype(INT16)


def decode(target: Targets) -> NDArray[np.float32]:
    """Stored targets as g, float32 of the same shape."""
    return target.astype(np.float32) / np.float32(full_scale(target.dtype))


def impossible(target: Targets) -> str:
    """What makes these targets no conductances ("" if nothing does): a code or value beyond full scale, or a NaN."""
    limit = full_scale(target.dtype)
    # Not as |target|: that of the int16 -32768 is itself. Not as target > limit either: a NaN is not.
    bad = ~((target >= -limit) & (target <= limit))
    return f"{target[bad][0]}, which is not in {-limit}..{limit}" if bad.any() else ""
