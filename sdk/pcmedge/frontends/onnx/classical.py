"""What converters of scikit-learn (skl2onnx) put around a network: operators of the domain ``ai.onnx.ml``.

A label output is the ArgMax of the scores looked up among the classes, and ZipMap makes a list of dictionaries of the
scores. Neither is a tensor a chip could answer with, and both say less than the scores: they are cut, and the classes
become the image's labels. The scaler in front of a pipeline is written with standard operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "ai.onnx.ml"
_LABELLING = frozenset({"ArrayFeatureExtractor", "Binarizer", "LabelEncoder"})


def cut_labels(model: onnx.ModelProto) -> list[str]:
    """Rewrite the model in place and return the names of the classes, empty if it names none.

    Operators of the domain that are no scaler and not only for labels are left for the check of all operators.
    """
    graph = model.graph
    if not any(node.domain == DOMAIN for node in graph.node):
        return []
    labels: list[str] = []
    for node in list(graph.node):
        if node.domain == DOMAIN and node.op_type == "ZipMap":
            labels = _classes_of_zipmap(node)
            _scores_instead(graph, node)
        elif node.domain == DOMAIN and node.op_type == "Scaler":
            _plain_scaler(graph, node)
    naming = _depending(graph, _LABELLING)
    kept = [output for output in graph.output if output.name not in naming]
    if kept and len(kept) < len(graph.output):
        labels = labels or _classes_of_lookup(graph)
        del graph.output[:]
        graph.output.extend(kept)
        _sweep(graph)
    if not any(node.domain == DOMAIN for node in graph.node):
        imports = [entry for entry in model.opset_import if entry.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(imports)
    return labels


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _classes_of_zipmap(node: onnx.NodeProto) -> list[str]:
    found = _attributes(node)
    return [_text(each) for each in found.get("classlabels_strings") or found.get("classlabels_int64s") or []]


def _classes_of_lookup(graph: onnx.GraphProto) -> list[str]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            return [_text(each) for each in numpy_helper.to_array(constants[node.input[0]]).reshape(-1).tolist()]
    return []


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _scores_instead(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    for output in graph.output:
        if output.name == node.output[0]:
            output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None))
    node.CopyFrom(helper.make_node("Identity", node.input, node.output, name=node.name))


def _plain_scaler(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Scaler: (x - offset) * scale, of any number type, in float32."""
    found = _attributes(node)
    position = list(graph.node).index(node)
    stem = node.output[0]
    names = [f"{stem}/{role}" for role in ("offset", "scale", "float", "centred")]
    for name, key in zip(names, ("offset", "scale"), strict=False):
        graph.initializer.append(numpy_helper.from_array(np.array(found[key], np.float32), name))
    plain = [
        helper.make_node("Cast", node.input, [names[2]], name=f"{stem}/cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", [names[2], names[0]], [names[3]], name=f"{stem}/subtract"),
        helper.make_node("Mul", [names[3], names[1]], node.output, name=f"{stem}/multiply"),
    ]
    graph.node.remove(node)
    for offset, each in enumerate(plain):
        graph.node.insert(position + offset, each)


def _depending(graph: onnx.GraphProto, operators: frozenset[str]) -> set[str]:
    """Tensors computed from the results of these operators of the domain (nodes come in execution order)."""
    found: set[str] = set()
    for node in graph.node:
        if (node.domain == DOMAIN and node.op_type in operators) or found.intersection(node.input):
            found.update(node.output)
    return found


def _sweep(graph: onnx.GraphProto) -> None:
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.intersection(node.output):
            needed.update(node.input)
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                    needed.update(name for inner in body.node for name in inner.input)
        else:
            graph.node.remove(node)
