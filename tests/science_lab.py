"""A data set and two networks small enough to run the published experiment in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from data_files import planes, python2_batch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pcmedge.data import normalise

CLASSES, FEATURES = 10, 12


def lab(folder: Path) -> tuple[Path, Path]:
    """(data, models): pictures of one noisy colour each, and networks that get all of them right.

    The labels are what the float network says, so that its baseline is 100 % and every gap is the chip's.
    """
    rng = np.random.default_rng(0)
    data, models = folder / "data", folder / "models"
    data.mkdir(parents=True)
    models.mkdir()
    colours = rng.integers(20, 236, (720, 1, 1, 3))
    found = np.clip(colours + rng.normal(0, 25, (720, 32, 32, 3)), 0, 255).astype(np.uint8)
    weights = _weights(rng, normalise(found[:256]))
    onnx.save(_network(weights), models / "float.onnx")
    close = {name: value + rng.normal(0, 1e-3, value.shape) for name, value in weights.items()}
    onnx.save(_network(close), models / "noise-aware.onnx")
    truth = _scores(weights, normalise(found)).argmax(axis=1).tolist()
    for number in range(5):
        part = slice(120 * number, 120 * number + 120)
        (data / f"data_batch_{number + 1}").write_bytes(python2_batch(planes(found[part]), truth[part]))
    (data / "test_batch").write_bytes(python2_batch(planes(found[600:]), truth[600:]))
    return data, models


Weights = dict[str, NDArray[np.float64]]


def _weights(rng: np.random.Generator, pictures: NDArray[np.float32]) -> Weights:
    colour = pictures.mean(axis=(2, 3), dtype=np.float64)
    patch = rng.normal(size=(FEATURES, 3, 4, 4)) / 7
    mean = colour @ patch.sum(axis=(2, 3)).T
    classifier = rng.normal(size=(CLASSES, FEATURES))
    hidden = np.maximum((mean - mean.mean(0)) / np.sqrt(mean.var(0) + 1e-5) + 0.2, 0)
    return {
        "patch": patch,
        "scale": np.ones(FEATURES),
        "shift": np.full(FEATURES, 0.2),
        "mean": mean.mean(0),
        "var": mean.var(0),
        "classifier": classifier,
        "bias": -(hidden @ classifier.T).mean(0),
    }


def _network(weights: Weights) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "patch"], ["a"], name="patches", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"], name="norm"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "classifier", "bias"], ["scores"], name="classifier", transB=1),
    ]
    pictures = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", CLASSES])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [pictures], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def _scores(weights: Weights, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(_network(weights).SerializeToString(), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(None, {"x": pictures})[0]
    return scores
