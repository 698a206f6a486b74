"""The program of an image as an onnx model, checked against the manifest. Needs onnx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pcmedge._contract.image_pb2 import Manifest, TensorSpec
from pcmedge.errors import MissingExtraError
from pcmedge.image import bounds
from pcmedge.image.datatypes import datatype_name
from pcmedge.image.format import corrupt
from pcmedge.image.schemas import DOMAIN, register

if TYPE_CHECKING:
    from pcmedge.image.reader import ChipImage


def load_program(image: ChipImage) -> Any:
    """The program as onnx.ModelProto, after its hash and after checking what the manifest says about it.

    Raises ImageCorruptError with ``check`` one of ``program-parse``, ``program-opset``, ``program-external-data``,
    ``program-nodes``, ``program-tensors``, ``program-bounds``; MissingExtraError without onnx.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError:
        raise MissingExtraError.for_extra("emulator", "reading the program of a chip image") from None
    try:
        model = onnx.load_model_from_string(image.program())
    except DecodeError as error:
        raise corrupt("program-parse", f"the program is not an ONNX model: {error}") from error
    _check_opset(model, image.manifest)
    _check_self_contained(model)
    _check_readable(model)
    _check_nodes(model, image.manifest)
    _check_tensors(model, image.manifest)
    if (found := bounds.malformed(model.graph)) is not None:
        raise corrupt("program-nodes", found)
    if (found := bounds.excess(model.graph)) is not None:
        raise corrupt("program-bounds", f"the program asks for too much: {found}")
    register()
    try:
        onnx.checker.check_model(model, full_check=False)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise corrupt("program-parse", f"onnx does not accept the program: {error}") from error
    return model


def _check_opset(model: Any, manifest: Manifest) -> None:
    found = {entry.domain: entry.version for entry in model.opset_import}
    expected = {"": manifest.model.onnx_opset}
    if manifest.layers:
        expected[DOMAIN] = manifest.model.pcm_opset
    if any(found.get(domain) != version for domain, version in expected.items()):
        raise corrupt("program-opset", f"the program imports {found}, the manifest says {expected}")
    strange = sorted(set(found) - {"", "ai.onnx", DOMAIN})
    if strange:
        raise corrupt("program-opset", f"the program uses the operator domains {', '.join(strange)}")


def _check_self_contained(model: Any) -> None:
    """No tensor may name a file: reading an image must never read another path."""
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            if tensor.data_location or tensor.external_data:
                raise corrupt("program-external-data", f"tensor {tensor.name!r} refers to data outside the image")
        if graph is not model.graph and any(node.domain == DOMAIN for node in graph.node):
            raise corrupt("program-nodes", "an analog node is inside a branch or loop body")
    if model.functions:
        raise corrupt("program-nodes", "the program defines functions; images hold plain nodes")


def _check_readable(model: Any) -> None:
    """Tensors whose contents fit their type and shape, and attributes that have a value."""
    from onnx import numpy_helper

    for graph in _graphs(model.graph):
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        if any(attribute.ref_attr_name for attribute in attributes):
            raise corrupt("program-nodes", "an attribute refers to one of a function; images hold plain nodes")
        for tensor in (*graph.initializer, *(each.t for each in attributes if each.HasField("t"))):
            try:
                numpy_helper.to_array(tensor)
            except Exception as error:  # of any kind, as onnx checks none of it before
                raise corrupt("program-tensors", f"tensor {tensor.name!r} cannot be read: {error}") from error


def _check_nodes(model: Any, manifest: Manifest) -> None:
    """Analog nodes and layers match, one to one and in order."""
    found = []
    for node in model.graph.node:
        if node.domain == DOMAIN:
            layer = next((a.s.decode("utf-8", "replace") for a in node.attribute if a.name == "layer"), "")
            found.append((layer, node.op_type))
    if found != [(layer.name, layer.operator) for layer in manifest.layers]:
        raise corrupt("program-nodes", "the analog nodes of the program are not the layers of the manifest, in order")
    norms = {node.name for node in model.graph.node if node.op_type == "BatchNormalization"}
    missing = sorted({layer.statistics_node for layer in manifest.layers if layer.statistics_node} - norms)
    if missing:
        raise corrupt("program-nodes", f"there is no BatchNormalization named {', '.join(missing[:5])}")


def _check_tensors(model: Any, manifest: Manifest) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    for side, values, specs in (("input", inputs, manifest.model.inputs),
                                ("output", model.graph.output, manifest.model.outputs)):  # fmt: skip
        if [value.name for value in values] != [spec.name for spec in specs]:
            raise corrupt("program-tensors", f"the {side}s of the program and of the manifest differ")
        for value, spec in zip(values, specs, strict=True):
            _check_tensor(side, value, spec)


def _check_tensor(side: str, value: Any, spec: TensorSpec) -> None:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    try:
        datatype = datatype_name(tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError, ValueError):
        datatype = "none"
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    same = len(dims) == len(spec.shape) and all(
        want in (-1, size) or size == -1 for size, want in zip(dims, spec.shape, strict=True)
    )
    if datatype != spec.datatype or not same:
        raise corrupt(
            "program-tensors",
            f"{side} {spec.name!r}: the program has {datatype} {dims}, the manifest {spec.datatype} {list(spec.shape)}",
        )


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in attribute.graphs:
                yield from _graphs(inner)
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of one graph: initializers and attributes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            yield attribute.t
            for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
                yield from (sparse.values, sparse.indices)
