"""Small models and their chip images for the service tests; compiled once per process."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pcmedge import compile as compile_model
from pcmedge.image import ChipImage

LABELS = ("zero", "one", "two", "three")
PROFILE = "hermes-256x256"


def _model(name: str, nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **weights: Any):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s]) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s]) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def pictures(count: int, seed: int = 1) -> NDArray[np.float32]:
    """[count, 1, 6, 6], 0 to 1."""
    return np.random.default_rng(seed).random((count, 1, 6, 6), dtype=np.float32)


@functools.cache
def classifier(
    name: str = "small", seed: int = 0, profile: str = PROFILE, labels: tuple[str, ...] = tuple(LABELS)
) -> ChipImage:
    """Pictures of 1 x 6 x 6 to the scores of four labels; knows its preprocessing."""
    random = np.random.default_rng(seed)
    model = _model(
        name,
        [
            helper.make_node("Conv", ["x", "kernels"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["a"], name="relu"),
            helper.make_node("Flatten", ["a"], ["f"], name="flatten"),
            helper.make_node("Gemm", ["f", "weights"], ["scores"], name="classifier"),
        ],
        {"x": [1, 6, 6]},
        {"scores": [4]},
        kernels=random.normal(0, 0.3, (4, 1, 3, 3)),
        weights=random.normal(0, 0.1, (144, 4)),
    )
    return compile_model(
        model,
        calibration=pictures(48, seed),
        profile=profile,
        name=name,
        labels=list(labels),
        preprocessing={
            "width": 6, "height": 6, "channels": 1, "colour_order": "GRAY", "layout": "NCHW", "scale": 1 / 255,
        },
    )  # fmt: skip


@functools.cache
def two_by_two() -> ChipImage:
    """Two inputs, two outputs: p = a A, q = b B."""
    random = np.random.default_rng(5)
    model = _model(
        "pair",
        [
            helper.make_node("MatMul", ["a", "A"], ["p"], name="first"),
            helper.make_node("MatMul", ["b", "B"], ["q"], name="second"),
        ],
        {"a": [8], "b": [5]},
        {"p": [3], "q": [2]},
        A=random.normal(0, 0.2, (8, 3)),
        B=random.normal(0, 0.2, (5, 2)),
    )
    samples = {"a": random.random((32, 8), np.float32), "b": random.random((32, 5), np.float32)}
    return compile_model(model, calibration=samples, profile=PROFILE, name="pair")


@functools.cache
def large() -> ChipImage:
    """A million weights on 16 tiles: programming it takes long enough to be interrupted."""
    random = np.random.default_rng(6)
    model = _model(
        "large",
        [helper.make_node("MatMul", ["x", "W"], ["y"], name="wide")],
        {"x": [1024]},
        {"y": [1024]},
        W=random.normal(0, 0.02, (1024, 1024)),
    )
    return compile_model(model, calibration=random.random((8, 1024), np.float32), profile=PROFILE, name="large")


@functools.cache
def codes() -> ChipImage:
    """Inputs u (UINT8) and i (INT8) of 8 numbers, outputs y (FP32, 3 scores) and k (INT64, the largest one's place)."""
    random = np.random.default_rng(7)
    nodes = [
        helper.make_node("Cast", ["u"], ["uf"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["i"], ["if"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["uf", "U"], ["p"], name="first"),
        helper.make_node("MatMul", ["if", "I"], ["q"], name="second"),
        helper.make_node("Add", ["p", "q"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["k"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "codes",
        [
            helper.make_tensor_value_info("u", TensorProto.UINT8, ["batch", 8]),
            helper.make_tensor_value_info("i", TensorProto.INT8, ["batch", 8]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("k", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(random.normal(0, 0.2, (8, 3)).astype(np.float32), name) for name in "UI"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    samples = {
        "u": random.integers(0, 255, (32, 8), dtype=np.uint8),
        "i": random.integers(-100, 100, (32, 8), dtype=np.int8),
    }
    return compile_model(model, calibration=samples, profile=PROFILE, name="codes")
