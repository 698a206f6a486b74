"""What a .tflite file says, as plain values: tensors, operators, options. Read with the ``tflite`` schema package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcmedge.errors import CompileError

from .checked import MAX_RANK, check_table, damaged, guarded, integers, length, numbers, tables, text
from .quantisation import Quantisation

Array = np.ndarray[Any, np.dtype[Any]]

MAX_TENSORS = 65_536
MAX_OPERATORS = 65_536
MAX_OPERANDS = 4096
MAX_ELEMENTS = 2**28
MAX_CUSTOM_OPTIONS = 65_536
# Converters share one buffer between equal tensors; a file that refers to the same bytes again and again is an attack.
_MAX_SHARING, _SHARING_FLOOR = 4, 2**26

_TYPES: Mapping[str, str] = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file. ``dtype`` is None for a type that nothing here computes with, named ``kind``."""

    index: int
    name: str
    kind: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    quantisation: Quantisation | None
    data: Array | None
    variable: bool
    sparse: bool


@dataclass(frozen=True)
class Options:
    """Builtin options of an operator, read field by field; ``kind`` is the table's name in the schema."""

    kind: str
    table: Any

    def number(self, name: str) -> Any:
        """An integer, float or bool field, by its name in the schema package (``StrideW``)."""
        if self.table is None:
            raise damaged("an operator has no options")
        return getattr(self.table, name)()

    def integers(self, name: str) -> tuple[int, ...]:
        return integers(self.table, name, MAX_RANK) if self.table is not None else ()


@dataclass(frozen=True)
class Operator:
    """One operator: its kind (``CONV_2D``, or the name of a custom operator), tensor indices (-1: absent), options."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options
    custom: bytes = b""


@dataclass(frozen=True)
class Model:
    """The main subgraph; ``inputs`` and ``outputs`` are tensor indices."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def parse(data: bytes) -> Model:
    """The model in a file that was read whole; CompileError for anything that is not one."""
    import tflite

    if len(data) < 8 or data[4:8] != b"TFL3":
        raise damaged(f"expected the file identifier TFL3, found {data[4:8]!r}")
    with guarded("its structure"):
        root = check_table(tflite.Model.GetRootAs(data, 0))
        graphs = length(root, "Subgraphs", MAX_OPERATORS)
        if graphs != 1:
            raise CompileError(
                f"Expected a TFLite model with one subgraph, found {graphs}. Control flow (IF, WHILE) and several "
                "signatures are not supported: convert one function without them."
            )
        graph = check_table(root.Subgraphs(0))
        found = Model(
            name=text(graph.Name()),
            tensors=_tensors(tflite, root, graph, len(data)),
            operators=_operators(tflite, root, graph),
            inputs=integers(graph, "Inputs", MAX_OPERANDS),
            outputs=integers(graph, "Outputs", MAX_OPERANDS),
        )
    _check_order(found)
    return found


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _tensors(tflite: Any, root: Any, graph: Any, file_size: int) -> tuple[Tensor, ...]:
    kinds = _names(tflite.TensorType)
    buffers = tables(root, "Buffers", 2 * MAX_TENSORS)
    if any(buffer.Offset() > 1 for buffer in buffers):
        raise CompileError("The TFLite file keeps buffers outside its FlatBuffer (over 2 GB), which is not supported.")
    found: list[Tensor] = []
    stored = 0
    for index, table in enumerate(tables(graph, "Tensors", MAX_TENSORS)):
        name = text(table.Name())
        kind = kinds[table.Type()]
        dtype = np.dtype(_TYPES[kind]) if kind in _TYPES else None
        shape = integers(table, "Shape", MAX_RANK)
        if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise damaged(f"tensor '{name}' has shape {shape}; at most {MAX_ELEMENTS} elements are supported")
        data = _data(buffers[table.Buffer()], dtype, shape, name)
        stored += 0 if data is None else data.nbytes
        if stored > max(_MAX_SHARING * file_size, _SHARING_FLOOR):
            raise damaged(f"its constants are {stored} bytes, more than {_MAX_SHARING} times the file")
        quantisation = _quantisation(table.Quantization(), shape, name)
        sparse = table.Sparsity() is not None
        found.append(Tensor(index, name, kind, dtype, shape, quantisation, data, bool(table.IsVariable()), sparse))
    return tuple(found)


