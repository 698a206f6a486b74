"""The valid files that mutants are made from, written once into a folder per format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pcmedge
import tflite_models

from . import onnx_corpus

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
IMAGES = ("perceptron", "residual", "recurrent", "quantised")
SUFFIX = {"tflite": ".tflite", "litert": ".tflite", "onnx": ".onnx", "onnxruntime": ".onnx", "pcmi": ".pcmi"}
"""Formats under test and what their files end in; "litert" and "onnxruntime" hand the file to those runtimes."""


def write(folder: Path, suffixes: frozenset[str] = frozenset(SUFFIX.values())) -> None:
    """Write the corpus of the wanted formats, a folder each. The same files every time."""
    makers = {".tflite": _tflite, ".onnx": _onnx, ".pcmi": _images}
    for suffix in sorted(suffixes):
        place = folder / suffix.removeprefix(".")
        place.mkdir(parents=True, exist_ok=True)
        for name, data in makers[suffix]().items():
            (place / f"{name}{suffix}").write_bytes(data)


def read(folder: Path, format: str) -> dict[str, bytes]:
    """Files of a format by name, in a fixed order."""
    suffix = SUFFIX[format]
    return {path.stem: path.read_bytes() for path in sorted((folder / suffix.removeprefix(".")).iterdir())}


def _tflite() -> dict[str, bytes]:
    found = {}
    for name, make in tflite_models.ARCHITECTURES.items():
        net = make()
        found[f"{name}-float"] = net.to_bytes()
        if name != "recurrent":
            found[f"{name}-int8"] = net.quantised(tflite_models.inputs_of(net, 4))
    found["convolutional-uint8"] = (net := tflite_models.convolutional()).quantised(
        tflite_models.inputs_of(net, 4), "uint8"
    )
    found["detector-float"] = tflite_models.detector().to_bytes()
    return found


def _onnx() -> dict[str, bytes]:
    return {name: make().SerializeToString(deterministic=True) for name, make in onnx_corpus.MODELS.items()}


def _images() -> dict[str, bytes]:
    found = {path.stem: path.read_bytes() for path in GOLDEN.glob("*.pcmi")}
    for name in IMAGES:
        model = onnx_corpus.MODELS[name]()
        dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        samples = np.random.default_rng(1).normal(size=(8, *dims)).astype(np.float32)
        image = pcmedge.compile(model, calibration=samples, name=name, buffer_samples=4, reference=2)
        found[name] = image.to_bytes()
    return found
