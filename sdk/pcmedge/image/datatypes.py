"""Names of tensor element types: Open Inference Protocol, numpy."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pcmedge.errors import InputTypeError

_NUMPY: Final[dict[str, type[np.generic]]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_NAMES: Final = {np.dtype(kind): name for name, kind in _NUMPY.items()}
DATATYPES: Final = frozenset(_NUMPY)


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    """The numpy dtype of an Open Inference Protocol name such as "FP32"; InputTypeError if there is none."""
    try:
        return np.dtype(_NUMPY[datatype])
    except KeyError:
        raise InputTypeError(
            f"expected one of the tensor datatypes {', '.join(_NUMPY)}, found {datatype!r}", datatype=datatype
        ) from None


def datatype_name(dtype: np.dtype[Any]) -> str:
    """The Open Inference Protocol name of a numpy dtype; InputTypeError if there is none."""
    try:
        return _NAMES[np.dtype(dtype).newbyteorder("=")]
    except KeyError:
        raise InputTypeError(
            f"expected a tensor of one of the numpy types {', '.join(str(d) for d in _NAMES)}, found {dtype}",
            datatype=dtype,
        ) from None
