"""A small digits network for tests of the chip, made without training in half a second, and its images.

Random features (64 -> 96, batch norm, ReLU, 96 -> 64, batch norm, ReLU) and a ridge-regression classifier.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pcmedge.compiler.pipeline import compile as compile_image
from pcmedge.image import ChipImage
from pcmedge.image.targets import TargetFormat
from sklearn.datasets import load_digits

Floats = NDArray[np.float32]
INPUT, OUTPUT = "pixels", "scores"


@functools.cache
def digits() -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    """(training pictures [N, 64] in 0..1, labels, held-out pictures, labels)."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    pictures = (data.data[order] / 16.0).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    return pictures[:1300], labels[:1300], pictures[1300:], labels[1300:]


@functools.cache
def digits_model() -> onnx.ModelProto:
    pictures, labels, _, _ = digits()
    rng = np.random.default_rng(1)
    tensors: dict[str, NDArray[np.float32]] = {}
    nodes = []
    x, name = pictures.astype(np.float64), INPUT
    for layer, (inputs, outputs) in enumerate([(64, 96), (96, 64)]):
        weight = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        y = x @ weight.T
        mean, var = y.mean(axis=0), y.var(axis=0)
        tensors |= {f"w{layer}": weight, f"b{layer}": np.zeros(outputs), f"scale{layer}": np.ones(outputs)}
        tensors |= {f"shift{layer}": np.full(outputs, 0.2), f"mean{layer}": mean, f"var{layer}": var}
        nodes += [
            helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"y{layer}"], name=f"dense{layer}", transB=1),
            helper.make_node(
                "BatchNormalization",
                [f"y{layer}", f"scale{layer}", f"shift{layer}", f"mean{layer}", f"var{layer}"],
                [f"n{layer}"],
                name=f"norm{layer}",
            ),
            helper.make_node("Relu", [f"n{layer}"], [f"r{layer}"]),
        ]
        x, name = np.maximum((y - mean) / np.sqrt(var + 1e-5) + 0.2, 0.0), f"r{layer}"
    wanted = np.eye(10)[labels] - 0.1
    readout = np.linalg.solve(x.T @ x + 30.0 * np.eye(x.shape[1]), x.T @ wanted)
    tensors |= {"w2": readout.T, "b2": np.full(10, 0.0)}
    nodes.append(helper.make_node("Gemm", [name, "w2", "b2"], [OUTPUT], name="classifier", transB=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(values.astype(np.float32), key) for key, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


@functools.cache
def digits_image(
    name: str = "digits", version: int = 1, profile: str = "pcm-512x512", targets: TargetFormat = "int16"
) -> ChipImage:
    pictures = digits()[0]
    return compile_image(
        digits_model(), calibration=pictures[:512], name=name, version=version, profile=profile, targets=targets
    )


def accuracy(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(np.mean(outputs.argmax(axis=1) == labels))
