"""Parts of small chip images for tests, and a container writer of its own that takes any nonsense."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper
from pcmedge._contract import image_pb2
from pcmedge._contract.image_pb2 import Manifest
from pcmedge.image import ChipImage, Tile, build_image
from pcmedge.image.profiles import profile

FLOAT = onnx.TensorProto.FLOAT


def program(element: int = FLOAT) -> bytes:
    """conv (depthwise, 2 groups) -> norm -> Relu -> Flatten -> fc, 2 x 4 x 4 pictures to 5 scores."""
    nodes = [
        helper.make_node(
            "AnalogConv", ["x"], ["a"], "conv-node", domain="pcm", layer="conv",
            kernel_shape=[3, 3], strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=2,
        ),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"], "norm", epsilon=1e-5),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Flatten", ["c"], ["d"], "flatten"),
        helper.make_node("AnalogGemm", ["d", "bias"], ["y"], "fc-node", domain="pcm", layer="fc"),
    ]  # fmt: skip
    constants = {
        "scale": [1.0, 0.5], "shift": [0.0, 0.25], "mean": [0.125, -0.5], "var": [1.0, 2.0],
        "bias": [0.0, 1.0, 2.0, 3.0, 4.0],
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", element, ["N", 2, 4, 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 5])],
        [helper.make_tensor(name, FLOAT, [len(values)], values) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("pcm", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(deterministic=True)


def manifest() -> Manifest:
    made = Manifest()
    made.model.name, made.model.version, made.model.description = "tiny", 3, "for tests"
    made.model.onnx_opset, made.model.pcm_opset = 21, 1
    made.model.inputs.add(name="x", datatype="FP32", shape=[-1, 2, 4, 4])
    made.model.outputs.add(name="y", datatype="FP32", shape=[-1, 5])
    made.profile.CopyFrom(profile(name="test-18x4", tile_rows=18, tile_columns=4, tiles=8))
    conv = made.layers.add(name="conv", operator="AnalogConv", source_node="/conv", source_operator="Conv", channels=2)
    conv.statistics_node, conv.statistics_kind = "norm", image_pb2.STATISTICS_KIND_BATCH_NORM
    conv.bias = image_pb2.BIAS_PLACEMENT_NONE
    conv.blocks.add(
        name="W", rows=9, columns=1, groups=2, dac_step=0.03125, dac_signed=True, dac_mean_square=0.25, scaling="column"
    )
    fc = made.layers.add(name="fc", operator="AnalogGemm", source_node="/fc", source_operator="Gemm", channels=5)
    fc.statistics_kind, fc.bias = image_pb2.STATISTICS_KIND_NONE, image_pb2.BIAS_PLACEMENT_DIGITAL
    fc.blocks.add(name="W", rows=8, columns=5, groups=1, dac_step=0.0625, dac_mean_square=0.125, scaling="layer")
    step = made.application.preprocessing
    step.input, step.width, step.height, step.channels = "x", 4, 4, 1
    step.colour_order, step.layout, step.scale = "GRAY", "NCHW", 1 / 256
    made.application.labels.extend(["zero", "one", "two", "three", "four"])
    made.application.class_output = "y"
    made.provenance.sdk_version = "0.1.0"
    return made


def tile_targets() -> list[tuple[Tile, Any]]:
    def ramp(first: int, *shape: int) -> Any:
        return (np.arange(np.prod(shape), dtype=np.int16) * 100 + first).reshape(shape)

    return [
        (Tile(tile=0, layer="conv", block="W", groups=2, rows=9, columns=1, adc_step=4.0), ramp(-900, 2, 9, 1)),
        (Tile(tile=1, layer="fc", block="W", rows=6, columns=4, adc_step=2.5), ramp(-32767, 1, 6, 4)),
        (Tile(tile=2, layer="fc", block="W", first_column=4, rows=6, columns=1, adc_step=2.5), ramp(32200, 1, 6, 1)),
        (Tile(tile=3, layer="fc", block="W", first_row=6, rows=2, columns=4, adc_step=1.5), ramp(0, 1, 2, 4)),
        (Tile(tile=4, layer="fc", block="W", first_row=6, first_column=4, rows=2, columns=1, adc_step=1.5),
         ramp(7, 1, 2, 1)),
    ]  # fmt: skip


def parts() -> dict[str, Any]:
    """Arguments of build_image for the tiny image; the same at every call."""
    samples = (np.arange(3 * 32, dtype=np.float32) / 32).reshape(3, 2, 4, 4)
    return {
        "manifest": manifest(),
        "program": program(),
        "tile_targets": tile_targets(),
        "weight_scales": {
            ("conv", "W"): np.array([0.5, 0.75], np.float32),
            ("fc", "W"): np.full(5, 0.25, np.float32),
        },
        "reference_statistics": {"norm": ("conv", np.array([0.5, -1.5], np.float32), np.array([2.0, 0.0], np.float32))},
        "buffer": {"x": samples},
        "reference": ({"x": samples[:2] - 1}, {"y": np.arange(10, dtype=np.float32).reshape(2, 5)}),
    }


def bias_row_parts() -> dict[str, Any]:
    """As parts(), with the bias of "fc" on a ninth row, driven with code 40."""
    made = parts()
    model = onnx.load_from_string(made["program"])
    del model.graph.node[-1].input[1]
    del model.graph.initializer[-1]
    made["program"] = model.SerializeToString(deterministic=True)
    fc = made["manifest"].layers[1]
    fc.bias, fc.blocks[0].rows, fc.blocks[0].bias_code = image_pb2.BIAS_PLACEMENT_ROW, 9, 40
    tiles = made["tile_targets"]
    for index, (tile, target) in enumerate(tiles[3:], 3):
        row = np.arange(5, dtype=np.int16)[tile.first_column : tile.first_column + tile.columns] * 8000
        tiles[index] = (replace(tile, rows=3), np.concatenate([target, row.reshape(1, 1, -1)], axis=1))
    return made


def tiny_image(**changes: Any) -> ChipImage:
    return build_image(**{**parts(), **changes})


def contents_of(image: ChipImage) -> dict[str, bytes]:
    """{segment name: bytes}, in file order."""
    return {segment.name: bytes(image.segment(segment.name)) for segment in image.manifest.segments}


def seal(
    image: ChipImage,
    *,
    change: Callable[[Manifest], None] | None = None,
    contents: Mapping[str, bytes] | None = None,
    signatures: bytes = b"",
    header: Mapping[str, int] | None = None,
    padding: bytes = b"\0",
) -> bytes:
    """An image with right hashes and whatever content, made by hand from docs/image-format.md.

    ``contents`` replaces segments or adds them; ``change`` edits the finished manifest (offsets are then
    what it makes of them); ``header`` overrides header fields by name.
    """
    found = Manifest()
    found.CopyFrom(image.manifest)
    data = {**contents_of(image), **(contents or {})}
    encoded, start = b"", -1
    while start != _up(192 + len(encoded)):
        start = _up(192 + len(encoded))
        found.CopyFrom(image.manifest)
        for name in data.keys() - {segment.name for segment in found.segments}:
            found.segments.add(name=name, kind=99)
        position = start
        for segment in found.segments:
            content = data[segment.name]
            segment.offset, segment.length = _up(position), len(content)
            segment.sha256 = hashlib.sha256(content).digest()
            if segment.name == "targets":
                segment.shape[:] = [len(content) // np.dtype(segment.dtype).itemsize]
            position = segment.offset + segment.length
        places = {segment.name: segment.offset for segment in found.segments}
        if change is not None:
            change(found)
        encoded = found.SerializeToString(deterministic=True)
    body = bytearray(padding * _up(position))
    body[192 : 192 + len(encoded)] = encoded
    for name, offset in places.items():
        body[offset : offset + len(data[name])] = data[name]
    fields = {
        "version": 1, "header_length": 192, "alignment": 64, "flags": 0, "file_length": len(body) + len(signatures),
        "manifest_offset": 192, "manifest_length": len(encoded), "signature_offset": len(body),
        "signature_length": len(signatures), **(header or {}),
    }  # fmt: skip
    first = struct.pack(
        "<8s4I5Q32s32s32s", b"\x89PCMI\r\n\x1a", *fields.values(), hashlib.sha256(encoded).digest(),
        hashlib.sha256(signatures).digest(), bytes(32),
    )  # fmt: skip
    body[:192] = first + hashlib.sha256(first).digest()
    return bytes(body) + signatures


def _up(position: int) -> int:
    return (position + 63) // 64 * 64
