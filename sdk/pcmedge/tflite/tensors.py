"""The tensors an Interpreter shows: their details as TFLite gives them, and the memory behind ``tensor()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import TensorSpec
from pcmedge.errors import DeviceStateError, InputShapeError, InputTypeError, InputValueError
from pcmedge.image.datatypes import datatype_name, numpy_dtype
from pcmedge.image.interface import dequantise, quantise

Array = NDArray[Any]


class InterpreterTensor:
    """One input or output, in the source model's datatype: codes where it is quantised.

    ``shape`` is what was asked for; ``values`` exist from ``allocate`` on and keep their place while the shape stays.
    """

    def __init__(self, index: int, spec: TensorSpec, *, is_input: bool) -> None:
        self.index = index
        self.name = spec.name
        self.is_input = is_input
        self._spec = spec
        self._quantised = spec.HasField("quantization")
        self.dtype = numpy_dtype(spec.quantization.datatype if self._quantised else spec.datatype)
        self.signature = tuple(int(size) for size in spec.shape)
        self.shape = tuple(max(size, 1) for size in self.signature)
        self._values: Array | None = None

    def details(self) -> dict[str, Any]:
        """The dictionary of ``get_input_details``."""
        found = self._spec.quantization
        scale, zero_point = (float(np.float32(found.scale)), int(found.zero_point)) if self._quantised else (0.0, 0)
        return {
            "name": self.name,
            "index": self.index,
            "shape": np.array(self.shape, np.int32),
            "shape_signature": np.array(self.signature, np.int32),
            "dtype": self.dtype.type,
            "quantization": (scale, zero_point),
            "quantization_parameters": {
                "scales": np.array([scale] if self._quantised else [], np.float32),
                "zero_points": np.array([zero_point] if self._quantised else [], np.int32),
                "quantized_dimension": 0,
            },
            "sparsity_parameters": {},
        }

    def resize(self, size: Sequence[int]) -> None:
        """Ask for another shape: any batch, and any size where the model leaves one open."""
        try:
            wanted = tuple(int(each) for each in np.asarray(size, np.int32).reshape(-1))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputTypeError(f"a tensor's size is a list of whole numbers; found {size!r}") from error
        fits = len(wanted) == len(self.signature) and all(
            each > 0 and known in (-1, each) for known, each in zip(self.signature, wanted, strict=True)
        )
        if not fits:
            raise InputShapeError(
                f"tensor '{self.name}' has shape {list(self.signature)}; only sizes of -1 can be chosen, found "
                f"{list(wanted)}. The image fixes the others: compile a model of that shape",
                tensor=self.name,
                expected=list(self.signature),
                found=list(wanted),
            )
        self.shape = wanted

    def allocate(self, shape: tuple[int, ...] | None = None) -> None:
        self.shape = shape or self.shape
        if self._values is None or self._values.shape != self.shape:
            try:
                self._values = np.zeros(self.shape, self.dtype)
            except MemoryError as error:
                raise DeviceStateError(
                    f"tensor '{self.name}' of shape {list(self.shape)} does not fit into memory; "
                    "choose a smaller batch",
                    tensor=self.name,
                ) from error

    @property
    def values(self) -> Array:
        """The memory of the tensor. DeviceStateError before it is allocated."""
        if self._values is None:
            raise DeviceStateError(f"tensor '{self.name}' has no memory yet; call allocate_tensors() first")
        return self._values

    def set(self, value: Any) -> None:
        """Copy a value in; dtype and shape must be the tensor's own."""
        values = self.values
        given = np.asarray(value)
        if given.dtype != self.dtype:
            raise InputTypeError(
                f"input '{self.name}' takes {self.dtype}, found {given.dtype}"
                + (f"; convert it with .astype(np.{self.dtype})" if given.dtype.kind in "biuf" else ""),
                tensor=self.name,
                expected=datatype_name(self.dtype),
                found=given.dtype,
            )
        if given.shape != self.shape:
            raise InputShapeError(
                f"input '{self.name}' takes shape {list(self.shape)}, found {list(given.shape)}; for another batch "
                "call resize_tensor_input() and allocate_tensors() first",
                tensor=self.name,
                expected=list(self.shape),
                found=list(given.shape),
            )
        values[...] = given

    def to_device(self) -> Array:
        """What the program takes: the codes as they are, or the values they stand for."""
        if self._quantised and self._spec.datatype != self._spec.quantization.datatype:
            return dequantise(self.values, self._spec.quantization)
        return self.values

    def from_device(self, found: Array) -> None:
        """Take what the program gave, as codes if the source model gives codes."""
        if self._quantised and self._spec.datatype != self._spec.quantization.datatype:
            found = quantise(found, self._spec.quantization)
        if found.shape != self.shape:
            self.allocate(found.shape)
        self.values[...] = found


def of_index(tensors: Sequence[InterpreterTensor], index: Any) -> InterpreterTensor:
    """The tensor with an index. InputValueError if there is none."""
    try:
        number = int(index)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(tensors) or isinstance(index, str | bytes):
        raise InputValueError(
            f"tensor indices are 0 to {len(tensors) - 1}, as 'index' in get_input_details() and get_output_details() "
            f"says; found {index!r}",
            argument="tensor_index",
        )
    return tensors[number]
