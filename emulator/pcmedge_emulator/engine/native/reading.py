"""Reading a lowered graph: who makes and who reads a tensor, constants, places of parameters, converters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from pcmedge_emulator.engine.graph import PARAMETERS, names_in

_KINDS = {np.dtype(np.uint8): ("uint8", 0.0, 255.0), np.dtype(np.int8): ("int8", -128.0, 127.0)}


@dataclass(frozen=True)
class Converter:
    """A QuantizeLinear and what belongs to it: codes of ``step`` in [low, high] in the tensor ``name``.

    ``kind`` is the codes' element type: "float" if a DequantizeLinear of step 1 makes numbers of them.
    """

    step: float
    low: float
    high: float
    kind: str
    name: str
    nodes: tuple[onnx.NodeProto, ...]


class Graph:
    """The top level of a lowered model, to look things up in. ``places``: parameter -> (first, size) in the vector."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.outputs = {value.name for value in model.graph.output}
        self.places: dict[str, tuple[int, int]] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            bodies = any(item.HasField("g") for item in node.attribute)
            for name in names_in([node]) - set(node.output) if bodies else node.input:
                self._readers[name].append(node)
            self._makers.update((name, node) for name in node.output)
            if node.op_type == "Split" and node.input[0] == PARAMETERS:
                ends = np.cumsum(self.array(node.input[1]))
                self.places = {
                    name: (int(end - size), int(size))
                    for name, end, size in zip(node.output, ends, self.array(node.input[1]), strict=True)
                }

    def maker(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is such a standard operator."""
        node = self._makers.get(name)
        return node if node is not None and (node.op_type, node.domain) == (operator, "") else None

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return self._readers.get(name, [])

    def only(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The one reader of a tensor, if it is such a standard operator and nobody else wants the tensor."""
        readers = self.readers(name)
        if len(readers) != 1 or name in self.outputs:
            return None
        return readers[0] if (readers[0].op_type, readers[0].domain) == (operator, "") else None

    def array(self, name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return values

    def size(self, name: str) -> int | None:
        """Elements of a constant; None if it is none."""
        tensor = self._constants.get(name)
        return None if tensor is None else int(np.prod(tensor.dims, dtype=np.int64))

    def number(self, name: str) -> float | None:
        """The value of a constant all elements of which are the same."""
        if not self.size(name):
            return None
        values = self.array(name).reshape(-1)
        return float(values[0]) if np.all(values == values[0]) else None

    def limits(self, clip: onnx.NodeProto, low: float, high: float) -> tuple[float, float] | None:
        """What a Clip leaves of [low, high]; None if its limits are no constants."""
        given = [self.number(name) if name else None for name in clip.input[1:3]]
        if any(name and value is None for name, value in zip(clip.input[1:3], given, strict=True)):
            return None
        lowest, highest = (*given, None, None)[:2]
        return (low if lowest is None else max(low, lowest), high if highest is None else min(high, highest))

    def converter(self, node: onnx.NodeProto) -> Converter | None:
        """The converter that a QuantizeLinear begins, if its step is one number and its zero point is 0."""
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or self.size(node.input[1]) != 1:
            return None
        step, zero = self.number(node.input[1]), self.number(node.input[2])
        # Far from both ends of float32, a product with the reciprocal can be corrected to the quotient.
        if step is None or zero != 0 or not 1e-30 < step < 1e30:
            return None
        kind = _KINDS.get(self.array(node.input[2]).dtype)
        if kind is None:
            return None
        found = Converter(step, kind[1], kind[2], kind[0], node.output[0], (node,))
        clip = self.only(found.name, "Clip")
        limits = None if clip is None else self.limits(clip, found.low, found.high)
        if clip is None or limits is None:
            return found
        return replace(found, low=limits[0], high=limits[1], name=clip.output[0], nodes=(node, clip))

    def as_numbers(self, made: Converter) -> Converter:
        """With the DequantizeLinear of step 1 that makes float32 of the codes, if that alone follows."""
        node = self.only(made.name, "DequantizeLinear")
        if node is None or self.number(node.input[1]) != 1.0:
            return made
        if len(node.input) > 2 and self.number(node.input[2]) != 0:
            return made
        return replace(made, kind="float", name=node.output[0], nodes=(*made.nodes, node))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def known_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | str, ...]]:
    """Shapes of tensors all axes of which have a size or a name."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)
        if shape and "" not in shape:
            found[value.name] = shape
    return found
