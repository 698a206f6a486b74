"""What a tensor of the file holds: its constants as real values, its element types, whether it is computed in codes."""

from __future__ import annotations

import numpy as np
import onnx

from pcmedge.compiler.graph import Array

from .model import Tensor

_EIGHT_BITS = ("int8", "uint8")


class Unsupported(Exception):
    """An operator that cannot be converted: ``why``, and what to use ``instead``."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


def constant_values(tensor: Tensor) -> Array:
    """The real values of a constant: dequantised, half precision widened."""
    if tensor.data is None:
        raise Unsupported(f"its operand '{tensor.name}' is computed at run time", "store it as a constant")
    if tensor.dtype is None or tensor.sparse:
        kind = "sparse" if tensor.sparse else tensor.kind
        raise Unsupported(f"its constant '{tensor.name}' is {kind}", "store it as float32 or int8, dense")
    if tensor.quantisation is not None and tensor.dtype.kind in "iu":
        return tensor.quantisation.real(tensor.data)
    values: Array = tensor.data.astype(np.float32) if tensor.dtype.name == "float16" else tensor.data
    return values


def constant_integers(tensor: Tensor) -> list[int]:
    """A constant list of integers, such as axes or paddings, flattened."""
    if tensor.data is None or tensor.dtype is None or tensor.dtype.kind != "i":
        raise Unsupported(f"its parameter '{tensor.name}' is not a constant list of integers", "fix it")
    return [int(value) for value in tensor.data.reshape(-1)[:4096]]


def is_quantised(tensor: Tensor) -> bool:
    """Whether the tensor is computed in codes; Unsupported for quantisation that is not 8 bits per tensor."""
    if tensor.quantisation is None or tensor.dtype is None or tensor.dtype.kind not in "iu":
        return False
    if tensor.dtype.name not in _EIGHT_BITS or not tensor.quantisation.per_tensor:
        raise Unsupported(
            f"its result '{tensor.name}' is quantised to {tensor.dtype}"
            + ("" if tensor.quantisation.per_tensor else " per channel"),
            "quantise activations to int8 or uint8 with one scale per tensor (16 x 8 bits is not supported)",
        )
    return True


def same_grid(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are quantised alike, or neither is: values that are only moved need no rounding."""
    if one.quantisation is None or other.quantisation is None:
        return one.quantisation is other.quantisation
    return one.dtype == other.dtype and one.quantisation.same(other.quantisation)


def interface_type(tensor: Tensor) -> int:
    """ONNX number of the element type in the file."""
    if tensor.dtype is None:
        raise Unsupported(f"its tensor '{tensor.name}' is {tensor.kind}", "use float32 or 8-bit tensors")
    return int(onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype))


def real_type(tensor: Tensor) -> int:
    """ONNX number of the element type that operators compute with."""
    quantised = tensor.quantisation is not None and tensor.dtype is not None and tensor.dtype.name in _EIGHT_BITS
    return int(onnx.TensorProto.FLOAT) if quantised else interface_type(tensor)
