"""Small .tflite files for tests, and the TFLite runtime's answers to compare with.

A :class:`Net` is described once, in float. ``to_bytes()`` writes it as a float model, ``to_bytes(codes="int8")``
quantises it after training as TFLite's converter does: activations per tensor from the ranges seen on samples, weights
per channel and symmetric, biases int32. Shapes inside come from the runtime, so no shape rule is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers import flexbuffers

Array = np.ndarray[Any, Any]
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6, TANH = 0, 1, 2, 3, 4
# Operators whose result has the quantisation of their operands.
_MOVES = frozenset(
    {
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "MAX_POOL_2D",
        "PAD",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPLIT",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)
# Versions of operators: what takes 8-bit codes and the options used here.
_VERSIONS = {"CONV_2D": 3, "CUSTOM": 1, "DEPTHWISE_CONV_2D": 3, "FLOOR": 1, "FULLY_CONNECTED": 5, "RESIZE_BILINEAR": 3,
             "RESIZE_NEAREST_NEIGHBOR": 3, "TRANSPOSE_CONV": 3, "HARD_SWISH": 1, "RELU_N1_TO_1": 1,
             "UNIDIRECTIONAL_SEQUENCE_LSTM": 1, "RESHAPE": 1, "SIN": 1}  # fmt: skip
_FIXED = {"SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}


@dataclass(frozen=True)
class Constant:
    """``role``: "weights" (per channel along ``axis``), "bias", "value" (like an activation) or "raw"."""

    values: Array
    role: str = "raw"
    axis: int = 0


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    constant: Constant | None = None
    kind: str = ""
    variable: bool = False
    scale: Array | None = None
    zero: Array | None = None


@dataclass
class _Operator:
    kind: str
    inputs: list[int]
    outputs: list[int]
    options: str
    values: Mapping[str, Any]
    custom: bytes = b""


@dataclass
class Net:
    """A network under construction. Operand: number of a tensor, or a :class:`Constant`; None: absent."""

    tensors: list[_Tensor] = field(default_factory=list)
    operators: list[_Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def input(self, *shape: int, name: str = "") -> int:
        self.inputs.append(self._tensor(name or f"input_{len(self.inputs)}", shape))
        return self.inputs[-1]

    def op(
        self,
        kind: str,
        operands: Sequence[int | Constant | None],
        options: str = "",
        *,
        results: int = 1,
        name: str = "",
        custom: bytes = b"",
        **values: Any,
    ) -> Any:
        """Add an operator; gives the tensor of its result, or a list of several."""
        stem = name or f"{kind.lower()}_{len(self.operators)}"
        numbers = []
        for place, operand in enumerate(operands):
            if isinstance(operand, Constant):
                operand = self._tensor(f"{stem}/operand_{place}", operand.values.shape, operand)
            numbers.append(-1 if operand is None else operand)
        outputs = [self._tensor(stem if results == 1 else f"{stem}:{each}", ()) for each in range(results)]
        self.operators.append(_Operator(kind, numbers, outputs, options, values, custom))
        return outputs[0] if results == 1 else outputs

    def variable(self, *shape: int) -> int:
        """A state that starts at zero."""
        number = self._tensor(f"state_{len(self.tensors)}", shape)
        self.tensors[number].variable = True
        return number

    def _tensor(self, name: str, shape: Sequence[int], constant: Constant | None = None) -> int:
        self.tensors.append(_Tensor(name, tuple(shape), constant))
        return len(self.tensors) - 1

    def finish(self, *outputs: int) -> Net:
        """Name the outputs, and fill in the shapes that the runtime finds."""
        self.outputs = list(outputs)
        runtime = _runtime(self.to_bytes())
        for index, details in enumerate(runtime.get_tensor_details()[: len(self.tensors)]):
            self.tensors[index].shape = tuple(int(size) for size in details["shape"])
        return self

    # ---- quantising ----

    def quantised(self, samples: Sequence[Array], codes: str = "int8") -> bytes:
        """The model in 8-bit codes throughout, ranges from ``samples`` (one array per input)."""
        ranges = self._ranges(samples)
        bottom = -128 if codes == "int8" else 0
        for index, tensor in enumerate(self.tensors):
            constant = tensor.constant
            tensor.kind = codes
            if constant is None or constant.role == "value":
                low, high = ranges[index]
                scale = max((high - low) / 255, 1e-6)
                tensor.scale = np.array([scale], np.float32)
                tensor.zero = np.array([int(np.clip(round(bottom - low / scale), bottom, bottom + 255))], np.int64)
            elif constant.role == "weights":
                axes = tuple(axis for axis in range(constant.values.ndim) if axis != constant.axis)
                if codes == "uint8":
                    largest = np.abs(constant.values).max(keepdims=True).reshape(-1)
                else:
                    largest = np.abs(constant.values).max(axis=axes)
                tensor.scale = np.maximum(largest / 127, 1e-6).astype(np.float32)
                tensor.zero = np.full(tensor.scale.shape, bottom + 128, np.int64)
            else:
                tensor.kind = ""
        for operator in self.operators:
            self._finish_quantising(operator, bottom)
        return self.to_bytes()

    def _finish_quantising(self, operator: _Operator, bottom: int) -> None:
        if operator.kind in _FIXED:
            scale, zero = _FIXED[operator.kind]
            for output in operator.outputs:
                self.tensors[output].scale = np.array([scale], np.float32)
                self.tensors[output].zero = np.array([zero + bottom + 128], np.int64)
        position = {"TRANSPOSE_CONV": 2}.get(operator.kind, 0)
        for number in operator.inputs:
            tensor = self.tensors[number]
            if number >= 0 and tensor.constant is not None and tensor.constant.role == "bias":
                weights = self.tensors[operator.inputs[1]].scale
                source = self.tensors[operator.inputs[position]].scale
                assert weights is not None
                assert source is not None
                tensor.scale, tensor.kind = (weights * source).astype(np.float32), "int32"
                tensor.zero = np.zeros(tensor.scale.shape, np.int64)

    def _ranges(self, samples: Sequence[Array]) -> dict[int, tuple[float, float]]:
        """Smallest and largest value of every tensor, zero included; equal for tensors of one quantisation."""
        for tensor in self.tensors:
            tensor.kind, tensor.scale, tensor.zero = "", None, None
        runtime = _runtime(self.to_bytes(), preserve=True)
        found: dict[int, tuple[float, float]] = {}
        for sample in range(len(samples[0])):
            for number, values in zip(self.inputs, samples, strict=True):
                runtime.set_tensor(number, values[sample : sample + 1])
            runtime.invoke()
            for index, tensor in enumerate(self.tensors):
                values = runtime.get_tensor(index) if tensor.constant is None else tensor.constant.values
                if values.dtype == np.float32 and values.size:
                    low, high = found.get(index, (0.0, 0.0))
                    found[index] = min(low, float(values.min())), max(high, float(values.max()))
        for _ in self.operators:
            for operator in self.operators:
                if operator.kind in _MOVES:
                    alike = [
                        number for number in (*operator.inputs, *operator.outputs) if self._is_like_activation(number)
                    ]
                    together = (min(found[each][0] for each in alike), max(found[each][1] for each in alike))
                    found.update(dict.fromkeys(alike, together))
        return found

    def _is_like_activation(self, number: int) -> bool:
        constant = self.tensors[number].constant
        return number >= 0 and (constant is None or constant.role == "value")

    # ---- writing ----

    def to_bytes(self) -> bytes:
        model = schema.ModelT()
        model.version = 3
        model.buffers = [schema.BufferT()]
        codes: list[tuple[str, str]] = []
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors = [self._tensor_table(tensor, model.buffers) for tensor in self.tensors]
        graph.inputs, graph.outputs = list(self.inputs), list(self.outputs)
        graph.operators = [self._operator_table(operator, codes) for operator in self.operators]
        model.subgraphs = [graph]
        model.operatorCodes = [_code(builtin, custom) for builtin, custom in codes]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor_table(self, tensor: _Tensor, buffers: list[Any]) -> Any:
        table = schema.TensorT()
        table.name, table.shape, table.isVariable = tensor.name.encode(), list(tensor.shape), tensor.variable
        values = tensor.constant.values if tensor.constant is not None else None
        kind = tensor.kind or (str(values.dtype) if values is not None else "float32")
        if tensor.scale is not None and tensor.zero is not None:
            table.quantization = schema.QuantizationParametersT()
            table.quantization.scale, table.quantization.zeroPoint = tensor.scale.tolist(), tensor.zero.tolist()
            table.quantization.quantizedDimension = tensor.constant.axis if tensor.constant else 0
            if values is not None:
                values = _codes(values, tensor, np.dtype(kind))
        table.type = getattr(schema.TensorType, kind.upper())
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype(kind).tobytes(), np.uint8)
            buffers.append(buffer)
            table.buffer = len(buffers) - 1
        return table

    def _operator_table(self, operator: _Operator, codes: list[tuple[str, str]]) -> Any:
        table = schema.OperatorT()
        code = ("CUSTOM", operator.kind) if operator.custom else (operator.kind, "")
        if code not in codes:
            codes.append(code)
        table.opcodeIndex = codes.index(code)
        table.inputs, table.outputs = list(operator.inputs), list(operator.outputs)
        if operator.custom:
            table.customOptions = np.frombuffer(operator.custom, np.uint8)
        if operator.options:
            table.builtinOptionsType = getattr(schema.BuiltinOptions, operator.options)
            table.builtinOptions = getattr(schema, f"{operator.options}T")()
            for name, value in operator.values.items():
                assert hasattr(table.builtinOptions, name), name
                setattr(table.builtinOptions, name, value)
        return table


def _codes(values: Array, tensor: _Tensor, dtype: Any) -> Array:
    assert tensor.scale is not None
    assert tensor.zero is not None
    shape = [1] * values.ndim
    if tensor.scale.size > 1 and tensor.constant is not None:
        shape[tensor.constant.axis] = -1
    elif not values.ndim:
        shape = []
    info = np.iinfo(dtype)
    codes = np.rint(values / tensor.scale.reshape(shape).astype(np.float64)) + tensor.zero.reshape(shape)
    return np.clip(codes, info.min, info.max)


def _code(builtin: str, custom: str) -> Any:
    table = schema.OperatorCodeT()
    table.builtinCode = getattr(schema.BuiltinOperator, builtin)
    table.deprecatedBuiltinCode = min(127, table.builtinCode)
    table.customCode = custom.encode() if custom else None
    table.version = _VERSIONS.get(builtin, 2)
    return table


def flex_options(**values: Any) -> bytes:
    """Options of a custom operator."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in values.items():
            builder.Key(key)
            (builder.Bool if isinstance(value, bool) else builder.Float if isinstance(value, float) else builder.Int)(
                value
            )
    return bytes(builder.Finish())


def _runtime(model: bytes, *, preserve: bool = False) -> Any:
    runtime = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=preserve,
    )
    runtime.allocate_tensors()
    return runtime


def runtime_outputs(model: bytes, inputs: Sequence[Array]) -> dict[str, Array]:
    """What the TFLite runtime answers, one sample after the other from fresh states; by output name."""
    runtime = _runtime(model)
    details = runtime.get_output_details()
    found: dict[str, list[Array]] = {each["name"]: [] for each in details}
    for sample in range(len(inputs[0])):
        runtime.reset_all_variables()
        for each, values in zip(runtime.get_input_details(), inputs, strict=True):
            runtime.set_tensor(each["index"], values[sample : sample + 1])
        runtime.invoke()
        for each in details:
            found[each["name"]].append(runtime.get_tensor(each["index"]).copy())
    return {name: np.concatenate(values) for name, values in found.items()}


def codes_of(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Float samples as the codes the model's inputs want."""
    found = []
    for each, values in zip(_runtime(model).get_input_details(), inputs, strict=True):
        scale, zero = each["quantization"]
        info = np.iinfo(each["dtype"])
        found.append(np.clip(np.rint(values / scale) + zero, info.min, info.max).astype(each["dtype"]))
    return found
