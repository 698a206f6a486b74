"""Tensors of the Open Inference Protocol as numpy arrays and back.

Raw contents are packed row-major, little-endian, without padding; an element of BYTES is preceded by its length as
four little-endian bytes. Typed contents hold the elements flattened in row-major order in the field their datatype
names; FP16 exists raw only. BF16 is refused: numpy has no such type and no program on a chip uses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract import inference_pb2
from pcmedge.errors import InputError, InputShapeError, InputTypeError, InputValueError

Array = NDArray[Any]

_NUMPY = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
DTYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(code) for name, code in _NUMPY.items()}
_NAMES = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items()}

MAX_RANK = 32
MAX_ELEMENTS = 1 << 34


def dtype_of(datatype: str) -> np.dtype[Any]:
    """numpy dtype of a protocol datatype; BYTES is the object dtype. InputTypeError if unknown."""
    if datatype == "BYTES":
        return np.dtype(object)
    try:
        return DTYPES[datatype]
    except KeyError:
        known = ", ".join([*DTYPES, "BYTES"])
        raise InputTypeError(
            f"datatype {datatype!r} is not supported; expected one of {known}", datatype=datatype
        ) from None


def datatype_of(array: Array) -> str:
    """Protocol datatype of an array. InputTypeError for what the protocol has no name for."""
    name = _NAMES.get((array.dtype.kind, array.dtype.itemsize))
    if name is not None:
        return name
    if array.dtype.kind in "OSU":
        return "BYTES"
    raise InputTypeError(
        f"arrays of dtype {array.dtype} cannot be sent; convert to one of {', '.join(str(d) for d in DTYPES.values())}",
        dtype=array.dtype,
    )


def pack(array: Array) -> bytes:
    """Raw contents of an array."""
    datatype = datatype_of(array)
    if datatype != "BYTES":
        return np.ascontiguousarray(array, dtype=DTYPES[datatype]).tobytes()
    elements = [_element(value) for value in array.ravel().tolist()]
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def _element(value: object) -> bytes:
    """One element of a BYTES tensor."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InputTypeError(
            f"an array of objects can be sent if it holds text or bytes, found {type(value).__name__}; give numbers a "
            "numeric dtype with .astype()",
            found=type(value).__name__,
        )
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InputValueError(f"text that cannot be encoded: {error}") from None


def unpack(datatype: str, shape: Sequence[int], data: bytes, name: str) -> Array:
    """Array from raw contents; read-only. InputShapeError if the bytes do not fit the shape."""
    dtype = dtype_of(datatype)
    count = _count(shape, name)
    if datatype == "BYTES":
        return _split(data, count, name).reshape(tuple(shape))
    if len(data) != count * dtype.itemsize:
        raise InputShapeError(
            f"tensor {name!r} of shape {list(shape)} and datatype {datatype} needs {count * dtype.itemsize} bytes of "
            f"raw contents, found {len(data)}",
            tensor=name,
            expected_bytes=count * dtype.itemsize,
            found_bytes=len(data),
        )
    return np.frombuffer(data, dtype=dtype).reshape(tuple(shape))


def _count(shape: Sequence[int], name: str) -> int:
    if len(shape) > MAX_RANK or any(d < 0 for d in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise InputShapeError(
            f"tensor {name!r} has shape {list(shape)}; expected at most {MAX_RANK} dimensions, none negative, and at "
            f"most {MAX_ELEMENTS} elements",
            tensor=name,
        )
    return math.prod(shape)


def _split(data: bytes, count: int, name: str) -> Array:
    elements: list[bytes] = []
    position = 0
    while position < len(data) and len(elements) <= count:
        length = int.from_bytes(data[position : position + 4], "little")
        elements.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    if position != len(data) or len(elements) != count:
        raise InputShapeError(
            f"raw contents of BYTES tensor {name!r} do not hold exactly {count} length-prefixed elements", tensor=name
        )
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array


def _from_contents(tensor: Any) -> Array:
    """Array from the typed contents of an input or output tensor."""
    dtype = dtype_of(tensor.datatype)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise InputTypeError(
            f"tensor {tensor.name!r} of datatype {tensor.datatype} must come as raw contents", tensor=tensor.name
        )
    used = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if any(other != field for other in used):
        raise InputTypeError(
            f"tensor {tensor.name!r} of datatype {tensor.datatype} expects its elements in {field}, found {used}",
            tensor=tensor.name,
        )
    values = getattr(tensor.contents, field)
    count = _count(tensor.shape, tensor.name)
    if len(values) != count:
        raise InputShapeError(
            f"tensor {tensor.name!r} of shape {list(tensor.shape)} needs {count} elements, found {len(values)}",
            tensor=tensor.name,
            expected=count,
            found=len(values),
        )
    array = np.empty(count, dtype=dtype)
    try:
        array[:] = values
    except OverflowError:
        raise InputValueError(
            f"tensor {tensor.name!r} holds values outside the range of {tensor.datatype}", tensor=tensor.name
        ) from None
    return array.reshape(tuple(tensor.shape))


def _decode(tensors: Sequence[Any], raw: Sequence[bytes], kind: str) -> dict[str, Array]:
    if raw and len(raw) != len(tensors):
        raise InputError(
            f"{len(tensors)} {kind} tensors need as many raw contents, found {len(raw)}", kind=kind, found=len(raw)
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        if tensor.name in arrays:
            raise InputError(f"{kind} tensor {tensor.name!r} appears twice", tensor=tensor.name)
        if not raw:
            arrays[tensor.name] = _from_contents(tensor)
        elif tensor.contents.ListFields():
            raise InputError(
                f"{kind} tensor {tensor.name!r} has raw and typed contents; expected one of the two",
                tensor=tensor.name,
            )
        else:
            arrays[tensor.name] = unpack(tensor.datatype, tensor.shape, raw[index], tensor.name)
    return arrays


def read_inputs(request: inference_pb2.ModelInferRequest) -> dict[str, Array]:
    """The inputs of a request by name. InputError and its kinds if the request contradicts itself."""
    return _decode(request.inputs, request.raw_input_contents, "input")


def read_outputs(response: inference_pb2.ModelInferResponse) -> dict[str, Array]:
    """The outputs of a reply by name, in the reply's order; arrays may be read-only."""
    return _decode(response.outputs, response.raw_output_contents, "output")


def add_inputs(request: inference_pb2.ModelInferRequest, arrays: Mapping[str, Array]) -> None:
    """Append arrays to a request as raw contents."""
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(pack(array))


def add_outputs(response: inference_pb2.ModelInferResponse, arrays: Mapping[str, Array], *, raw: bool = True) -> None:
    """Append arrays to a reply; as raw contents, or as typed contents for datatypes that have them."""
    raw = raw or any(datatype_of(array) not in _CONTENTS for array in arrays.values())
    for name, array in arrays.items():
        tensor = response.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        if raw:
            response.raw_output_contents.append(pack(array))
        else:
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(array.ravel().tolist())
