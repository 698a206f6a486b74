"""Converters: half to even, saturation, refusal, spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from confidence import assert_moments
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pcmedge.errors import InputValueError
from pcmedge_emulator.crossbar import adc, adc_limit, converter_spread, dac, dac_limits, saturated
from pcmedge_emulator.physics import stream

FINITE = arrays(np.float32, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32))


@pytest.mark.parametrize(
    ("bits", "signed", "limits"),
    [(8, False, (0, 255)), (8, True, (-127, 127)), (2, True, (-1, 1)), (12, False, (0, 4095))],
)
def test_ranges(bits: int, signed: bool, limits: tuple[int, int]) -> None:
    assert dac_limits(bits, signed) == limits


def test_half_goes_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 254.5, 255.5])
    assert dac(x, 1.0, 8, signed=False).tolist() == [0, 2, 2, 0, 0, 0, 254, 255]
    assert dac(x, 1.0, 8, signed=True).tolist() == [0, 2, 2, 0, -2, 0, 127, 127]
    assert adc(x, 1.0, 8).codes.tolist() == [0, 2, 2, 0, -2, 0, 127, 127]


@given(FINITE, st.floats(1e-3, 1e3), st.integers(2, 12), st.booleans())
def test_dac_is_the_nearest_code_in_range(x: np.ndarray, step: float, bits: int, signed: bool) -> None:
    codes = dac(x, step, bits, signed)
    lowest, highest = dac_limits(bits, signed)
    assert codes.min() >= lowest
    assert codes.max() <= highest
    clipped = np.clip(x.astype(np.float64) / step, lowest, highest)
    assert np.abs(codes - clipped).max() <= 0.5 + 1e-3


@given(FINITE, st.floats(1e-3, 1e3), st.integers(2, 12))
def test_adc_is_odd_and_counts_its_ends(p: np.ndarray, step: float, bits: int) -> None:
    result = adc(p, step, bits)
    np.testing.assert_array_equal(adc(-p, step, bits).codes, -result.codes)
    limit = adc_limit(bits)
    assert result.saturated == sum(abs(int(code)) == limit for code in result.codes)
    assert result.total == p.size
    assert saturated(result.codes, bits) == result.saturated


def test_adc_gain_and_offset_are_per_column() -> None:
    p = np.array([[10.0, 10.0, 10.0], [-10.0, -10.0, -10.0]])
    found = adc(p, 2.0, 8, gain=[1.0, 1.2, 1.0], offset=[0.0, 0.0, 3.0])
    assert found.codes.tolist() == [[5, 6, 8], [-5, -6, -2]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(InputValueError, match="found 1 NaN or infinite"):
        dac([0.0, bad], 1.0, 8, signed=True)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_senseless_steps_are_refused(step: float) -> None:
    with pytest.raises(InputValueError, match="step"):
        dac([0.0], step, 8, signed=True)
    with pytest.raises(InputValueError, match="step"):
        adc(np.zeros(1), step, 8)


@pytest.mark.parametrize("bits", [1, 13])
def test_senseless_bits_are_refused(bits: int) -> None:
    with pytest.raises(InputValueError, match="2 to 12 bits"):
        dac_limits(bits, signed=False)


def test_spread() -> None:
    gain, offset = converter_spread(0.05, 1.5, 100_000, stream("t", 0, "adc"))
    assert_moments(gain, 1.0, 1.0 + 0.05**2, family=2)
    assert_moments(offset, 0.0, 1.5**2, family=2)
    gain, offset = converter_spread(0.0, 0.0, 10, stream("t", 0, "adc"))
    assert (gain == 1).all()
    assert (offset == 0).all()
    with pytest.raises(InputValueError, match="gain spread"):
        converter_spread(-0.1, 0.0, 4, stream("t", 0, "adc"))
