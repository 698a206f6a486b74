"""Calibration data: every form it may come in, and what is said about data that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from compiler_models import chain, exported, linear, onnx_model, samples, torch_inputs
from onnx import helper
from pcmedge.compiler import compile
from pcmedge.errors import CalibrationError

X = samples(12, 6)


def batches() -> Iterator[Any]:
    yield X[:5]
    yield X[5:]


@pytest.mark.parametrize(
    "calibration",
    [
        X,
        X.astype(np.float64),
        {"x": X},
        torch.from_numpy(X),
        (X, np.arange(12)),
        [X[:5], X[5:]],
        [(X[:5], np.zeros(5)), (X[5:], np.zeros(7))],
        [[torch.from_numpy(X[:5]), torch.zeros(5)], [torch.from_numpy(X[5:]), torch.zeros(7)]],
        [{"x": X[:5]}, {"x": X[5:]}],
        batches(),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(12)), batch_size=5),
    ],
    ids=["array", "float64", "mapping", "tensor", "pair", "list", "pairs", "lists", "mappings", "generator", "loader"],
)
def test_forms_of_calibration_data(calibration: Any) -> None:
    assert compile(linear(6, 4), calibration=calibration).to_bytes() == compile(linear(6, 4), calibration=X).to_bytes()


def test_several_inputs() -> None:
    model, (x, offset) = exported("lstm"), torch_inputs("lstm")
    names = [value.name for value in model.graph.input]
    by_name = compile(model, calibration=dict(zip(names, (x, offset), strict=True)))
    assert compile(model, calibration=(x, offset)).to_bytes() == by_name.to_bytes()
    assert by_name.manifest.provenance.calibration_samples == 24
    with pytest.raises(CalibrationError, match=f"the model has 2 inputs \\({names[0]}, {names[1]}\\), found one array"):
        compile(model, calibration=x)
    with pytest.raises(CalibrationError, match=f"missing: {names[1]}; not an input: y"):
        compile(model, calibration={names[0]: x, "y": offset})
    with pytest.raises(CalibrationError, match="as many samples for every input"):
        compile(model, calibration=(x, offset[:3]))


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (samples(12, 5), r"input 'x': expected shape \(samples, 6\), found \(12, 5\)"),
        (samples(6), r"expected shape \(samples, 6\), found \(6,\)"),
        (samples(2, 12, 6), r"expected shape \(samples, 6\), found \(2, 12, 6\)"),
        ((X * 10).astype(np.uint8), r"expected element type float32, found uint8.*scaling"),
        (np.array([["a"] * 6]), r"expected element type float32, found <U1"),
        (np.where(X > 2, np.nan, X), r"expected finite numbers, found \d+ NaN or infinite"),
        (np.where(X > 1, np.inf, X), r"expected finite numbers"),
        (X[:0], r"is empty: expected at least one sample, found 0"),
        ([], r"calibration is empty: expected at least one batch"),
        (np.zeros((12, 6), np.float32), r"every value is zero.*typical inputs"),
        (None, r"expected samples, found NoneType"),
        ("digits.npz", r"expected samples, found str"),
        (7, r"expected samples, found int"),
        ({"y": X}, r"expected arrays for the inputs x; found y \(missing: x; not an input: y\)"),
        ([X[:5], samples(3, 4)], r"expected shape \(samples, 6\), found \(3, 4\)"),
    ],
)
def test_calibration_data_that_cannot_be_used(calibration: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        compile(linear(6, 4), calibration=calibration)


def test_sizes_the_model_leaves_open_must_agree() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    model = onnx_model(nodes, {"x": ["n", "steps", 6]}, ["y"], {"w": samples(6, 4)})
    assert list(compile(model, calibration=samples(4, 3, 6)).manifest.model.inputs[0].shape) == [-1, -1, 6]
    with pytest.raises(CalibrationError, match=r"batches of one shape.*\(3, 6\), \(4, 6\)"):
        compile(model, calibration=[samples(4, 3, 6), samples(4, 4, 6)])


def test_buffer_and_reference_are_checked_alike() -> None:
    with pytest.raises(CalibrationError, match=r"buffer input 'x': expected shape"):
        compile(linear(6, 4), calibration=X, buffer=samples(3, 5))
    with pytest.raises(CalibrationError, match=r"reference input 'x': expected finite"):
        compile(linear(6, 4), calibration=X, reference=np.full((3, 6), np.nan, np.float32))


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    compile(chain(6, 5, 3), calibration=X, progress=lambda *step: seen.append(step))
    phases = list(dict.fromkeys(phase for phase, _, _ in seen))
    assert phases == ["load", "statistics", "ranges", "buffer", "write"]
    for phase in phases:
        last = [step for step in seen if step[0] == phase][-1]
        assert last[1] == last[2]
