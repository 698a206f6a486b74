"""Pooling over windows, and reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

from ..builder import Builder
from ..layouts import CHANNELS_FIRST, PLAIN
from ..model import Operator
from .fused import NONE, activate, pads, windows

# The runtime rounds averages of codes half away from zero, QuantizeLinear half to even: this moves what lies on the
# border (x.5) across it, and nothing else, as averages over fewer than 1000 codes are further from the next border.
_AWAY_FROM_ZERO = 1 + 2**-17


def _pool(operator_type: str) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        options = operator.options
        source, output = operator.inputs[0], operator.outputs[0]
        _, height, width, _ = builder.tensor(source).shape
        kernel = [options.number("FilterHeight"), options.number("FilterWidth")]
        strides = [options.number("StrideH"), options.number("StrideW")]
        padding = options.number("Padding")
        if min(kernel) < 1 or max(kernel) > 2**16:
            raise ValueError(f"a window of {kernel}")
        positions = windows(padding, [height, width], kernel, strides)
        fused, same = options.number("FusedActivationFunction"), builder.same_grid(source, output)
        codes = None
        if operator_type == "AveragePool" and same and fused == NONE:
            codes = builder.read_codes(source, CHANNELS_FIRST)
        # Averages are over the values in the picture only, which is what ONNX does unless told otherwise.
        made = builder.node(
            operator_type,
            [codes or builder.read(source, CHANNELS_FIRST)],
            name=builder.label,
            kernel_shape=kernel,
            pads=pads(padding, [height, width], positions, kernel, strides),
            strides=strides,
        )
        if codes is not None:
            made = builder.node("Mul", [made, builder.number(_AWAY_FROM_ZERO)])
        made = activate(builder, made, fused, output)
        moved = same and operator_type == "MaxPool"
        builder.write(output, made, CHANNELS_FIRST, on_grid=moved, codes=codes is not None)

    return convert


def _reduce(operator_type: str) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        source, axes_index = operator.inputs[:2]
        output = operator.outputs[0]
        rank = len(builder.tensor(source).shape)
        axes = sorted({builder.axis(axis, rank) for axis in builder.integers(axes_index)})
        keep = bool(operator.options.number("KeepDims"))
        layout = builder.common_layout([source])
        # What is left of N, H, W, C without its channel, or of it alone, has one order only.
        left = set(range(rank)) - set(axes)
        if not keep and 3 in left and left & {1, 2}:
            layout = PLAIN
        made = builder.node(
            operator_type,
            [builder.read(source, layout), builder.ints(sorted(layout.axis(axis) for axis in axes))],
            name=builder.label,
            keepdims=int(keep),
        )
        builder.write(output, made, layout if keep else PLAIN)

    return convert


CONVERTERS: dict[str, tuple[str, Callable[[Builder, Operator], None]]] = {
    "AVERAGE_POOL_2D": ("Pool2DOptions", _pool("AveragePool")),
    "MAX_POOL_2D": ("Pool2DOptions", _pool("MaxPool")),
    "MEAN": ("ReducerOptions", _reduce("ReduceMean")),
    "SUM": ("ReducerOptions", _reduce("ReduceSum")),
    "REDUCE_MAX": ("ReducerOptions", _reduce("ReduceMax")),
    "REDUCE_MIN": ("ReducerOptions", _reduce("ReduceMin")),
}
