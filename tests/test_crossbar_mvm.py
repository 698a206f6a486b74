"""The reference product of one tile, and IR drop, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge_emulator.crossbar import ir_drop, mvm, tile_codes

SHAPES = {
    "groups": st.integers(1, 3),
    "rows": st.integers(1, 9),
    "columns": st.integers(1, 4),
    "seed": st.integers(0, 99),
}


@given(**SHAPES)
def test_product_is_the_sum_over_rows_of_each_group(groups: int, rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (3, groups, rows)).astype(np.int16)
    g = rng.uniform(-1, 1, (groups, rows, columns)).astype(np.float32)
    p = mvm(codes, g)
    assert p.shape == (3, groups * columns)
    for sample, group, column in np.ndindex(3, groups, columns):
        expected = sum(int(codes[sample, group, row]) * float(g[group, row, column]) for row in range(rows))
        assert p[sample, group * columns + column] == pytest.approx(expected, abs=1e-9)


def test_noise_drop_and_converter_are_applied_in_that_order() -> None:
    codes = np.array([[[100]], [[-100]]])
    g = np.array([[[0.5]]])
    found = tile_codes(
        codes,
        g,
        adc_step=2.0,
        adc_bits=8,
        sigma=np.array([3.0]),
        noise=np.array([[1.0], [-1.0]]),
        drop=np.array([[1.0], [1.0]]),
        gain=[2.0],
        offset=[-2.0],
    )
    assert found.codes.tolist() == [[50], [-56]]
    saturating = tile_codes(codes * 100, g, adc_step=2.0, adc_bits=8)
    assert (saturating.saturated, saturating.total) == (2, 2)


@given(**SHAPES)
def test_ir_drop_is_the_published_second_order_form(groups: int, rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (2, groups, rows))
    g = rng.uniform(-1, 1, (groups, rows, columns))
    found = ir_drop(codes, g, dac_levels=127, g_max_microsiemens=5.0, wire_resistance_ohm=350.0, scale=0.7)
    for sample, group, column in np.ndindex(2, groups, columns):
        x, w = codes[sample, group] / 127, g[group, :, column]
        a = np.sum(np.abs(w) * np.abs(x)) * rows / (1 / 350.0 / 5e-6)
        c = a * (0.05 * a**2 - 0.2 * a + 0.5)
        y = 0.7 * c * np.sum(w * x * (1 - (1 - np.arange(rows) / rows) ** 2))
        assert found[sample, group * columns + column] == pytest.approx(127 * y, rel=1e-9, abs=1e-12)


def test_ir_drop_is_off_at_scale_zero_and_lowers_a_positive_sum() -> None:
    codes = np.full((1, 1, 512), 255)
    g = np.full((1, 512, 1), 0.3)
    assert ir_drop(codes, g, dac_levels=255, g_max_microsiemens=25.0, scale=0.0).item() == 0
    share = ir_drop(codes, g, dac_levels=255, g_max_microsiemens=25.0).item() / mvm(codes, g).item()
    assert 0.05 < share < 0.25
    with pytest.raises(InputValueError, match="wire resistance"):
        ir_drop(codes, g, dac_levels=255, g_max_microsiemens=25.0, wire_resistance_ohm=-1.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputShapeError, match="codes"):
        mvm(np.zeros((1, 1, 3)), np.zeros((1, 4, 2)))
    with pytest.raises(InputShapeError, match="both sigma"):
        mvm(np.zeros((1, 1, 4)), np.zeros((1, 4, 2)), sigma=np.ones(2))
