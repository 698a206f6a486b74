"""What each tile's bit lines would carry: partial sums of quantised inputs with the exact targets, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from .graph import IR_VERSION, OPSET, Array, make_node
from .layers import CONV, Layer
from .placement import Region
from .runtime import session
from .scaling import ScaledBlock


class PartialSums:
    """Evaluates p[c] = sum_r code[r] * g[r, c] of every tile of one block, in the unit "code"."""

    def __init__(self, layer: Layer, block: ScaledBlock, regions: Sequence[Region]) -> None:
        self._names = [f"p{index}" for index in range(len(regions))]
        build = _convolutions if layer.operator == CONV else _products
        nodes, constants = build(layer, block, regions)
        graph = onnx.helper.make_graph(
            nodes,
            "partial_sums",
            [onnx.helper.make_tensor_value_info("codes", onnx.TensorProto.FLOAT, None)],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._names],
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        self._session = session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION))

    def __call__(self, codes: Array) -> Iterator[Array]:
        """Partial sums of each region, in order; ``codes`` as the layer's input, values already DAC codes."""
        yield from self._session.run(self._names, {"codes": codes})


def _products(
    layer: Layer, block: ScaledBlock, regions: Sequence[Region]
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    conductances = block.conductances()[0]
    for index, region in enumerate(regions):
        start, stop = _driven(region, block)
        columns = slice(region.first_column, region.first_column + region.columns)
        if start == stop:
            # Nothing but the bias: any input row, times nothing.
            start, stop = 0, 1
            constants[f"g{index}"] = np.zeros((1, region.columns), np.float32)
        else:
            constants[f"g{index}"] = np.ascontiguousarray(conductances[start:stop, columns])
        source = _slice(nodes, constants, index, -1, start, stop)
        bias = _bias_sums(region, block)
        product = f"p{index}" if bias is None else f"m{index}"
        nodes.append(make_node("MatMul", [source, f"g{index}"], [product], name=f"tile{index}"))
        if bias is not None:
            constants[f"b{index}"] = bias
            nodes.append(make_node("Add", [product, f"b{index}"], [f"p{index}"], name=f"bias{index}"))
    return nodes, constants


def _convolutions(
    layer: Layer, block: ScaledBlock, regions: Sequence[Region]
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    options: dict[str, Any] = dict(layer.options)
    kernel, window = options["kernel_shape"], block.block.window
    channels = block.block.input_rows // window
    conductances = block.conductances()
    for index, region in enumerate(regions):
        # The channels this tile touches; a tile that holds part of a channel sees zeros in the rest of it.
        start, stop = _driven(region, block)
        # A tile with nothing but the bias sees zeros in some channel.
        first, last = (0, 1) if start == stop else (start // window, -(-stop // window))
        groups = slice(region.first_group, region.first_group + region.groups)
        touched = np.zeros((region.groups, (last - first) * window, region.columns), np.float32)
        if stop > start:
            touched[:, start - first * window : stop - first * window] = conductances[
                groups, start:stop, region.first_column : region.first_column + region.columns
            ]
        weights = touched.transpose(0, 2, 1).reshape(region.groups * region.columns, last - first, *kernel)
        constants[f"g{index}"] = np.ascontiguousarray(weights)
        begin = region.first_group * channels + first
        end = begin + (region.groups * channels if region.groups > 1 else last - first)
        inputs = [_slice(nodes, constants, index, 1, begin, end), f"g{index}"]
        bias = _bias_sums(region, block)
        if bias is not None:
            constants[f"b{index}"] = bias
            inputs.append(f"b{index}")
        attrs = {**options, "group": region.groups}
        nodes.append(make_node("Conv", inputs, [f"p{index}"], name=f"tile{index}", **attrs))
    return nodes, constants


def _driven(region: Region, block: ScaledBlock) -> tuple[int, int]:
    """First row of the region that an input drives, and one behind its last; equal if it holds nothing but the bias."""
    return region.first_row, min(region.first_row + region.rows, block.block.input_rows)


def _bias_sums(region: Region, block: ScaledBlock) -> Array | None:
    """What the bias row adds to each of the region's columns; None if the row lies elsewhere, or nowhere."""
    code = block.block.bias_code
    if not code or region.first_row + region.rows <= block.block.input_rows:
        return None
    row = block.conductances()[
        region.first_group : region.first_group + region.groups,
        -1,
        region.first_column : region.first_column + region.columns,
    ]
    sums: Array = np.ascontiguousarray(row.reshape(-1) * np.float32(code))
    return sums


def _slice(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], index: int, axis: int, start: int, stop: int
) -> str:
    for name, value in (("start", start), ("stop", stop), ("axis", axis)):
        constants[f"{name}{index}"] = np.array([value], np.int64)
    inputs = ["codes", f"start{index}", f"stop{index}", f"axis{index}"]
    nodes.append(make_node("Slice", inputs, [f"x{index}"], name=f"slice{index}"))
    return f"x{index}"
