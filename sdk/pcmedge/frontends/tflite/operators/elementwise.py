"""Operators that work on every value for itself, softmax, and changes of representation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..builder import Builder
from ..elements import Unsupported
from ..layouts import PLAIN
from ..model import Operator
from .fused import activate, bounded


def _binary(operator_type: str, *, activation: bool = True) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        left, right = operator.inputs[:2]
        output = operator.outputs[0]
        layout = builder.common_layout([left, right])
        operands = [builder.read(left, layout), builder.read(right, layout)]
        made = builder.node(operator_type, operands, name=builder.label)
        if activation:
            made = activate(builder, made, operator.options.number("FusedActivationFunction"), output)
        builder.write(output, made, layout)

    return convert


def _unary(emit: Callable[[Builder, str], str]) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        source, output = operator.inputs[0], operator.outputs[0]
        layout = builder.common_layout([source])
        builder.write(output, emit(builder, builder.read(source, layout)), layout)

    return convert


def _simple(operator_type: str) -> Callable[[Builder, Operator], None]:
    return _unary(lambda builder, value: builder.node(operator_type, [value], name=builder.label))


def _square(builder: Builder, value: str) -> str:
    return builder.node("Mul", [value, value], name=builder.label)


def _rsqrt(builder: Builder, value: str) -> str:
    return builder.node("Reciprocal", [builder.node("Sqrt", [value], name=builder.label)])


def _leaky(builder: Builder, operator: Operator) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    layout, alpha = builder.common_layout([source]), float(operator.options.number("Alpha"))
    made = builder.node("LeakyRelu", [builder.read(source, layout)], name=builder.label, alpha=alpha)
    builder.write(output, made, layout)


def _gelu(builder: Builder, operator: Operator) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    layout = builder.common_layout([source])
    kind = "tanh" if operator.options.number("Approximate") else "none"
    made = builder.node("Gelu", [builder.read(source, layout)], name=builder.label, approximate=kind)
    builder.write(output, made, layout)


def _prelu(builder: Builder, operator: Operator) -> None:
    source, slope = operator.inputs[:2]
    output = operator.outputs[0]
    layout = builder.common_layout([source, slope])
    slopes = builder.store(builder.constant(slope), f"{builder.label}/slope", layout)
    builder.write(output, builder.node("PRelu", [builder.read(source, layout), slopes], name=builder.label), layout)


def _softmax(operator_type: str) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        source, output = operator.inputs[0], operator.outputs[0]
        layout = builder.common_layout([source])
        value = builder.read(source, layout)
        beta = float(operator.options.number("Beta")) if operator_type == "Softmax" else 1.0
        if beta != 1:
            value = builder.node("Mul", [value, builder.number(beta)])
        axis = 1 if layout is not PLAIN else len(builder.tensor(source).shape) - 1
        builder.write(output, builder.node(operator_type, [value], name=builder.label, axis=axis), layout)

    return convert


def _quantize(builder: Builder, operator: Operator) -> None:
    """Float to codes, or codes to codes of another grid: writing the result does it."""
    source, output = operator.inputs[0], operator.outputs[0]
    layout = builder.common_layout([source])
    value = builder.node("Identity", [builder.read(source, layout)], name=builder.label)
    builder.write(output, value, layout)


def _dequantize(builder: Builder, operator: Operator) -> None:
    """Codes to float: the real values are there already. A constant (half precision, say) stays one."""
    source, output = operator.inputs[0], operator.outputs[0]
    if builder.is_constant(source):
        builder.define(output, builder.constant(source).astype(np.float32))
        return
    if builder.tensor(source).quantisation is None:
        raise Unsupported("its operand has no scale", "dequantise quantised tensors")
    layout = builder.common_layout([source])
    builder.write(output, builder.node("Identity", [builder.read(source, layout)], name=builder.label), layout)


def _cast(builder: Builder, operator: Operator) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    if builder.tensor(source).quantisation is not None or builder.tensor(output).quantisation is not None:
        raise Unsupported("it casts a quantised tensor", "use QUANTIZE or DEQUANTIZE")
    layout = builder.common_layout([source])
    element = builder.element(output)
    builder.write(output, builder.node("Cast", [builder.read(source, layout)], name=builder.label, to=element), layout)


CONVERTERS: dict[str, tuple[str, Callable[[Builder, Operator], None]]] = {
    "ADD": ("AddOptions", _binary("Add")),
    "SUB": ("SubOptions", _binary("Sub")),
    "MUL": ("MulOptions", _binary("Mul")),
    "DIV": ("DivOptions", _binary("Div")),
    "MAXIMUM": ("", _binary("Max", activation=False)),
    "MINIMUM": ("", _binary("Min", activation=False)),
    "RELU": ("", _unary(lambda builder, value: bounded(builder, value, 0.0, None))),
    "RELU6": ("", _unary(lambda builder, value: bounded(builder, value, 0.0, 6.0))),
    "RELU_N1_TO_1": ("", _unary(lambda builder, value: bounded(builder, value, -1.0, 1.0))),
    "LEAKY_RELU": ("LeakyReluOptions", _leaky),
    "PRELU": ("", _prelu),
    "GELU": ("GeluOptions", _gelu),
    "SOFTMAX": ("SoftmaxOptions", _softmax("Softmax")),
    "LOG_SOFTMAX": ("", _softmax("LogSoftmax")),
    "QUANTIZE": ("", _quantize),
    "DEQUANTIZE": ("", _dequantize),
    "CAST": ("", _cast),
    "SQUARE": ("", _unary(_square)),
    "RSQRT": ("", _unary(_rsqrt)),
    **{
        kind: ("", _simple(operator_type))
        for kind, operator_type in {
            "LOGISTIC": "Sigmoid",
            "TANH": "Tanh",
            "HARD_SWISH": "HardSwish",
            "ELU": "Elu",
            "ABS": "Abs",
            "EXP": "Exp",
            "LOG": "Log",
            "NEG": "Neg",
            "SQRT": "Sqrt",
        }.items()
    },
}
