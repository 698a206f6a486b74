"""Lowering of a matrix block, of an AnalogGemm or an AnalogLSTM: a MatMul per row tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.engine import converters
from pcmedge_emulator.engine.analog import AnalogContext, BandKey, read_out, scaled, total, with_read_noise
from pcmedge_emulator.engine.converters import Codes
from pcmedge_emulator.engine.geometry import Band, bands, driven
from pcmedge_emulator.engine.graph import GraphBuilder
from pcmedge_emulator.engine.integer import integer_matmul
from pcmedge_emulator.engine.program import Block

Number = TypeVar("Number", np.float32, np.int8)


def lower_matmul(
    context: AnalogContext,
    builder: GraphBuilder,
    layer: str,
    block: Block,
    codes: Codes,
    noise: Sequence[tuple[str, str]] | None = None,
    scales: Mapping[int, str] | None = None,
) -> str:
    """A matrix block on DAC codes (..., rows) -> (..., columns): one MatMul per row tile.

    Inside a loop body ``builder`` is the body's; ``noise`` (numbers and signs) and ``scales`` are then made outside.
    """
    parts = []
    for index, band in enumerate(bands(block)):
        hint = f"{layer}/{block.name}/{index}"
        part = codes
        first, stop = driven(block, band)
        # A band with nothing but the bias reads some row with weights of zero, for the shape of its output.
        first, stop = (first, stop) if first < stop else (0, 1)
        if stop - first != block.input_rows:
            limits = [builder.constant([value], np.int64, "limit") for value in (first, stop, -1)]
            part = codes.named(builder.node("Slice", [codes.name, *limits], f"{hint}/rows"))
        key = BandKey(layer, block.name, index)
        if context.integer:
            whole, adc_bits = context.integer_weights(block, band), context.program.profile.adc_bits
            adc = integer_matmul(builder, part, _rows(whole.values[0]), whole, adc_bits, hint)
            scale = scales[index] if scales is not None else context.scale_parameter(layer, block, index, band)
            parts.append(scaled(context, builder, key, adc, scale, None))
            continue
        x = converters.as_float(builder, part, hint)
        weights = builder.constant(_rows(context.matrix(block, band)[0]), np.float32, f"{hint}/conductances")
        p = builder.node("MatMul", [x, weights], f"{hint}/mvm")
        offset = context.column_offset(block, band)
        if offset is not None:
            p = builder.node("Add", [p, builder.constant(offset, np.float32, f"{hint}/offset")], f"{hint}/moved")
        if context.noise_mode != "off":

            def variance(x: str = x, band: Band = band, hint: str = hint) -> str:
                cells = builder.constant(_rows(context.noise_matrix(block, band)[0]), np.float32, f"{hint}/variances")
                square = builder.node("Mul", [x, x], f"{hint}/squares")
                moving = builder.node("MatMul", [square, cells], f"{hint}/variance")
                always = context.noise_offset(block, band)
                if always is None:
                    return moving
                bias = builder.constant(always, np.float32, f"{hint}/variance-of-bias")
                return builder.node("Add", [moving, bias], f"{hint}/variance")

            def sigma(band: Band = band) -> npt.NDArray[np.float64]:
                return context.sigma(block, band)

            if noise is None:
                made = context.noise_input(hint, p, planes=False)
                given = made.gaussian, made.signs
            else:
                given = noise[index] if noise else ("", "")
            p = with_read_noise(context, builder, p, *given, variance, sigma, hint)
        scale = scales[index] if scales is not None else context.scale_parameter(layer, block, index, band)
        parts.append(read_out(context, builder, key, p, scale, None))
    return total(builder, parts, f"{layer}/{block.name}")


def _rows(matrix: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """A matrix of input rows, or one row of zeros where there is none."""
    return matrix if len(matrix) else np.zeros((1, matrix.shape[1]), matrix.dtype)
