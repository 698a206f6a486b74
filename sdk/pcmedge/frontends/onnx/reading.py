"""A file or a ``ModelProto`` as a model of our own, with everything in it that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from pcmedge.errors import CompileError, FileMissingError
from pcmedge.image import bounds

LARGEST_BYTES = 2**31 - 1
"""What protobuf can serialise; ONNX keeps larger models in external data."""


def copy(source: onnx.ModelProto) -> onnx.ModelProto:
    """The model again, for passes that change it."""
    _require_graph(source, "The ModelProto")
    _require_size(source.ByteSize(), "The ModelProto")
    model = onnx.ModelProto()
    model.CopyFrom(source)
    return model


def read(path: Path) -> onnx.ModelProto:
    """Parse a file. Raises FileMissingError, CompileError for what is no ONNX model."""
    if not path.is_file():
        raise FileMissingError(f"Expected an ONNX file at '{path}', found none. Check the path.", path=path)
    with path.open("rb") as file:
        if file.read(8)[4:] == b"TFL3":
            raise CompileError(
                f"'{path.name}' is a TFLite model, expected ONNX. pcmedge.compile takes it as it is; for its graph "
                "alone use pcmedge.frontends.tflite.load."
            )
    _require_size(path.stat().st_size, f"'{path.name}'")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise CompileError(
            f"'{path.name}' is not an ONNX file (expected a serialized ModelProto): {first_line(error)}."
        ) from error
    _require_graph(model, f"'{path.name}'")
    return model


def refuse_external_data(model: onnx.ModelProto) -> None:
    """Raise CompileError if any tensor, wherever it lies, is kept outside of the file."""
    external = [tensor.name for tensor in _all_tensors(model) if uses_external_data(tensor)]
    if external:
        raise CompileError(
            f"The ONNX model keeps {len(external)} tensors (first: '{external[0]}') in external files, which are not "
            "followed. Save it as one file: onnx.save(onnx.load(path), new_path, save_as_external_data=False).",
            tensors=len(external),
        )


def require_sound(model: onnx.ModelProto) -> None:
    """Raise CompileError for what no exporter writes and what later steps would trip over or drown in.

    Names that are not text, tensors whose contents do not fit their type and shape, types that ONNX does not have, and
    sizes beyond :mod:`pcmedge.image.bounds`. Call it after :func:`refuse_external_data`.
    """
    _require_text(model.graph)
    for tensor in _all_tensors(model):
        try:
            numpy_helper.to_array(tensor)
        except Exception as error:
            raise _invalid(f"tensor '{tensor.name}' cannot be read: {first_line(error)}") from error
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        kind = value.type.tensor_type
        if kind.elem_type not in onnx.TensorProto.DataType.values():
            raise _invalid(f"tensor '{value.name}' has the unknown type {kind.elem_type}")
        if any(dim.dim_value < 0 for dim in kind.shape.dim):
            raise _invalid(f"tensor '{value.name}' has a negative size")
    held = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in held and not value.type.tensor_type.elem_type:
            raise _invalid(f"input '{value.name}' is not a tensor of a known type")
    if (found := bounds.malformed(model.graph)) is not None:
        raise _invalid(found)
    if (found := bounds.excess(model.graph)) is not None:
        raise CompileError(f"The ONNX model asks for too much: {found}. Check the sizes it was exported with.")


def _invalid(what: str) -> CompileError:
    return CompileError(f"The ONNX model is damaged: {what}. Export it again, or fetch the file again.")


def _require_text(graph: onnx.GraphProto) -> None:
    # What is not UTF-8 comes out of protobuf as bytes.
    for node in graph.node:
        texts = (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
        if not all(isinstance(each, str) for each in texts):
            raise _invalid(f"a name at node {node.name!r} is not text")
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise _invalid(f"an attribute of node '{node.name}' is that of a function, outside of one")
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _require_text(body)
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    if not all(isinstance(value.name, str) for value in values):
        raise _invalid("the name of a tensor is not text")


def first_line(error: BaseException) -> str:
    """What is worth showing of an error of onnx, without its last full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _require_size(size: int, what: str) -> None:
    if size > LARGEST_BYTES:
        raise CompileError(
            f"{what} has {size / 2**30:.1f} GiB; expected at most 2 GiB, which is what an ONNX file can hold in one "
            "piece. Models of that size do not fit a chip: compile a smaller one, or quantise its large tables.",
            found=size,
        )


def _require_graph(model: onnx.ModelProto, what: str) -> None:
    if not model.graph.node or not model.graph.output:
        raise CompileError(f"{what} is not an ONNX model with a graph: it has no nodes or no outputs.")


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from _attribute_tensors(function.attribute_proto)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
        single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for sparse in (*single, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from _graph_tensors(body)
