"""Checks of a chip program: a hostile image with correct hashes ends here, in a typed error, before any engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from pcmedge.errors import ImageCorruptError, ImageFeatureError

from pcmedge_emulator.crossbar.converters import dac_limits

if TYPE_CHECKING:
    from pcmedge_emulator.engine.program import AnalogLayer, Block, ChipProgram

ONNX_OPSET = 21
PCM_OPSET = 1
_STANDARD_DOMAINS = ("", "ai.onnx")
_BLOCKS = {
    "AnalogConv": ({"W"},),
    "AnalogGemm": ({"W"},),
    "AnalogLSTM": ({"W", "R"}, {"W", "R", "W_reverse", "R_reverse"}),
}


def _refuse(message: str, check: str = "program") -> ImageCorruptError:
    return ImageCorruptError(f"the image contradicts itself: {message}; compile the model again", check=check)


def validate(program: ChipProgram, *, statistics_of: Mapping[str, tuple[str, int]]) -> None:
    """Refuse a program whose parts disagree.

    Raises :class:`ImageCorruptError` (``check`` in the metadata says which part) or, for an operator set this engine
    does not know, :class:`ImageFeatureError`.
    """
    _check_model(program.model)
    _check_nodes(program)
    _check_layers(program)
    _check_widths(program)
    _check_statistics(program, statistics_of)


def _check_model(model: onnx.ModelProto) -> None:
    for opset in model.opset_import:
        known = PCM_OPSET if opset.domain == "pcm" else ONNX_OPSET if opset.domain in _STANDARD_DOMAINS else None
        if known is None or opset.version > known:
            raise ImageFeatureError(
                f"the program uses operator set {opset.domain or 'ai.onnx'!r} version {opset.version}, this engine "
                f"knows 'ai.onnx' up to {ONNX_OPSET} and 'pcm' up to {PCM_OPSET}; update pcmedge",
                domain=opset.domain,
                version=opset.version,
            )


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of If, Loop and Scan nodes directly inside ``graph``."""
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.g] if attribute.HasField("g") else [])
            yield from attribute.graphs


def _all_nodes(graphs: Iterable[onnx.GraphProto]) -> Iterator[onnx.NodeProto]:
    for graph in graphs:
        yield from graph.node
        yield from _all_nodes(subgraphs(graph))


def _check_nodes(program: ChipProgram) -> None:
    for node in _all_nodes(subgraphs(program.model.graph)):
        if node.domain == "pcm":
            raise _refuse(f"analog node {node.name!r} lies inside a control-flow body")
    seen: set[str] = set()
    for node in program.model.graph.node:
        if node.domain in _STANDARD_DOMAINS:
            continue
        if node.domain != "pcm" or node.op_type not in _BLOCKS:
            operator = f"{node.domain}.{node.op_type}"
            raise ImageFeatureError(
                f"the program uses operator {operator}, which this engine does not know; update pcmedge",
                operator=operator,
            )
        name = layer_name(node)
        layer = program.layers.get(name)
        if layer is None or layer.operator != node.op_type:
            found = f"as {layer.operator}" if layer else "not at all"
            raise _refuse(
                f"the program uses layer {name!r} as {node.op_type}, the manifest describes it {found}", "layers"
            )
        if name in seen:
            raise _refuse(f"two analog nodes use layer {name!r}", "layers")
        seen.add(name)
        _check_attributes(node, layer)
    if missing := sorted(set(program.layers) - seen):
        raise _refuse(f"no node of the program uses layers {missing}", "layers")


def layer_name(node: onnx.NodeProto) -> str:
    """The attribute ``layer`` of an analog node; empty if it has none."""
    return next((item.s.decode("utf-8", "replace") for item in node.attribute if item.name == "layer"), "")


