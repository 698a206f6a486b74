"""With ideal devices and converters off, an image computes what ONNX Runtime computes on the float model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from compiler_models import (
    ARCHITECTURES,
    example,
    exported,
    float_outputs,
    ideal_chip,
    onnx_model,
    program_of,
    relative_error,
    samples,
    torch_inputs,
    torch_model,
)
from onnx import helper
from pcmedge.compiler import compile
from pcmedge.image.profiles import profile


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("chip", ["pcm-512x512", "small"])
def test_an_image_computes_what_the_float_model_computes(name: str, chip: str) -> None:
    model = exported(name)
    inputs = dict(zip([value.name for value in model.graph.input], torch_inputs(name), strict=True))
    small = profile(tile_rows=11, tile_columns=7, tiles=4096)
    image = compile(model, calibration=inputs, profile=small if chip == "small" else chip)
    expected, found = float_outputs(model, inputs), ideal_chip(image, inputs)
    assert list(found) == list(expected)
    for output in expected:
        assert relative_error(found[output], expected[output]) <= 1e-4
    with torch.no_grad():
        answers = torch_model(name)(*map(torch.from_numpy, torch_inputs(name)))
    first = answers[0] if isinstance(answers, tuple) else answers
    assert relative_error(next(iter(found.values())), first.numpy()) <= 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_eight_bit_converters_stay_close(name: str) -> None:
    model = exported(name)
    inputs = dict(zip([value.name for value in model.graph.input], torch_inputs(name), strict=True))
    found = ideal_chip(compile(model, calibration=inputs), inputs, converters="profile")
    for output, expected in float_outputs(model, inputs).items():
        # Mean error, not the worst one: a value beyond the calibrated range saturates.
        assert np.abs(found[output] - expected).mean() <= 0.03 * np.abs(expected).max()


def test_both_ways_in_give_the_same_image(tmp_path: object) -> None:
    inputs = torch_inputs("residual")
    path = f"{tmp_path}/residual.onnx"
    onnx.save(exported("residual"), path)
    from_torch = compile(torch_model("residual"), example("residual"), calibration=inputs[0], name="m")
    from_onnx = compile(path, calibration=inputs[0], name="m")
    assert from_torch.manifest.provenance.source_format == "torch"
    assert from_onnx.manifest.provenance.source_format == "onnx"
    for segment in ("program", "targets", "tiles", "columns", "statistics", "buffer", "reference"):
        assert bytes(from_torch.segment(segment)) == bytes(from_onnx.segment(segment))
    assert from_torch.manifest.layers == from_onnx.manifest.layers
    assert from_torch.manifest.provenance.source_sha256 == from_onnx.manifest.provenance.source_sha256


def test_compiling_twice_gives_the_same_bytes() -> None:
    model, x = exported("residual"), torch_inputs("residual")[0]
    again = onnx.load_from_string(model.SerializeToString())
    assert compile(model, calibration=x).to_bytes() == compile(again, calibration=list(np.split(x, 3))).to_bytes()


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"kernel_shape": [3]}, (4, 9)),
        ({"kernel_shape": [3], "strides": [2], "pads": [1, 2]}, (4, 9)),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (4, 9, 8)),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 1]}, (4, 9, 8)),
        ({"auto_pad": "VALID", "strides": [1, 3]}, (4, 9, 8)),
        ({"group": 2, "pads": [0, 1, 2, 3]}, (4, 9, 8)),
        ({"group": 4, "dilations": [1, 2]}, (4, 9, 8)),
    ],
)
def test_every_kind_of_convolution(attributes: dict[str, object], size: tuple[int, ...]) -> None:
    kernel = (3,) if len(size) == 2 else (3, 2)
    weights = samples(8, size[0] // int(attributes.get("group", 1)), *kernel)  # type: ignore[call-overload]
    model = onnx_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="c", **attributes)],
        {"x": ["n", *size]},
        ["y"],
        {"w": weights, "b": samples(8)},
    )
    x = samples(6, *size, seed=3)
    image = compile(model, calibration=x, profile=profile(tile_rows=13, tile_columns=5, tiles=999))
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


def test_a_kernel_larger_than_a_tile_is_cut_inside_a_channel() -> None:
    model = onnx_model(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c")],
        {"x": ["n", 2, 5, 5]},
        ["y"],
        {"w": samples(3, 2, 5, 5)},
    )
    x = samples(6, 2, 5, 5, seed=2)
    image = compile(model, calibration=x, profile=profile(tile_rows=10, tile_columns=5, tiles=99))
    assert [(tile.first_row, tile.rows) for tile in image.tiles()] == [
        (0, 10),
        (10, 10),
        (20, 5),
        (25, 10),
        (35, 10),
        (45, 5),
    ]
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


@pytest.mark.parametrize(
    ("attributes", "bias"),
    [
        ({"transB": 1}, (4,)),
        ({"alpha": 0.5, "beta": 2.0}, (4,)),
        ({"transA": 1, "alpha": -1.5}, ()),
        ({"beta": 3.0}, (1, 4)),
        ({"beta": 0.5}, (1,)),
    ],
)
def test_every_kind_of_gemm(attributes: dict[str, float], bias: tuple[int, ...]) -> None:
    weights = samples(4, 6) if attributes.get("transB") else samples(6, 4)
    before = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0])] if attributes.get("transA") else []
    gemm = helper.make_node("Gemm", ["xt" if before else "x", "w", "b"], ["y"], name="g", **attributes)
    model = onnx_model([*before, gemm], {"x": ["n", 6]}, ["y"], {"w": weights, "b": samples(*bias)})
    x = samples(9, 6, seed=5)
    image = compile(model, calibration=x)
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogGemm"]
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


def test_a_gemm_addend_that_is_computed_is_added_behind_it() -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["y"], name="g", alpha=2.0, beta=0.25)]
    model = onnx_model(nodes, {"x": ["n", 6], "c": ["n", 4]}, ["y"], {"w": samples(6, 4)})
    inputs = {"x": samples(9, 6), "c": samples(9, 4, seed=2)}
    image = compile(model, calibration=inputs)
    assert image.manifest.layers[0].bias == 1  # none
    assert relative_error(ideal_chip(image, inputs)["y"], float_outputs(model, inputs)["y"]) <= 1e-4


def test_product_and_sum_become_one_analog_layer() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["b", "p"], ["y"], name="sum"),
    ]
    model = onnx_model(nodes, {"x": ["n", 3, 6]}, ["y"], {"w": samples(6, 4), "b": samples(1, 1, 4)})
    x = samples(5, 3, 6, seed=2)
    image = compile(model, calibration=x)
    assert [node.op_type for node in program_of(image).graph.node] == ["AnalogGemm"]
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_directions_and_initial_states(direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    constants = {
        "w": samples(directions, 12, 4) * 0.5,
        "r": samples(directions, 12, 3, seed=2) * 0.5,
        "b": samples(directions, 24, seed=3) * 0.1,
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("Transpose", ["h"], ["ht"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["xt", "w", "r", "b", "", "ht"], ["s", "", "c"], name="l", hidden_size=3, direction=direction
        ),
        helper.make_node("Transpose", ["s"], ["y"], perm=[2, 0, 1, 3]),
        helper.make_node("Transpose", ["c"], ["cell"], perm=[1, 0, 2]),
    ]
    model = onnx_model(nodes, {"x": ["n", 5, 4], "h": ["n", directions, 3]}, ["y", "cell"], constants)
    inputs = {"x": samples(8, 5, 4), "h": np.tanh(samples(8, directions, 3, seed=4))}
    image = compile(model, calibration=inputs)
    assert list(program_of(image).graph.node[2].input) == ["xt", "b", "ht"]
    expected, found = float_outputs(model, inputs), ideal_chip(image, inputs)
    assert all(relative_error(found[name], expected[name]) <= 1e-4 for name in expected)


def test_a_batch_size_fixed_by_the_exporter_becomes_free() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("Reshape", ["c", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"], name="fc"),
    ]
    constants = {"k": samples(2, 1, 3, 3), "shape": np.array([1, 18]), "w": samples(18, 4)}
    model = onnx_model(nodes, {"x": [1, 1, 5, 5]}, ["y"], constants)
    x = samples(7, 1, 5, 5)
    image = compile(model, calibration=x)
    assert list(image.manifest.model.inputs[0].shape) == [-1, 1, 5, 5]
    assert list(image.manifest.model.outputs[0].shape) == [-1, 4]
    one_by_one = np.concatenate([float_outputs(model, {"x": each[None]})["y"] for each in x])
    assert relative_error(ideal_chip(image, {"x": x})["y"], one_by_one) <= 1e-4


@pytest.mark.parametrize("equation", ["bti,oi->bto", "bti,io->bto", "oi,bti->bto"])
def test_einsum_with_a_matrix_is_a_product(equation: str) -> None:
    weights = samples(6, 4) if "io" in equation else samples(4, 6)
    inputs = ["w", "x"] if equation.startswith("o") else ["x", "w"]
    nodes = [helper.make_node("Einsum", inputs, ["y"], name="e", equation=equation)]
    model = onnx_model(nodes, {"x": ["n", 3, 6]}, ["y"], {"w": weights})
    x = samples(5, 3, 6, seed=2)
    image = compile(model, calibration=x)
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogGemm"]
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4


def test_an_input_may_be_handed_on_as_an_output() -> None:
    class HandingOn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.layer(x), x

    inputs = samples(16, 6)
    image = compile(HandingOn(), torch.zeros(1, 6), calibration=inputs)
    scores, same = ideal_chip(image, {"x": inputs}).values()
    assert scores.shape == (16, 4)
    assert np.array_equal(same, inputs)
