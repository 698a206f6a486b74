"""The fast engine against the reference, layer by layer on the same input codes, and both against the definition."""

from __future__ import annotations

from collections.abc import Callable

import engine_programs as programs
import numpy as np
import onnxruntime
import pytest
from engine_programs import Maker
from pcmedge_emulator.engine import ChipProgram, FastEngine, ReferenceEngine
from pcmedge_emulator.engine.fast import session_options
from pcmedge_emulator.engine.lowering import lower_layer

Made = tuple[ChipProgram, tuple[int, ...]]


def conv(maker: Maker, shape, outputs, kernel, signed, group=1, **attributes) -> Made:
    weights = maker.rng.normal(0, 0.2, (outputs, shape[0] // group, *kernel))
    maker.conv("x", "y", weights, group=group, signed=signed, noise=0.03, **attributes)
    free = ["N", outputs] + [None] * len(kernel)
    return maker.program({"x": ["N", *shape]}, {"y": free}), shape


def gemm(maker: Maker, rows: int, columns: int, signed: bool, steps: tuple[int, ...] = ()) -> Made:
    maker.gemm("x", "y", maker.rng.normal(0, 0.2, (rows, columns)), signed=signed, noise=0.03)
    return maker.program({"x": ["N", *steps, rows]}, {"y": ["N", *steps, columns]}), (*steps, rows)


def lstm(maker: Maker, inputs: int, hidden: int) -> Made:
    w, r = maker.rng.normal(0, 0.3, (1, 4 * hidden, inputs)), maker.rng.normal(0, 0.3, (1, 4 * hidden, hidden))
    maker.op("Transpose", ["x"], "t", perm=[1, 0, 2])
    maker.lstm("t", "y", w, r, maker.rng.normal(0, 0.2, (1, 8 * hidden)), noise=0.03)
    return maker.program({"x": ["N", 8, inputs]}, {"y/h": [1, "N", hidden]}), (8, inputs)


# name -> (make the program, rows and columns of a tile, signed inputs, tiles expected)
LAYERS: dict[str, tuple[Callable[[Maker], Made], tuple[int, int], bool, int]] = {
    "conv2d": (lambda m: conv(m, (6, 10, 10), 16, (3, 3), True, pads=[1] * 4), (512, 512), True, 1),
    "conv2d-unsigned": (lambda m: conv(m, (6, 10, 10), 16, (3, 3), False, pads=[1] * 4), (512, 512), False, 1),
    "conv2d-strided": (
        lambda m: conv(m, (6, 11, 9), 10, (3, 2), True, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
        (512, 512),
        True,
        1,
    ),
    "conv2d-row-tiles": (lambda m: conv(m, (30, 8, 8), 16, (3, 3), False, pads=[1] * 4), (72, 64), False, 4),
    "conv2d-many-row-tiles": (lambda m: conv(m, (60, 6, 6), 8, (3, 3), True), (64, 64), True, 9),
    "conv2d-column-tiles": (lambda m: conv(m, (6, 8, 8), 40, (3, 3), True), (64, 16), True, 3),
    "conv2d-both": (lambda m: conv(m, (20, 8, 8), 40, (3, 3), False), (64, 16), False, 9),
    "conv2d-cut-kernel": (lambda m: conv(m, (3, 12, 12), 8, (5, 5), True), (16, 16), True, 5),
    "conv1d": (lambda m: conv(m, (12, 40), 16, (5,), True, strides=[2], pads=[2, 2]), (512, 512), True, 1),
    "conv1d-row-tiles": (lambda m: conv(m, (32, 30), 16, (5,), False, dilations=[2]), (48, 48), False, 4),
    "grouped": (lambda m: conv(m, (12, 9, 9), 18, (3, 3), True, group=3), (512, 512), True, 1),
    "grouped-row-tiles": (lambda m: conv(m, (24, 9, 9), 12, (3, 3), False, group=2), (48, 48), False, 6),
    "depthwise": (lambda m: conv(m, (40, 9, 9), 40, (3, 3), False, group=40, pads=[1] * 4), (64, 64), False, 6),
    "depthwise-multiplier": (lambda m: conv(m, (8, 9, 9), 16, (3, 3), True, group=8), (512, 512), True, 1),
    "gemm": (lambda m: gemm(m, 100, 50, True), (512, 512), True, 1),
    "gemm-row-tiles": (lambda m: gemm(m, 300, 50, False), (64, 64), False, 5),
    "gemm-both": (lambda m: gemm(m, 150, 70, True, (7,)), (64, 32), True, 9),
    "lstm": (lambda m: lstm(m, 20, 24), (512, 512), True, 2),
    "lstm-tiles": (lambda m: lstm(m, 40, 24), (16, 48), True, 10),
}


def made(name: str, **chip) -> tuple[Maker, ChipProgram, tuple[int, ...], bool]:
    make, (rows, columns), signed, _tiles = LAYERS[name]
    maker = Maker(programs.profile(rows=rows, columns=columns, **chip))
    program, shape = make(maker)
    return maker, program, shape, signed


def compare_codes(found: dict, expected: dict) -> tuple[int, int]:
    """Codes that differ and all codes; at most one apart, tile by tile."""
    assert found.keys() == expected.keys()
    wrong = total = 0
    for tile, codes in expected.items():
        assert found[tile].shape == codes.shape
        apart = np.abs(found[tile] - codes)
        assert apart.max() <= 1
        wrong, total = wrong + int((apart > 0).sum()), total + codes.size
    return wrong, total


def input_codes(maker: Maker, signed: bool, shape: tuple[int, ...], bits: int = 8) -> np.ndarray:
    """Random codes, some at full scale, many at zero as after a rectifier."""
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    codes = np.rint(maker.rng.normal(0, top / 4, shape)).clip(-top if signed else 0, top)
    codes.reshape(-1)[::101] = top
    return codes


def layer_codes(name: str, samples: int, bits: int = 8, **chip) -> list[tuple[int, int]]:
    maker, program, shape, signed = made(name, **chip)
    fast, reference = FastEngine(program, maker.snapshot()), ReferenceEngine(program, maker.snapshot())
    counts = []
    for layer in program.layers.values():
        for block in layer.blocks.values():
            width = (samples, *shape) if block.name == "W" else (samples, block.rows)
            codes = input_codes(maker, signed, width, bits)
            expected = reference.run_layer(layer.name, codes, block=block.name)
            counts.append(compare_codes(fast.run_layer(layer.name, codes, block=block.name), expected))
    return counts


@pytest.mark.parametrize("name", LAYERS)
def test_adc_codes_equal_the_reference_but_for_one_in_ten_thousand(name: str) -> None:
    maker, program, _shape, _signed = made(name)
    assert len(maker.conductances) == LAYERS[name][3]
    assert {layer.operator for layer in program.layers.values()} <= {"AnalogConv", "AnalogGemm", "AnalogLSTM"}
    for wrong, total in layer_codes(name, samples=48):
        assert total >= 1000
        assert wrong <= max(1, total // 10_000)


@pytest.mark.parametrize(("dac_bits", "adc_bits"), [(2, 8), (4, 4), (6, 8), (8, 5), (10, 8), (8, 12), (12, 12)])
@pytest.mark.parametrize("name", ["conv2d-both", "gemm-both", "lstm-tiles"])
def test_every_converter_width_has_the_reference_codes(name: str, dac_bits: int, adc_bits: int) -> None:
    for wrong, total in layer_codes(name, 12, dac_bits, dac_bits=dac_bits, adc_bits=adc_bits):
        # Wider converters have finer steps, so float32 rounding moves more codes across a border.
        assert wrong <= max(1, total * 2 ** max(0, adc_bits - 8) // 10_000)


@pytest.mark.parametrize("bits", [8, 6, 10])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_from_inputs_to_outputs(name: str, bits: int) -> None:
    """DAC, tiles, scales and bias together: outputs differ by single ADC steps at most, rarely.

    Inputs keep away from the borders between two DAC codes, where float32 and float64 may choose differently.
    """
    maker, program, shape, signed = made(name, dac_bits=bits, adc_bits=bits)
    codes = input_codes(maker, signed, (6, *shape), bits)
    step = next(iter(program.layers.values())).blocks["W"].dac_step
    x = ((codes + maker.rng.uniform(-0.4, 0.4, codes.shape)) * step).astype(np.float32)
    fast = FastEngine(program, maker.snapshot()).run({"x": x})
    reference = ReferenceEngine(program, maker.snapshot()).run({"x": x})
    for key, values in reference.items():
        apart = np.abs(fast[key] - values)
        assert np.mean(apart > 1e-4 * np.abs(values).max()) <= 0.005
        assert values.std() > 0


def test_gain_and_offset_spread_and_saturation() -> None:
    maker, program, _shape, signed = made("conv2d-both")
    columns = {tile: g.shape[0] * g.shape[2] for tile, g in maker.conductances.items()}
    snapshot = maker.snapshot(
        gain={tile: maker.rng.normal(1, 0.1, n).astype(np.float32) for tile, n in columns.items()},
        offset={tile: maker.rng.normal(0, 2, n).astype(np.float32) for tile, n in columns.items()},
    )
    fast, reference = FastEngine(program, snapshot), ReferenceEngine(program, snapshot)
    codes = input_codes(maker, signed, (48, 20, 8, 8))
    plain = ReferenceEngine(program, maker.snapshot()).run_layer("y", codes)
    expected = reference.run_layer("y", codes)
    wrong, total = compare_codes(fast.run_layer("y", codes), expected)
    assert wrong <= total // 10_000
    assert any(not np.array_equal(plain[tile], expected[tile]) for tile in expected)

    x = (codes * program.layers["y"].blocks["W"].dac_step).astype(np.float32)
    _outputs, counted = fast.run_with_saturation({"x": x})
    _outputs, defined = reference.run_with_saturation({"x": x})
    assert counted.keys() == defined.keys() == maker.conductances.keys()
    for tile, (hits, size) in defined.items():
        assert counted[tile][1] == size
        assert abs(counted[tile][0] - hits) <= 2
        assert np.isclose(hits, (np.abs(expected[tile]) == 127).sum(), atol=2)
    assert sum(hits for hits, _size in defined.values()) > 0


def test_saturation_of_a_recurrent_layer_counts_every_step() -> None:
    maker, program, shape, _signed = made("lstm-tiles")
    x = maker.rng.normal(0, 3, (50, *shape)).astype(np.float32)
    counted = FastEngine(program, maker.snapshot(), micro_batch=16).run_with_saturation({"x": x})[1]
    defined = ReferenceEngine(program, maker.snapshot()).run_with_saturation({"x": x})[1]
    assert {tile: size for tile, (_hits, size) in counted.items()} == {
        tile: size for tile, (_hits, size) in defined.items()
    }
    for tile, (hits, size) in defined.items():
        assert abs(counted[tile][0] - hits) <= max(2, size // 1000)
    assert sum(hits for hits, _size in defined.values()) > 0


@pytest.mark.parametrize("name", LAYERS)
def test_codes_are_those_of_an_unoptimised_session(name: str) -> None:
    maker, program, shape, signed = made(name)
    fast = FastEngine(program, maker.snapshot())
    layer = next(iter(program.layers))
    codes = input_codes(maker, signed, (24, *shape))
    model, names = lower_layer(program, maker.snapshot(), layer, "W")
    plain = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1, optimise=False), providers=["CPUExecutionProvider"]
    )
    feeds = {value.name: np.ones(value.shape, np.float32) for value in plain.get_inputs() if value.name != "codes"}
    raw = plain.run(names, {"codes": codes.astype(np.float32), **feeds})
    unoptimised = np.concatenate([values.reshape(-1) for values in raw])
    optimised = fast.run_layer(layer, codes)
    assert sum(values.size for values in optimised.values()) == unoptimised.size
    # Codes of all tiles as a multiset: tiles are cut out of the row tiles' columns.
    counted = np.sort(np.concatenate([values.reshape(-1) for values in optimised.values()]))
    assert np.mean(counted != np.sort(unoptimised)) <= 1e-4
