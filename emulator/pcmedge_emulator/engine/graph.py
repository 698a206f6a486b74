"""A small builder of ONNX graphs: fresh names, constants, nodes; and the one packed vector of session parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pcmedge_emulator.engine.state import Parameters

FloatArray = npt.NDArray[np.float32]
Statistics = Mapping[str, tuple[FloatArray, FloatArray]]
Source = Callable[[Parameters, Statistics], npt.NDArray[Any]]

PARAMETERS = "pcm/parameters"


@dataclass
class ParameterLayout:
    """Which tensors of a graph are parameters of a request, and where each lies in the one packed input vector.

    One vector per request is one consistent set by construction, and costs one session input instead of hundreds.
    """

    entries: list[tuple[str, int, Source]] = field(default_factory=list)

    def add(self, name: str, size: int, source: Source) -> str:
        """Declare parameter ``name``, float32 [size]; ``source`` computes it from parameters and reference."""
        self.entries.append((name, size, source))
        return name

    @property
    def size(self) -> int:
        return sum(size for _name, size, _source in self.entries)

    def pack(self, parameters: Parameters, reference: Statistics | None = None) -> FloatArray:
        """The packed vector, float32 [size]."""
        given: Statistics = reference or {}
        parts = [np.asarray(source(parameters, given), np.float32).reshape(-1) for _name, _size, source in self.entries]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def nodes(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[onnx.ValueInfoProto]]:
        """The Split node that unpacks the vector, its constant, and the graph input."""
        if not self.entries:
            return [], [], []
        sizes = np.array([size for _name, size, _source in self.entries], np.int64)
        split = numpy_helper.from_array(sizes, PARAMETERS + "/sizes")
        names = [name for name, _size, _source in self.entries]
        node = helper.make_node("Split", [PARAMETERS, split.name], names, name=PARAMETERS + "/split", axis=0)
        value = helper.make_tensor_value_info(PARAMETERS, TensorProto.FLOAT, [int(sizes.sum())])
        return [node], [split], [value]


class GraphBuilder:
    """Collects nodes and constants of a graph under construction. Names it makes start with ``pcm/``."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken = set(taken)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def child(self) -> GraphBuilder:
        """A builder for the body of a control-flow node: its own nodes, names and constants shared with this one."""
        body = GraphBuilder()
        body._taken, body._constants, body.initializers = self._taken, self._constants, self.initializers
        return body

    def fresh(self, hint: str) -> str:
        """A name no tensor of the graph has yet."""
        name, count = f"pcm/{hint}", 1
        while name in self._taken:
            count += 1
            name = f"pcm/{hint}#{count}"
        self._taken.add(name)
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike, hint: str = "constant") -> str:
        """The name of an initialiser with this value; small equal ones are shared."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= 16 else b"")
        if array.size <= 16 and key in self._constants:
            return self._constants[key]
        name = self.fresh(hint)
        self.initializers.append(numpy_helper.from_array(array, name))
        if array.size <= 16:
            self._constants[key] = name
        return name

    def node(self, operator: str, inputs: Iterable[str], hint: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        output = self.fresh(hint)
        self.add(operator, inputs, [output], **attributes)
        return output

    def rename(self, made: str, name: str) -> None:
        """Call the output of the latest node ``name``; of any other tensor an Identity makes a copy."""
        if self.nodes and list(self.nodes[-1].output) == [made]:
            self.nodes[-1].output[0] = self.nodes[-1].name = name
        else:
            self.add("Identity", [made], [name])

    def add(self, operator: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> None:
        """Add a node with the outputs named."""
        names = list(outputs)
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))


def tensor_names(graph: onnx.GraphProto) -> set[str]:
    """Every tensor name a graph uses, bodies included."""
    names = {value.name for value in graph.input} | {value.name for value in graph.output}
    names |= {tensor.name for tensor in graph.initializer}
    return names | names_in(graph.node)


def names_in(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Every tensor name that nodes read or write, bodies included."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        names.update(node.output)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= tensor_names(attribute.g)
    return names


def unknown_shape(name: str, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A value of known type and unknown shape."""
    return helper.make_tensor_value_info(name, dtype, None)
