"""What cannot run, found all at once: one error names every offending node, its operator and the nearest way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from pcmedge.errors import UnsupportedOperatorError

from .graph import IR_VERSION, OPSET, Graph, attributes, describe_node, subgraphs
from .runtime import can_run

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul", "LSTM"})
_NEAREST = {
    "FusedConv": "export without ONNX Runtime's graph optimisations: Conv and its activation apart",
    "FusedMatMul": "export without ONNX Runtime's graph optimisations: MatMul and Transpose apart",
    "FusedGemm": "export without ONNX Runtime's graph optimisations: Gemm and its activation apart",
    "Gelu": "use Gelu of the default domain (opset 20), which torch.nn.GELU exports",
    "FastGelu": "write it with Tanh",
    "SkipLayerNormalization": "use Add and LayerNormalization",
    "LayerNormalization": "use LayerNormalization of the default domain",
    "Attention": "write attention with MatMul and Softmax",
    "MultiHeadAttention": "write attention with MatMul and Softmax",
}


@dataclass(frozen=True)
class Offence:
    """One node that cannot run, why, and what to use instead."""

    node: str
    operator: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"node '{self.node}', operator {self.operator}: {self.why}; nearest supported way: {self.instead}"


def require_known_operators(model: onnx.ModelProto) -> None:
    """Raise one UnsupportedOperatorError if any operator is not standard; used before the model is converted.

    Everything else that is known to be refused later is then named with it.
    """
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    found = [offence for node in _all_nodes(model.graph) for offence in _unknown(node, min(version, OPSET))]
    if found:
        graph = Graph.from_model(model)
        fixed = [name for node in graph.nodes if node.op_type == "Constant" for name in node.output]
        graph.constants.update(dict.fromkeys(fixed, np.zeros(0)))
        found += [offence for node in graph.nodes for offence in _restricted(node, graph)]
    refuse(found)


def require_runnable(graph: Graph) -> None:
    """Raise one UnsupportedOperatorError naming every node that the chip's runtime could not execute."""
    found: list[Offence] = []
    for node in graph.nodes:
        found += [offence for inner in _with_inner(node) for offence in _unknown(inner, OPSET)]
        found += _restricted(node, graph)
    weights = graph.weights()
    refusal = None if found else can_run(graph.to_model(declared=weights), weights)
    if refusal is not None:
        found = [offence for node in graph.nodes for offence in _without_kernel(node, graph)]
        if not found:
            raise UnsupportedOperatorError(
                f"ONNX Runtime refuses the model as a whole: {refusal}. Check that it runs in "
                "onnxruntime.InferenceSession before compiling it."
            )
    refuse(found)


def refuse(offences: list[Offence]) -> None:
    """Raise one UnsupportedOperatorError that names them all; nothing if there are none."""
    if not offences:
        return
    plural = "1 node" if len(offences) == 1 else f"{len(offences)} nodes"
    lines = "\n".join(f"  {offence}" for offence in offences)
    raise UnsupportedOperatorError(
        f"{plural} cannot run on the chip or beside it:\n{lines}",
        count=len(offences),
        nodes=", ".join(offence.node for offence in offences),
        operators=", ".join(dict.fromkeys(offence.operator for offence in offences)),
    )


def _unknown(node: onnx.NodeProto, version: int) -> Iterator[Offence]:
    if node.domain not in ("", "ai.onnx"):
        default = f"operators of the default ONNX domain, opset {OPSET}"
        if node.op_type.startswith("QLinear"):
            default = "quantise in the QDQ format (QuantizeLinear/DequantizeLinear around float operators)"
        elif node.domain == "ai.onnx.ml":
            default = "of scikit-learn MLPClassifier and MLPRegressor, alone or behind a StandardScaler"
        yield Offence(
            describe_node(node),
            f"{node.domain}.{node.op_type}",
            f"the domain '{node.domain}' is not standard ONNX",
            _NEAREST.get(node.op_type, default),
        )
    elif not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=""):
        newest = onnx.defs.has(node.op_type, domain="")
        why = f"it is not part of ONNX opset {version}" if newest else "ONNX has no such operator"
        fallback = f"export the model with opset {OPSET}" if newest else "compose it from standard ONNX operators"
        yield Offence(describe_node(node), node.op_type, why, _NEAREST.get(node.op_type, fallback))


def _restricted(node: onnx.NodeProto, graph: Graph) -> Iterator[Offence]:
    if node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0):
        yield Offence(
            describe_node(node), node.op_type, "it is in training mode", "export the model in evaluation mode"
        )
    if node.op_type in _CONTROL_FLOW:
        inner = [found for found in _inner_nodes(node) if _holds_weights(found, node, graph)]
        if inner:
            yield Offence(
                describe_node(node),
                node.op_type,
                f"layers with weights inside control flow ({', '.join(sorted({each.op_type for each in inner}))})"
                " cannot be placed on tiles",
                "unroll it, or move the layers with weights out of the branch or loop (LSTM is supported as such)",
            )


def _holds_weights(inner: onnx.NodeProto, outer: onnx.NodeProto, graph: Graph) -> bool:
    if inner.op_type not in _WEIGHTED:
        return False
    constants = set(graph.constants)
    for body in subgraphs(outer):
        constants.update(tensor.name for tensor in body.initializer)
        constants.update(name for node in body.node if node.op_type == "Constant" for name in node.output)
    return any(name in constants for name in inner.input[:2])


def _without_kernel(node: onnx.NodeProto, graph: Graph) -> Iterator[Offence]:
    """Whether ONNX Runtime has no kernel for this node alone (same types, unknown shapes)."""
    names = [name for name in dict.fromkeys(node.input) if name]
    if any(not graph.type_of(name).element for name in names) or next(subgraphs(node), None) is not None:
        return
    alone = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "alone",
            [onnx.helper.make_tensor_value_info(name, graph.type_of(name).element, None) for name in names],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    problem = can_run(alone)
    if problem is not None and ("NOT_IMPLEMENTED" in problem or "Could not find an implementation" in problem):
        types = sorted({onnx.TensorProto.DataType.Name(graph.type_of(name).element) for name in names})
        yield Offence(
            describe_node(node),
            node.op_type,
            f"ONNX Runtime has no implementation of it for {', '.join(types)}",
            _NEAREST.get(node.op_type, "use float32, or compose it from other standard operators"),
        )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield from _with_inner(node)


def _with_inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    yield from _inner_nodes(node)


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for body in subgraphs(node):
        for inner in body.node:
            yield from _with_inner(inner)
