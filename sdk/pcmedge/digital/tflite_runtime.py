"""A .tflite file on LiteRT (``ai-edge-litert``) or on the older ``tflite-runtime``, whichever is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

import numpy as np

from pcmedge._contract.image_pb2 import CallSignature, NamedTensor, Quantization, TensorSpec
from pcmedge.digital.greeting import without_greeting
from pcmedge.digital.runtime import Array, common_batch, in_batches, open_batch_axis, refused
from pcmedge.errors import CompileError, InputValueError, InternalError, MissingExtraError
from pcmedge.forks import kept_in_children
from pcmedge.image.datatypes import datatype_name

PACKAGES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
"""Distributions with an Interpreter, the preferred one first, and the modules it is in."""

IDENTIFIER = b"TFL3"
MAX_BYTES = 1 << 31


def is_tflite(data: bytes) -> bool:
    return data[4:8] == IDENTIFIER


class TfliteRuntime:
    """A loaded model. Raises InputValueError for what is no model, MissingExtraError without a runtime."""

    def __init__(self, data: bytes, name: str, *, threads: int) -> None:
        check_structure(data, name)
        package, kind = interpreter()
        self.software = f"{package} {metadata.version(package)}"
        self._data = data
        try:
            self._interpreter = kept_in_children(kind(model_content=data, num_threads=threads))
            with without_greeting():
                self._interpreter.allocate_tensors()
            # Reading names raises as well: UnicodeDecodeError is a ValueError.
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            self._inputs = {str(detail["name"]): int(detail["index"]) for detail in inputs}
            self._outputs = {str(detail["name"]): int(detail["index"]) for detail in outputs}
            self.signatures = self._signatures()
        except (ValueError, RuntimeError, MemoryError) as error:
            raise refused(name, self.software, error) from error
        if len(self._inputs) != len(inputs) or len(self._outputs) != len(outputs) or not (inputs and outputs):
            raise InputValueError(
                f"'{name}' has no inputs or no outputs, or some of the same name; expected one name for each",
                argument="model",
            )
        found = [_spec(detail, "input") for detail in inputs]
        self.inputs = [spec for spec, _ in found]
        self.outputs = [_spec(detail, "output")[0] for detail in outputs]
        self._shapes = {str(detail["name"]): tuple(map(int, detail["shape"])) for detail in inputs}
        self._made_for = common_batch([shape[0] for shape in self._shapes.values()])
        self.batch = common_batch([batch for _, batch in found])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return in_batches(self.batch, inputs, self._run)

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if not self._fit(inputs):
            # Files that say any batch size but hold operators made for one (a Reshape with a constant target).
            self.batch = self._made_for
            return in_batches(self.batch, inputs, self._run)
        for name, values in inputs.items():
            self._interpreter.set_tensor(self._inputs[name], values)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise InternalError(f"{self.software} failed while computing: {error}") from error
        return {name: np.array(self._interpreter.get_tensor(index)) for name, index in self._outputs.items()}

    def _fit(self, inputs: Mapping[str, Array]) -> bool:
        """Make the interpreter take these shapes; False if it cannot, and it is as it was made."""
        changed = {name: values.shape for name, values in inputs.items() if values.shape != self._shapes[name]}
        if not changed:
            return True
        before = dict(self._shapes)
        try:
            self._resize(changed)
        except (ValueError, RuntimeError) as error:
            if self.batch is not None or all(shape[0] == self._made_for for shape in changed.values()):
                raise InternalError(f"{self.software} cannot take the shapes {changed}: {error}") from error
            self._resize({name: (self._made_for or 1, *shape[1:]) for name, shape in before.items()})
            return False
        return True

    def _resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name], list(shape))
            self._shapes[name] = shape
        self._interpreter.allocate_tensors()

    def _signatures(self) -> list[CallSignature]:
        found = []
        inputs, outputs = ({index: name for name, index in side.items()} for side in (self._inputs, self._outputs))
        for key in self._interpreter.get_signature_list():
            runner = self._interpreter.get_signature_runner(key)
            sides = ((runner.get_input_details(), inputs), (runner.get_output_details(), outputs))
            named = [
                [
                    NamedTensor(name=name, tensor=known[int(detail["index"])])
                    for name, detail in sorted(details.items())
                    if int(detail["index"]) in known
                ]
                for details, known in sides
            ]
            if [len(side) for side in named] == [len(details) for details, _ in sides]:
                found.append(CallSignature(key=key, inputs=named[0], outputs=named[1]))
        return found


def interpreter() -> tuple[str, Any]:
    """The distribution installed and its Interpreter class."""
    for package, module in PACKAGES.items():
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        if package == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
            raise MissingExtraError(
                f"tflite-runtime crashes under NumPy {np.__version__}; it needs one below 2. Run: pip install "
                "'pcmedge[tflite]' for LiteRT, or pip install 'pcmedge[tflite-runtime]'",
                extra="tflite",
            )
        return package, import_module(module).Interpreter
    raise MissingExtraError.for_extra("tflite", "Running a .tflite model digitally")


def check_structure(data: bytes, name: str) -> None:
    """What can be known before a runtime written in C++ reads the file. InputValueError if it is no TFLite model.

    The identifier is how the file was recognised (:func:`is_tflite`).
    """
    if not 8 <= int.from_bytes(data[:4], "little") <= len(data) - 4:
        raise InputValueError(f"'{name}' is cut off: its root table lies outside the file", argument="model")
    if len(data) >= MAX_BYTES:
        raise InputValueError(f"'{name}' has {len(data)} bytes; at most {MAX_BYTES} are read", argument="model")
    try:
        import_module("tflite")
    except ModuleNotFoundError:
        return
    from pcmedge.frontends.tflite.structure import check_structure as check_tables

    try:
        check_tables(data)
    except CompileError as error:
        raise InputValueError(f"'{name}': {error.message}", argument="model") from error


def _spec(detail: Mapping[str, Any], side: str) -> tuple[TensorSpec, int | None]:
    name = str(detail["name"])
    signature = detail.get("shape_signature")
    shape = [int(size) for size in (detail["shape"] if signature is None or not len(signature) else signature)]
    shape, batch = open_batch_axis(name, shape, side)
    try:
        datatype = datatype_name(np.dtype(detail["dtype"]))
    except (TypeError, ValueError) as error:
        raise InputValueError(
            f"{side} '{name}' of the model is of {detail['dtype']}; expected numbers", argument="model"
        ) from error
    spec = TensorSpec(name=name, datatype=datatype, shape=shape)
    scale, zero_point = detail["quantization"]
    if math.isfinite(scale) and scale > 0 and np.dtype(detail["dtype"]).kind in "iu":
        spec.quantization.CopyFrom(Quantization(datatype=datatype, scale=float(scale), zero_point=int(zero_point)))
    return spec, batch
