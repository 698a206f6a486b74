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
        rows = slice(region.first_row, region.first_row + region.rows)
        columns = slice(region.first_column, region.first_column + region.columns)
        constants[f"g{index}"] = np.ascontiguousarray(conductances[rows, columns])
        source = _slice(nodes, constants, index, -1, rows.start, rows.stop)
        nodes.append(make_node("MatMul", [source, f"g{index}"], [f"p{index}"], name=f"tile{index}"))
    return nodes, constants


def _convolutions(
    layer: Layer, block: ScaledBlock, regions: Sequence[Region]
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    options: dict[str, Any] = dict(layer.options)
    kernel, window = options["kernel_shape"], block.block.window
    _, rows, _ = block.block.weights.shape
    channels = rows // window
    conductances = block.conductances()
    for index, region in enumerate(regions):
        # The channels this tile touches; a tile that holds part of a channel sees zeros in the rest of it.
        first, last = region.first_row // window, -(-(region.first_row + region.rows) // window)
        groups = slice(region.first_group, region.first_group + region.groups)
        touched = np.zeros((region.groups, (last - first) * window, region.columns), np.float32)
        offset = region.first_row - first * window
        touched[:, offset : offset + region.rows] = conductances[
            groups,
            region.first_row : region.first_row + region.rows,
            region.first_column : region.first_column + region.columns,
        ]
        weights = touched.transpose(0, 2, 1).reshape(region.groups * region.columns, last - first, *kernel)
        constants[f"g{index}"] = np.ascontiguousarray(weights)
        start = region.first_group * channels + first
        stop = start + (region.groups * channels if region.groups > 1 else last - first)
        source = _slice(nodes, constants, index, 1, start, stop)
        attrs = {**options, "group": region.groups}
        nodes.append(make_node("Conv", [source, f"g{index}"], [f"p{index}"], name=f"tile{index}", **attrs))
    return nodes, constants


def _slice(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], index: int, axis: int, start: int, stop: int
) -> str:
    for name, value in (("start", start), ("stop", stop), ("axis", axis)):
        constants[f"{name}{index}"] = np.array([value], np.int64)
    inputs = ["codes", f"start{index}", f"stop{index}", f"axis{index}"]
    nodes.append(make_node("Slice", inputs, [f"x{index}"], name=f"slice{index}"))
    return f"x{index}"