def _check_attributes(node: onnx.NodeProto, layer: AnalogLayer) -> None:
    if set(layer.blocks) not in _BLOCKS[layer.operator]:
        raise _refuse(f"layer {layer.name!r} ({layer.operator}) has blocks {sorted(layer.blocks)}", "layers")
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if any(block.bias_code for block in layer.blocks.values()) and (
        layer.operator == "AnalogLSTM" or (len(node.input) > 1 and node.input[1])
    ):
        raise _refuse(f"layer {layer.name!r} ({layer.operator}) has a bias row it cannot have", "layers")
    if layer.operator == "AnalogConv":
        kernel = attributes.get("kernel_shape", [])
        block = layer.blocks["W"]
        area = int(np.prod(kernel)) if kernel else 0
        if len(kernel) not in (1, 2) or min(kernel) < 1 or block.input_rows % area:
            raise _refuse(f"layer {layer.name!r} has kernel {list(kernel)} but {block.input_rows} rows", "layers")
        if attributes.get("group", 1) != block.groups:
            raise _refuse(
                f"layer {layer.name!r} has group {attributes.get('group', 1)} but {block.groups} blocks", "layers"
            )
        for key, length in (("strides", 1), ("dilations", 1), ("pads", 2)):
            value = attributes.get(key)
            if value is not None and (len(value) != length * len(kernel) or min(value) < (key != "pads")):
                raise _refuse(f"layer {layer.name!r} has {key} {list(value)}", "layers")
    elif any(block.groups != 1 for block in layer.blocks.values()):
        raise _refuse(f"layer {layer.name!r} ({layer.operator}) has more than one group", "layers")
    if layer.operator == "AnalogLSTM":
        hidden = attributes.get("hidden_size", 0)
        direction = attributes.get("direction", b"forward")
        if direction not in (b"forward", b"reverse", b"bidirectional"):
            raise _refuse(f"layer {layer.name!r} has direction {direction!r}", "layers")
        if (direction == b"bidirectional") != ("W_reverse" in layer.blocks):
            raise _refuse(f"layer {layer.name!r} is {direction!r} with blocks {sorted(layer.blocks)}", "layers")
        for block in layer.blocks.values():
            if block.columns != 4 * hidden or (block.name.startswith("R") and block.rows != hidden):
                raise _refuse(
                    f"block {block.name!r} of layer {layer.name!r} does not fit hidden size {hidden}", "layers"
                )


def _check_widths(program: ChipProgram) -> None:
    """Every analog node is given as many values as its block has rows, where shape inference knows how many."""
    try:
        graph = onnx.shape_inference.infer_shapes(program.model).graph
    except Exception as error:  # onnx's own, of several kinds
        raise _refuse(f"shape inference fails on the program: {error}") from error
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    for node in program.model.graph.node:
        if node.domain != "pcm" or not node.input or not shapes.get(node.input[0]):
            continue
        layer, shape = program.layers[layer_name(node)], shapes[node.input[0]]
        block = layer.blocks["W"]
        found, expected = shape[-1], block.input_rows
        if layer.operator == "AnalogConv":
            kernel = next(each.ints for each in node.attribute if each.name == "kernel_shape")
            found, expected = shape[min(1, len(shape) - 1)], block.groups * block.input_rows // int(np.prod(kernel))
        if found not in (0, expected):
            raise _refuse(f"layer {layer.name!r} is given {found} values, its block takes {expected}", "layers")


def _check_layers(program: ChipProgram) -> None:
    profile = program.profile
    if not (2 <= profile.dac_bits <= 12 and 2 <= profile.adc_bits <= 12):
        raise _refuse(f"converters of {profile.dac_bits} and {profile.adc_bits} bits, expected 2 to 12", "profile")
    numbers: set[int] = set()
    for layer in program.layers.values():
        for block in layer.blocks.values():
            _check_block(program, layer.name, block)
            for tile in block.tiles:
                if tile.tile in numbers:
                    raise _refuse(f"tile {tile.tile} is used twice", "tiles")
                numbers.add(tile.tile)


