"""How the source model holds its inputs and outputs: integer codes and their scales, and the names it is called by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import CallSignature, Manifest, Quantization, TensorSpec
from pcmedge.image.datatypes import numpy_dtype

Array = NDArray[Any]

CODE_DATATYPES: Final = ("UINT8", "INT8", "UINT16", "INT16", "INT32")


def interface_problems(manifest: Manifest) -> Iterator[str]:
    """What cannot be true of a manifest's quantised tensors and signatures, one sentence each."""
    for spec in (*manifest.model.inputs, *manifest.model.outputs):
        if spec.HasField("quantization"):
            yield from _quantization_problems(spec)
    keys = [signature.key for signature in manifest.application.signatures]
    if "" in keys or len(set(keys)) != len(keys):
        yield "signature keys are empty or not unique"
    for signature in manifest.application.signatures:
        yield from _signature_problems(signature, manifest)


def _quantization_problems(spec: TensorSpec) -> Iterator[str]:
    found = spec.quantization
    if found.datatype not in CODE_DATATYPES:
        yield f"tensor {spec.name!r} has codes of datatype {found.datatype!r}, expected {', '.join(CODE_DATATYPES)}"
        return
    if spec.datatype not in ("FP32", found.datatype):
        yield f"tensor {spec.name!r} is {spec.datatype} with codes of {found.datatype}"
    if not (math.isfinite(found.scale) and found.scale > 0):
        yield f"tensor {spec.name!r} has the scale {found.scale}, expected a number above 0"
    limits = np.iinfo(numpy_dtype(found.datatype))
    if not limits.min <= found.zero_point <= limits.max:
        yield f"tensor {spec.name!r} has the zero point {found.zero_point}, outside of {found.datatype}"


def _signature_problems(signature: CallSignature, manifest: Manifest) -> Iterator[str]:
    sides = ((signature.inputs, manifest.model.inputs), (signature.outputs, manifest.model.outputs))
    for entries, specs in sides:
        names, tensors = [entry.name for entry in entries], [entry.tensor for entry in entries]
        if "" in names or len(set(names)) != len(names) or len(set(tensors)) != len(tensors):
            yield f"signature {signature.key!r} has names that are empty or not unique"
        if unknown := sorted(set(tensors) - {spec.name for spec in specs}):
            yield f"signature {signature.key!r} names tensors the model does not have: {', '.join(unknown)}"


def as_given(spec: TensorSpec, values: Array) -> Array:
    """Float values as the tensor of the program takes them: as they are, or in its codes or integers."""
    dtype = numpy_dtype(spec.datatype)
    if dtype.kind not in "iu":
        return values
    if spec.HasField("quantization"):
        return quantise(values, spec.quantization)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max).astype(dtype))


def as_values(spec: TensorSpec, tensor: Array) -> Array:
    """What an output of the program stands for: itself, or the values of its codes."""
    if spec.HasField("quantization") and tensor.dtype == numpy_dtype(spec.quantization.datatype):
        return dequantise(tensor, spec.quantization)
    return tensor


def quantise(values: Array, quantization: Quantization) -> Array:
    """Codes of values: value / scale, rounded half to even, + zero point, saturated."""
    dtype = numpy_dtype(quantization.datatype)
    limits = np.iinfo(dtype)
    codes = np.rint(np.asarray(values, np.float64) / quantization.scale) + quantization.zero_point
    return np.asarray(np.clip(codes, limits.min, limits.max).astype(dtype))


def dequantise(codes: Array, quantization: Quantization) -> Array:
    """Values of codes, float32: scale * (code - zero point)."""
    offsets = codes.astype(np.int64) - quantization.zero_point
    return np.asarray((offsets * quantization.scale).astype(np.float32))
