"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV."""

from __future__ import annotations

import numpy as np

from pcmedge.compiler.graph import Array

from ..builder import Builder
from ..elements import Unsupported
from ..layouts import CHANNELS_FIRST
from ..model import Operator
from .fused import SAME, activate, pads, windows


def convert_convolution(builder: Builder, operator: Operator) -> None:
    """Filters [outputs, ky, kx, inputs]; fewer inputs than the picture has channels make a grouped convolution."""
    source, filters = operator.inputs[:2]
    weights = _weights(builder, filters)
    channels = builder.tensor(source).shape[3]
    _convolve(builder, operator, weights.transpose(0, 3, 1, 2), groups=channels // weights.shape[3])


def convert_depthwise(builder: Builder, operator: Operator) -> None:
    """Filters [1, ky, kx, inputs * multiplier]; the channels of one input channel follow each other."""
    source, filters = operator.inputs[:2]
    weights = _weights(builder, filters)
    if weights.shape[0] != 1:
        raise ValueError(f"filters of shape {weights.shape}")
    channels = builder.tensor(source).shape[3]
    _convolve(builder, operator, weights.transpose(3, 0, 1, 2), groups=channels)


def _weights(builder: Builder, index: int) -> Array:
    weights = builder.constant(index)
    if weights.ndim != 4 or not weights.size:
        raise ValueError(f"filters of shape {weights.shape}")
    if weights.dtype != np.float32:
        raise Unsupported(f"its filters are {weights.dtype}", "use float32 or quantised 8-bit filters")
    return weights


def bias(builder: Builder, operator: Operator, position: int, channels: int) -> list[str]:
    """Name of the bias vector, if there is one that is not zero."""
    index = operator.inputs[position] if len(operator.inputs) > position else -1
    if index < 0:
        return []
    values = builder.constant(index)
    if values.shape != (channels,):
        raise ValueError(f"bias of shape {values.shape} for {channels} channels")
    values = values.astype(np.float32)
    return [builder.store(values, f"{builder.label}/bias")] if np.any(values) else []


def _convolve(builder: Builder, operator: Operator, weights: Array, groups: int) -> None:
    options = operator.options
    source, output = operator.inputs[0], operator.outputs[0]
    _, height, width, channels = builder.tensor(source).shape
    kernel = list(weights.shape[2:])
    strides = [options.number("StrideH"), options.number("StrideW")]
    dilations = [options.number("DilationHFactor"), options.number("DilationWFactor")]
    if groups < 1 or channels != groups * weights.shape[1] or weights.shape[0] % groups or min(dilations) < 1:
        raise ValueError(f"{channels} channels, filters {weights.shape}, dilations {dilations}")
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    padding = options.number("Padding")
    sizes = [height, width]
    positions = windows(padding, sizes, extents, strides)
    names = [
        builder.read(source, CHANNELS_FIRST),
        builder.store(weights, f"{builder.label}/weights"),
        *bias(builder, operator, 2, weights.shape[0]),
    ]
    made = builder.node(
        "Conv",
        names,
        name=builder.label,
        dilations=dilations,
        group=groups,
        kernel_shape=kernel,
        pads=pads(padding, sizes, positions, extents, strides),
        strides=strides,
    )
    made = activate(builder, made, options.number("FusedActivationFunction"), output)
    builder.write(output, made, CHANNELS_FIRST)


def convert_transposed(builder: Builder, operator: Operator) -> None:
    """Operands: output shape, filters [outputs, ky, kx, inputs], picture, bias. Its padding is that of the forward
    convolution from the result to the picture."""
    options = operator.options
    filters, source = operator.inputs[1:3]
    output = operator.outputs[0]
    weights = _weights(builder, filters)
    _, height, width, channels = builder.tensor(source).shape
    result = builder.tensor(output).shape
    strides = [options.number("StrideH"), options.number("StrideW")]
    kernel = list(weights.shape[1:3])
    if channels != weights.shape[3] or len(result) != 4 or result[3] != weights.shape[0]:
        raise ValueError(f"{channels} channels, filters {weights.shape}, result {result}")
    if windows(options.number("Padding"), result[1:3], kernel, strides) != [height, width]:
        raise ValueError(f"a result of shape {result}")
    whole = [
        (size - 1) * stride + extent for size, stride, extent in zip((height, width), strides, kernel, strict=True)
    ]
    totals = [max(0, extent - size) for extent, size in zip(whole, result[1:3], strict=True)]
    begins = [total // 2 for total in totals] if options.number("Padding") == SAME else [0, 0]
    missing = [max(0, size - extent) for extent, size in zip(whole, result[1:3], strict=True)]
    made = builder.node(
        "ConvTranspose",
        [
            builder.read(source, CHANNELS_FIRST),
            builder.store(weights.transpose(3, 0, 1, 2), f"{builder.label}/weights"),
            *bias(builder, operator, 3, weights.shape[0]),
        ],
        name=builder.label,
        kernel_shape=kernel,
        pads=[*begins, *(total - begin for total, begin in zip(totals, begins, strict=True))],
        output_padding=missing,
        strides=strides,
    )
    made = activate(builder, made, options.number("FusedActivationFunction"), output)
    builder.write(output, made, CHANNELS_FIRST)


CONVERTERS = {
    "CONV_2D": ("Conv2DOptions", convert_convolution),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", convert_depthwise),
    "TRANSPOSE_CONV": ("TransposeConvOptions", convert_transposed),
}
