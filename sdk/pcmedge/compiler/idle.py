"""Operators that do nothing, which exporters leave between a product and its bias or around weights."""

from __future__ import annotations

import numpy as np
import onnx

from .graph import Graph, attributes, subgraphs


def drop_idle(graph: Graph) -> None:
    """Drop Identity, Cast to the type that is already there, and Dropout without its mask; types must be inferred.

    What writes a graph output stays: its name is the application's.
    """
    kept: list[onnx.NodeProto] = []
    instead: dict[str, str] = {}
    outputs = set(graph.output_names)
    inner = {name for node in graph.nodes for body in subgraphs(node) for name in _reads(body)}
    for node in graph.nodes:
        for position, name in enumerate(node.input):
            node.input[position] = instead.get(name, name)
        if _is_idle(graph, node) and node.output[0] not in outputs and node.output[0] not in inner:
            instead[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    graph.nodes = kept
    graph.sweep()


def _is_idle(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.domain:
        return False
    if node.op_type == "Cast":
        element = graph.type_of(node.input[0]).element
        return bool(element) and element == int(attributes(node)["to"])
    if node.op_type == "Dropout":
        training = node.input[2] if len(node.input) > 2 else ""
        off = not training or (training in graph.constants and not np.any(graph.constants[training]))
        return off and not any(node.output[1:])
    return str(node.op_type) == "Identity"


def _reads(graph: onnx.GraphProto) -> set[str]:
    found = {value.name for value in graph.output}
    for node in graph.node:
        found.update(node.input)
        for body in subgraphs(node):
            found.update(_reads(body))
    return found
