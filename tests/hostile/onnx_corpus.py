"""Small ONNX models of many kinds, built by hand: what the mutants of the corpus are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
FLOAT = TensorProto.FLOAT


def _weights(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1] or 1)).astype(np.float32)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array],
    *,
    element: int = FLOAT,
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 21,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "corpus",
        [helper.make_tensor_value_info(name, element, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, element, list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", opset), *(helper.make_opsetid(each.domain, 1) for each in functions)]
    return helper.make_model(graph, opset_imports=domains, functions=list(functions), ir_version=10)


def perceptron() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Gemm", ["x", "w0", "b0"], ["h"], "first"),
        node("Relu", ["h"], ["a"], "relu"),
        node("MatMul", ["a", "w1"], ["m"], "second"),
        node("Add", ["m", "b1"], ["z"], "bias"),
        node("Softmax", ["z"], ["y"], "softmax", axis=-1),
    ]
    constants = {"w0": _weights(6, 8), "b0": _weights(8), "w1": _weights(8, 4, seed=1), "b1": _weights(4, seed=2)}
    return _model(nodes, {"x": ["n", 6]}, {"y": ["n", 4]}, constants)


def residual() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "stem", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c0", "s", "o", "m", "v"], ["n0"], "norm", epsilon=1e-5),
        node("Relu", ["n0"], ["a0"], "relu"),
        node("Conv", ["a0", "w1", "b1"], ["c1"], "depthwise", kernel_shape=[3, 3], auto_pad="SAME_UPPER", group=4),
        node("Add", ["c1", "a0"], ["r"], "shortcut"),
        node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["g"], "average"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Gemm", ["f", "w2", "b2"], ["y"], "head", transB=1),
    ]
    constants = {
        "w0": _weights(4, 2, 3, 3), "w1": _weights(4, 1, 3, 3, seed=1), "b1": _weights(4), "w2": _weights(3, 4),
        "b2": _weights(3), "s": np.ones(4, np.float32), "o": _weights(4, seed=3), "m": _weights(4, seed=4),
        "v": np.full(4, 0.75, np.float32),
    }  # fmt: skip
    return _model(nodes, {"x": ["n", 2, 6, 6]}, {"y": ["n", 3]}, constants)


def quantised() -> onnx.ModelProto:
    """QDQ around a convolution and a product, int8 weights with a scale per channel."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], "q0"),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], "d0"),
        node("DequantizeLinear", ["wq", "sw", "zw"], ["wd"], "dw", axis=0),
        node("Conv", ["xd", "wd", "b"], ["c"], "conv", kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"], "relu"),
        node("QuantizeLinear", ["r", "sx", "zx"], ["rq"], "q1"),
        node("DequantizeLinear", ["rq", "sx", "zx"], ["rd"], "d1"),
        node("Reshape", ["rd", "shape"], ["f"], "reshape"),
        node("MatMul", ["f", "w2"], ["y"], "head"),
    ]
    rng = np.random.default_rng(5)
    constants = {
        "sx": np.array(0.03, np.float32), "zx": np.array(3, np.uint8),
        "wq": rng.integers(-127, 127, (3, 2, 3, 3), np.int8),
        "sw": np.array([0.01, 0.02, 0.03], np.float32), "zw": np.zeros(3, np.int8), "b": _weights(3),
        "shape": np.array([-1, 12], np.int64), "w2": _weights(12, 3),
    }  # fmt: skip
    return _model(nodes, {"x": ["n", 2, 4, 4]}, {"y": ["n", 3]}, constants)


def integer_operators() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"], "quantize"),
        node("QLinearMatMul", ["xq", "s", "z", "w", "s", "z", "s", "z"], ["yq"], "product"),
        node("DequantizeLinear", ["yq", "s", "z"], ["y"], "dequantize"),
    ]
    weights = np.random.default_rng(6).integers(0, 255, (5, 3), np.uint8)
    constants = {"s": np.array(0.02, np.float32), "z": np.array(120, np.uint8), "w": weights}
    return _model(nodes, {"x": ["n", 5]}, {"y": ["n", 3]}, constants)


def recurrent() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["t"], "time-first", perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["h", "hn", ""], "lstm", hidden_size=3, direction="bidirectional"),
        node("Transpose", ["hn"], ["ht"], "batch-first", perm=[1, 0, 2]),
        node("Reshape", ["ht", "shape"], ["f"], "join"),
        node("Gemm", ["f", "head"], ["y"], "fc"),
    ]
    constants = {"w": _weights(2, 12, 4), "r": _weights(2, 12, 3, seed=1), "b": _weights(2, 24, seed=2),
                 "shape": np.array([-1, 6], np.int64), "head": _weights(6, 2)}  # fmt: skip
    return _model(nodes, {"x": ["n", 5, 4]}, {"y": ["n", 2]}, constants)


def attention() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "g", "o"], ["l"], "layer-norm", axis=-1),
        node("MatMul", ["l", "wq"], ["q"], "queries"),
        node("MatMul", ["l", "wk"], ["k"], "keys"),
        node("Einsum", ["l", "wv"], ["v"], "values", equation="nsk,kd->nsd"),
        node("Transpose", ["k"], ["kt"], "transpose", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"], "scores"),
        node("Softmax", ["s"], ["p"], "softmax", axis=-1),
        node("MatMul", ["p", "v"], ["a"], "mix"),
        node("ReduceMean", ["a", "axes"], ["y"], "mean", keepdims=0),
    ]
    constants = {"g": np.ones(4, np.float32), "o": _weights(4), "wq": _weights(4, 4), "wk": _weights(4, 4, seed=1),
                 "wv": _weights(4, 4, seed=2), "axes": np.array([1], np.int64)}  # fmt: skip
    return _model(nodes, {"x": ["n", 3, 4]}, {"y": ["n", 4]}, constants)


