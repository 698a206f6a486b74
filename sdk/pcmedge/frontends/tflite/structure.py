"""Whether a file's tables, vectors and indices lie where they have to, before a runtime written in C++ believes it."""

from __future__ import annotations

from .checked import check_table, damaged, guarded, integers, tables
from .model import MAX_OPERANDS, Operator, Tensor, _operators, _tensors
from .operands import check_operands

MAX_SUBGRAPHS = 1024


def check_structure(data: bytes) -> None:
    """CompileError for a damaged file. Looks at every subgraph; of operators it knows the operands they need."""
    import tflite

    with guarded("its structure"):
        root = check_table(tflite.Model.GetRootAs(data, 0))
        graphs = tables(root, "Subgraphs", MAX_SUBGRAPHS)
        if not graphs:
            raise damaged("it has no subgraph")
        for graph in graphs:
            tensors, operators = _tensors(tflite, root, graph, len(data)), _operators(tflite, root, graph)
            count = len(tensors)
            inputs, outputs = (integers(graph, side, MAX_OPERANDS) for side in ("Inputs", "Outputs"))
            optional = [index for operator in operators for index in (*operator.inputs, *operator.outputs)]
            in_range = all(0 <= index < count for index in (*inputs, *outputs))
            if not in_range or not all(-1 <= index < count for index in optional):
                raise damaged(f"something refers to a tensor beyond the {count} there are")
            for operator in operators:
                check_operands(operator)
            _check_order(tensors, operators, inputs, outputs)


def _check_order(
    tensors: tuple[Tensor, ...], operators: tuple[Operator, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    """Nothing is read before it has a value, and nothing constant or given is written."""
    fixed = {tensor.index for tensor in tensors if tensor.data is not None}
    known = fixed | set(inputs) | {tensor.index for tensor in tensors if tensor.variable}
    for operator in operators:
        if any(index >= 0 and index not in known for index in operator.inputs):
            raise damaged(f"operator {operator.index} ({operator.kind}) reads a tensor before it is computed")
        if not (fixed | set(inputs)).isdisjoint(operator.outputs):
            raise damaged(f"operator {operator.index} ({operator.kind}) writes a tensor that has a value already")
        known.update(operator.outputs)
    if not known.issuperset(outputs):
        raise damaged("nothing computes one of its outputs")
