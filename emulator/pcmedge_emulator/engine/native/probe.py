"""Does a compiled library compute what the standard operators do?

In a process of its own: a library that a broken compiler made may end it.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pcmedge_emulator.engine.graph import PARAMETERS
from pcmedge_emulator.engine.native.fuse import fused
from pcmedge_emulator.engine.session import native_options, session_options

_CHANNELS, _SIDE = 19, 7


def main(library: str) -> None:
    """Raises SystemExit, saying why, if it does not."""
    _compare(library, ["Convert_float", "ReadOut_float_float"], measuring=False)
    _compare(library, ["Convert_float", "Measure_float", "ReadOut_int8_float"], measuring=True)


def _compare(library: str, operators: list[str], *, measuring: bool) -> None:
    rng = np.random.default_rng(0)
    plain = _model(rng, measuring)
    native = fused(plain, dict.fromkeys(("normed", "x"), (2, _CHANNELS, _SIDE, _SIDE)))
    ours = [node.op_type for node in native.graph.node if node.domain]
    if ours != operators:
        raise SystemExit(f"expected {operators}, found {ours}")
    shape = (2, _CHANNELS, _SIDE, _SIDE)
    feeds = {
        "x": rng.normal(0, 1.5, shape).astype(np.float32),
        "gaussian": rng.normal(0, 1, shape).astype(np.float32),
        "signs": rng.choice(np.array([-1, 1], np.float32), (*shape[:2], 1, 1)),
        PARAMETERS: rng.uniform(0.1, 1, 3 * _CHANNELS).astype(np.float32),
    }
    expected = _run(plain, feeds, session_options(1))
    found = _run(native, feeds, native_options(1, library))
    for mine, theirs in zip(found, expected, strict=True):
        # Some builds of ONNX Runtime contract batch norm's multiplication and addition, which rounds once less.
        if not np.allclose(mine, theirs, rtol=1e-5, atol=1e-5) and np.mean(np.abs(mine - theirs) > 1e-5) > 1e-3:
            raise SystemExit(f"results differ by up to {np.abs(mine - theirs).max()}")


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], options: onnxruntime.SessionOptions) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, feeds)
    return found


def _model(rng: np.random.Generator, measuring: bool) -> onnx.ModelProto:
    """One noisy convolution with its converters, batch norm and shortcut, as the lowering writes it; ``measuring``: the
    batch norm's statistics are those of the batch, and outputs."""
    statistics = ["batch_mean", "batch_variance"] if measuring else []
    training = {"training_mode": 1, "momentum": 0.0} if measuring else {}
    constants = {
        "dac_step": np.float32(0.013),
        "next_step": np.float32(0.021),
        "one": np.float32(1),
        "signed": np.int8(0),
        "unsigned": np.uint8(0),
        "lowest": np.int8(-127),
        "kernel": rng.normal(0, 0.2, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32),
        "sigma": rng.uniform(0.5, 1.5, (_CHANNELS, 1, 1)).astype(np.float32),
        "gamma": rng.uniform(0.5, 1, _CHANNELS).astype(np.float32),
        "beta": rng.normal(0, 1, _CHANNELS).astype(np.float32),
        "sizes": np.full(3, _CHANNELS, np.int64),
    }
    nodes = [
        helper.make_node("Split", [PARAMETERS, "sizes"], ["scale", "mean", "variance"], axis=0),
        *_converter("x", "dac_step", "signed", "dac"),
        helper.make_node("DequantizeLinear", ["dac/clipped", "one"], ["numbers"]),
        helper.make_node("Conv", ["numbers", "kernel"], ["p"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["signs", "sigma"], ["signed_sigma"]),
        helper.make_node("Mul", ["gaussian", "signed_sigma"], ["noise"]),
        helper.make_node("Add", ["p", "noise"], ["noisy"]),
        *_converter("noisy", "one", "signed", "adc"),
        helper.make_node("DequantizeLinear", ["adc/clipped", "scale"], ["scaled"], axis=1),
        helper.make_node(
            "BatchNormalization", ["scaled", "gamma", "beta", "mean", "variance"], ["normed", *statistics], **training
        ),
        helper.make_node("Add", ["normed", "x"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "next_step", "unsigned"], ["next"]),
        helper.make_node("DequantizeLinear", ["next", "one"], ["codes"]),
    ]
    inputs = {name: ["N", _CHANNELS, _SIDE, _SIDE] for name in ("x", "gaussian")}
    inputs |= {"signs": ["N", _CHANNELS, 1, 1], PARAMETERS: [3 * _CHANNELS]}
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "codes", *statistics)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _converter(x: str, step: str, zero: str, name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [x, step, zero], [name]),
        helper.make_node("Clip", [name, "lowest"], [f"{name}/clipped"]),
    ]
