"""The way back: an image's program as the digital network it stands for, and that network's statistics.

Every analog node becomes the ONNX operator it came from, with the weights its tiles are to hold: W = g * weight_scale,
in float32, without converters or noise. What is measured on it is measured by the same code and with the
same definition as at compile time (docs/calibration.md, "Your own data").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from pcmedge.image.program import load_program
from pcmedge.image.targets import full_scale
from pcmedge.image.writer import rebuffered

from .calibration import calibration_set
from .graph import PCM_DOMAIN, Array, Graph, attributes, make_node
from .layers import CONV, LSTM, kernels
from .measure import moments_of
from .statistics import Moments, batch_norm_inputs

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

Floats = np.ndarray[Any, np.dtype[np.float32]]
Statistics = dict[str, tuple[Floats, Floats]]
Progress = Callable[[int, int], None]

# Below this share of the variance it is compared with, a variance is rounding.
_DEAD = 1e-6


def digital_graph(image: ChipImage) -> Graph:
    """The program of an image with Conv, MatMul and LSTM nodes in place of the analog ones; tensors keep names."""
    return with_weights(Graph.from_model(load_program(image)), _blocks(image))


def with_weights(program: Graph, blocks: Mapping[tuple[str, str], StoredBlock]) -> Graph:
    """A chip program (changed in place) with its analog nodes computed digitally; ``blocks`` by (layer, block)."""
    nodes: list[onnx.NodeProto] = []
    for node in program.nodes:
        nodes += _digital(program, node, blocks) if node.domain == PCM_DOMAIN else [node]
    program.nodes = nodes
    return program


def digital_statistics(image: ChipImage, samples: Any, *, progress: Progress | None = None) -> Statistics:
    """{BatchNormalization node: (mean, population variance)} of the digital network over ``samples``, float32 [C].

    What the image's table "statistics" holds for its own buffer, for any samples: the program runs digitally in
    inference mode and the input of every batch norm is measured per channel. ``samples``: inputs as the model takes
    them, in the forms of ``pcmedge.compile(calibration=...)``. ``progress(done, total)`` counts samples.

    Raises CalibrationError for samples that do not fit.

    Measured on the network of the tiles' weights, then carried over to the network as it was compiled, before clipping
    and rounding. The image knows both on its own buffer, and the step between them is that of paired recalibration:

        mean = given_own + (measured - measured_own) sqrt(var_given_own / var_measured_own)
        var  = var_measured var_given_own / var_measured_own

    ``given_own``: the image's table "statistics". An image without one has nothing to carry over by.
    """
    graph = digital_graph(image)
    inputs = batch_norm_inputs(graph)
    checked = calibration_set(graph, samples, what="samples", zeros=True)
    given = image.reference_statistics()
    own = moments_of(graph, inputs, image.calibration_buffer()) if set(given) >= set(inputs) else {}
    found: Statistics = {}
    for node, measured in moments_of(graph, inputs, checked, progress).items():
        mean, variance = measured.mean, measured.variance
        if node in own:
            mean, variance = _carried(mean, variance, own[node], *given[node])
        found[node] = (mean.astype(np.float32), variance.astype(np.float32))
    return found


def _carried(
    mean: Array, variance: Array, own: Moments, given_mean: Array, given_variance: Array
) -> tuple[Array, Array]:
    known = given_variance.astype(np.float64)
    # A channel that is dead on the buffer in either network has no scale to carry over.
    alive = (own.variance > _DEAD * known) & (known > _DEAD * own.variance)
    ratio = np.where(alive, known, 1.0) / np.where(alive, own.variance, 1.0)
    return given_mean + (mean - own.mean) * np.sqrt(ratio), variance * ratio


def with_buffer(
    image: ChipImage, samples: Any, *, version: int | None = None, progress: Progress | None = None
) -> ChipImage:
    """The same image with ``samples`` as its stored calibration buffer, and their digital statistics.

    ``version``: of the new image, by default one more than that of ``image``. Its provenance names ``image``
    (``rebuffered_from_sha256``); signatures are left behind, because they sign the manifest. Other arguments and errors
    as :func:`digital_statistics`; InputValueError for a version that is not larger.
    """
    arrays = calibration_set(Graph.from_model(load_program(image)), samples, what="samples")
    return rebuffered(image, arrays, digital_statistics(image, arrays, progress=progress), version)


@dataclass(frozen=True)
class StoredBlock:
    """``weights`` float32 [groups, rows, columns]; ``bias`` float32 [groups * columns] of its bias row, if any."""

    weights: Floats
    bias: Floats | None


def _blocks(image: ChipImage) -> dict[tuple[str, str], StoredBlock]:
    """(layer, block) -> what its tiles stand for together."""
    scales = image.weight_scales()
    described = {(layer.name, block.name): block for layer in image.manifest.layers for block in layer.blocks}
    normalised = {key: np.zeros((block.groups, block.rows, block.columns)) for key, block in described.items()}
    for tile in image.tiles():
        target = image.target(tile)
        normalised[tile.layer, tile.block][
            tile.first_group : tile.first_group + tile.groups,
            tile.first_row : tile.first_row + tile.rows,
            tile.first_column : tile.first_column + tile.columns,
        ] = target.astype(np.float64) / full_scale(target.dtype)
    blocks = {}
    for key, values in normalised.items():
        scale = scales[key].astype(np.float64).reshape(values.shape[0], 1, values.shape[2])
        weights = values * scale
        bias = None
        if code := described[key].bias_code:
            # The last row of every group is driven with this code in every product.
            bias = (weights[:, -1] * code * described[key].dac_step).reshape(-1).astype(np.float32)
            weights = weights[:, :-1]
        blocks[key] = StoredBlock(weights.astype(np.float32), bias)
    return blocks


def _digital(graph: Graph, node: onnx.NodeProto, blocks: Mapping[tuple[str, str], StoredBlock]) -> list[onnx.NodeProto]:
    """The ONNX nodes an analog node stands for; their weights become constants of the graph."""
    options = attributes(node)
    layer = str(options.pop("layer"))
    inputs = [*node.input, "", "", "", ""][:4]

    def constant(role: str, value: Array) -> str:
        name = graph.fresh(f"{layer}/{role}")
        graph.constants[name] = np.ascontiguousarray(value)
        return name

    def matrices(kind: str) -> Array:
        return np.stack([blocks[layer, kind + suffix].weights[0].T for suffix in suffixes])

    if node.op_type == LSTM:
        suffixes = ("", "_reverse") if options["direction"] == "bidirectional" else ("",)
        w, r = constant("W", matrices("W")), constant("R", matrices("R"))
        given = [inputs[0], w, r, inputs[1], "", inputs[2], inputs[3]]
        return [make_node("LSTM", _trimmed(given), node.output, name=node.name, **options)]
    block = blocks[layer, "W"]
    bias = inputs[1] if block.bias is None else constant("bias", block.bias)
    if node.op_type == CONV:
        given = [inputs[0], constant("W", kernels(block.weights, options["kernel_shape"])), bias]
        return [make_node("Conv", _trimmed(given), node.output, name=node.name, **options)]
    weights = constant("W", block.weights[0])
    if not bias:
        return [make_node("MatMul", [inputs[0], weights], node.output, name=node.name)]
    product = graph.fresh(f"{layer}/product")
    return [
        make_node("MatMul", [inputs[0], weights], [product], name=node.name),
        make_node("Add", [product, bias], node.output, name=graph.fresh(f"{layer}/bias")),
    ]


def _trimmed(names: list[str]) -> list[str]:
    while not names[-1]:
        names = names[:-1]
    return names
