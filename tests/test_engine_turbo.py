"""Products in int8: the codes of float32 but for rounding, on any processor, and nothing else of a network touched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from chip_models import INPUT, digits, digits_image
from pcmedge.errors import UnimplementedError
from pcmedge.image import ChipImage
from pcmedge_emulator.engine import ChipProgram, FastEngine, ReferenceEngine, Snapshot
from pcmedge_emulator.engine.fast import session_options
from pcmedge_emulator.engine.geometry import bands, dense, driven, of_tile
from pcmedge_emulator.engine.integer import REDUCED_WEIGHT_BITS, WEIGHT_BITS, integer_weights, weight_bits
from test_engine_layers import LAYERS, input_codes, made
from test_engine_networks import NETWORKS, network, samples

# What this processor multiplies right, and what any does. Bit by bit the conductances are rounded twice as coarsely.
BITS = sorted({weight_bits(), REDUCED_WEIGHT_BITS})
FURTHEST, SPREAD = {8: 2, 7: 4}, {8: 0.5, 7: 0.75}


def both(program: ChipProgram, snapshot: Snapshot, bits: int | None = None) -> tuple[FastEngine, FastEngine]:
    return FastEngine(program, snapshot), FastEngine(program, snapshot, precision="turbo", weight_bits=bits)


def test_the_processor_is_asked_how_many_bits_it_multiplies_right() -> None:
    assert weight_bits() in (WEIGHT_BITS, REDUCED_WEIGHT_BITS)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", LAYERS)
def test_adc_codes_are_close_to_exact(name: str, bits: int) -> None:
    maker, program, shape, signed = made(name)
    exact, turbo = both(program, maker.snapshot(), bits)
    for layer in program.layers.values():
        for block in layer.blocks.values():
            width = (24, *shape) if block.name == "W" else (24, block.rows)
            codes = input_codes(maker, signed or block.name != "W", width)
            expected = exact.run_layer(layer.name, codes, block=block.name)
            found = turbo.run_layer(layer.name, codes, block=block.name)
            assert found.keys() == expected.keys()
            apart = np.concatenate([(found[tile] - expected[tile]).reshape(-1) for tile in expected])
            assert apart.size >= 1000
            assert np.abs(apart).max() <= FURTHEST[bits]
            assert apart.std() <= SPREAD[bits]


@pytest.mark.parametrize("name", ["gemm-both", "conv2d-row-tiles", "depthwise"])
def test_codes_are_those_of_whole_numbers(name: str) -> None:
    """The largest codes everywhere, where sums of pairs in 16 bits would saturate: still the exact integer sums."""
    maker, program, shape, signed = made(name)
    bits = weight_bits()
    turbo = FastEngine(program, maker.snapshot(), precision="turbo")
    (layer,) = program.layers.values()
    block = layer.blocks["W"]
    top = 127 if signed else 255
    codes = np.full((1, *shape), top)
    found = turbo.run_layer(layer.name, codes)
    area = block.input_rows * block.groups // (shape[0] if layer.operator == "AnalogConv" else block.input_rows)
    assert area in (1, 9)
    for band in bands(block):
        steps = {tile.tile: 1 / np.float64(tile.adc_step) for tile in band.tiles}
        gain = np.zeros(block.groups * block.columns)
        for tile in band.tiles:
            flat = np.zeros((block.groups, block.columns))
            flat[
                tile.first_group : tile.first_group + tile.groups,
                tile.first_column : tile.first_column + tile.columns,
            ] = steps[tile.tile]
            gain += flat.reshape(-1)
        first, stop = driven(block, band)
        matrix = dense(block, band, maker.conductances)[:, : stop - first]
        matrix = (matrix * gain.reshape(block.groups, 1, block.columns)).astype(np.float32)
        whole = integer_weights(matrix, None, bits)
        sums = top * whole.values.astype(np.int64).sum(axis=1).reshape(-1)
        expected = np.clip(np.rint(sums * whole.step.astype(np.float64)), -127, 127)
        for tile in band.tiles:
            # A pixel in the middle, which sees the whole kernel.
            values = found[tile.tile]
            middle = values[0, :, 4, 4] if layer.operator == "AnalogConv" else values.reshape(-1, values.shape[-1])[0]
            assert np.array_equal(middle, of_tile(block, tile, expected))


@pytest.mark.parametrize(("dac_bits", "adc_bits"), [(2, 8), (4, 4), (6, 8), (8, 5)])
@pytest.mark.parametrize("name", ["conv2d-both", "gemm-both", "lstm-tiles"])
def test_narrower_converters_have_their_own_ranges(name: str, dac_bits: int, adc_bits: int) -> None:
    maker, program, shape, signed = made(name, dac_bits=dac_bits, adc_bits=adc_bits)
    exact, turbo = both(program, maker.snapshot())
    codes = input_codes(maker, signed, (12, *shape), dac_bits)
    layer = next(iter(program.layers))
    expected, found = exact.run_layer(layer, codes), turbo.run_layer(layer, codes)
    top = 2 ** (adc_bits - 1) - 1
    for tile, values in expected.items():
        assert np.abs(found[tile] - values).max() <= FURTHEST[weight_bits()]
        assert np.abs(found[tile]).max() <= top
    x = ((codes + maker.rng.uniform(-0.4, 0.4, codes.shape)) * 0.02).astype(np.float32)
    for key, values in exact.run({"x": x}).items():
        assert np.abs(turbo.run({"x": x})[key] - values).mean() <= 0.05 * np.abs(values).mean()


@pytest.mark.parametrize("name", ["conv2d-both", "gemm-both"])
def test_gain_offset_and_saturation(name: str) -> None:
    maker, program, shape, signed = made(name)
    columns = {tile: g.shape[0] * g.shape[2] for tile, g in maker.conductances.items()}
    snapshot = maker.snapshot(
        gain={tile: maker.rng.normal(1, 0.1, n).astype(np.float32) for tile, n in columns.items()},
        offset={tile: maker.rng.normal(0, 5, n).astype(np.float32) for tile, n in columns.items()},
    )
    exact, turbo = both(program, snapshot)
    codes = input_codes(maker, signed, (24, *shape))
    expected, found = exact.run_layer("y", codes), turbo.run_layer("y", codes)
    plain = FastEngine(program, maker.snapshot()).run_layer("y", codes)
    apart = np.concatenate([(found[tile] - expected[tile]).reshape(-1) for tile in expected])
    assert np.abs(apart).max() <= FURTHEST[weight_bits()]
    assert apart.std() <= SPREAD[weight_bits()]
    assert any(np.abs(plain[tile] - expected[tile]).max() > 2 for tile in expected)
    x = (codes * program.layers["y"].blocks["W"].dac_step).astype(np.float32)
    counted, defined = turbo.run_with_saturation({"x": x})[1], exact.run_with_saturation({"x": x})[1]
    assert counted.keys() == defined.keys()
    for tile, (hits, size) in defined.items():
        assert counted[tile][1] == size
        assert abs(counted[tile][0] - hits) <= max(3, 0.2 * hits)


def test_a_column_of_nothing_but_an_offset_keeps_it() -> None:
    matrix = np.zeros((1, 4, 2), np.float32)
    matrix[0, :, 1] = 1e-12
    whole = integer_weights(matrix, np.array([-7.4, 100.25]), 8)
    assert np.allclose(whole.offset * whole.step, [-7.4, 100.25], rtol=1e-6)
    assert np.abs(whole.values).max() <= 1


@pytest.mark.parametrize("rows", [512, 36])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_decide_like_exact(name: str, rows: int) -> None:
    maker, program, shape = network(name, rows=rows, columns=rows)
    exact, turbo = both(program, maker.snapshot())
    x = samples(300, shape)
    expected, found = exact.run({"x": x})["y"], turbo.run({"x": x})["y"]
    # 300 decisions of networks that were never trained: they decide by a hair more often than one that was.
    assert np.mean(found.argmax(-1) == expected.argmax(-1)) >= 0.95
    assert np.abs(found - expected).mean() <= 0.03 * np.abs(expected).mean()


def test_with_device_effects_off_a_trained_network_is_as_good_as_digital() -> None:
    image, (_x, _labels, x, labels) = digits_image(), digits()
    program = ChipProgram.from_image(image)
    weights = {tile.tile: image.target(tile) / np.float32(32767) for tile in image.tiles()}
    exact, turbo = both(program, Snapshot(conductances=weights))
    reference = ReferenceEngine(program, Snapshot(conductances=weights))
    (name,) = (spec.name for spec in program.outputs)
    digital = FastEngine(program, Snapshot(conductances=weights, converters="ideal")).run({INPUT: x})[name]
    found = turbo.run({INPUT: x})[name]
    assert np.mean(found.argmax(1) == exact.run({INPUT: x})[name].argmax(1)) >= 0.99
    assert np.mean(found[:40].argmax(1) == reference.run({INPUT: x[:40]})[name].argmax(1)) >= 0.97
    assert np.mean(found.argmax(1) == labels) >= np.mean(digital.argmax(1) == labels) - 0.01


@pytest.mark.parametrize("method", ["batch", "paired"])
def test_statistics_are_measured_in_the_same_arithmetic(method) -> None:
    maker, program, shape = network("residual")
    exact, turbo = both(program, maker.snapshot())
    x = samples(64, shape)
    reference = {node: (norm.mean, norm.var) for node, norm in program.statistics.items()}
    expected = exact.measure({"x": x}, method=method, reference=reference)
    found = turbo.measure({"x": x}, method=method, reference=reference)
    for node, (mean, var) in expected.items():
        assert np.allclose(found[node][0], mean, atol=0.05 * np.sqrt(var).max())
        assert np.allclose(found[node][1], var, rtol=0.1)


def test_noise_of_each_product_is_added_before_the_adc_in_float32() -> None:
    maker, program, shape = network("residual")
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 30, np.float32) for tile, g in maker.conductances.items()}
    exact, turbo = both(program, maker.snapshot(read_noise="additive", column_sigma=sigma))
    x = samples(8, shape)
    assert np.array_equal(exact.run({"x": x}, noise_seed=1)["y"], turbo.run({"x": x}, noise_seed=1)["y"])


@pytest.mark.parametrize("name", ["residual", "transformer", "lstm"])
def test_only_the_products_of_analog_layers_are_quantised(name: str, tmp_path: Path) -> None:
    maker, program, _shape = network(name, rows=36, columns=36)
    turbo = FastEngine(program, maker.snapshot(), precision="turbo")
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    session = onnxruntime.InferenceSession(turbo.model(), options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()
    optimised = onnx.load(tmp_path / "optimised.onnx")
    found = Counter[str]()
    graphs = [optimised.graph]
    while graphs:
        for node in graphs.pop().node:
            found[node.op_type] += 1
            graphs += [item.g for item in node.attribute if item.HasField("g")]
    row_tiles = sum(len(bands(block)) for layer in program.layers.values() for block in layer.blocks.values())
    quantised = {operator: count for operator, count in found.items() if "QLinear" in operator or "Integer" in operator}
    assert set(quantised) <= {"QLinearConv", "QLinearMatMul"}
    assert sum(quantised.values()) == row_tiles
    assert found["Conv"] == found["FusedConv"] == 0


@pytest.mark.parametrize(
    ("chip", "snapshot", "message"),
    [({}, {"converters": "ideal"}, "converters"), ({"adc_bits": 10}, {}, "10-bit"), ({"dac_bits": 12}, {}, "12-bit")],
)
def test_what_has_no_codes_of_8_bits_is_refused(chip: dict, snapshot: dict, message: str) -> None:
    maker, program, _shape = network("mlp", **chip)
    with pytest.raises(UnimplementedError, match=message):
        FastEngine(program, maker.snapshot(**snapshot), precision="turbo")


def test_bias_rows_and_offsets_are_whole_numbers_too() -> None:
    image = ChipImage.open(Path(__file__).parent / "golden" / "bias-row-v1.pcmi")
    program = ChipProgram.from_image(image)
    assert any(block.bias_code for layer in program.layers.values() for block in layer.blocks.values())
    weights = {tile.tile: image.target(tile) / np.float32(32767) for tile in image.tiles()}
    exact, turbo = both(program, Snapshot(conductances=weights))
    for layer in program.layers.values():
        for name, block in layer.blocks.items():
            # Nothing drives the rows of the inputs, so the codes are those of the bias alone.
            shape = (1, block.input_rows) if layer.operator != "AnalogConv" else None
            if shape is not None:
                codes = np.zeros(shape)
                expected, found = (made.run_layer(layer.name, codes, block=name) for made in (exact, turbo))
                assert all(np.abs(found[tile] - expected[tile]).max() <= 1 for tile in expected)
                assert any(np.abs(codes).max() > 0 for codes in expected.values())
    x, _outputs = image.reference_set()
    for key, values in exact.run(x).items():
        assert np.abs(turbo.run(x)[key] - values).max() <= 0.1 * np.abs(values).max()
