"""Products in int8 (``precision="turbo"``): what stands for the conductances, and which operators multiply them.

A column's conductances, gain and ADC step folded in, become whole numbers of 8 bits and one float32 step per column;
the DAC codes are whole numbers anyway. ONNX Runtime's QLinearConv and QLinearMatMul multiply, sum in int32 (exact: 512
rows give less than 2^24), rescale per column, round half to even and saturate, which is the ADC. They are the only
quantised operators of a session; nothing digital is touched.

Noise of each product has to enter before the ADC, and the operators that hand out the sums (ConvInteger) take twenty
times as long as these, so a snapshot that has any is computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pcmedge_emulator.engine.converters import Codes, as_integer
from pcmedge_emulator.engine.graph import GraphBuilder

WEIGHT_BITS = 8
REDUCED_WEIGHT_BITS = 7
"""Where the processor adds pairs of products in 16 bits, which 255 x 127 twice exceeds and 255 x 63 twice does not."""


@dataclass(frozen=True)
class IntegerWeights:
    """Conductances as ``values`` int8 [groups, rows, columns] times ``step`` float32 [groups * columns].

    ``offset``: what every column gets whatever the input, int32 [groups * columns] in the same steps, or None.
    """

    values: npt.NDArray[np.int8]
    step: npt.NDArray[np.float32]
    offset: npt.NDArray[np.int32] | None


def integer_weights(
    matrix: npt.NDArray[np.float32], offset: npt.NDArray[np.float64] | None, bits: int
) -> IntegerWeights:
    """Round a band's matrix [groups, rows, columns] to ``bits`` bits, symmetric, each column by its largest entry."""
    groups, _rows, columns = matrix.shape
    largest = np.abs(matrix).max(axis=1, initial=0.0).astype(np.float64)
    step = largest / (2 ** (bits - 1) - 1)
    if offset is not None:
        # An offset has to fit into 32 bits beside the sum, which takes 25.
        step = np.maximum(step, np.abs(offset).reshape(groups, columns) * 2.0**-30)
    step = np.where(step > 0, step, 1.0).astype(np.float32)
    values = np.rint(matrix / step[:, None, :]).astype(np.int8)
    flat = step.reshape(-1)
    return IntegerWeights(values, flat, None if offset is None else np.rint(offset / flat).astype(np.int32))


def integer_conv(
    builder: GraphBuilder,
    codes: Codes,
    kernels: npt.NDArray[np.int8],
    weights: IntegerWeights,
    adc_bits: int,
    hint: str,
    attributes: dict[str, Any],
) -> Codes:
    """ADC codes of a convolution of DAC codes, offsets and ADC included; kernels [outputs, channels, *kernel]."""
    inputs = _operands(builder, codes, kernels, weights.step, hint)
    if weights.offset is not None:
        inputs.append(builder.constant(weights.offset, np.int32, f"{hint}/offset"))
    name = builder.node("QLinearConv", inputs, f"{hint}/mvm", **attributes)
    return _adc_codes(builder, name, codes, adc_bits, len(weights.step), hint)


def integer_matmul(
    builder: GraphBuilder,
    codes: Codes,
    rows: npt.NDArray[np.int8],
    weights: IntegerWeights,
    adc_bits: int,
    hint: str,
) -> Codes:
    """ADC codes of the product of DAC codes (..., inputs) with ``rows`` [inputs, outputs], offsets and ADC included."""
    if weights.offset is None:
        name = builder.node("QLinearMatMul", _operands(builder, codes, rows, weights.step, hint), f"{hint}/mvm")
        return _adc_codes(builder, name, codes, adc_bits, len(weights.step), hint)
    values = builder.constant(rows, np.int8, f"{hint}/conductances")
    product = builder.node("MatMulInteger", [codes.name, values], f"{hint}/product")
    offset = builder.constant(weights.offset, np.int32, f"{hint}/offset")
    moved = builder.node("Cast", [builder.node("Add", [product, offset], f"{hint}/moved")], f"{hint}/sum", to=1)
    p = builder.node("Mul", [moved, builder.constant(weights.step, np.float32, f"{hint}/steps")], f"{hint}/mvm")
    return as_integer(builder, p, 1.0, adc_bits, True, f"{hint}/adc")


def _operands(
    builder: GraphBuilder, codes: Codes, values: npt.NDArray[np.int8], steps: npt.NDArray[np.float32], hint: str
) -> list[str]:
    """The first eight inputs of QLinearConv and QLinearMatMul. Codes out have the type of the codes that go in."""
    one = builder.constant(1.0, np.float32, "one")
    kind, zero = (np.int8, 0) if codes.signed else (np.uint8, _MIDDLE)
    return [
        codes.name,
        one,
        builder.constant(0, kind, "zero"),
        builder.constant(values, np.int8, f"{hint}/conductances"),
        builder.constant(steps, np.float32, f"{hint}/steps"),
        builder.constant(0, np.int8, "zero"),
        one,
        builder.constant(zero, kind, "middle"),
    ]


# ADC codes are signed; as uint8 they are moved by this.
_MIDDLE = 128


def _adc_codes(builder: GraphBuilder, name: str, codes: Codes, adc_bits: int, columns: int, hint: str) -> Codes:
    full = 2 ** (adc_bits - 1) - 1
    kind, zero = (np.int8, 0) if codes.signed else (np.uint8, _MIDDLE)
    # The type's own range is one code wider below than the converter's, or much wider if that has fewer bits.
    limits = [builder.constant(zero - full, kind, "lowest")]
    if adc_bits < 8:
        limits.append(builder.constant(zero + full, kind, "highest"))
    clipped = builder.node("Clip", [name, *limits], f"{hint}/adc/codes")
    return Codes(clipped, True, full, signed=codes.signed, zero=zero, columns=columns)


@cache
def weight_bits() -> int:
    """Bits that weights may have on this processor: 8, or 7 where its int8 products saturate half way.

    x86 without VNNI multiplies uint8 by int8 with an instruction that adds two products in 16 bits and saturates.
    What counts is what ONNX Runtime chose for this processor, so it is asked: the largest codes times the largest
    weights, in a matrix product and in a convolution.
    """
    return REDUCED_WEIGHT_BITS if _saturates("QLinearMatMul") or _saturates("QLinearConv") else WEIGHT_BITS


def _saturates(operator: str) -> bool:
    size = 64
    conv = operator == "QLinearConv"
    weights = np.full((size, size, 1, 1) if conv else (size, size), 127, np.int8)
    codes = np.full((4, size, 3, 3) if conv else (4, size), 255, np.uint8)
    # The true sum comes out as 200; sums of saturated pairs, at most 32767 for 64770, as 101.
    step = np.full(size, 200 / (size * 255 * 127), np.float32)
    tensors = {
        "one": np.float32(1.0),
        "zero": np.uint8(0),
        "weights": weights,
        "step": step,
        "none": np.int8(0),
    }
    node = helper.make_node(
        operator, ["codes", "one", "zero", "weights", "step", "none", "one", "zero"], ["sums"], name="sums"
    )
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("sums", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_bytes(model), options, providers=["CPUExecutionProvider"])
    return bool(np.any(session.run(None, {"codes": codes})[0] != 200))


def _bytes(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString()
    return data
