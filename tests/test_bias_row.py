"""Biases on a crossbar row: placement, drive, both engines, noise, drift, the image and the devices it takes."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from compiler_models import (
    exported,
    float_outputs,
    ideal_chip,
    onnx_model,
    relative_error,
    samples,
    torch_inputs,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from pcmedge._contract import image_pb2
from pcmedge.compiler import compile
from pcmedge.compiler.bias import place_biases
from pcmedge.compiler.graph import Graph
from pcmedge.compiler.layers import GEMM, Block, Layer
from pcmedge.compiler.placement import place
from pcmedge.compiler.ranges import DacRange
from pcmedge.compiler.report import render
from pcmedge.compiler.scaling import scale
from pcmedge.errors import ImageCorruptError, ImageFeatureError, ImageTooLargeError, InputValueError
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile
from pcmedge_emulator import images, resident
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.engine import ChipProgram, FastEngine, Parameters, ReferenceEngine, Snapshot
from pcmedge_emulator.physics.read_noise import input_dependent_sigma, short_term_sigma
from pcmedge_emulator.physics.technology import get_technology
from pcmedge_emulator.resident import drive
from rich.console import Console

Array = np.ndarray[Any, Any]
ROW, DIGITAL = image_pb2.BIAS_PLACEMENT_ROW, image_pb2.BIAS_PLACEMENT_DIGITAL


def conv(shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    weights = samples(outputs, shape[0] // attributes.get("group", 1), *kernel)
    return onnx_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="layer", **attributes)],
        {"x": ["n", *shape]},
        ["y"],
        {"w": weights, "b": samples(outputs, seed=2)},
    )


def product(rows: int, columns: int, *steps: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["y"], name="sum"),
    ]
    constants = {"w": samples(rows, columns), "b": samples(columns, seed=2)}
    return onnx_model(nodes, {"x": ["n", *steps, rows]}, ["y"], constants)


# name -> (model, shape of a sample, tile rows and columns, signed inputs, rows of the row tiles of group 0)
LAYERS: dict[str, tuple[onnx.ModelProto, tuple[int, ...], tuple[int, int], bool, list[int]]] = {
    "conv": (conv((6, 8, 8), 16, (3, 3), pads=[1] * 4), (6, 8, 8), (512, 512), True, [55]),
    "conv-unsigned": (conv((6, 8, 8), 16, (3, 3), pads=[1] * 4), (6, 8, 8), (512, 512), False, [55]),
    "conv-row-tiles": (conv((5, 8, 8), 16, (3, 3), strides=[2, 1]), (5, 8, 8), (20, 9), True, [18, 18, 10]),
    "conv-full-rows": (conv((4, 8, 8), 16, (3, 3), pads=[1] * 4), (4, 8, 8), (18, 9), False, [18, 18, 1]),
    "conv-cut-kernel": (conv((2, 9, 9), 8, (5, 5)), (2, 9, 9), (10, 8), True, [10, 10, 5, 10, 10, 6]),
    "conv1d": (conv((4, 30), 12, (5,), dilations=[2]), (4, 30), (12, 12), True, [10, 11]),
    "grouped": (conv((12, 7, 7), 18, (3, 3), group=3), (12, 7, 7), (128, 32), True, [37]),
    "grouped-full-rows": (conv((12, 7, 7), 18, (3, 3), group=3), (12, 7, 7), (18, 4), False, [18, 18, 1]),
    "depthwise": (conv((12, 8, 8), 12, (3, 3), group=12, pads=[1] * 4), (12, 8, 8), (40, 64), False, [10]),
    "gemm": (product(30, 24), (30,), (512, 512), True, [31]),
    "gemm-row-tiles": (product(70, 24), (70,), (32, 10), False, [32, 32, 7]),
    "gemm-full-rows": (product(64, 24, 3), (3, 64), (32, 32), True, [32, 32, 1]),
}


def calibration(name: str, count: int = 24) -> Array:
    _, shape, _, signed, _ = LAYERS[name]
    x = samples(count, *shape, seed=5)
    return x if signed else np.abs(x)


def image_of(name: str, **options: Any) -> ChipImage:
    model, _, (rows, columns), _, _ = LAYERS[name]
    chip = profile(tile_rows=rows, tile_columns=columns, tiles=4096)
    return compile(model, calibration=calibration(name), profile=chip, bias="row", **options)


def conductances(image: ChipImage, error: float = 0.0) -> dict[int, Array]:
    rng = np.random.default_rng(9)
    exact = {tile.tile: image.target(tile) / np.float32(32767) for tile in image.tiles()}
    return {tile: (g + error * rng.standard_normal(g.shape)).astype(np.float32) for tile, g in exact.items()}


@pytest.mark.parametrize("scaling", ["layer", "column"])
@pytest.mark.parametrize("name", LAYERS)
def test_without_effects_it_computes_what_onnx_runtime_computes(name: str, scaling: Any) -> None:
    image = image_of(name, scaling=scaling)
    (layer,) = image.manifest.layers
    assert layer.bias == ROW
    assert list(image.manifest.required_features) == ["bias-row-1", "pcm-analog-1"]
    tiles = [tile for tile in image.tiles() if (tile.first_group, tile.first_column) == (0, 0)]
    assert [tile.rows for tile in tiles] == LAYERS[name][4]
    assert sum(tile.cells for tile in image.tiles()) == image.manifest.placement.analog_weights
    x = calibration(name)
    expected = float_outputs(LAYERS[name][0], {"x": x})["y"]
    assert relative_error(ideal_chip(image, {"x": x})["y"], expected) <= 1e-4
    reference = ReferenceEngine(
        ChipProgram.from_image(image), Snapshot(conductances=conductances(image), converters="ideal")
    )
    assert relative_error(reference.run({"x": x[:4]})["y"], expected[:4]) <= 1e-4
    # With converters the mean error is the converters': about that of the same layer with its bias digital.
    error = np.abs(ideal_chip(image, {"x": x}, converters="profile")["y"] - expected).mean()
    assert error <= 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("name", LAYERS)
def test_engines_agree_on_codes_but_for_one_in_ten_thousand(name: str) -> None:
    image, (_, shape, _, signed, _) = image_of(name), LAYERS[name]
    program = ChipProgram.from_image(image)
    snapshot = Snapshot(conductances=conductances(image, error=0.03))
    codes = np.random.default_rng(4).integers(-127 if signed else 0, 128 if signed else 256, (48, *shape))
    (layer,) = program.layers
    found, expected = (engine(program, snapshot).run_layer(layer, codes) for engine in (FastEngine, ReferenceEngine))
    assert found.keys() == expected.keys()
    apart = np.concatenate([np.abs(found[tile] - expected[tile]).reshape(-1) for tile in expected])
    assert apart.size >= 1000
    assert apart.max() <= 1
    assert (apart > 0).sum() <= max(1, apart.size // 10_000)


@pytest.mark.parametrize("name", ["conv-full-rows", "conv", "depthwise", "gemm-row-tiles", "gemm-full-rows"])
@pytest.mark.parametrize("converters", ["profile", "ideal"])
def test_engines_agree_with_adc_spread_and_input_dependent_noise(name: str, converters: Any) -> None:
    image, x = image_of(name), calibration(name, 200)
    program, g = ChipProgram.from_image(image), conductances(image)
    rng = np.random.default_rng(2)
    spread = {tile: rng.uniform(0.9, 1.1, v.shape[0] * v.shape[2]) for tile, v in g.items()}
    shifted = {tile: rng.normal(0, 1, v.shape[0] * v.shape[2]) for tile, v in g.items()}
    snapshot = Snapshot(
        conductances=g,
        pair_sums={tile: np.abs(v) for tile, v in g.items()},
        noise_coefficient=0.05,
        read_noise="input-dependent",
        converters=converters,
        gain=spread if converters == "profile" else None,
        offset=shifted if converters == "profile" else None,
    )
    found = [engine(program, snapshot).run({"x": x}, noise_seed=1)["y"] for engine in (FastEngine, ReferenceEngine)]
    deviation = [(each - found[1].mean(0)).std() for each in found]
    assert deviation[0] == pytest.approx(deviation[1], rel=0.05)
    quiet = Snapshot(conductances=g, converters=converters, gain=snapshot.gain, offset=snapshot.offset)
    still = [engine(program, quiet).run({"x": x[:16]})["y"] for engine in (FastEngine, ReferenceEngine)]
    # A code that is rounded the other way is one step of one tile.
    assert np.mean(np.abs(still[0] - still[1]) > 1e-4 * np.abs(still[1]).max()) <= 1e-3


@pytest.mark.parametrize("name", ["gemm-row-tiles", "gemm-full-rows"])
def test_the_row_is_a_row_like_any_other_to_the_circuits(name: str) -> None:
    """IR drop and all: as if the code came in as one more input, on a chip that knows no bias rows."""
    image, (_, shape, _, signed, _) = image_of(name), LAYERS[name]
    program = ChipProgram.from_image(image)
    program.profile.ir_drop, program.profile.wire_resistance_ohm = 1.0, 0.35
    (layer,) = program.layers.values()
    block = layer.blocks["W"]
    plain = replace(program, layers={layer.name: replace(layer, blocks={"W": replace(block, bias_code=0)})})
    snapshot = Snapshot(conductances=conductances(image))
    codes = np.random.default_rng(4).integers(-127 if signed else 0, 128 if signed else 256, (48, *shape))
    one_more = np.concatenate([codes, np.full((*codes.shape[:-1], 1), block.bias_code)], axis=-1)
    found = ReferenceEngine(program, snapshot).run_layer(layer.name, codes)
    expected = ReferenceEngine(plain, snapshot).run_layer(layer.name, one_more)
    assert all(np.array_equal(found[tile], expected[tile]) for tile in expected)
    program.profile.ir_drop = 0.0
    without = ReferenceEngine(program, snapshot).run_layer(layer.name, codes)
    assert any(not np.array_equal(found[tile], without[tile]) for tile in found)


def test_idle_cells_see_the_rows_code(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every group's bias row is driven under the other groups' columns, too.
    seen: list[float] = []
    original = resident.idle_cells

    def watched(**given: Any) -> Any:
        seen.append(given["dac_mean_square"])
        return original(**given)

    monkeypatch.setattr(resident, "idle_cells", watched)
    model, x = LAYERS["depthwise"][0], calibration("depthwise")
    chip = profile(tile_rows=40, tile_columns=64, tiles=64, connect_idle=True)
    image = compile(model, calibration=x, profile=chip, bias="row")
    with new_chip() as made:
        made.program(image)
        made.infer(image.name, {"x": x})
    (block,) = image.manifest.layers[0].blocks
    assert seen
    assert seen == pytest.approx([(9 * block.dac_mean_square + (block.bias_code / 255) ** 2) / 10] * len(seen))


def test_noise_of_the_bias_row_alone_has_the_spread_of_its_code() -> None:
    # Inputs of zero: only the bias row is driven, so sigma = w code sqrt(g_total), in DAC codes.
    image = image_of("gemm-full-rows")
    (layer,) = image.manifest.layers
    (block,) = layer.blocks
    g = conductances(image)
    snapshot = Snapshot(
        conductances=g,
        pair_sums={tile: np.abs(v) for tile, v in g.items()},
        noise_coefficient=0.2,
        read_noise="input-dependent",
        converters="ideal",
    )
    for engine in (FastEngine, ReferenceEngine):
        x = np.zeros((2000, 3, 64), np.float32)
        y = engine(ChipProgram.from_image(image), snapshot).run({"x": x}, noise_seed=3)["y"].reshape(-1, 24)
        row = np.abs(image.target(image.tiles()[-1])[0, -1] / 32767)
        expected = 0.2 * block.bias_code * np.sqrt(row) * block.dac_step * image.weight_scales()["product", "W"]
        np.testing.assert_allclose(y.std(0), expected, rtol=5 / np.sqrt(2 * 6000))


def test_additive_noise_counts_the_row_with_its_own_code() -> None:
    image = image_of("gemm-row-tiles")
    (block,) = image.manifest.layers[0].blocks
    first, last = image.tiles()[0], image.tiles()[-1]
    assert drive(image, first) == (255, block.dac_mean_square)
    levels, squares = drive(image, last)
    assert isinstance(squares, np.ndarray)
    np.testing.assert_allclose(squares[:-1], block.dac_mean_square, rtol=1e-6)
    assert squares[-1] == pytest.approx((block.bias_code / 255) ** 2)
    # With every input at its root mean square the additive form is the exact one.
    technology, g_total = get_technology("pcm-90nm"), np.abs(image.target(last) / np.float32(32767))
    codes = np.sqrt(squares.astype(float)) * levels
    exact = input_dependent_sigma(codes[None, None, :], g_total, technology)
    np.testing.assert_allclose(short_term_sigma(g_total, levels, squares, technology), exact, rtol=1e-5)


@settings(deadline=None, max_examples=200)
@given(
    groups=st.integers(1, 6),
    channels=st.integers(1, 12),
    window=st.sampled_from([1, 2, 9]),
    columns=st.integers(1, 12),
    tile_rows=st.integers(2, 24),
    tile_columns=st.integers(1, 8),
)
def test_every_group_has_one_bias_row_and_every_weight_one_tile(
    groups: int, channels: int, window: int, columns: int, tile_rows: int, tile_columns: int
) -> None:
    rows = channels * window
    plain = Block("W", np.ones((groups, rows, columns), np.float32), window)
    biased = Block("W", np.ones((groups, rows + 1, columns), np.float32), window, bias_code=1)
    seen = np.zeros((groups, rows + 1, columns), int)
    for region in place(biased, tile_rows, tile_columns):
        assert region.groups * region.rows <= tile_rows
        assert region.groups * region.columns <= tile_columns
        seen[
            region.first_group : region.first_group + region.groups,
            region.first_row : region.first_row + region.rows,
            region.first_column : region.first_column + region.columns,
        ] += 1
        stop = min(region.first_row + region.rows, rows)
        # Row tiles of inputs still end on channel borders where a channel fits.
        assert window > tile_rows or stop % window == 0
    assert (seen == 1).all()
    used = [sum(each.used_cells for each in place(block, tile_rows, tile_columns)) for block in (plain, biased)]
    assert used[1] - used[0] == groups * columns


def planned(bias: Array, weights: Array, dac: DacRange, scaling: Any = "layer") -> tuple[Layer, Any, str]:
    graph = Graph(name="g", nodes=[], constants={"b": bias.astype(np.float32)}, inputs=[], outputs=[], types={})
    block = Block("W", weights.astype(np.float32)[None])
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    layer = Layer("l", GEMM, node, (node,), "x", ("y",), (block,), "b", weights.shape[1])
    plan = place_biases(graph, [layer], {("l", "W"): scale(block, scaling, None)}, {"l": dac}, "row")
    return plan.layers[0], plan.scaled["l", "W"], plan.notes["l"]


def test_the_code_is_the_smallest_that_expresses_every_bias() -> None:
    weights, dac = np.array([[1.0, -2.0], [0.5, 0.25]]), DacRange(0.125, False, 255)
    # One code is worth 0.125 * 2 = 0.25: a bias of -5 needs 20 of them.
    layer, block, note = planned(np.array([1.0, -5.0]), weights, dac)
    assert layer.bias == ""
    assert layer.blocks[0].bias_code == 20
    assert "code 20" in note
    assert block.targets[0, -1].tolist() == [round(32767 * 0.2), -32767]
    assert planned(np.array([1e-9, 0.0]), weights, dac)[0].blocks[0].bias_code == 1
    # Exactly the whole range, and a hair above it.
    assert planned(np.array([255 * 0.25, 0.0]), weights, dac)[0].blocks[0].bias_code == 255
    assert planned(np.array([255 * 0.25 + 0.01, 0.0]), weights, dac)[0].blocks[0].bias_code == 0


def test_a_larger_code_than_needed_only_adds_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weights, bias = (rng.normal(size=size).astype(np.float32) * np.float32(0.2) for size in ((64, 256), (256,)))
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")]
    model = onnx_model(nodes, {"x": ["n", 64]}, ["y"], {"w": weights, "b": bias})
    x, errors = np.abs(rng.normal(size=(256, 64))).astype(np.float32), []
    for code in (44, 255):
        image = compile(model, calibration=x, bias="row")
        assert image.manifest.layers[0].blocks[0].bias_code == code
        given = []
        for seed in range(3):
            with Chip(clock=Clock.manual(), seed=seed, converters="ideal", read_noise="off") as chip:
                chip.program(image)
                given.append(chip.infer(image.name, {"x": np.zeros((1, 64), np.float32)}).outputs["y"][0])
        errors.append(np.sqrt(np.mean((np.stack(given) - bias) ** 2)) / bias.std())
        monkeypatch.setattr("pcmedge.compiler.bias.math", SimpleNamespace(ceil=lambda _: 10**6))
    # 12 % and 37 %, each over 768 columns: known to about 3 % of themselves.
    assert errors == pytest.approx([0.116, 0.368], rel=0.15)


def test_a_bias_one_row_cannot_express_stays_digital_and_the_report_says_so() -> None:
    x = samples(32, 12)
    constants = {"w": samples(12, 4) * 0.01, "b": np.full(4, 50, np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")]
    model = onnx_model(nodes, {"x": ["n", 12]}, ["y"], constants)
    image = compile(model, calibration=x, bias="row")
    assert image.manifest.layers[0].bias == DIGITAL
    assert image.manifest.layers[0].blocks[0].bias_code == 0
    assert list(image.manifest.required_features) == ["pcm-analog-1"]
    assert "times what one row can express" in image.manifest.placement.nodes[0].reason
    assert image.manifest.placement.devices == 2 * 48
    console = Console(width=80, file=io.StringIO())
    console.print(render(image.manifest, image.tiles()))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"Biases that stayed digital\s+fc: it is [\d.]+ times what one row can express", drawn)
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


def test_an_lstm_keeps_its_bias_digital_and_says_why() -> None:
    x = torch_inputs("lstm")
    model = exported("lstm")
    inputs = dict(zip([value.name for value in model.graph.input], x, strict=True))
    image = compile(model, calibration=inputs, bias="row")
    lstm, head = image.manifest.layers
    assert (lstm.operator, lstm.bias, head.bias) == ("AnalogLSTM", DIGITAL, ROW)
    reasons = {node.layer: node.reason for node in image.manifest.placement.nodes if node.layer}
    assert reasons[lstm.name].endswith("bias digital: the gates are sums of two blocks, with a bias each")
    assert f"bias on a row of its own, driven with code {head.blocks[0].bias_code}" in reasons[head.name]
    expected, found = float_outputs(model, inputs), ideal_chip(image, inputs)
    assert all(relative_error(found[name], expected[name]) <= 1e-4 for name in expected)


@pytest.mark.parametrize("name", ["mlp", "residual", "depthwise", "transformer"])
def test_whole_networks_with_recorded_statistics_and_batch_norm(name: str) -> None:
    model = exported(name)
    inputs = dict(zip([value.name for value in model.graph.input], torch_inputs(name), strict=True))
    image = compile(model, calibration=inputs, bias="row", profile=profile(tile_rows=12, tile_columns=7, tiles=4096))
    biases = [layer.bias for layer in image.manifest.layers]
    assert ROW in biases
    assert any(layer.blocks[0].bias_code for layer in image.manifest.layers)
    expected, found = float_outputs(model, inputs), ideal_chip(image, inputs)
    assert all(relative_error(found[name], expected[name]) <= 1e-4 for name in expected)
    # The same digital model: what it answers, and its statistics, do not depend on where the biases lie.
    digital = compile(model, calibration=inputs, profile=profile(tile_rows=12, tile_columns=7, tiles=4096))
    assert bytes(digital.segment("reference")) == bytes(image.segment("reference"))
    assert bytes(digital.segment("statistics")) == bytes(image.segment("statistics"))


def test_the_report_counts_the_row_as_devices_and_energy_but_not_as_macs() -> None:
    x = calibration("gemm")
    model = LAYERS["gemm"][0]
    row, digital = (compile(model, calibration=x, bias=choice).manifest.placement for choice in ("row", "digital"))
    assert (row.analog_weights, row.devices, row.digital_parameters) == (31 * 24, 2 * 31 * 24, 0)
    assert (digital.analog_weights, digital.devices, digital.digital_parameters) == (30 * 24, 2 * 30 * 24, 24)
    assert row.analog_macs == digital.analog_macs == 30 * 24
    assert row.energy_j == pytest.approx(digital.energy_j * 31 / 30)
    assert [node.reason for node in row.nodes][1] == "the bias of the layer before it, on a row of its tiles"
    assert row.nodes[1].analog
    assert not digital.nodes[1].analog


def test_compiling_twice_gives_the_same_bytes_and_the_option_is_recorded() -> None:
    first, again = image_of("conv-row-tiles"), image_of("conv-row-tiles")
    assert first.to_bytes() == again.to_bytes()
    assert json.loads(first.manifest.provenance.compile_options_json)["bias"] == "row"
    with pytest.raises(InputValueError, match="bias: expected one of digital, row"):
        compile(LAYERS["conv"][0], calibration=calibration("conv"), bias="analog")  # type: ignore[arg-type]


def test_a_chip_too_small_for_the_bias_rows_says_so() -> None:
    model, x = LAYERS["gemm-full-rows"][0], calibration("gemm-full-rows")
    chip = profile(tile_rows=32, tile_columns=32, tiles=2)
    compile(model, calibration=x, profile=chip)
    with pytest.raises(ImageTooLargeError, match=r"1 of them are due to bias rows: bias='digital' does without"):
        compile(model, calibration=x, profile=chip, bias="row")


def new_chip(**options: Any) -> Chip:
    return Chip(clock=Clock.manual(), seed=1, serial="bias", **options)


def test_the_emulator_lists_the_feature_and_a_device_without_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_of("gemm")
    with new_chip() as chip:
        assert "bias-row-1" in chip.identity().image_features
        chip.program(image)
    monkeypatch.setattr(images, "IMAGE_FEATURES", ("pcm-analog-1", "lstm-1", "synthetic-buffer-1"))
    with new_chip() as chip, pytest.raises(ImageFeatureError, match="requires bias-row-1"):
        chip.program(image)


@pytest.mark.parametrize("name", ["gemm-row-tiles", "conv-full-rows"])
def test_the_bias_drifts_with_its_devices_and_the_factor_brings_it_back(name: str) -> None:
    image, x = image_of(name, recorded_statistics=False), calibration(name)
    expected = float_outputs(LAYERS[name][0], {"x": x})["y"]
    gain = []
    with new_chip(converters="ideal", read_noise="off") as chip:
        model = image.name
        chip.program(image)
        chip.set_policy(model, MANUAL)
        for compensated in (False, True):
            if not compensated:
                chip.advance(365 * 86400.0)
            else:
                chip.recalibrate(model, gdc_everywhere=True)
            # Inputs of zero give nothing but the bias.
            still = chip.infer(model, {"x": np.zeros_like(x)}).outputs["y"]
            given = chip.infer(model, {"x": x}).outputs["y"]
            bias = samples(expected.shape[1], seed=2).reshape(1, -1, *[1] * (expected.ndim - 2))
            gain.append([slope(still, np.broadcast_to(bias, still.shape)), slope(given, expected)])
        readout = chip.read_tile(model, image.tiles()[-1].tile)
        target = image.target(image.tiles()[-1]) / np.float32(32767)
    (lost, lost_output), (kept, kept_output) = gain
    # A year takes a third to a half, from the bias as from the products; one factor per tile gives both back.
    assert 0.3 < lost < 0.75
    assert 0.3 < lost_output < 0.75
    assert kept == pytest.approx(1, abs=0.12)
    assert kept_output == pytest.approx(1, abs=0.12)
    # The row is read back with the others of its tile, as the last of them.
    assert readout.g_plus.shape == target[0].shape
    assert np.corrcoef((readout.g_plus - readout.g_minus)[-1], target[0, -1])[0, 1] > 0.95


def slope(found: Array, expected: Array) -> float:
    return float((found * expected).sum() / np.square(expected).sum())


def test_an_image_with_a_bias_row_survives_a_restart(tmp_path: Path) -> None:
    image, x = image_of("gemm-row-tiles"), calibration("gemm-row-tiles")
    with new_chip(store=tmp_path / "chip") as chip:
        chip.program(image)
        before = chip.infer(image.name, {"x": x}).outputs["y"]
        state = chip.read_tile(image.name, 0)
    with Chip(store=tmp_path / "chip", clock=Clock.manual()) as chip:
        after = chip.infer(image.name, {"x": x}).outputs["y"]
        again = chip.read_tile(image.name, 0)
    assert np.array_equal(state.g_plus, again.g_plus)
    assert np.abs(after - before).mean() <= 0.05 * np.abs(before).max()


def test_a_program_that_adds_the_bias_twice_is_refused() -> None:
    image = image_of("gemm")
    program = ChipProgram.from_image(image)
    model = onnx.ModelProto()
    model.CopyFrom(program.model)
    model.graph.initializer.append(onnx.numpy_helper.from_array(samples(24), "twice"))
    next(node for node in model.graph.node if node.domain == "pcm").input.append("twice")
    with pytest.raises(ImageCorruptError, match="has a bias row it cannot have"):
        ChipProgram.build(model, program.layers, program.profile)


def test_parameters_scale_the_bias_with_its_tile() -> None:
    image = image_of("gemm-full-rows")
    program, snapshot = ChipProgram.from_image(image), Snapshot(conductances=conductances(image), converters="ideal")
    zeros, last = {"x": np.zeros((1, 3, 64), np.float32)}, image.tiles()[-1].tile
    for engine in (FastEngine, ReferenceEngine):
        made = engine(program, snapshot)
        doubled = made.run(zeros, Parameters(drift_factors={last: np.float32(2)}))["y"]
        np.testing.assert_allclose(doubled, 2 * made.run(zeros)["y"], rtol=1e-5)
        np.testing.assert_allclose(made.run(zeros)["y"][0, 0], samples(24, seed=2), rtol=1e-3, atol=1e-3)
