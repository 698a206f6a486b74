"""A mutable view of one ONNX graph, as the compiler passes want it: nodes in order, constants as arrays, known types.

The passes never look at protobuf containers of a graph; they see :class:`Graph` and standard ``NodeProto`` objects.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from pcmedge.errors import CompileError

OPSET = 21
IR_VERSION = 10
PCM_DOMAIN = "pcm"
PCM_OPSET = 1
# Constants that shape inference may need the values of (shapes, axes, sizes) have no more elements than this.
_SMALL = 1024

Shape = tuple[int | str | None, ...]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorType:
    """Element type (``onnx.TensorProto`` number, 0 if unknown) and shape (None if the rank is unknown)."""

    element: int
    shape: Shape | None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


UNKNOWN = TensorType(0, None)


@dataclass
class Graph:
    """One graph. ``constants`` are its initialisers; ``types`` covers inputs, outputs and what inference found."""

    name: str
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    types: dict[str, TensorType] = field(default_factory=dict)

    @classmethod
    def from_model(cls, model: onnx.ModelProto) -> Graph:
        graph = model.graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        found = cls(
            name=graph.name or "model",
            nodes=[_copy(node) for node in graph.node],
            constants=constants,
            inputs=[_value_info(value) for value in graph.input if value.name not in constants],
            outputs=[_value_info(value) for value in graph.output],
        )
        for value in (*graph.input, *graph.value_info, *graph.output):
            found.types[value.name] = _tensor_type(value)
        return found

    @property
    def input_names(self) -> list[str]:
        return [value.name for value in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [value.name for value in self.outputs]

    def type_of(self, name: str) -> TensorType:
        """What is known about a tensor; constants are always known."""
        if name in self.constants:
            value = self.constants[name]
            return TensorType(onnx.helper.np_dtype_to_tensor_dtype(value.dtype), tuple(value.shape))
        return self.types.get(name, UNKNOWN)

    def producers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.nodes for name in node.output if name}

    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Nodes that read each tensor, subgraphs included, in order."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node_reads(node)):
                readers.setdefault(name, []).append(node)
        return readers

    def sweep(self) -> None:
        """Drop nodes and constants that no output needs."""
        needed = set(self.output_names)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if any(name in needed for name in node.output):
                kept.append(node)
                needed.update(node_reads(node))
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}

    def fresh(self, stem: str) -> str:
        """A tensor or node name that nothing in the graph uses yet."""
        taken = set(self.constants) | set(self.types) | {node.name for node in self.nodes}
        taken.update(name for node in self.nodes for name in (*node.input, *node.output))
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        return name

    def to_model(
        self, *, extra_outputs: Iterable[str] = (), types: bool = True, declared: Container[str] = ()
    ) -> onnx.ModelProto:
        """The graph as a model of the pinned opset. ``extra_outputs`` are exposed behind the graph's own outputs.

        Constants in ``declared`` are named without their values, as external data that whoever runs it has to give.
        """
        extra = [name for name in dict.fromkeys(extra_outputs) if name not in self.output_names]
        produced = [name for node in self.nodes for name in node.output if name]
        graph = onnx.helper.make_graph(
            nodes=self.nodes,
            name=self.name,
            inputs=self.inputs,
            outputs=[*self.outputs, *(onnx.ValueInfoProto(name=name) for name in extra)],
            initializer=[
                _declared(name, value) if name in declared else _tensor(name, value)
                for name, value in self.constants.items()
            ],
            value_info=[
                info
                for name in produced
                if types and name not in self.output_names and name not in extra
                for info in _typed(name, self.types.get(name, UNKNOWN))
            ],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        if any(node.domain == PCM_DOMAIN for node in self.nodes):
            opsets.append(onnx.helper.make_opsetid(PCM_DOMAIN, PCM_OPSET))
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="pcmedge")

    def weights(self) -> dict[str, Array]:
        """The large constants, whose values matter to no shape; C-contiguous."""
        return {name: np.ascontiguousarray(value) for name, value in self.constants.items() if value.size > _SMALL}

    def infer(self) -> None:
        """Run ONNX shape inference (with value propagation) and remember what it finds."""
        model = self.without_weights().to_model()
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
        except Exception as error:
            raise CompileError(f"Shape inference failed on the model: {error}. Check it with onnx.checker.") from error
        for value in (*inferred.graph.value_info, *inferred.graph.output):
            self.types[value.name] = _tensor_type(value)
        for output in self.outputs:
            if (known := self.types[output.name]).element:
                output.CopyFrom(next(iter(_typed(output.name, known))))

    def without_weights(self) -> Graph:
        """The same graph with large constants as inputs: what matters of them to other shapes is their own."""
        large = self.weights()
        small = {name: value for name, value in self.constants.items() if name not in large}
        weights = [info for name in large for info in _typed(name, self.type_of(name))]
        return replace(self, constants=small, inputs=[*self.inputs, *weights])


def node_reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads: its inputs, and what its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own.update(name for inner in graph.node for name in inner.output)
        for inner in graph.node:
            yield from (name for name in node_reads(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Bodies of a control-flow node, one level deep."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values; byte strings are decoded."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return found


def make_node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], *, name: str, domain: str = "", **attrs: Any
) -> onnx.NodeProto:
    """``onnx.helper.make_node`` with attributes in sorted order, so that equal graphs have equal bytes."""
    return onnx.helper.make_node(operator, list(inputs), list(outputs), name=name, domain=domain, **attrs)


def describe_node(node: onnx.NodeProto) -> str:
    return node.name or (f"(unnamed, output '{node.output[0]}')" if node.output else "(unnamed)")


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    # Exporters leave stack traces with absolute paths of the user's machine here; they have no place in an image.
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.doc_string = ""
    del copied.metadata_props[:]
    return copied


def _value_info(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=value.name, type=value.type)


def _tensor(name: str, value: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(value) if value.ndim else value, name)


def _declared(name: str, value: Array) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="memory")
    return tensor


def _tensor_type(value: onnx.ValueInfoProto) -> TensorType:
    if value.type.WhichOneof("value") != "tensor_type":
        return UNKNOWN
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        dims.append(dim.dim_value if kind == "dim_value" else (dim.dim_param or None) if kind else None)
    return TensorType(tensor.elem_type, tuple(dims))


def _typed(name: str, kind: TensorType) -> Iterator[onnx.ValueInfoProto]:
    if kind.element:
        yield onnx.helper.make_tensor_value_info(name, kind.element, kind.shape)
