"""What operators share: fused activations, and padding SAME and VALID as explicit pads."""

from __future__ import annotations

from collections.abc import Sequence

from ..builder import Builder
from ..elements import Unsupported

NONE, RELU, RELU_N1_TO_1, RELU6, TANH = 0, 1, 2, 3, 4
SAME, VALID = 0, 1
_BOUNDS: dict[int, tuple[float | None, float | None]] = {
    RELU: (0.0, None),
    RELU_N1_TO_1: (-1.0, 1.0),
    RELU6: (0.0, 6.0),
}


def activate(builder: Builder, value: str, kind: int, output: int) -> str:
    """``value`` behind a fused activation. Bounds of a quantised result are rounded to its codes, as TFLite does, and
    left out where the codes saturate there anyway."""
    if kind == NONE:
        return value
    if kind == TANH:
        return builder.node("Tanh", [value])
    if kind not in _BOUNDS:
        raise Unsupported(f"its fused activation {kind} is not known", "use NONE, RELU, RELU_N1_TO_1, RELU6 or TANH")
    low, high = _BOUNDS[kind]
    tensor = builder.tensor(output)
    if tensor.quantisation is not None and tensor.dtype is not None and tensor.dtype.kind in "iu":
        low, high = tensor.quantisation.clamped(tensor.dtype, low, high)
    return bounded(builder, value, low, high)


def bounded(builder: Builder, value: str, low: float | None, high: float | None) -> str:
    """``value`` within bounds; None: unbounded."""
    if low is None and high is None:
        return value
    if low == 0 and high is None:
        return builder.node("Relu", [value])
    limits = ["" if limit is None else builder.number(limit) for limit in (low, high)]
    return builder.node("Clip", [value, *limits] if limits[1] else [value, limits[0]])


def pads(
    padding: int, sizes: Sequence[int], outputs: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> list[int]:
    """ONNX pads (all begins, then all ends) of a window over two axes; SAME puts the odd one at the end."""
    if padding == VALID:
        return [0, 0, 0, 0]
    if padding != SAME:
        raise Unsupported(f"its padding {padding} is not known", "use SAME or VALID")
    totals = [
        max(0, (output - 1) * stride + extent - size)
        for size, output, extent, stride in zip(sizes, outputs, extents, strides, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def windows(padding: int, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Number of window positions along each axis."""
    if any(stride < 1 for stride in strides):
        raise ValueError(f"strides {list(strides)}")
    if padding == SAME:
        return [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    return [(size - extent) // stride + 1 for size, extent, stride in zip(sizes, extents, strides, strict=True)]
