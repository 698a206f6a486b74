"""The digital side of a comparison: every layer's input and pre-activation, from the model as given or the image's
own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pcmedge._contract import image_pb2
from pcmedge.errors import CalibrationError, InputError, InputValueError

if TYPE_CHECKING:
    import numpy as np

    from pcmedge.compiler.graph import Graph
    from pcmedge.image import ChipImage

    Array = np.ndarray[Any, np.dtype[Any]]

RECORDED = image_pb2.STATISTICS_KIND_RECORDED


@dataclass(frozen=True)
class LayerTensors:
    """Names in the digital graph: what an analog node reads beside constants, and its ``result``."""

    layer: str
    operator: str
    reads: tuple[str, ...]
    result: str


class Digital:
    """The digital network of an image; ``model`` and ``example_input`` as given to the compiler, or None.

    Raises InputValueError for another model than the image was compiled from, and what the compiler raises for a model.
    """

    def __init__(self, image: ChipImage, samples: Any, model: Any = None, example_input: Any = None) -> None:
        from pcmedge.compiler.calibration import calibration_set
        from pcmedge.compiler.digital import digital_graph
        from pcmedge.compiler.runtime import FloatModel, complete_types

        graph = digital_graph(image) if model is None else _given(image, model, example_input)
        self.reference = "image" if model is None else "model"
        try:
            self.samples: dict[str, Array] = calibration_set(graph, samples, what="samples", zeros=True)
        except CalibrationError as error:
            # The same rules, but nothing is compiled: these are inputs, as of an inference.
            raise InputError(error.message, **error.metadata) from error
        complete_types(graph, self.samples)
        self.layers = _layers(image, graph)
        self.outputs = list(graph.output_names)
        self._inputs = list(graph.input_names)
        wanted = [name for each in self.layers for name in (*each.reads, each.result)]
        self._model = FloatModel(graph, [*wanted, *self.outputs, *self._inputs])

    def batches(self, samples: Mapping[str, Array]) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """(inputs, all named tensors) a micro-batch at a time."""
        for tensors in self._model.batches(samples):
            yield {name: tensors[name] for name in self._inputs}, tensors


def altered(image: ChipImage) -> bool:
    """Whether the compiler was asked to clip weights or to correct biases."""
    options = json.loads(image.manifest.provenance.compile_options_json or "{}")
    return options.get("clip_sigma") is not None or bool(options.get("bias_correction"))


def _given(image: ChipImage, model: Any, example_input: Any) -> Graph:
    from pcmedge.compiler.source import fingerprint, load, prepare

    source = load(model, example_input, None)
    known = image.manifest.provenance.source_sha256
    if known and fingerprint(source) != known:
        raise InputValueError(
            f"expected the model that image '{image.name}' was compiled from (SHA-256 {known.hex()[:12]}...), found "
            f"another ({fingerprint(source).hex()[:12]}...). Compile this one, or leave it out.",
            expected=known.hex(),
        )
    return prepare(source).graph


def _layers(image: ChipImage, graph: Graph) -> list[LayerTensors]:
    from pcmedge.image.program import load_program

    program = load_program(image).graph
    described = {layer.name: layer for layer in image.manifest.layers}
    constants = {tensor.name for tensor in program.initializer}
    batch_norms = {node.name: node for node in program.node if node.op_type == "BatchNormalization"}
    found = []
    for node in program.node:
        if node.domain != "pcm":
            continue
        layer = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "layer")
        # Recorded statistics are an identity of the compiler's: the model knows the tensor behind it.
        kind, statistics = described[layer].statistics_kind, described[layer].statistics_node
        result = batch_norms[statistics].output[0] if kind == RECORDED else node.output[0]
        reads = (node.input[0], *node.input[2:])
        names = tuple(name for name in reads if name and name not in constants)
        found.append(LayerTensors(layer, node.op_type, names, result))
    return found
