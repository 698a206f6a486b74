"""ONNX file or ``ModelProto`` → checked float ONNX model of the pinned opset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.errors import CompileError, FileMissingError, MissingExtraError

if TYPE_CHECKING:
    import onnx

OPSET = 21
OLDEST_OPSET = 11


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """Read, check and convert a model to opset 21; the source is not modified.

    Model-local functions are inlined. Files with external data are refused: an image is one file, and paths inside a
    model are not followed.

    Raises FileMissingError, CompileError (not ONNX, invalid, older than opset 11, external data, not convertible),
    UnsupportedOperatorError (operators that no opset 21 runtime knows, all of them at once) and MissingExtraError
    without onnx.
    """
    try:
        import onnx
        import onnx.inliner
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Reading an ONNX model") from error
    from pcmedge.compiler import support

    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
    else:
        model = _read(Path(source))
    refuse_external_data(model)
    _check_opset(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    support.require_known_operators(model)
    try:
        # Files whose outputs have no declared shape are common and run everywhere; the checker wants one.
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
    except Exception as error:
        raise CompileError(
            f"The ONNX model is not valid: {_first_line(error)}. Export it again until onnx.checker accepts it."
        ) from error
    return _convert(model)


def version() -> str:
    import onnx

    return str(onnx.__version__)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set the model was made for (0 if it names none)."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    if not path.is_file():
        raise FileMissingError(f"Expected an ONNX file at '{path}', found none. Check the path.", path=path)
    with path.open("rb") as file:
        if file.read(8)[4:] == b"TFL3":
            raise CompileError(
                f"'{path.name}' is a TFLite model, expected ONNX. pcmedge.compile takes it as it is; for its graph "
                "alone use pcmedge.frontends.tflite.load."
            )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise CompileError(
            f"'{path.name}' is not an ONNX file (expected a serialized ModelProto): {_first_line(error)}."
        ) from error
    if not model.graph.node or not model.graph.output:
        raise CompileError(f"'{path.name}' is not an ONNX model with a graph: it has no nodes or no outputs.")
    return model


def refuse_external_data(model: onnx.ModelProto) -> None:
    """CompileError if the model keeps tensors in other files."""
    from onnx.external_data_helper import uses_external_data

    external = [tensor.name for tensor in _tensors(model.graph) if uses_external_data(tensor)]
    if external:
        raise CompileError(
            f"The ONNX model keeps {len(external)} tensors (first: '{external[0]}') in external files, which are not "
            "followed. Save it as one file: onnx.save(onnx.load(path), new_path, save_as_external_data=False).",
            tensors=len(external),
        )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a graph, in its nodes' attributes and in their subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _tensors(body)


def _check_opset(model: onnx.ModelProto) -> None:
    found = opset_of(model)
    if found < OLDEST_OPSET:
        raise CompileError(
            f"The model uses ONNX opset {found}; {OLDEST_OPSET} to {OPSET} are understood. "
            f"Convert it with onnx.version_converter or export it again with opset {OPSET}.",
            found=found,
        )


def _convert(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx
    from onnx import version_converter

    if opset_of(model) == OPSET:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, OPSET)
        onnx.checker.check_model(converted)
    except Exception as error:
        raise CompileError(
            f"The model of opset {opset_of(model)} could not be converted to opset {OPSET}: {_first_line(error)}. "
            f"Export it with opset {OPSET}."
        ) from error
    return converted


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
