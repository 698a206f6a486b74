"""Clipping, scales and biases chosen by expected error: against the error itself, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from compiler_models import (
    ARCHITECTURES,
    exported,
    float_outputs,
    ideal_chip,
    linear,
    onnx_model,
    samples,
    torch_inputs,
)
from onnx import helper
from pcmedge.compiler import compile
from pcmedge.errors import InputValueError
from pcmedge.image import ChipImage

ALL = {"scaling": "auto", "clip_sigma": "search", "bias_correction": True}


def matrix_product(weights: np.ndarray) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    return onnx_model(nodes, {"x": ["n", len(weights)]}, ["y"], {"w": weights.astype(np.float32)})


def heavy_tailed(seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).normal(0, 0.1, (64, 16))
    weights[3, 5], weights[40, 11] = 1.0, -1.2
    return weights


def stored(image: ChipImage) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a one-tile image, and the weight a full-scale conductance stands for, by column."""
    tile = image.tiles()[0]
    scale = image.weight_scales()[tile.layer, tile.block].astype(np.float64)
    return image.target(tile)[0] / 32767 * scale, scale


def drawn_error(image: ChipImage, weights: np.ndarray, x: np.ndarray, noise: float) -> float:
    """Mean square error of the pre-activation over 200 draws of the programming error."""
    kept, scale = stored(image)
    rng = np.random.default_rng(1)
    errors = [np.square(x @ (kept - weights + rng.normal(0, noise, kept.shape) * scale)).mean() for _ in range(200)]
    return float(np.mean(errors))


@pytest.mark.parametrize("scaling", ["layer", "column"])
@pytest.mark.parametrize("noise", [0.01, 0.04, 0.1])
def test_the_search_lowers_the_error_that_programming_leaves(scaling: Any, noise: float) -> None:
    weights, x = heavy_tailed(), samples(64, 64)
    options = {"calibration": x, "scaling": scaling, "expected_noise": noise}
    plain = compile(matrix_product(weights), **options)
    searched = compile(matrix_product(weights), clip_sigma="search", **options)
    exact = weights.astype(np.float32).astype(np.float64)
    before, after = (drawn_error(image, exact, x, noise) for image in (plain, searched))
    # Where the outliers are worth keeping nothing is clipped, and nothing changes.
    assert after < before * 1.02
    if noise == 0.1:
        assert after < 0.9 * before
        assert stored(searched)[1].max() < stored(plain)[1].max()


def test_without_noise_nothing_is_clipped() -> None:
    weights, x = heavy_tailed(), samples(64, 64)
    plain = compile(matrix_product(weights), calibration=x)
    searched = compile(matrix_product(weights), calibration=x, clip_sigma="search", expected_noise=0.0)
    assert np.array_equal(plain.target(plain.tiles()[0]), searched.target(searched.tiles()[0]))
    assert stored(searched)[1] == pytest.approx(stored(plain)[1], rel=1e-4)


def test_what_the_expected_noise_depends_on_the_conductance_matters() -> None:
    weights, x = heavy_tailed(), samples(64, 64)
    clipped = {
        noise: compile(matrix_product(weights), calibration=x, clip_sigma="search", expected_noise=noise)
        for noise in (0.1, (0.0, 0.1))
    }
    # An error in proportion to the conductance is not made smaller by making conductances larger.
    constant, proportional = (stored(image)[1].max() for image in clipped.values())
    assert constant < proportional


@pytest.mark.parametrize(("spread", "expected"), [(1.0, "layer"), (8.0, "column")])
def test_auto_takes_a_scale_per_column_where_columns_differ(spread: float, expected: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.choice([-1.0, 1.0], (64, 8)) * rng.uniform(0.5, 1.0, (64, 8))
    weights[0] = 1.0
    weights[:, ::2] /= spread
    image = compile(matrix_product(weights), calibration=samples(64, 64), scaling="auto")
    assert image.manifest.layers[0].blocks[0].scaling == expected


@pytest.mark.parametrize("bias", ["digital", "row"])
def test_corrected_biases_keep_the_mean_of_clipped_layers(bias: Any) -> None:
    model, x = linear(32, 8), np.abs(samples(96, 32))
    expected = float_outputs(model, {"x": x})["y"].mean(axis=0)

    def shift(**options: Any) -> float:
        image = compile(model, calibration=x, clip_sigma=1.0, bias=bias, **options)
        found = ideal_chip(image, {"x": x})["y"].mean(axis=0)
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    assert shift() > 0.05
    assert shift(bias_correction=True) < 1e-3


def test_biases_are_corrected_layer_after_layer() -> None:
    model, (x,) = exported("residual"), torch_inputs("residual", 64)
    name = model.graph.input[0].name
    output = model.graph.output[0].name
    expected = float_outputs(model, {name: x})[output].mean(axis=0)

    def shift(**options: Any) -> float:
        found = ideal_chip(compile(model, calibration=x, clip_sigma=1.0, **options), {name: x})[output].mean(axis=0)
        return float(np.abs(found - expected).max())

    # The last layer's mean is right only if the layers before it were put right first.
    assert shift(bias_correction=True) < 1e-4 < shift()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_digital_values_stay_those_of_the_model(name: str) -> None:
    model = exported(name)
    inputs = dict(zip((value.name for value in model.graph.input), torch_inputs(name), strict=True))
    plain, changed = compile(model, calibration=inputs), compile(model, calibration=inputs, **ALL)
    given, found = plain.reference_set()[1], changed.reference_set()[1]
    assert all(np.array_equal(given[key], found[key]) for key in given)
    statistics = changed.reference_statistics()
    for node, pair in plain.reference_statistics().items():
        assert all(np.array_equal(*values) for values in zip(pair, statistics[node], strict=True))
    # The stored network is another one, but close to the model.
    expected, answers = float_outputs(model, inputs), ideal_chip(changed, inputs)
    for key, value in expected.items():
        assert 0 < np.abs(answers[key] - value).mean() < 0.2 * np.abs(value).std()


def test_the_same_arguments_give_the_same_bytes() -> None:
    x = torch_inputs("mlp")[0]
    first, second = (compile(exported("mlp"), calibration=x, **ALL) for _ in range(2))
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    "options",
    [
        {"clip_sigma": "seek"},
        {"clip_sigma": -1.0},
        {"scaling": "rows"},
        {"expected_noise": 1.5},
        {"expected_noise": "loud"},
        {"expected_noise": ()},
        {"expected_noise": (0.1, -0.5)},
        {"expected_noise": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputValueError, match="expected"):
        compile(linear(4, 2), calibration=samples(8, 4), **options)