def control_flow() -> onnx.ModelProto:
    """An If on the sign of the sum and a Loop that halves, behind a layer; the trip count is data."""
    node = helper.make_node
    info = helper.make_tensor_value_info
    then = helper.make_graph([node("Relu", ["h"], ["t"], "then-relu")], "then", [], [info("t", FLOAT, None)])
    other = helper.make_graph([node("Neg", ["h"], ["e"], "else-neg")], "else", [], [info("e", FLOAT, None)])
    body = helper.make_graph(
        [node("Mul", ["v", "half"], ["v_next"], "halve"), node("Identity", ["c"], ["c_next"], "keep")],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", FLOAT, None)],
        [info("c_next", TensorProto.BOOL, []), info("v_next", FLOAT, None)],
    )
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "fc"),
        node("Less", ["zero", "limit"], ["positive"], "less"),
        node("If", ["positive"], ["chosen"], "if", then_branch=then, else_branch=other),
        node("Loop", ["trips", "true", "chosen"], ["y"], "loop", body=body),
    ]
    constants = {"w": _weights(4, 3), "zero": np.array(0, np.float32), "limit": np.array(1, np.float32),
                 "half": np.array(0.5, np.float32), "trips": np.array(3, np.int64), "true": np.array(True)}  # fmt: skip
    return _model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, constants)


def shapes() -> onnx.ModelProto:
    """Operators whose result is as large as a constant says: what a small file can ask a lot of memory with."""
    node = helper.make_node
    nodes = [
        node("ConstantOfShape", ["two"], ["filled"], "fill", value=numpy_helper.from_array(np.array([1], np.float32))),
        node("Range", ["start", "stop", "step"], ["counted"], "range"),
        node("Cast", ["counted"], ["floats"], "cast", to=FLOAT),
        node("Expand", ["floats", "two"], ["grid"], "expand"),
        node("Pad", ["x", "pads"], ["padded"], "pad"),
        node("Resize", ["padded", "", "scales"], ["large"], "resize", mode="nearest"),
        node("Slice", ["large", "begin", "end"], ["cut"], "slice"),
        node("Split", ["cut"], ["left", "right"], "split", axis=1, num_outputs=2),
        node("Tile", ["left", "repeats"], ["tiled"], "tile"),
        node("Concat", ["tiled", "right"], ["joined"], "concat", axis=1),
        node("Unsqueeze", ["joined", "axis"], ["u"], "unsqueeze"),
        node("Squeeze", ["u", "axis"], ["sq"], "squeeze"),
        node("Gemm", ["sq", "w"], ["z"], "fc"),
        node("Gather", ["grid", "axis"], ["row"], "gather"),
        node("Add", ["z", "filled"], ["z2"], "add"),
        node("Mul", ["z2", "row"], ["y"], "multiply"),
    ]
    constants = {
        "two": np.array([2, 3], np.int64)[1:], "start": np.array(0, np.int64), "stop": np.array(3, np.int64),
        "step": np.array(1, np.int64), "pads": np.array([0, 1, 0, 1], np.int64),
        "scales": np.array([1, 2], np.float32), "begin": np.array([0, 2], np.int64),
        "end": np.array([9999, 10], np.int64),
        "repeats": np.array([1, 2], np.int64), "axis": np.array([0], np.int64), "w": _weights(12, 3),
    }  # fmt: skip
    return _model(nodes, {"x": ["n", 6]}, {"y": ["n", 3]}, constants)


def half_precision() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], "fc"), node("Sigmoid", ["h"], ["y"], "sigmoid")]
    constants = {"w": _weights(5, 3).astype(np.float16), "b": _weights(3).astype(np.float16)}
    return _model(nodes, {"x": ["n", 5]}, {"y": ["n", 3]}, constants, element=TensorProto.FLOAT16)


def with_function() -> onnx.ModelProto:
    node = helper.make_node
    function = helper.make_function(
        "local", "Dense", ["a", "w"], ["o"], [node("MatMul", ["a", "w"], ["p"]), node("Tanh", ["p"], ["o"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        node("Dense", ["x", "w0"], ["h"], "one", domain="local"),
        node("Dense", ["h", "w1"], ["y"], "two", domain="local"),
    ]
    constants = {"w0": _weights(5, 4), "w1": _weights(4, 3)}
    return _model(nodes, {"x": ["n", 5]}, {"y": ["n", 3]}, constants, functions=[function], opset=17)


def external_data() -> onnx.ModelProto:
    """A weight that names a file outside; always refused, and mutants must be as well or do without it."""
    model = perceptron()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../etc/passwd"), ("offset", "0"), ("length", "192")):
        tensor.external_data.add(key=key, value=value)
    return model


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        perceptron, residual, quantised, integer_operators, recurrent, attention, control_flow, shapes,
        half_precision, with_function, external_data,
    )
}  # fmt: skip
