"""From the passes' results to the image: manifest, tile targets, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from pcmedge._contract import image_pb2
from pcmedge._contract.image_pb2 import (
    AnalogLayer,
    ChipProfile,
    Manifest,
    PlacementReport,
    Provenance,
    TensorSpec,
    WeightBlock,
)
from pcmedge.errors import CompileError
from pcmedge.frontends.interface import Interface, describe
from pcmedge.image import ChipImage, Tile, build_image
from pcmedge.image.application import describe_application
from pcmedge.image.datatypes import datatype_name

from .buffers import Buffer
from .graph import OPSET, PCM_OPSET, Array, Graph, describe_node
from .layers import Layer
from .measure import BlockKey, BlockRange, cut
from .placement import Region
from .scaling import ScaledBlock
from .statistics import BATCH_NORM, NONE, RECORDED, Moments, StatisticsPlan

_KINDS = {
    NONE: image_pb2.STATISTICS_KIND_NONE,
    BATCH_NORM: image_pb2.STATISTICS_KIND_BATCH_NORM,
    RECORDED: image_pb2.STATISTICS_KIND_RECORDED,
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything an image is put together from."""

    name: str
    version: int
    description: str
    profile: ChipProfile
    graph: Graph
    program: Graph
    layers: Sequence[Layer]
    plan: StatisticsPlan
    scaled: Mapping[BlockKey, ScaledBlock]
    regions: Mapping[BlockKey, Sequence[Region]]
    ranges: Mapping[BlockKey, BlockRange]
    scaling: str
    report: PlacementReport
    buffer: Buffer
    reference_moments: Mapping[str, Moments]
    reference: tuple[dict[str, Array], dict[str, Array]]
    labels: Sequence[str] | None
    preprocessing: Any
    interface: Interface
    provenance: Provenance


def assemble(parts: Parts) -> ChipImage:
    """Build the image and let the reader's own checks pass over it."""
    program = parts.program.to_model()
    try:
        onnx.checker.check_model(program)
    except onnx.checker.ValidationError as error:
        raise CompileError(f"The compiled program is not valid ONNX: {error}. Please report this model.") from error
    return build_image(
        manifest=_manifest(parts),
        program=program.SerializeToString(deterministic=True),
        tile_targets=_tiles(parts),
        weight_scales={key: block.scale for key, block in parts.scaled.items()},
        reference_statistics={
            node: (
                parts.plan.layer_of[node],
                moments.mean.astype(np.float32),
                moments.variance.astype(np.float32),
            )
            for node, moments in parts.reference_moments.items()
        },
        buffer=parts.buffer.stored,
        reference=parts.reference,
    )


def _manifest(parts: Parts) -> Manifest:
    manifest = Manifest(
        profile=parts.profile,
        layers=[_layer(parts, layer) for layer in parts.layers],
        placement=parts.report,
        calibration_buffer=parts.buffer.description,
        provenance=parts.provenance,
    )
    model = manifest.model
    model.name, model.version, model.description = parts.name, parts.version, parts.description
    model.onnx_opset, model.pcm_opset = OPSET, PCM_OPSET
    model.inputs.extend(_spec(parts, name, parts.reference[0][name]) for name in parts.graph.input_names)
    model.outputs.extend(_spec(parts, name, parts.reference[1][name]) for name in parts.graph.output_names)
    describe(parts.interface, manifest)
    probabilities = _probabilities(parts.graph)
    manifest.application.MergeFrom(
        describe_application(parts.labels, parts.preprocessing, model.inputs, model.outputs, probabilities)
    )
    return manifest


def _probabilities(graph: Graph) -> frozenset[str]:
    """Outputs that come straight out of a softmax, or are its codes."""
    producers = graph.producers()

    def from_softmax(name: str) -> bool:
        node = producers.get(name)
        while node is not None and node.op_type in ("QuantizeLinear", "Identity"):
            node = producers.get(node.input[0])
        return node is not None and node.op_type == "Softmax"

    return frozenset(filter(from_softmax, graph.output_names))


def _spec(parts: Parts, name: str, example: Array) -> TensorSpec:
    known = parts.graph.type_of(name).shape
    if known is None or len(known) != example.ndim:
        known = (None,) * example.ndim
    shape = [-1, *(dim if isinstance(dim, int) else -1 for dim in known[1:])]
    return TensorSpec(name=name, datatype=datatype_name(example.dtype), shape=shape)


def _layer(parts: Parts, layer: Layer) -> AnalogLayer:
    placement = image_pb2.BIAS_PLACEMENT_DIGITAL if layer.bias else image_pb2.BIAS_PLACEMENT_NONE
    if any(block.bias_code for block in layer.blocks):
        placement = image_pb2.BIAS_PLACEMENT_ROW
    return AnalogLayer(
        name=layer.name,
        operator=layer.operator,
        source_node=describe_node(layer.node),
        source_operator=layer.node.op_type,
        blocks=[_block(parts, (layer.name, block.name)) for block in layer.blocks],
        statistics_node=parts.plan.node[layer.name],
        statistics_kind=_KINDS[parts.plan.kind[layer.name]],
        channels=layer.channels,
        bias=placement,
    )


def _block(parts: Parts, key: BlockKey) -> WeightBlock:
    groups, rows, columns = parts.scaled[key].targets.shape
    found = parts.ranges[key]
    return WeightBlock(
        name=key[1],
        rows=rows,
        columns=columns,
        groups=groups,
        dac_step=found.dac.step,
        dac_signed=found.dac.signed,
        dac_mean_square=found.mean_square,
        scaling=parts.scaling,
        bias_code=parts.scaled[key].block.bias_code,
    )


def _tiles(parts: Parts) -> list[tuple[Tile, Array]]:
    placed: list[tuple[Tile, Array]] = []
    for (layer, block), regions in parts.regions.items():
        targets = parts.scaled[layer, block].targets
        for region, step in zip(regions, parts.ranges[layer, block].adc_steps, strict=True):
            tile = Tile(tile=len(placed), layer=layer, block=block, adc_step=step, **region._asdict())
            placed.append((tile, np.ascontiguousarray(cut(targets, region))))
    return placed
