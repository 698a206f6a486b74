"""Constant folding: everything that does not depend on an input becomes an initialiser, except batch norm.

Exporters compute weights (transposes, LSTM gate orders) and shapes inside the graph. The compiler looks for constant
weights, so this runs first. BatchNormalization is never evaluated nor merged: its statistics are what the chip adapts.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from pcmedge.errors import CompileError
from pcmedge.image import bounds

from .graph import OPSET, Array, Graph, attributes, describe_node, make_node, subgraphs

# Never evaluated although their inputs may be constant: batch norm (see above) and what draws random numbers.
_KEPT = frozenset(
    {
        "BatchNormalization",
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
# A result larger than its operands stays an operator (a broadcast or a range), unless it is small: an image carries
# 4.1 bytes per digital parameter of the model, not a blown-up copy of a scalar.
_SMALL_BYTES = 64 * 1024
# But weights that are stored smaller than they are computed with (quantised, float16) are weights all the same.
_STORED_SMALLER = frozenset({"Cast", "CastLike", "DequantizeLinear"})
_MAX_ROUNDS = 16


def fold(graph: Graph) -> None:
    """Fold constants until nothing changes, then drop what is no longer used."""
    for _ in range(_MAX_ROUNDS):
        if not _fold_once(graph):
            break
        graph.sweep()
        graph.infer()
    graph.sweep()


def _fold_once(graph: Graph) -> bool:
    changed = False
    sequences: dict[str, list[Array]] = {}
    kept: list[onnx.NodeProto] = []
    outputs = set(graph.output_names)
    for node in graph.nodes:
        values = None if outputs.intersection(node.output) else _evaluate(graph, node, sequences)
        if values is None:
            kept.append(node)
            continue
        graph.constants.update(values)
        changed = True
    graph.nodes = kept
    return changed


def _evaluate(graph: Graph, node: onnx.NodeProto, sequences: dict[str, list[Array]]) -> dict[str, Array] | None:
    """The constant outputs of a node, or None if it depends on an input or must stay.

    ``sequences``: what constants were split into (exporters do so with the weights of attention), by tensor name.
    """
    if node.domain or node.op_type in _KEPT or next(subgraphs(node), None) is not None:
        return None
    if node.op_type == "Shape":
        return _static_shape(graph, node)
    if node.op_type == "CastLike" and node.input[0] in graph.constants:
        target = graph.type_of(node.input[1]).element
        if not target:
            return None
        node = make_node("Cast", node.input[:1], node.output, name=node.name, to=target)
    if node.op_type == "SequenceAt" and node.input[0] in sequences and node.input[1] in graph.constants:
        return {node.output[0]: sequences[node.input[0]][int(graph.constants[node.input[1]])]}
    if any(name and name not in graph.constants for name in node.input):
        return None
    operands = {name: graph.constants[name] for name in node.input if name}
    if (count := bounds.elements(node, operands)) > bounds.MAX_ELEMENTS:
        what = bounds.too_many(f"the result of node '{describe_node(node)}' ({node.op_type})", count)
        raise CompileError(f"The model asks for too much: {what}. Check the sizes it was exported with.")
    made = _run(node, operands)
    if made is None:
        return None
    results = {name: value for name, value in made.items() if not isinstance(value, list)}
    if len(results) < len(made):
        sequences.update({name: value for name, value in made.items() if isinstance(value, list)})
        return None
    if node.op_type in _STORED_SMALLER:
        return results
    budget = max(_SMALL_BYTES, 2 * sum(value.nbytes for value in operands.values()))
    if node.op_type != "Constant" and sum(value.nbytes for value in results.values()) > budget:
        return None
    return results


def _static_shape(graph: Graph, node: onnx.NodeProto) -> dict[str, Array] | None:
    shape = graph.type_of(node.input[0]).shape
    if shape is None:
        return None
    wanted = attributes(node)
    dims = shape[wanted.get("start", 0) : wanted.get("end", len(shape))]
    if not all(isinstance(dim, int) for dim in dims):
        return None
    return {node.output[0]: np.array(dims, np.int64)}


def _run(node: onnx.NodeProto, operands: dict[str, Array]) -> dict[str, Array | list[Array]] | None:
    """The node's results; None where its operands do not fit it, which ONNX Runtime then says better."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "constant",
            [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in operands.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            results = ReferenceEvaluator(model).run(None, operands)
        except MemoryError:
            raise
        except Exception:  # numpy's and the evaluator's own, of many kinds
            return None
    names = [name for name in node.output if name]
    return {
        name: value if isinstance(value, list) else np.asarray(value)
        for name, value in zip(names, results, strict=True)
    }
