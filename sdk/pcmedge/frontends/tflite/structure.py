"""Whether a file's tables, vectors and indices lie where they have to, before a runtime written in C++ believes it."""

from __future__ import annotations

from .checked import check_table, damaged, guarded, integers, tables
from .model import MAX_OPERANDS, _operators, _tensors

MAX_SUBGRAPHS = 1024


def check_structure(data: bytes) -> None:
    """CompileError for a damaged file. Looks at every subgraph; knows nothing of what operators mean."""
    import tflite

    with guarded("its structure"):
        root = check_table(tflite.Model.GetRootAs(data, 0))
        graphs = tables(root, "Subgraphs", MAX_SUBGRAPHS)
        if not graphs:
            raise damaged("it has no subgraph")
        for graph in graphs:
            count = len(_tensors(tflite, root, graph, len(data)))
            used = [index for side in ("Inputs", "Outputs") for index in integers(graph, side, MAX_OPERANDS)]
            optional = [
                index for operator in _operators(tflite, root, graph) for index in (*operator.inputs, *operator.outputs)
            ]
            if not all(0 <= index < count for index in used) or not all(-1 <= index < count for index in optional):
                raise damaged(f"something refers to a tensor beyond the {count} there are")
