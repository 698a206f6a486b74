"""``.tflite`` file → float ONNX model of the pinned opset, with the interface the file has (NHWC, codes stay codes).

``checked`` and ``model`` read the file without believing it, ``builder`` holds the graph with its layouts and
quantised tensors, ``operators`` convert by family.
"""

from __future__ import annotations

import os
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.errors import CompileError, FileMissingError, MissingExtraError

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 512 * 2**20


def recognises(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a TFLite model: by its first bytes, or by its suffix if there is no such file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == b"TFL3" or path.suffix == ".tflite"
    except OSError:
        return path.suffix == ".tflite"


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read, check and convert a model; the batch axis (the first of every input) becomes free.

    Raises FileMissingError, CompileError (damaged, too large, several subgraphs, shapes that do not fit),
    UnsupportedOperatorError (all operators without a conversion at once), MissingExtraError without onnx or tflite.
    """
    _require_extra()
    from ..interface import attach
    from .convert import convert
    from .interface import interface
    from .model import parse

    path = Path(path)
    if not path.is_file():
        raise FileMissingError(f"Expected a TFLite file at '{path}', found none. Check the path.", path=path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise CompileError(f"'{path.name}' is {size} bytes; TFLite models of up to {MAX_FILE_BYTES} bytes are read.")
    data = path.read_bytes()
    parsed = parse(data)
    graph = convert(parsed)
    graph.name = path.stem
    for value in (*graph.inputs, *graph.outputs):
        # Whether an output follows the batch is the compiler's to prove.
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # Shapes inside were for the file's batch size.
    graph.types = {}
    model = graph.to_model(types=False)
    attach(model, interface(data, parsed, graph.input_names, graph.output_names))
    return model


def version() -> str:
    """Version of the schema package, for the image's provenance."""
    return metadata.version("tflite")


def _require_extra() -> None:
    try:
        for package in ("onnx", "flatbuffers", "tflite"):
            import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Compiling a TFLite model") from error
