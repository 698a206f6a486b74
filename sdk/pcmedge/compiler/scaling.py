"""Float weights → normalised conductance targets: clipping, and the scale of a layer or of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pcmedge.image.targets import DTYPES, FULL_SCALE, TargetFormat, encode, full_scale

from .graph import Array
from .layers import Block

Scaling = Literal["layer", "column"]
# Largest 8-bit weight code.
_CODES = 127


@dataclass(frozen=True)
class ScaledBlock:
    """Targets [groups, rows, columns] as stored (int16 or float32) and scale float32 [groups * columns].

    weight = targets / full scale * scale, with the full scale of the targets' dtype.
    """

    block: Block
    targets: Array
    scale: Array
    scaling: Scaling

    def conductances(self) -> Array:
        """Normalised net conductances (float32, within [-1, 1]) that an ideal chip would hold."""
        return (self.targets.astype(np.float64) / full_scale(self.targets.dtype)).astype(np.float32)

    def weights(self) -> Array:
        """The weights these targets stand for, float64 [groups, rows, columns]."""
        groups, _rows, columns = self.targets.shape
        normalised = self.targets.astype(np.float64) / full_scale(self.targets.dtype)
        return normalised * self.scale.astype(np.float64).reshape(groups, 1, columns)


def clip_limit(block: Block, scaling: Scaling, clip_sigma: float | None) -> Array | None:
    """The largest |weight| kept: ``clip_sigma`` standard deviations of the block, or of each column; None: all."""
    if clip_sigma is None:
        return None
    axes = (0, 1, 2) if scaling == "layer" else (1,)
    limit: Array = clip_sigma * block.weights.astype(np.float64).std(axis=axes, keepdims=True)
    return limit


def scale(block: Block, scaling: Scaling, limit: Array | None, targets: TargetFormat = "int16") -> ScaledBlock:
    """Clip and normalise one block; ``targets``: how the image stores the conductances.

    Scale: w_max, the largest |weight| of the block or of each column after clipping, so that the largest weight uses
    the whole conductance range (Joshi et al. 2020, Methods: G = W * G_max / W_max per layer). Clipping at ``limit``
    (broadcast to [groups, rows, columns]) trades a few outliers for range; Joshi et al. train with 2.0 to 2.5 standard
    deviations. A column of zeros gets the block's scale.

    Columns of 8-bit weights (whole multiples of a 127th of the largest, as quantised models have them) get a scale
    0.003 % larger when scales are per column: with it their int16 targets are exact.
    """
    weights = block.weights.astype(np.float64)
    axes = (0, 1, 2) if scaling == "layer" else (1,)
    if limit is not None:
        # A column of one weight, or of equal weights, has no spread to clip by.
        weights = np.where(limit > 0, np.clip(weights, -limit, limit), weights)
    largest = np.abs(weights).max(axis=axes, keepdims=True)
    largest = np.where(largest > 0, largest, np.abs(weights).max())
    if scaling == "column" and targets == "int16":
        largest = _exact_for_codes(weights, largest)
    full = np.broadcast_to(largest, (weights.shape[0], 1, weights.shape[2])).astype(np.float32)
    stored = encode(weights / full, DTYPES[targets])
    return ScaledBlock(block, stored, np.ascontiguousarray(full.reshape(-1)), scaling)


def _exact_for_codes(weights: Array, largest: Array) -> Array:
    """The scale that makes a weight code a whole number of target steps, for columns of codes; else ``largest``."""
    per_code = FULL_SCALE // _CODES
    codes = weights * (_CODES / largest)
    rounded = np.rint(codes)
    are_codes = np.abs(codes - rounded).max(axis=1, keepdims=True) <= 1e-4
    # Zeros and the largest weight itself have exact targets at any scale.
    several = np.any((rounded != 0) & (np.abs(rounded) != _CODES), axis=1, keepdims=True)
    return np.where(are_codes & several, largest / _CODES * (FULL_SCALE / per_code), largest)