def _check_block(program: ChipProgram, layer: str, block: Block) -> None:
    where = f"block {block.name!r} of layer {layer!r}"
    if min(block.rows, block.columns, block.groups) < 1:
        raise _refuse(f"{where} has {block.groups} groups of {block.rows} x {block.columns}", "layers")
    if not (np.isfinite(block.dac_step) and block.dac_step > 0):
        raise _refuse(f"{where} has DAC step {block.dac_step}", "layers")
    if not 0 <= block.bias_code <= dac_limits(program.profile.dac_bits, block.dac_signed)[1] or block.input_rows < 1:
        raise _refuse(f"{where} has {block.rows} rows and a bias row driven with code {block.bias_code}", "layers")
    scale = block.weight_scale
    if scale.shape != (block.groups * block.columns,) or not np.isfinite(scale).all():
        raise _refuse(f"{where} has weight scales of shape {scale.shape}, or not finite ones", "columns")
    cells = sum(tile.groups * tile.rows * tile.columns for tile in block.tiles)
    if cells != block.groups * block.rows * block.columns:
        raise _refuse(f"the tiles of {where} hold {cells} cells instead of all of it", "tiles")
    bands: set[tuple[int, int]] = set()
    covered: set[tuple[int, int, int]] = set()
    for tile in block.tiles:
        inside = (
            min(tile.first_group, tile.first_row, tile.first_column) >= 0
            and min(tile.groups, tile.rows, tile.columns) >= 1
            and tile.first_group + tile.groups <= block.groups
            and tile.first_row + tile.rows <= block.rows
            and tile.first_column + tile.columns <= block.columns
        )
        if not inside:
            raise _refuse(f"tile {tile.tile} reaches outside {where}", "tiles")
        fits = (
            tile.groups * tile.rows <= program.profile.tile_rows
            and tile.groups * tile.columns <= program.profile.tile_columns
        )
        if not fits:
            raise _refuse(f"tile {tile.tile} is larger than the chip's tiles", "tiles")
        if not (np.isfinite(tile.adc_step) and tile.adc_step > 0):
            raise _refuse(f"tile {tile.tile} has ADC step {tile.adc_step}", "tiles")
        bands.add((tile.first_row, tile.rows))
        for group in range(tile.first_group, tile.first_group + tile.groups):
            for column in range(tile.first_column, tile.first_column + tile.columns):
                covered.add((tile.first_row, group, column))
    # Equal cell counts, no band overlapping another and every (band, group, column) once: an exact cover.
    ends = 0
    for first_row, rows in sorted(bands):
        if first_row != ends:
            raise _refuse(f"the row tiles of {where} overlap or leave holes at row {ends}", "tiles")
        ends = first_row + rows
    if ends != block.rows or len(covered) != len(bands) * block.groups * block.columns:
        raise _refuse(f"the tiles of {where} do not cover it exactly once", "tiles")


def _check_statistics(program: ChipProgram, statistics_of: Mapping[str, tuple[str, int]]) -> None:
    for node, (layer, _kind) in statistics_of.items():
        if node not in program.statistics:
            raise _refuse(f"layer {layer!r} names statistics node {node!r}, which the program lacks", "statistics")
    for node, norm in program.statistics.items():
        shapes = {norm.mean.shape, norm.var.shape, norm.scale.shape, norm.bias.shape}
        finite = all(np.isfinite(values).all() for values in (norm.mean, norm.var, norm.scale, norm.bias))
        if len(shapes) != 1 or norm.mean.ndim != 1 or not finite or (norm.var < 0).any() or norm.epsilon <= 0:
            raise _refuse(f"batch norm {node!r} has impossible parameters", "statistics")
    for node, (mean, var) in program.reference_statistics.items():
        if node not in program.statistics:
            raise _refuse(f"reference statistics for {node!r}, which is no batch norm of the program", "statistics")
        expected = program.statistics[node].mean.shape
        if mean.shape != expected or var.shape != expected or not (np.isfinite(mean).all() and np.isfinite(var).all()):
            raise _refuse(
                f"reference statistics of {node!r} have shape {mean.shape}, expected {expected}", "statistics"
            )
