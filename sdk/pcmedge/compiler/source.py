"""The model as it was given: reading it, and the graph passes up to knowing which nodes go into tiles."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from pcmedge._contract.image_pb2 import Provenance
from pcmedge.errors import CompileError, Error, InternalError
from pcmedge.frontends import onnx as onnx_frontend
from pcmedge.frontends import tflite as tflite_frontend
from pcmedge.frontends import torch as torch_frontend
from pcmedge.image import bounds
from pcmedge.image.naming import model_name

from . import support
from .folding import fold
from .graph import Graph
from .idle import drop_idle
from .layers import Matching, match
from .names import module_paths
from .normalise import free_batch_axis, normalise
from .options import Options
from .runtime import can_run
from .statistics import name_batch_norms


@dataclass(frozen=True)
class Source:
    """A checked model under the name it is compiled as; ``format`` and ``version`` of what it came from.

    ``labels``: names of its classes, where it brought some.
    """

    model: onnx.ModelProto
    name: str
    format: str
    version: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """The float graph after its passes, and which of its nodes go into tiles."""

    graph: Graph
    matching: Matching


def load(model: Any, example_input: Any, name: str | None) -> Source:
    """The model as ONNX. CompileError for what is no model, FileMissingError, MissingExtraError, InputError."""
    if torch_frontend.is_module(model):
        if example_input is None:
            raise CompileError(
                "A torch module needs example_input, one example batch to export it with; for instance x[:1]."
            )
        exported = torch_frontend.load(model, example_input)
        version = torch_frontend.version()
        return Source(onnx_frontend.load(exported), model_name(name, type(model).__name__), "torch", version)
    if not isinstance(model, (str, os.PathLike, onnx.ModelProto)):
        raise CompileError(
            "Expected a torch.nn.Module, an onnx.ModelProto or the path of an ONNX or TFLite file; found "
            f"{type(model).__name__}."
        )
    if not isinstance(model, onnx.ModelProto) and tflite_frontend.recognises(model):
        converted = onnx_frontend.load(tflite_frontend.load(model))
        return Source(converted, model_name(name, Path(model).stem), "tflite", tflite_frontend.version())
    loaded = onnx_frontend.load(model)
    fallback = loaded.graph.name if isinstance(model, onnx.ModelProto) else Path(model).stem
    labels = onnx_frontend.class_labels(loaded)
    return Source(loaded, model_name(name, fallback), "onnx", onnx_frontend.version(), labels)


def prepare(source: Source) -> Front:
    """Graph passes on the float model, up to knowing which nodes go into tiles. CompileError if none does."""
    try:
        return _prepare(source)
    except (Error, MemoryError):
        raise
    except Exception as error:
        # The passes take nodes to fit their operands, which onnx.checker does not check. A model that does not run
        # anywhere is the model's fault; one that does is ours.
        refusal = can_run(source.model)
        if refusal is None:
            raise InternalError(
                f"The compiler failed on a model that ONNX Runtime accepts: {type(error).__name__}: {error}. Please "
                "report it with the model."
            ) from error
        raise CompileError(
            f"The model does not run: {refusal}. Check that onnxruntime.InferenceSession opens it before compiling it."
        ) from error


def _prepare(source: Source) -> Front:
    origins = module_paths(source.model)
    graph = Graph.from_model(source.model)
    graph.name = source.name
    free_batch_axis(graph)
    graph.sweep()
    graph.infer()
    fold(graph)
    drop_idle(graph)
    normalise(graph)
    graph.infer()
    fold(graph)
    _require_bounded(graph)
    name_batch_norms(graph, origins)
    support.require_runnable(graph)
    matching = match(graph, origins)
    if not matching.layers:
        reasons = "; ".join(
            f"{node.name or node.op_type} ({node.op_type}): {matching.digital[node.output[0]]}"
            for node in graph.nodes[:20]
        )
        raise CompileError(
            "No layer of the model can be placed on tiles: expected at least one Linear, Conv or LSTM with constant "
            f"float32 weights. Found {reasons or 'no nodes that depend on an input'}."
        )
    return Front(graph, matching)


def _require_bounded(graph: Graph) -> None:
    """Raise CompileError if a tensor of known shape is too large to compute, before anything computes it."""
    for name, kind in graph.types.items():
        if name in graph.constants:
            continue
        count = math.prod(size for size in kind.shape or () if isinstance(size, int))
        if count > bounds.MAX_ELEMENTS:
            what = bounds.too_many(f"tensor '{name}'", count)
            raise CompileError(f"The model asks for too much: {what}. Check the sizes it was exported with.")


def fingerprint(source: Source) -> bytes:
    """SHA-256 of the model as it was given to the passes."""
    bare = onnx.ModelProto()
    bare.CopyFrom(source.model)
    for node in bare.graph.node:
        # Stack traces of the export name files of the machine it ran on.
        del node.metadata_props[:]
        node.doc_string = ""
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def provenance(source: Source, options: Options, samples: int) -> Provenance:
    """What the image says of where it came from; ``samples`` of the calibration set."""
    from pcmedge import __version__

    return Provenance(
        sdk_version=__version__,
        source_format=source.format,
        source_version=source.version,
        source_sha256=fingerprint(source),
        compile_options_json=options.to_json(),
        calibration_samples=samples,
    )
