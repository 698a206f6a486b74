"""A small picture classifier as files, the way a user would have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pcmedge
from onnx import TensorProto, helper, numpy_helper

LABELS = ("zero", "one", "two", "three")


@dataclass(frozen=True)
class Sources:
    """``model``: convolution, relu, matrix product on pictures of 1 x 6 x 6; ``data``: 48 samples."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "small net.onnx"

    @property
    def data(self) -> Path:
        return self.folder / "data.npy"

    @property
    def labelled(self) -> Path:
        return self.folder / "labelled.npz"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.txt"

    @property
    def preprocessing(self) -> Path:
        return self.folder / "preprocessing.json"


def write_sources(folder: Path, *, seed: int = 0) -> Sources:
    """Write model, calibration data, labels and preprocessing into ``folder``."""
    sources = Sources(folder)
    random = np.random.default_rng(seed)
    kernels = random.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32)
    weights = random.normal(0, 0.1, (4 * 36, len(LABELS))).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernels"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"], name="relu"),
        helper.make_node("Flatten", ["a"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "weights"], ["scores"], name="classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 6, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(kernels, "kernels"), numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), sources.model)
    np.save(sources.data, random.random((48, 1, 6, 6), dtype=np.float32))
    truth = random.integers(0, len(LABELS), 48)
    np.savez(sources.labelled, x=np.load(sources.data), labels=truth, unrelated=np.zeros(3))
    sources.labels.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    picture = {"width": 6, "height": 6, "channels": 1, "colour_order": "GRAY", "layout": "NCHW", "scale": 1 / 255}
    sources.preprocessing.write_text(json.dumps(picture), encoding="utf-8")
    return sources


def write_large_image(path: Path) -> None:
    """A million weights: long enough to be interrupted while being programmed."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(0, 0.05, (1024, 1024)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="large")],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1024])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    calibration = np.random.default_rng(1).random((4, 1024), dtype=np.float32)
    pcmedge.compile(model, calibration=calibration, name="large", buffer=None).save(path)
