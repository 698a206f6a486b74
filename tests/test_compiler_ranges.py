"""DAC and ADC ranges: worked out by hand where that is possible, by their defining property elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from compiler_models import linear, onnx_model, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from pcmedge.compiler import compile
from pcmedge.compiler.ranges import ADC_MARGIN, Magnitudes, best_range, choose_adc, choose_dac

PLAIN = {"adc_range": "max", "dac_range": "max"}


def one_layer(weights: list[list[float]], x: np.ndarray, **options: str):  # type: ignore[no-untyped-def,type-arg]
    matrix = np.array(weights, np.float32)
    model = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"x": ["n", len(matrix)]}, ["y"], {"w": matrix}
    )
    image = compile(model, calibration=x.astype(np.float32), **options)
    return image.manifest.layers[0].blocks[0], image.tiles()[0]


def test_inputs_that_never_go_below_zero_are_unsigned() -> None:
    block, tile = one_layer([[2.0], [-1.0]], np.array([[0.0, 5.1], [2.55, 0.0]]), **PLAIN)
    assert not block.dac_signed
    assert block.dac_step == np.float32(5.1 / 255)
    # Codes are (0, 255) and (127.5 -> 128 or 127, 0); g = (1, -0.5): the largest |sum| is 127.5 or 128.
    assert tile.adc_step == pytest.approx(ADC_MARGIN * 127.75 / 127, rel=0.003)
    codes = np.rint(np.array([[0.0, 5.1], [2.55, 0.0]], np.float32) / np.float32(block.dac_step))
    assert block.dac_mean_square == pytest.approx(np.square(codes / 255).mean())


def test_inputs_below_zero_make_the_dac_symmetric() -> None:
    block, tile = one_layer([[1.0], [1.0]], np.array([[-0.5, 0.25], [0.3, 1.27]]), **PLAIN)
    assert block.dac_signed
    assert block.dac_step == np.float32(1.27 / 127)
    # Codes (30, 127) with g = (1, 1) give the largest sum, 157.
    assert tile.adc_step == pytest.approx(ADC_MARGIN * 157 / 127)


def test_a_layer_that_stays_silent_gets_a_range_that_cannot_saturate() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="silent"),
    ]
    model = onnx_model(
        nodes, {"x": ["n", 2]}, ["y"], {"w": -np.ones((2, 3), np.float32), "v": np.ones((3, 1), np.float32)}
    )
    image = compile(model, calibration=np.abs(samples(8, 2)), recorded_statistics=False)
    assert image.manifest.layers[1].blocks[0].dac_step == np.float32(1 / 255)
    assert image.tiles()[1].adc_step == pytest.approx(3 * 255 / 127)


def test_the_optimal_range_clips_outliers_and_the_maximum_does_not() -> None:
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    values[0] = 40.0
    seen = Magnitudes()
    seen.add(values)
    optimal = choose_dac(seen, 8, "mse")
    assert choose_dac(seen, 8, "max").step * 127 == pytest.approx(40.0)
    assert np.quantile(np.abs(values), 0.999) <= optimal.step * 127 < 25.0
    error = np.square(optimal.codes(values) * optimal.step - values).mean()
    plain = choose_dac(seen, 8, "max")
    assert error < 0.6 * np.square(plain.codes(values) * plain.step - values).mean()


@settings(deadline=None, max_examples=60)
@given(
    scales=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([1, 7, 127, 2047]),
)
def test_ranges_lie_between_the_percentile_and_the_maximum(scales: list[float], seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(size=500) * scale).astype(np.float32) for scale in scales]
    seen = Magnitudes()
    for part in parts:
        seen.add(part)
    everything = np.abs(np.concatenate(parts))
    assert seen.largest == everything.max()
    assert int(seen.counts.sum()) == everything.size
    percentile = np.sort(everything)[int(np.ceil(0.999 * everything.size)) - 1]
    # The histogram resolves 1/2048 of the largest value.
    assert percentile * (1 - 1e-6) <= seen.quantile(0.999) <= percentile + everything.max() / 2048
    assert percentile * (1 - 1e-6) <= best_range(seen, levels) <= everything.max() * (1 + 1e-6)


def test_the_adc_step_covers_the_percentile_with_margin() -> None:
    seen = Magnitudes()
    values = samples(50_000)
    seen.add(values)
    step = choose_adc(seen, 8, "mse", bound=1.0)
    assert step * 127 >= ADC_MARGIN * np.quantile(np.abs(values), 0.999)
    assert choose_adc(seen, 8, "max", bound=1.0) == np.float32(seen.largest * ADC_MARGIN / 127)


def test_every_row_tile_has_its_own_adc_range() -> None:
    weights = np.concatenate([np.full((4, 2), 1.0), np.full((4, 2), 0.01)]).astype(np.float32)
    model = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"x": ["n", 8]}, ["y"], {"w": weights}
    )
    chip = {
        "name": "small",
        "tile_rows": 4,
        "tile_columns": 4,
        "tiles": 4,
        "dac_bits": 8,
        "adc_bits": 8,
        "g_max_microsiemens": 25.0,
    }
    big, small = compile(model, calibration=np.ones((3, 8), np.float32), profile=chip, **PLAIN).tiles()
    assert big.adc_step == pytest.approx(ADC_MARGIN * 4 * 255 / 127, rel=1e-4)
    assert small.adc_step == pytest.approx(big.adc_step / 100, rel=1e-2)


@pytest.mark.parametrize("bits", [4, 6, 10])
def test_resolution_follows_the_profile(bits: int) -> None:
    chip = {
        "name": "other",
        "tile_rows": 16,
        "tile_columns": 16,
        "tiles": 4,
        "dac_bits": bits,
        "adc_bits": bits,
        "g_max_microsiemens": 25.0,
    }
    x = samples(40, 6)
    image = compile(linear(6, 3), calibration=x, profile=chip, **PLAIN)
    assert image.manifest.layers[0].blocks[0].dac_step == pytest.approx(np.abs(x).max() / (2 ** (bits - 1) - 1))


def test_hidden_states_of_an_lstm_use_the_fixed_range() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["xt", "w", "r"], ["", "h"], name="l", hidden_size=3),
        helper.make_node("Transpose", ["h"], ["y"], perm=[1, 0, 2]),
    ]
    model = onnx_model(nodes, {"x": ["n", 5, 4]}, ["y"], {"w": samples(1, 12, 4), "r": samples(1, 12, 3)})
    image = compile(model, calibration=samples(8, 5, 4))
    layer = image.manifest.layers[0]
    assert [(block.name, block.rows, block.columns) for block in layer.blocks] == [("W", 4, 12), ("R", 3, 12)]
    assert layer.blocks[1].dac_signed
    assert layer.blocks[1].dac_step == 1 / 127
    assert list(image.manifest.required_features) == ["lstm-1", "pcm-analog-1"]
