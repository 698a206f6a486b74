"""FULLY_CONNECTED."""

from __future__ import annotations

import math

import numpy as np

from ..builder import Builder
from ..elements import Unsupported
from ..model import Operator
from .convolutions import bias
from .fused import activate


def convert_fully_connected(builder: Builder, operator: Operator) -> None:
    """Weights [outputs, inputs]. The operand counts as a matrix of rows of ``inputs`` values, or keeps its rank."""
    options = operator.options
    source, matrix = operator.inputs[:2]
    output = operator.outputs[0]
    weights = builder.constant(matrix)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(f"weights of shape {weights.shape}")
    if options.number("WeightsFormat") or weights.dtype != np.float32:
        raise Unsupported("its weights are shuffled or no floats", "use the default weights format, float32 or int8")
    outputs, inputs = weights.shape
    shape, result = builder.tensor(source).shape, builder.tensor(output).shape
    if math.prod(shape) % inputs or math.prod(result) != math.prod(shape) // inputs * outputs:
        raise ValueError(f"an operand of shape {shape}, weights {weights.shape} and a result of shape {result}")
    right = builder.store(weights.T, f"{builder.label}/weights")
    added = bias(builder, operator, 2, outputs)
    if len(shape) == len(result) > 2 and shape[-1] == inputs and shape[:-1] == result[:-1]:
        made = builder.node("MatMul", [builder.read(source), right], name=builder.label)
        made = builder.node("Add", [made, *added]) if added else made
    else:
        rows = (math.prod(shape) // inputs, inputs)
        left = builder.read(source) if shape == rows else ""
        if not left:
            left = builder.node("Reshape", [builder.read_rows(source), builder.target_shape(shape, rows)])
        made = builder.node("Gemm", [left, right, *added], name=builder.label)
        if result != (rows[0], outputs):
            made = builder.node("Reshape", [made, builder.target_shape((rows[0], outputs), result)])
    made = activate(builder, made, options.number("FusedActivationFunction"), output)
    builder.write(output, made)


CONVERTERS = {"FULLY_CONNECTED": ("FullyConnectedOptions", convert_fully_connected)}