def _data(buffer: Any, dtype: np.dtype[Any] | None, shape: tuple[int, ...], name: str) -> Array | None:
    """A view of the file's bytes; None for a tensor that is computed."""
    size = length(buffer, "Data", 2**31)
    if not size:
        return np.zeros(shape, dtype or np.uint8) if math.prod(shape) == 0 else None
    raw = numbers(buffer, "Data", 2**31)
    if dtype is None:
        return raw
    expected = math.prod(shape) * dtype.itemsize
    if size != expected:
        raise damaged(f"tensor '{name}' of shape {shape} and type {dtype} needs {expected} bytes, found {size}")
    values: Array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
    if dtype.kind == "f" and not np.all(np.isfinite(values)):
        raise CompileError(f"Tensor '{name}' of the TFLite file holds values that are not finite. Check the training.")
    return values


def _quantisation(table: Any, shape: tuple[int, ...], name: str) -> Quantisation | None:
    if table is None:
        return None
    check_table(table)
    scale = np.array(numbers(table, "Scale", MAX_ELEMENTS), np.float32)
    if not scale.size:
        if length(table, "ZeroPoint", MAX_ELEMENTS):
            raise damaged(f"tensor '{name}' has zero points without scales")
        return None
    zero = np.array(numbers(table, "ZeroPoint", MAX_ELEMENTS), np.int64)
    zero = zero if zero.size else np.zeros(scale.size, np.int64)
    axis = int(table.QuantizedDimension())
    per_channel = scale.size > 1
    if zero.size != scale.size or (per_channel and not (0 <= axis < len(shape) and shape[axis] == scale.size)):
        raise damaged(f"tensor '{name}' of shape {shape} has {scale.size} scales and {zero.size} zero points")
    if not np.all(np.isfinite(scale) & (scale > 0)):
        # Float models may carry the quantisation of a training-time observer with a zero scale; it means nothing.
        return None
    return Quantisation(scale, zero, axis if per_channel else 0)


def _operators(tflite: Any, root: Any, graph: Any) -> tuple[Operator, ...]:
    builtin, options = _names(tflite.BuiltinOperator), _names(tflite.BuiltinOptions)
    codes: list[str] = []
    for code in tables(root, "OperatorCodes", MAX_OPERATORS):
        number = max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))
        kind = builtin.get(number, f"operator {number}")
        codes.append(text(code.CustomCode()) or kind if kind == "CUSTOM" else kind)
    found: list[Operator] = []
    for index, table in enumerate(tables(graph, "Operators", MAX_OPERATORS)):
        number = int(table.OpcodeIndex())
        if not 0 <= number < len(codes):
            raise damaged(f"operator {index} has the code number {number} of {len(codes)}")
        custom = length(table, "CustomOptions", MAX_CUSTOM_OPTIONS)
        found.append(
            Operator(
                index,
                codes[number],
                integers(table, "Inputs", MAX_OPERANDS),
                integers(table, "Outputs", MAX_OPERANDS),
                _options(tflite, table, options),
                bytes(numbers(table, "CustomOptions", MAX_CUSTOM_OPTIONS)) if custom else b"",
            )
        )
    return tuple(found)


def _options(tflite: Any, table: Any, names: Mapping[int, str]) -> Options:
    kind, union = names.get(table.BuiltinOptionsType(), "NONE"), table.BuiltinOptions()
    if union is None or kind == "NONE":
        return Options("NONE", None)
    options = getattr(tflite, kind)()
    options.Init(union.Bytes, union.Pos)
    return Options(kind, check_table(options))


def _check_order(model: Model) -> None:
    """Every tensor has one source, and operators come after what they read (so there is no cycle)."""
    count = len(model.tensors)
    known = {tensor.index for tensor in model.tensors if tensor.data is not None or tensor.variable}
    if not model.inputs or not model.outputs:
        raise damaged("it has no inputs or no outputs")
    if len(set(model.inputs)) != len(model.inputs) or len(set(model.outputs)) != len(model.outputs):
        raise damaged("an input or an output is listed twice")
    for index in (*model.inputs, *model.outputs):
        if not 0 <= index < count:
            raise damaged(f"an input or output refers to tensor {index} of {count}")
    if known.intersection(model.inputs):
        raise damaged("an input of the model has constant data")
    known.update(model.inputs)
    for operator in model.operators:
        what = f"operator {operator.index} ({operator.kind})"
        for index in operator.inputs:
            if not -1 <= index < count:
                raise damaged(f"{what} reads tensor {index} of {count}")
            if index >= 0 and index not in known:
                raise damaged(f"{what} reads '{model.tensors[index].name}' before it is computed")
        for index in operator.outputs:
            if not 0 <= index < count:
                raise damaged(f"{what} writes tensor {index} of {count}")
            if index in known:
                raise damaged(f"{what} writes '{model.tensors[index].name}', which has a value already")
            known.add(index)
    for index in model.outputs:
        if index not in known:
            raise damaged(f"nothing computes the output '{model.tensors[index].name}'")
