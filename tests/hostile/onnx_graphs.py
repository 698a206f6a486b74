"""Changes of an ONNX model that stay a well-formed protobuf message."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from . import messages
from .random_bytes import Rng


def fields(rng: Rng, data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    messages.mutate(rng, model)
    return model.SerializeToString()


def graph_fields(rng: Rng, data: bytes) -> bytes:
    """As ``fields``, within one node: most of a model's fields are names and opsets."""
    model = onnx.load_from_string(data)
    messages.mutate(rng, model.graph.node[int(rng.integers(len(model.graph.node)))])
    return model.SerializeToString()


def constants(rng: Rng, data: bytes) -> bytes:
    """Within one constant or one interface tensor: dimensions huge or negative, other types, contents cut."""
    model = onnx.load_from_string(data)
    held = [*model.graph.initializer, *model.graph.input, *model.graph.output]
    messages.mutate(rng, held[int(rng.integers(len(held)))])
    return model.SerializeToString()


def rewired(rng: Rng, data: bytes) -> bytes:
    """Names of tensors exchanged: cycles, two writers, values that nothing computes, inputs that shadow constants."""
    model = onnx.load_from_string(data)
    graph = model.graph
    names = sorted({name for node in graph.node for name in (*node.input, *node.output)})
    for _ in range(int(rng.integers(1, 4))):
        node = graph.node[int(rng.integers(len(graph.node)))]
        side = node.input if node.input and rng.random() < 0.6 else node.output
        if side:
            side[int(rng.integers(len(side)))] = names[int(rng.integers(len(names)))]
    return model.SerializeToString()


def other_operator(rng: Rng, data: bytes) -> bytes:
    """A node that is another operator with the same operands, or that lost its attributes."""
    model = onnx.load_from_string(data)
    node = model.graph.node[int(rng.integers(len(model.graph.node)))]
    if rng.random() < 0.3:
        del node.attribute[:]
        return model.SerializeToString()
    known = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
    node.op_type = known[int(rng.integers(len(known)))]
    if rng.random() < 0.6:
        del node.attribute[:]
    return model.SerializeToString()


def nested(rng: Rng, data: bytes) -> bytes:
    """A node of a graph in an attribute of a node of a graph ..., up to what protobuf reads and beyond."""
    model = onnx.load_from_string(data)
    output = model.graph.output[0].name if rng.random() < 0.5 else "unused"
    node = onnx.helper.make_node("Identity", [model.graph.input[0].name], ["deep"]).SerializeToString()
    for _ in range(int(rng.integers(1, 60))):
        # Wire format by hand, because the library does not even copy what is nested this deeply.
        graph = _field(1, node) + _field(2, b"level") + _field(12, _field(1, b"deep"))
        branches = [
            _field(5, _field(1, name) + _field(6, graph) + b"\xa0\x01\x05") for name in (b"then_branch", b"else_branch")
        ]
        # One branch only, mostly: two at every level are as many nodes as a power of two.
        node = _field(1, b"c") + _field(2, b"deep") + _field(4, b"If") + b"".join(branches[: 1 + (len(node) < 200)])
    node = _field(2, output.encode()) + node.replace(_field(2, b"deep"), b"", 1)
    return model.SerializeToString() + _field(7, _field(1, node))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field; a message's fields may come in several pieces, which are merged."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def large(rng: Rng, data: bytes) -> bytes:
    """A size in a constant list of integers becomes huge: Reshape, Expand, Tile, Range, ConstantOfShape, Pad."""
    model = onnx.load_from_string(data)
    held = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT64]
    if not held:
        return constants(rng, data)
    tensor = held[int(rng.integers(len(held)))]
    values = np.array(onnx.numpy_helper.to_array(tensor))
    values.reshape(-1)[int(rng.integers(values.size))] = int(rng.choice([2**20, 2**28, 2**31, 2**40, 2**62, -(2**31)]))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


MUTATIONS: dict[str, Callable[[Rng, bytes], bytes]] = {
    made.__name__: made for made in (fields, graph_fields, constants, rewired, other_operator, nested, large)
}
