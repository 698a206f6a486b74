"""UNIDIRECTIONAL_SEQUENCE_LSTM as the ONNX LSTM, which is placed on tiles."""

from __future__ import annotations

import numpy as np

from pcmedge.compiler.graph import Array

from ..builder import Builder
from ..elements import Unsupported
from ..model import Operator
from .fused import TANH

# Positions of the operands in TFLite's order of gates (input, forget, cell, output); -1 entries are absent.
_INPUT, _RECURRENT, _PEEPHOLES, _BIASES, _PROJECTION, _STATES, _NORMS = 1, 5, 9, 12, 16, 18, 20
_TO_ONNX = (0, 3, 1, 2)


def convert_lstm(builder: Builder, operator: Operator) -> None:
    """States start at zero in every inference. Coupled gates (no input gate's weights: i = 1 - f) become an input gate
    with the negated weights of the forget gate, as 1 - sigmoid(x) = sigmoid(-x)."""
    options = operator.options
    operands = [*operator.inputs, *[-1] * (24 - len(operator.inputs))]
    source, output = operands[0], operator.outputs[0]
    _require(builder, operator, operands)
    gates = [_gate(builder, operands, start) for start in (_INPUT, _RECURRENT)]
    hidden, inputs = gates[0][1].shape
    if any(each.shape != (hidden, size) for part, size in zip(gates, (inputs, hidden), strict=True) for each in part):
        raise ValueError("gates of different shapes")
    biases = _biases(builder, operands, hidden)
    value = builder.read(source)
    shape = builder.tensor(source).shape
    if len(shape) != 3 or shape[2] != inputs:
        raise ValueError(f"an operand of shape {shape} for {inputs} inputs")
    time_major = bool(options.number("TimeMajor"))
    if not time_major:
        value = builder.node("Transpose", [value], perm=[1, 0, 2])
    names = [
        value,
        *(builder.store(_in_onnx_order(part)[np.newaxis], f"{builder.label}/weights") for part in gates),
    ]
    stacked = np.concatenate([_in_onnx_order(biases), np.zeros(4 * hidden, np.float32)])[np.newaxis]
    names.append(builder.store(stacked.astype(np.float32), f"{builder.label}/bias") if np.any(stacked) else "")
    while not names[-1]:
        names.pop()
    states = builder.node("LSTM", names, name=builder.label, hidden_size=hidden)
    made = builder.node("Squeeze", [states, builder.ints([1])])
    if not time_major:
        made = builder.node("Transpose", [made], perm=[1, 0, 2])
    builder.write(output, made)


def _require(builder: Builder, operator: Operator, operands: list[int]) -> None:
    options = operator.options
    if any(operands[index] >= 0 for index in range(_PEEPHOLES, _PEEPHOLES + 3)):
        raise Unsupported("it has peephole connections", "train the LSTM without them")
    if any(operands[index] >= 0 for index in range(_PROJECTION, _PROJECTION + 2)):
        raise Unsupported("it has a projection", "put a dense layer behind the LSTM instead")
    if any(operands[index] >= 0 for index in range(_NORMS, _NORMS + 4)):
        raise Unsupported("it has layer normalisation inside", "train the LSTM without it")
    if options.number("FusedActivationFunction") != TANH:
        raise Unsupported("its activation is not TANH", "use tanh for the cell and sigmoid for the gates")
    for position in range(_STATES, _STATES + 2):
        if not builder.tensor(operands[position]).variable:
            raise Unsupported("its initial states are computed", "start the LSTM from zeros")


def _gate(builder: Builder, operands: list[int], start: int) -> list[Array]:
    """Float32 weights [hidden, inputs] of the gates input, forget, cell, output."""
    rest = [builder.constant(operands[start + gate]) for gate in (1, 2, 3)]
    first = builder.constant(operands[start]) if operands[start] >= 0 else -rest[0]
    found = [first, *rest]
    if any(each.ndim != 2 or each.dtype != np.float32 for each in found):
        raise ValueError("weights that are not float matrices")
    return found


def _biases(builder: Builder, operands: list[int], hidden: int) -> list[Array]:
    found = [
        builder.constant(index).astype(np.float32) if index >= 0 else np.zeros(hidden, np.float32)
        for index in operands[_BIASES : _BIASES + 4]
    ]
    if operands[_INPUT] < 0:
        found[0] = -found[1]
    if any(each.shape != (hidden,) for each in found):
        raise ValueError("biases of different sizes")
    return found


def _in_onnx_order(gates: list[Array]) -> Array:
    return np.ascontiguousarray(np.concatenate([gates[index] for index in _TO_ONNX]))


CONVERTERS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", convert_lstm)}
