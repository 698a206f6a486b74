"""Lowering of an AnalogConv: a convolution per row tile, whose bias is what every column gets whatever the input."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from pcmedge_emulator.engine import converters
from pcmedge_emulator.engine.analog import (
    AnalogContext,
    BandKey,
    FloatArray,
    read_out,
    scaled,
    total,
    with_read_noise,
)
from pcmedge_emulator.engine.converters import Codes
from pcmedge_emulator.engine.geometry import Band, bands, driven
from pcmedge_emulator.engine.integer import integer_conv
from pcmedge_emulator.engine.program import Block

Number = TypeVar("Number", np.float32, np.int8)


def lower_conv(context: AnalogContext, node: onnx.NodeProto, codes: Codes) -> str:
    """An AnalogConv on DAC codes: one convolution per row tile over its slice of channels. Without the digital bias."""
    attributes: dict[str, Any] = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    layer = attributes.pop("layer").decode()
    block = context.program.layers[layer].blocks["W"]
    kernel = tuple(attributes["kernel_shape"])
    builder, parts = context.builder, []
    for index, band in enumerate(bands(block)):
        hint = f"{layer}/{block.name}/{index}"
        area = int(np.prod(kernel))
        first, stop = driven(block, band)
        # A band with nothing but the bias reads some channel with weights of zero, for the shape of its output.
        channels = (first // area, -(-stop // area)) if first < stop else (0, 1)
        part = _channels(context, block, codes, channels, area, hint)
        key = BandKey(layer, block.name, index)
        if context.integer:
            whole = context.integer_weights(block, band)
            kernels, adc_bits = _kernels(whole.values, band, channels, kernel), context.program.profile.adc_bits
            adc = integer_conv(builder, part, kernels, whole, adc_bits, hint, attributes)
            scale = context.scale_parameter(layer, block, index, band)
            parts.append(scaled(context, builder, key, adc, scale, len(kernel)))
            continue
        x = converters.as_float(builder, part, hint)

        def weights(matrix: FloatArray, band: Band = band, channels: tuple[int, int] = channels) -> FloatArray:
            return _kernels(matrix, band, channels, kernel)

        inputs = [x, builder.constant(weights(context.matrix(block, band)), np.float32, f"{hint}/conductances")]
        offset = context.column_offset(block, band)
        if offset is not None:
            inputs.append(builder.constant(offset, np.float32, f"{hint}/offset"))
        p = builder.node("Conv", inputs, f"{hint}/mvm", **attributes)
        if context.noise_mode != "off":

            def variance(x: str = x, band: Band = band, hint: str = hint, weights: Any = weights) -> str:
                cells = builder.constant(weights(context.noise_matrix(block, band)), np.float32, f"{hint}/variances")
                inputs = [builder.node("Mul", [x, x], f"{hint}/squares"), cells]
                always = context.noise_offset(block, band)
                if always is not None:
                    inputs.append(builder.constant(always, np.float32, f"{hint}/variance-of-bias"))
                return builder.node("Conv", inputs, f"{hint}/variance", **attributes)

            def sigma(band: Band = band) -> npt.NDArray[np.float64]:
                return context.sigma(block, band).reshape((-1,) + (1,) * len(kernel))

            noise = context.noise_input(hint, p, planes=True)
            p = with_read_noise(context, builder, p, noise.gaussian, noise.signs, variance, sigma, hint)
        scale = context.scale_parameter(layer, block, index, band)
        parts.append(read_out(context, builder, key, p, scale, len(kernel)))
    return total(builder, parts, f"{layer}/{block.name}")


def _kernels(
    matrix: npt.NDArray[Number], band: Band, channels: tuple[int, int], kernel: tuple[int, ...]
) -> npt.NDArray[Number]:
    """[groups, rows, columns] -> [groups * columns, channels, *kernel], zero where a row tile cuts through a kernel."""
    area = int(np.prod(kernel))
    groups, rows, columns = matrix.shape
    padded = np.zeros((groups, (channels[1] - channels[0]) * area, columns), matrix.dtype)
    start = band.first_row - channels[0] * area
    if rows:
        padded[:, start : start + rows] = matrix
    return padded.transpose(0, 2, 1).reshape(groups * columns, channels[1] - channels[0], *kernel)


def _channels(
    context: AnalogContext, block: Block, codes: Codes, channels: tuple[int, int], area: int, hint: str
) -> Codes:
    """The input channels of one row tile, in every group."""
    per_group = block.input_rows // area
    if channels == (0, per_group):
        return codes
    builder = context.builder
    if block.groups == 1:
        limits = [builder.constant([value], np.int64, "limit") for value in (*channels, 1)]
        name = builder.node("Slice", [codes.name, *limits], f"{hint}/channels")
    else:
        chosen = np.arange(block.groups)[:, None] * per_group + np.arange(*channels)
        name = builder.node(
            "Gather",
            [codes.name, builder.constant(chosen.reshape(-1), np.int64, "channels")],
            f"{hint}/channels",
            axis=1,
        )
    return codes.named(name)
