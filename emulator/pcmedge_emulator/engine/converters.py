"""DAC and ADC as ONNX operators.

Codes are clip(round_half_even(x / step), lo, hi). With 8 bits they are QuantizeLinear's own arithmetic (float32
division, round half to even, saturation) on uint8 or int8; for other widths the same arithmetic is written out as Div,
Round and Clip on float32, which holds every code exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pcmedge_emulator.engine.graph import GraphBuilder


@dataclass(frozen=True)
class Codes:
    """A tensor of converter codes in the graph.

    ``integer`` says whether it is int8 (``signed``) or uint8, or float32. ``zero`` is the number that stands for code
    0; where that is not 0, ``columns`` says how many there are.
    """

    name: str
    integer: bool
    full_scale: int
    signed: bool = True
    zero: int = 0
    columns: int = 0

    def named(self, name: str) -> Codes:
        """The same kind of codes in another tensor: a part of them."""
        return replace(self, name=name)


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code: symmetric if signed, 0 .. 2^bits - 1 if not."""
    return (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def quantise(builder: GraphBuilder, x: str, step: float, bits: int, signed: bool, hint: str) -> Codes:
    """Codes of the tensor ``x``."""
    if bits == 8:
        return as_integer(builder, x, step, bits, signed, hint)
    lo, hi = code_range(bits, signed)
    scaled = (
        x if step == 1.0 else builder.node("Div", [x, builder.constant(step, np.float32, "step")], f"{hint}/scaled")
    )
    rounded = builder.node("Round", [scaled], f"{hint}/rounded")
    limits = [builder.constant(lo, np.float32, "lowest"), builder.constant(hi, np.float32, "highest")]
    return Codes(builder.node("Clip", [rounded, *limits], f"{hint}/codes"), False, hi, signed)


def as_integer(builder: GraphBuilder, x: str, step: float, bits: int, signed: bool, hint: str) -> Codes:
    """Codes of at most 8 bits as int8 or uint8."""
    lo, hi = code_range(bits, signed)
    dtype = np.int8 if signed else np.uint8
    zero = builder.constant(0, dtype, "zero")
    name = builder.node("QuantizeLinear", [x, builder.constant(step, np.float32, "step"), zero], f"{hint}/codes")
    if signed or bits < 8:
        # QuantizeLinear saturates at -128 or at the end of 8 bits; the converters are symmetric.
        limits = [builder.constant(lo, dtype, "lowest")]
        if bits < 8:
            limits.append(builder.constant(hi, dtype, "highest"))
        name = builder.node("Clip", [name, *limits], f"{hint}/symmetric")
    return Codes(name, True, hi, signed)


def as_float(builder: GraphBuilder, codes: Codes, hint: str) -> str:
    """The codes as float32, unscaled."""
    if not codes.integer:
        return codes.name
    inputs = [codes.name, builder.constant(1.0, np.float32, "one")]
    if codes.zero:
        inputs.append(builder.constant(codes.zero, np.int8 if codes.signed else np.uint8, "middle"))
    return builder.node("DequantizeLinear", inputs, f"{hint}/numbers")


def scaled_by_column(builder: GraphBuilder, codes: Codes, scale: str, spatial: int | None, hint: str) -> str:
    """codes * scale[column]; columns are axis 1 with ``spatial`` axes behind it, or the last axis (None)."""
    if codes.integer and spatial is not None:
        inputs = [codes.name, scale]
        if codes.zero:
            zeros = np.full(codes.columns, codes.zero)
            inputs.append(builder.constant(zeros, np.int8 if codes.signed else np.uint8, "middles"))
        return builder.node("DequantizeLinear", inputs, f"{hint}/partial", axis=1)
    return times_column(builder, as_float(builder, codes, hint), scale, spatial, hint)


def times_column(builder: GraphBuilder, x: str, scale: str, spatial: int | None, hint: str) -> str:
    """x * scale[column] for a float tensor; axes as in :func:`scaled_by_column`."""
    if spatial is not None:
        shape = builder.constant([1, -1] + [1] * spatial, np.int64, "per-channel")
        scale = builder.node("Reshape", [scale, shape], f"{hint}/scale")
    return builder.node("Mul", [x, scale], f"{hint}/partial")
