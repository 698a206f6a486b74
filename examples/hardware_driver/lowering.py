"""A chip image as plain ONNX: what its program computes if every conductance is exactly its target.

An analog node carries no weights; they are targets on tiles. Here they go back into Conv and Gemm nodes:
W = target / 32767 * weight_scale, or target * weight_scale for float32 ones (docs/image-format.md). Means and variances
of the batch norms become inputs of the graph, and what the batch norms read becomes outputs, so that statistics can be
measured and replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pcmedge.errors import ImageFeatureError
from pcmedge.image import ChipImage

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """A batch norm in execution order: its name, what it reads, and its statistics in the image, float32 [channels]."""

    node: str
    reads: str
    mean: Floats
    variance: Floats


def block_weights(image: ChipImage, layer: str) -> Floats:
    """The weights of a layer's only block, float32 [groups, rows, columns]."""
    block = next(found for found in image.manifest.layers if found.name == layer).blocks[0]
    whole = np.zeros((block.groups, block.rows, block.columns), np.float32)
    for tile in image.tiles():
        if tile.layer != layer:
            continue
        rows = slice(tile.first_row, tile.first_row + tile.rows)
        columns = slice(tile.first_column, tile.first_column + tile.columns)
        first = getattr(tile, "first_group", 0)
        whole[first : first + tile.groups, rows, columns] = image.normalised_target(tile)
    scales = image.weight_scales()[layer, block.name].reshape(block.groups, 1, block.columns)
    return np.asarray(whole * scales, np.float32)


def plain(image: ChipImage) -> tuple[onnx.ModelProto, tuple[Norm, ...]]:
    """(the program as standard ONNX, its batch norms). ImageFeatureError for an operator this chip cannot do."""
    model = onnx.load_from_string(bytes(image.segment("program")))
    graph = model.graph
    for place, node in enumerate(graph.node):
        if node.domain == "pcm":
            graph.node[place].CopyFrom(_digital(image, node, graph))
    norms = tuple(_free(graph, node) for node in graph.node if node.op_type == "BatchNormalization")
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    opsets = [opset for opset in model.opset_import if opset.domain != "pcm"]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model, norms


def _digital(image: ChipImage, node: Any, graph: Any) -> Any:
    """The Conv or Gemm of an analog node, its weights among the graph's constants."""
    attributes = {found.name: helper.get_attribute_value(found) for found in node.attribute}
    layer = attributes.pop("layer").decode()
    weights = block_weights(image, layer)
    name = f"{layer}:weights"
    if node.op_type == "AnalogGemm":
        kernel, attributes = weights[0], {}
    elif node.op_type == "AnalogConv":
        groups, rows, columns = weights.shape
        shape = attributes["kernel_shape"]
        kernel = weights.transpose(0, 2, 1).reshape(groups * columns, rows // int(np.prod(shape)), *shape)
    else:
        raise ImageFeatureError(f"layer '{layer}' is an {node.op_type}, which this chip cannot do", layer=layer)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kernel), name))
    inputs = [node.input[0], name, *node.input[1:]]
    kind = node.op_type.removeprefix("Analog")
    return helper.make_node(kind, inputs, list(node.output), name=node.name, **attributes)


def _free(graph: Any, node: Any) -> Norm:
    """Turns mean and variance of a batch norm from constants into inputs, and shows what it reads."""
    constants = {found.name: found for found in graph.initializer}
    values = [numpy_helper.to_array(constants[name]).astype(np.float32) for name in node.input[3:5]]
    for place, (kind, value) in enumerate(zip(("mean", "variance"), values, strict=True), 3):
        name = f"{node.name}:{kind}"
        node.input[place] = name
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
    if node.input[0] not in [output.name for output in graph.output]:
        graph.output.append(helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return Norm(node.name, node.input[0], *values)
