"""The self-test of a digital device: known inputs, and the outputs they had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcmedge._contract.image_pb2 import Manifest, TensorSpec
from pcmedge.digital.runtime import Array, Runtime
from pcmedge.errors import InputTypeError, InputValueError, InternalError
from pcmedge.image.datatypes import numpy_dtype
from pcmedge.image.interface import as_values

MADE_SAMPLES = 4
# Numbers per sample from which one has to do.
_LARGE = 2**20


@dataclass(frozen=True)
class Reference:
    """Inputs and the outputs expected of them, by name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    specs: Mapping[str, TensorSpec]

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    def compare(self, runtime: Runtime) -> tuple[float, float]:
        """Share of inputs whose largest output is the expected one; RMS error over the expected standard deviation."""
        found = runtime.run(self.inputs)
        agreements, errors, scales = [], [], []
        for name, expected in self.outputs.items():
            spec = self.specs[name]
            rows = as_values(spec, found[name]).reshape(self.count, -1).astype(np.float64)
            wanted = as_values(spec, expected).reshape(self.count, -1).astype(np.float64)
            agreements.append(rows.argmax(axis=1) == wanted.argmax(axis=1))
            errors.append(((rows - wanted) ** 2).mean())
            scales.append(wanted.var())
        scale = float(np.sqrt(np.mean(scales)))
        error = float(np.sqrt(np.mean(errors)))
        return float(np.all(agreements, axis=0).mean()), error / scale if scale else error


def recorded(runtime: Runtime, manifest: Manifest, given: tuple[Any, Any] | None) -> Reference:
    """The reference given, or made inputs and what the runtime answers now: what it has to answer from then on."""
    specs = {spec.name: spec for spec in manifest.model.outputs}
    if given is not None:
        inputs, outputs = _given(given)
        _check_names("inputs", inputs, manifest.model.inputs)
        _check_names("outputs", outputs, manifest.model.outputs)
        counts = {len(values) if values.ndim else 0 for values in (*inputs.values(), *outputs.values())}
        if len(counts) != 1 or 0 in counts:
            raise InputValueError(
                f"reference: expected as many samples in every array, along the first axis; found {sorted(counts)}",
                argument="reference",
            )
        return Reference(inputs, outputs, specs)
    largest = max(math.prod(max(size, 1) for size in spec.shape[1:]) for spec in manifest.model.inputs)
    count = runtime.batch or (MADE_SAMPLES if largest <= _LARGE else 1)
    rng = np.random.default_rng(0)
    inputs = {spec.name: _made(rng, spec, count) for spec in manifest.model.inputs}
    try:
        outputs = runtime.run(inputs)
    except InternalError as error:
        # The inputs are what the file says it takes: what does not compute them is the file.
        raise InputValueError(
            f"the model takes no inputs of the shapes and types it declares: {error.message}. Convert it again.",
            argument="model",
        ) from error
    for name, value in outputs.items():
        if not value.size or value.ndim == 0 or len(value) != count:
            raise InputValueError(
                f"output '{name}' has shape {list(value.shape)} for {count} samples; expected one answer per sample "
                "along its first axis",
                argument="model",
            )
    return Reference(inputs, outputs, specs)


def _given(reference: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    expected = "reference is (inputs, outputs), each a mapping of names to arrays"
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise InputTypeError(f"{expected}; found {type(reference).__name__}", argument="reference")
    for side in reference:
        if not isinstance(side, Mapping):
            raise InputTypeError(f"{expected}; found {type(side).__name__} in it", argument="reference")
    inputs, outputs = ({str(name): np.asarray(value) for name, value in side.items()} for side in reference)
    return inputs, outputs


def _check_names(side: str, arrays: Mapping[str, Array], specs: Iterable[TensorSpec]) -> None:
    known = [spec.name for spec in specs]
    if set(arrays) - set(known) or not arrays or (side == "inputs" and set(arrays) != set(known)):
        raise InputValueError(
            f"reference {side}: the model has {', '.join(known)}; found {', '.join(arrays) or 'none'}",
            argument="reference",
        )


def _made(rng: np.random.Generator, spec: TensorSpec, count: int) -> Array:
    """Samples of any kind: Gaussian values, codes over their range; zeros where numbers may be indices."""
    shape = (count, *(max(size, 1) for size in spec.shape[1:]))
    dtype = numpy_dtype(spec.datatype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if spec.HasField("quantization"):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
    return np.zeros(shape, dtype)


def sums_to_one(spec: TensorSpec, rows: Array) -> bool:
    """Whether scores are probabilities: none below 0, and each row adds up to 1 within the rounding of its codes."""
    values = as_values(spec, rows).astype(np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        return False
    step = spec.quantization.scale if spec.HasField("quantization") else 1e-4
    slack = step * (1 + values.shape[1] / 2)
    return bool(np.all(values >= -1e-6) and np.all(np.abs(values.sum(axis=1) - 1) <= min(slack, 0.25)))
