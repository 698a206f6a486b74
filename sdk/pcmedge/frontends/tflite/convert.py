"""Operators one after the other, every one that cannot be converted named in one error."""

from __future__ import annotations

import onnx

from pcmedge.compiler import support
from pcmedge.compiler.graph import Graph
from pcmedge.errors import CompileError

from .builder import Builder
from .checked import guarded
from .elements import Unsupported
from .model import Model, Operator
from .naming import stem_of
from .operators import CONVERTERS

_NEAREST = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": "two UNIDIRECTIONAL_SEQUENCE_LSTM, or export the model to ONNX",
    "LSTM": "UNIDIRECTIONAL_SEQUENCE_LSTM: convert with the new converter of TensorFlow 2",
}


def convert(model: Model) -> Graph:
    """The graph with the model's fixed batch size, shapes checked against those the file declares.

    Raises UnsupportedOperatorError naming every operator that cannot be converted, CompileError for the rest.
    """
    offences: list[support.Offence] = []
    builder = _begin(model)
    for operator in _needed(model):
        what = f"operator {operator.index} ({operator.kind})"
        builder.label = stem_of(operator, model.tensors)
        try:
            with guarded(what):
                _convert(builder, operator)
        except Unsupported as refusal:
            name = f"{operator.index}: {builder.label}"
            offences.append(support.Offence(name, operator.kind, refusal.why, refusal.instead))
            for output in operator.outputs:
                builder.stand_in(output)
    support.refuse(offences)
    with guarded("its outputs"):
        try:
            graph = builder.finish(model.outputs)
        except Unsupported as refusal:
            raise CompileError(f"An output of the TFLite model cannot be given: {refusal.why}.") from refusal
    _check_shapes(graph)
    return graph


def _begin(model: Model) -> Builder:
    try:
        with guarded("its inputs"):
            return Builder(model)
    except Unsupported as refusal:
        raise CompileError(
            f"An input of the TFLite model cannot be taken: {refusal.why}; {refusal.instead}."
        ) from refusal


def _convert(builder: Builder, operator: Operator) -> None:
    if operator.kind not in CONVERTERS:
        raise Unsupported(
            "it has no conversion",
            _NEAREST.get(operator.kind, "compose it from the operators listed in docs/tflite.md, or compile from ONNX"),
        )
    table, converter = CONVERTERS[operator.kind]
    if table and operator.options.kind != table:
        raise ValueError(f"expected {table}, found {operator.options.kind}")
    if not operator.inputs or not operator.outputs:
        raise ValueError("no operands or no result")
    converter(builder, operator)


def _needed(model: Model) -> list[Operator]:
    """Operators that an output depends on; what only computes a shape from the batch size is left out."""
    needed, kept = set(model.outputs), []
    for operator in reversed(model.operators):
        if needed.isdisjoint(operator.outputs):
            continue
        kept.append(operator)
        reads = operator.inputs
        if operator.kind == "RESHAPE":
            reads = operator.inputs[:1]
        elif operator.kind == "TRANSPOSE_CONV":
            reads = operator.inputs[1:]
        needed.update(reads)
    return kept[::-1]


def _check_shapes(graph: Graph) -> None:
    """What operators make must have the shapes that the file declares; this also bounds the memory a run needs."""
    small = graph.without_weights()
    try:
        onnx.shape_inference.infer_shapes(small.to_model(), check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CompileError(
            "The TFLite file is damaged or not a valid model: its operators do not fit the shapes it declares "
            f"({line})."
        ) from error
