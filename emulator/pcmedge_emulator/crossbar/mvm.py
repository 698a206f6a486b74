"""The matrix-vector product of one tile, in float64: the definition the fast engine is measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError

from pcmedge_emulator.crossbar.converters import AdcCodes, adc

Float64 = npt.NDArray[np.float64]


def mvm(
    codes: npt.NDArray[np.generic],
    g_net: npt.NDArray[np.floating],
    *,
    sigma: npt.ArrayLike | None = None,
    noise: npt.NDArray[np.floating] | None = None,
    drop: npt.NDArray[np.floating] | None = None,
) -> Float64:
    """Partial sums before the ADC, p = sum_r code_r g_net_r - drop + sigma noise, in DAC codes; [N, groups * columns].

    codes [N, groups, rows] integers (or real numbers, for ideal converters); g_net [groups, rows, columns] =
    (G+ - G-)(t) / g_max. ``noise`` standard normal draws [N, groups * columns] with ``sigma`` [groups * columns]
    (additive) or [N, groups * columns] (input-dependent), both in DAC codes; ``drop`` from
    :func:`pcmedge_emulator.crossbar.ir_drop.ir_drop`. Raises InputShapeError where shapes do not fit.
    """
    if g_net.ndim != 3 or codes.ndim != 3 or codes.shape[1:] != g_net.shape[:2]:
        raise InputShapeError(
            f"expected codes [N, groups, rows] for g_net [groups, rows, columns], found {list(codes.shape)} for "
            f"{list(g_net.shape)}"
        )
    if (sigma is None) != (noise is None):
        raise InputShapeError("read noise needs both sigma and the standard normal draws, found only one of them")
    samples = codes.shape[0]
    by_group = np.matmul(codes.astype(np.float64).transpose(1, 0, 2), g_net.astype(np.float64))
    p: Float64 = by_group.transpose(1, 0, 2).reshape(samples, -1)
    if drop is not None:
        p = p - drop
    if noise is not None:
        p = p + np.asarray(sigma, dtype=np.float64) * noise
    return p


def tile_codes(
    codes: npt.NDArray[np.generic],
    g_net: npt.NDArray[np.floating],
    *,
    adc_step: float,
    adc_bits: int,
    sigma: npt.ArrayLike | None = None,
    noise: npt.NDArray[np.floating] | None = None,
    drop: npt.NDArray[np.floating] | None = None,
    gain: npt.ArrayLike | None = None,
    offset: npt.ArrayLike | None = None,
) -> AdcCodes:
    """One tile from DAC codes in to ADC codes out: the product (:func:`mvm`), then the ADC."""
    return adc(mvm(codes, g_net, sigma=sigma, noise=noise, drop=drop), adc_step, adc_bits, gain, offset)
