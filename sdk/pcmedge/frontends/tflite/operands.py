"""How many operands TFLite's operators take, and which may be absent: what its kernels take for granted.

LiteRT's kernels look at an operand before they look whether it is there. Operators that are not listed are not checked.
Source: tensorflow/lite/kernels (``NumInputs`` checks of the ``Prepare`` functions).
"""

from __future__ import annotations

from .checked import damaged
from .model import Operator

_COUNTS = {
    (1, 1): "ABS AVERAGE_POOL_2D CAST CEIL COS DEPTH_TO_SPACE DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH "
    "L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX "
    "MAX_POOL_2D NEG QUANTIZE RANK RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SOFTMAX "
    "SPACE_TO_DEPTH SQRT SQUARE SQUEEZE TANH UNIQUE UNPACK WHERE ZEROS_LIKE",
    (1, 2): "RESHAPE",
    (2, 2): "ADD ARG_MAX ARG_MIN ATAN2 BATCH_MATMUL BROADCAST_TO CUMSUM DIV EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL "
    "FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR MATRIX_SET_DIAG "
    "MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NOT_EQUAL PAD POW PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN "
    "REDUCE_PROD RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RFFT2D RIGHT_SHIFT SEGMENT_SUM "
    "SPLIT SQUARED_DIFFERENCE SUB SUM TILE TOPK_V2 TRANSPOSE",
    (2, 3): "CONV_2D CONV_3D DEPTHWISE_CONV_2D FULLY_CONNECTED",
    (3, 3): "BATCH_TO_SPACE_ND DYNAMIC_UPDATE_SLICE HASHTABLE_LOOKUP PADV2 RANGE SCATTER_ND SELECT SELECT_V2 SLICE "
    "SPACE_TO_BATCH_ND SPLIT_V",
    (3, 4): "CONV_3D_TRANSPOSE TRANSPOSE_CONV",
    (4, 4): "ONE_HOT SPARSE_TO_DENSE STRIDED_SLICE",
    (5, 5): "NON_MAX_SUPPRESSION_V4 RNN SVDF UNIDIRECTIONAL_SEQUENCE_RNN",
    (5, 24): "LSTM",
    (6, 6): "NON_MAX_SUPPRESSION_V5",
    (12, 12): "BIDIRECTIONAL_SEQUENCE_RNN",
    (20, 24): "UNIDIRECTIONAL_SEQUENCE_LSTM",
    (48, 48): "BIDIRECTIONAL_SEQUENCE_LSTM",
}
_KNOWN = {name: counts for counts, names in _COUNTS.items() for name in names.split()}
# The last operand of these, the bias, may be absent; of recurrent layers and operators unknown here, any.
_BIASED = frozenset(
    {"CONV_2D", "CONV_3D", "CONV_3D_TRANSPOSE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
_GATED = frozenset({"BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "SVDF",
                    "UNIDIRECTIONAL_SEQUENCE_LSTM"})  # fmt: skip
_LISTED = frozenset({"ADD_N", "CONCATENATION", "PACK"})
# Without their options these divide by a count that is then zero, or write to results that are not there.
_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions", "BATCH_MATMUL": "BatchMatMulOptions", "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "L2_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions", "PACK": "PackOptions", "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions", "STRIDED_SLICE": "StridedSliceOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNPACK": "UnpackOptions",
}  # fmt: skip


def check_operands(operator: Operator) -> None:
    """CompileError for an operator that lacks an operand, a result or its options, or has too many operands."""
    what = f"operator {operator.index} ({operator.kind})"
    least, most = _KNOWN.get(operator.kind, (0, len(operator.inputs)))
    if not least <= len(operator.inputs) <= most:
        raise damaged(f"{what} has {len(operator.inputs)} operands, expected {least} to {most}")
    if any(index < 0 for index in operator.outputs):
        raise damaged(f"{what} has a result that is absent")
    if operator.kind in _KNOWN or operator.kind in _LISTED:
        needed = operator.inputs
        if operator.kind in _BIASED:
            needed = needed[:least]
        elif operator.kind in _GATED:
            needed = needed[:1]
        if any(index < 0 for index in needed):
            raise damaged(f"{what} lacks an operand it cannot do without")
        if not operator.outputs:
            raise damaged(f"{what} has no result")
    if operator.kind == "TFLite_Detection_PostProcess":
        _check_detection(operator)
    if (table := _OPTIONS.get(operator.kind)) and operator.options.kind != table:
        raise damaged(f"{what} has the options {operator.options.kind}, expected {table}")


def _check_detection(operator: Operator) -> None:
    """Its options are a FlexBuffer, which the kernel reads without a check; needs onnx, as all conversions do."""
    try:
        from .operators.detection import settings
    except ModuleNotFoundError:
        return
    settings(operator.custom)
