"""The ONNX graph under construction: TFLite tensors as named values, in the layouts in which they exist.

TFLite pictures are NHWC, ONNX convolutions want NCHW. A tensor of rank 4 may exist in both layouts; a converter asks
for the one it needs and the transpose is made once, where the tensor is first wanted in the other layout. Element-wise
operators stay in the layout of their operands, so between convolutions nothing is transposed.

A quantised tensor exists as codes (what the interface shows) and as the real values they stand for (what operators
compute with): QuantizeLinear and DequantizeLinear in between are the rounding and saturation the file asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from pcmedge.compiler.graph import Array, Graph, TensorType, make_node
from pcmedge.errors import CompileError

from .elements import constant_integers, constant_values, interface_type, is_quantised, real_type, same_grid
from .layouts import CHANNELS_FIRST, PLAIN, Layout, same_order
from .model import Model, Tensor
from .naming import tensor_names, unique


class Builder:
    """Converters read tensors, emit nodes and write tensors; :meth:`finish` gives the graph."""

    def __init__(self, model: Model) -> None:
        self.tensors = model.tensors
        self.batch = model.tensors[model.inputs[0]].shape[0]
        self._values: dict[tuple[int, Layout], str] = {}
        self._codes: dict[tuple[int, Layout], str] = {}
        self._constants: dict[int, Array] = {}
        self._taken: set[str] = {""}
        self._node_names: set[str] = {""}
        self._names = tensor_names(model, self._taken)
        self.graph = Graph(model.name or "tflite", [], {}, [], [])
        self.label = ""
        for index in model.inputs:
            self._declare(self.tensors[index])

    # ---- reading ----

    def tensor(self, index: int) -> Tensor:
        if index < 0:
            raise CompileError("An operator of the TFLite model lacks an input it cannot do without.")
        return self.tensors[index]

    def is_constant(self, index: int) -> bool:
        return index in self._constants or self.tensor(index).data is not None

    def has(self, index: int, layout: Layout) -> bool:
        return (index, layout) in self._values

    def constant(self, index: int) -> Array:
        """The real values of a constant: dequantised, half precision widened."""
        tensor = self.tensor(index)
        if index in self._constants:
            return self._constants[index]
        return constant_values(tensor)

    def integers(self, index: int) -> list[int]:
        """A constant list of integers, such as axes or paddings, flattened."""
        return constant_integers(self.tensor(index))

    def read(self, index: int, layout: Layout = PLAIN) -> str:
        """Name of a tensor's real values in a layout; a constant of rank below 4 is broadcast from the last axis."""
        tensor = self.tensor(index)
        rank = len(tensor.shape)
        if layout is CHANNELS_FIRST and (rank > 4 or (rank < 4 and not self.is_constant(index))):
            raise CompileError(f"Tensor '{tensor.name}': expected rank 4, found shape {tensor.shape}.")
        key = (index, layout)
        if key not in self._values:
            if self.is_constant(index):
                self._values[key] = self.store(self.constant(index), f"{self._names[index]}", layout)
            else:
                self._values[key] = self._rearranged(self._values, index, layout, "")
        return self._values[key]

    def read_rows(self, index: int) -> str:
        """Real values whose memory order is the plain one, whatever the rank says: for operators that reshape."""
        shape = self.tensor(index).shape
        if not self.has(index, PLAIN) and same_order(shape) and self.has(index, CHANNELS_FIRST):
            return self._values[index, CHANNELS_FIRST]
        return self.read(index)

    def read_codes(self, index: int, layout: Layout) -> str | None:
        """The codes of a quantised tensor as float numbers; None if it has no codes in this layout.

        Averages of codes lie on the border between two often; only exact arithmetic rounds them as the runtime does.
        """
        codes = self._codes.get((index, layout))
        if codes is None:
            return None
        return self.node("DequantizeLinear", [codes, *self._plain_grid(self.tensor(index))])

    def common_layout(self, indices: Sequence[int]) -> Layout:
        """The layout element-wise operators work in: channels first if an operand is, and all others can be."""
        computed = [index for index in indices if not self.is_constant(index)]
        fits = all(len(self.tensor(index).shape) == 4 for index in computed)
        fits = fits and any(len(self.tensor(index).shape) == 4 for index in indices)
        first = fits and any(self.has(index, CHANNELS_FIRST) for index in computed)
        return CHANNELS_FIRST if first else PLAIN

    def same_grid(self, first: int, second: int) -> bool:
        """Whether two tensors are quantised alike, or neither is: values that are only moved need no rounding."""
        return same_grid(self.tensor(first), self.tensor(second))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front; ValueError if there is none."""
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} of {rank}")
        return axis % rank

    def element(self, index: int) -> int:
        """ONNX number of a tensor's element type in the file."""
        return interface_type(self.tensor(index))

    # ---- emitting ----

    def node(self, operator: str, inputs: Sequence[str], *, name: str = "", **attrs: Any) -> str:
        """Emit a node with one output and give that output's name."""
        return self.nodes(operator, inputs, 1, name=name, **attrs)[0]

    def nodes(self, operator: str, inputs: Sequence[str], outputs: int, *, name: str = "", **attrs: Any) -> list[str]:
        name = unique(name or f"{self.label}/{operator.lower()}", self._node_names)
        made = [self._unique(f"{name}:{index}") for index in range(outputs)]
        self.graph.nodes.append(make_node(operator, inputs, made, name=name, **attrs))
        return made

    def store(self, value: Array, stem: str, layout: Layout = PLAIN) -> str:
        """Add a constant; in channels-first layout one of lower rank gets leading axes first."""
        if layout is CHANNELS_FIRST:
            value = layout.arrange(value.reshape((1,) * (4 - value.ndim) + value.shape))
        name = self._unique(stem)
        self.graph.constants[name] = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("=")))
        if not value.ndim:
            self.graph.constants[name] = value.astype(value.dtype.newbyteorder("=")).reshape(())
        return name

    def ints(self, values: Sequence[int]) -> str:
        return self.store(np.array(values, np.int64), f"{self.label}/numbers")

    def number(self, value: float) -> str:
        return self.store(np.array(value, np.float32), f"{self.label}/number")

    def target_shape(self, source: Sequence[int], shape: Sequence[int]) -> str:
        """A Reshape target that leaves the batch size open."""
        keeps = bool(source and shape and source[0] == shape[0] == self.batch)
        return self.ints([0 if keeps else -1, *shape[1:]] if shape else [])

    # ---- writing ----

    def write(
        self, index: int, value: str, layout: Layout = PLAIN, *, on_grid: bool = False, codes: bool = False
    ) -> None:
        """Make ``value``, an output of the newest nodes, the real values of a tensor.

        A quantised tensor is rounded and saturated to its codes, unless its values are ``on_grid`` already;
        ``codes``: the values are codes, still to be rounded.
        """
        tensor = self.tensor(index)
        stem = self._names[index]
        quantised = is_quantised(tensor)
        if quantised and not on_grid:
            value = self._rounded(tensor, value, layout, stem, codes)
        else:
            value = self._renamed(value, layout.named(f"{stem}/real" if quantised else stem))
        self._values[index, layout] = value
        self._note_type(value, real_type(tensor), tensor.shape, layout)

    def define(self, index: int, value: Array) -> None:
        """A tensor that turns out to be constant."""
        self._constants[index] = value

    def stand_in(self, index: int) -> None:
        """Something for later operators to read, behind one that could not be converted; the graph is not used."""
        self._values[index, PLAIN] = self._unique("unknown")

    def finish(self, outputs: Sequence[int]) -> Graph:
        """The graph with the tensors ``outputs`` as outputs, under their names and with their element types."""
        for index in outputs:
            tensor, wanted = self.tensor(index), self._names[index]
            if self.is_constant(index):
                raise CompileError(f"Output '{tensor.name}' of the TFLite model is a constant; nothing computes it.")
            if not tensor.shape:
                raise CompileError(f"Output '{tensor.name}' of the TFLite model is a scalar: it has no batch axis.")
            self.label = wanted
            name = self._output_codes(index) if is_quantised(tensor) else self.read(index)
            if name != wanted or name in self.graph.input_names:
                identity = unique(f"{wanted}/output", self._node_names)
                target = wanted if name != wanted else self._unique(f"{wanted}/copy")
                self.graph.nodes.append(make_node("Identity", [name], [target], name=identity))
                wanted = target
            self._note_type(wanted, interface_type(tensor), tensor.shape, PLAIN)
            kind = self.graph.types[wanted]
            self.graph.outputs.append(onnx.helper.make_tensor_value_info(wanted, kind.element, kind.shape))
        self.graph.sweep()
        return self.graph

    # ---- quantised tensors ----

    def _grid(self, tensor: Tensor) -> list[str]:
        assert tensor.quantisation is not None
        stem = self._names[tensor.index]
        return [
            self.store(tensor.quantisation.scale.reshape(()), f"{stem}/scale"),
            self.store(tensor.quantisation.zero_point.reshape(()).astype(tensor.dtype), f"{stem}/zero_point"),
        ]

    def _plain_grid(self, tensor: Tensor) -> list[str]:
        """Scale 1 and zero point 0: codes as numbers."""
        stem = self._names[tensor.index]
        return [
            self.store(np.ones((), np.float32), f"{stem}/one"),
            self.store(np.zeros((), tensor.dtype), f"{stem}/zero"),
        ]

    def _rounded(self, tensor: Tensor, value: str, layout: Layout, stem: str, are_codes: bool) -> str:
        grid = self._grid(tensor)
        codes = self.node(
            "QuantizeLinear",
            [value, *(self._plain_grid(tensor) if are_codes else grid)],
            name=f"{self.label}/quantize",
        )
        codes = self._renamed(codes, layout.named(stem))
        self._codes[tensor.index, layout] = codes
        self._note_type(codes, interface_type(tensor), tensor.shape, layout)
        real = self.node("DequantizeLinear", [codes, *grid], name=f"{self.label}/dequantize")
        return self._renamed(real, layout.named(f"{stem}/real"))

    def _output_codes(self, index: int) -> str:
        if (index, PLAIN) in self._codes:
            return self._codes[index, PLAIN]
        if (index, CHANNELS_FIRST) in self._codes:
            return self._rearranged(self._codes, index, PLAIN, "/codes")
        tensor = self.tensor(index)
        return self._renamed(
            self.node("QuantizeLinear", [self.read(index), *self._grid(tensor)], name=f"{self.label}/quantize"),
            self._names[index],
        )

    def _declare(self, tensor: Tensor) -> None:
        name = self._names[tensor.index]
        if tensor.dtype is None or not tensor.shape or tensor.shape[0] != self.batch or not self.batch:
            raise CompileError(
                f"Input '{tensor.name}' of the TFLite model is {tensor.kind} of shape {tensor.shape}. Expected numbers "
                "with the batch axis first, of one size for all inputs.",
                input=tensor.name,
            )
        self.label = name
        self._note_type(name, interface_type(tensor), tensor.shape, PLAIN)
        kind = self.graph.types[name]
        self.graph.inputs.append(onnx.helper.make_tensor_value_info(name, kind.element, kind.shape))
        if is_quantised(tensor):
            self._codes[tensor.index, PLAIN] = name
            real = self.node("DequantizeLinear", [name, *self._grid(tensor)], name=f"{name}/dequantize")
            name = self._renamed(real, f"{name}/real")
        self._values[tensor.index, PLAIN] = name

    # ---- names, layouts and types ----

    def _rearranged(self, values: dict[tuple[int, Layout], str], index: int, layout: Layout, suffix: str) -> str:
        other = CHANNELS_FIRST if layout is PLAIN else PLAIN
        source = values.get((index, other))
        if source is None:
            raise CompileError(f"Tensor '{self.tensor(index).name}' of the TFLite model is read but never computed.")
        shape = self.tensor(index).shape
        before, self.label = self.label, f"{self._names[index]}{suffix}/to_{layout.value}"
        if same_order(shape):
            target = self.target_shape(other.order(shape), layout.order(shape))
            made = self.node("Reshape", [source, target], name=self.label)
        else:
            perm = [0, 3, 1, 2] if layout is CHANNELS_FIRST else [0, 2, 3, 1]
            made = self.node("Transpose", [source], name=self.label, perm=perm)
        self.label = before
        quantised = is_quantised(self.tensor(index)) and not suffix
        stem = f"{self._names[index]}/real" if quantised else self._names[index]
        return self._renamed(made, layout.named(stem))

    def _renamed(self, value: str, wanted: str) -> str:
        """Call the result of one of the newest nodes ``wanted``; an Identity if it has been named already."""
        for node in reversed(self.graph.nodes[-4:]):
            for position, name in enumerate(node.output):
                if name == value and value not in self.graph.types:
                    self._taken.add(wanted)
                    node.output[position] = wanted
                    return wanted
        named = self.node("Identity", [value])
        self.graph.nodes[-1].output[0] = wanted
        self._taken.add(wanted)
        self._taken.discard(named)
        return wanted

    def _unique(self, stem: str) -> str:
        return unique(stem, self._taken)

    def _note_type(self, name: str, element: int, shape: Sequence[int], layout: Layout) -> None:
        self.graph.types[name] = TensorType(element, tuple(layout.order(shape)))
