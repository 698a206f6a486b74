"""Digital-to-analog and analog-to-digital converters: round half to even, saturate, refuse what is not finite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

MIN_BITS, MAX_BITS = 2, 12


def _check_bits(bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InputValueError(f"a converter has {MIN_BITS} to {MAX_BITS} bits, found {bits!r}", bits=bits)


def _check_step(step: float, what: str) -> None:
    if not (np.isfinite(step) and step > 0):
        raise InputValueError(f"{what} must be finite and above 0, found {step!r}", step=step)


def dac_limits(bits: int, signed: bool) -> tuple[int, int]:
    """(lowest, highest) DAC code: (0, 2^b - 1), or signed -(2^(b-1) - 1) .. 2^(b-1) - 1."""
    _check_bits(bits)
    if signed:
        highest = 2 ** (bits - 1) - 1
        return -highest, highest
    return 0, 2**bits - 1


def adc_limit(bits: int) -> int:
    """The largest ADC code, 2^(b-1) - 1; the smallest is its negative."""
    _check_bits(bits)
    return int(2 ** (bits - 1) - 1)


def dac(x: npt.ArrayLike, step: float, bits: int, signed: bool) -> npt.NDArray[np.int16]:
    """code = clip(round_half_even(x / step), lowest, highest); the zero point is always 0.

    ``x`` in the layer's input units, any shape; ``step`` in the same units per code. Raises InputValueError for NaN or
    infinity in x, which no voltage can stand for.
    """
    _check_step(step, "the DAC step")
    lowest, highest = dac_limits(bits, signed)
    values = np.asarray(x)
    finite = np.isfinite(values)
    if not finite.all():
        raise InputValueError(f"expected finite inputs, found {np.count_nonzero(~finite)} NaN or infinite values")
    return np.clip(np.rint(values / step), lowest, highest).astype(np.int16)


@dataclass(frozen=True, eq=False)
class AdcCodes:
    """ADC codes of a batch of products and how many of them sit at either end of the range."""

    codes: npt.NDArray[np.int16]
    saturated: int
    total: int


def adc(
    p: npt.NDArray[np.floating],
    step: float,
    bits: int,
    gain: npt.ArrayLike | None = None,
    offset: npt.ArrayLike | None = None,
) -> AdcCodes:
    """code = clip(round_half_even(p gain / step + offset), -limit, limit), limit = 2^(bits-1) - 1.

    ``p`` in DAC codes [..., columns]; ``step`` DAC codes per ADC code; ``gain`` (unit 1) and ``offset`` (ADC codes) per
    column, absent for a perfect converter. Saturation counts the conversions that end at +-limit.
    """
    _check_step(step, "the ADC step")
    limit = adc_limit(bits)
    scaled = p / step if gain is None else p * np.asarray(gain) / step
    if offset is not None:
        scaled = scaled + np.asarray(offset)
    codes = np.clip(np.rint(scaled), -limit, limit).astype(np.int16)
    return AdcCodes(codes, saturated(codes, bits), codes.size)


def saturated(codes: npt.NDArray[np.generic], bits: int) -> int:
    """How many ADC codes are at either end of the range: those the true value may lie beyond."""
    return int(np.count_nonzero(np.abs(codes) >= adc_limit(bits)))


def converter_spread(
    gain_spread: float, offset_spread_codes: float, columns: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(gain, offset) of every column's ADC, fixed for the life of the tile; float32 [columns].

    gain = max(0, 1 + gain_spread xi), offset = offset_spread_codes xi in ADC codes, xi ~ N(0, 1). Spread 0 (the
    profiles' default) gives exactly 1 and 0. Measured residual gain spread of calibrated converters: 7.09 %
    (Khaddam-Aljameh et al. 2022). Raises InputValueError for a negative or non-finite spread.
    """
    for what, spread in (("gain spread", gain_spread), ("offset spread", offset_spread_codes)):
        if not (np.isfinite(spread) and spread >= 0):
            raise InputValueError(f"the ADC's {what} must be finite and not negative, found {spread!r}")
    gain = np.float32(1) + np.float32(gain_spread) * rng.standard_normal(columns, dtype=np.float32)
    offset = np.float32(offset_spread_codes) * rng.standard_normal(columns, dtype=np.float32)
    return np.maximum(gain, np.float32(0)), offset
