"""Hand-made chip programs for the engine tests: float weights mapped to tiles without the compiler's help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pcmedge._contract import image_pb2
from pcmedge.image import Tile
from pcmedge_emulator.engine import AnalogLayer, Block, ChipProgram, Snapshot


def profile(
    rows: int = 512, columns: int = 512, dac_bits: int = 8, adc_bits: int = 8, **extra
) -> image_pb2.ChipProfile:
    return image_pb2.ChipProfile(
        name="test",
        tile_rows=rows,
        tile_columns=columns,
        tiles=4096,
        dac_bits=dac_bits,
        adc_bits=adc_bits,
        g_max_microsiemens=25.0,
        **extra,
    )


@dataclass
class Maker:
    """Builds a program node by node, and the conductances that its float weights ask for."""

    chip: image_pb2.ChipProfile = field(default_factory=profile)
    seed: int = 0
    nodes: list = field(default_factory=list)
    constants: list = field(default_factory=list)
    layers: dict = field(default_factory=dict)
    conductances: dict = field(default_factory=dict)
    statistics_of: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, operator: str, inputs: Sequence[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def block(
        self,
        layer: str,
        name: str,
        weights: np.ndarray,
        *,
        area: int = 1,
        dac_step: float = 0.02,
        signed: bool = True,
        scaling: str = "column",
        adc_step: float | None = None,
        noise: float = 0.0,
    ) -> Block:
        """Place weights [groups, rows, columns] on tiles; conductances with Gaussian error ``noise``."""
        groups, rows, columns = weights.shape
        largest = np.abs(weights).max(axis=1).reshape(-1) if scaling == "column" else np.abs(weights).max()
        scale = np.maximum(np.broadcast_to(largest, (groups * columns,)), 1e-12).astype(np.float32)
        g = (weights / scale.reshape(groups, 1, columns)).astype(np.float32)
        g = np.clip(g + noise * self.rng.standard_normal(g.shape), -1, 1).astype(np.float32)
        tiles = []
        for first_group, count, first_row, height, first_column, width in self._cuts(groups, rows, columns, area):
            number = sum(len(b.tiles) for item in self.layers.values() for b in item.blocks.values()) + len(tiles)
            number += 1000 * len(self._pending)
            part = g[
                first_group : first_group + count,
                first_row : first_row + height,
                first_column : first_column + width,
            ]
            typical = np.sqrt(height) * 40 * np.sqrt(np.mean(part**2)) * 4 / (2 ** (self.chip.adc_bits - 1))
            step = float(np.float32((adc_step or typical) * (1 + 0.1 * self.rng.random())))
            tiles.append(
                Tile(
                    tile=number,
                    layer=layer,
                    block=name,
                    first_group=first_group,
                    groups=count,
                    first_row=first_row,
                    rows=height,
                    first_column=first_column,
                    columns=width,
                    adc_step=max(step, 1e-3),
                )
            )
            self.conductances[number] = np.ascontiguousarray(part)
        made = Block(
            name=name,
            rows=rows,
            columns=columns,
            groups=groups,
            dac_step=float(np.float32(dac_step)),
            dac_signed=signed,
            weight_scale=scale,
            tiles=tuple(tiles),
        )
        self._pending.append(made)
        return made

    _pending: list = field(default_factory=list)

    def _cuts(self, groups: int, rows: int, columns: int, area: int):
        chip = self.chip
        together = min(chip.tile_rows // rows, chip.tile_columns // columns)
        if together >= 1:
            for first in range(0, groups, together):
                yield first, min(together, groups - first), 0, rows, 0, columns
            return
        height = chip.tile_rows // area * area or chip.tile_rows
        for group in range(groups):
            for row in range(0, rows, height):
                for column in range(0, columns, chip.tile_columns):
                    yield (
                        group,
                        1,
                        row,
                        min(height, rows - row),
                        column,
                        min(chip.tile_columns, columns - column),
                    )

    def _layer(self, name: str, operator: str) -> None:
        self.layers[name] = AnalogLayer(name=name, operator=operator, blocks={b.name: b for b in self._pending})
        self._pending.clear()

    def conv(self, x, y, weights, bias=None, *, strides=None, pads=None, dilations=None, group=1, **block) -> str:
        """weights as ONNX Conv: (outputs, inputs / group, *kernel)."""
        outputs, kernel = weights.shape[0], weights.shape[2:]
        matrix = weights.reshape(group, outputs // group, -1).transpose(0, 2, 1)
        self.block(y, "W", matrix, area=int(np.prod(kernel)), **block)
        self._layer(y, "AnalogConv")
        inputs = [x] if bias is None else [x, self.constant(f"{y}/bias", bias.astype(np.float32))]
        axes = len(kernel)
        return self.op(
            "AnalogConv",
            inputs,
            y,
            domain="pcm",
            layer=y,
            kernel_shape=list(kernel),
            strides=strides or [1] * axes,
            pads=pads or [0] * (2 * axes),
            dilations=dilations or [1] * axes,
            group=group,
        )

    def gemm(self, x, y, weights, bias=None, **block) -> str:
        """weights (inputs, outputs)."""
        self.block(y, "W", weights[None], **block)
        self._layer(y, "AnalogGemm")
        inputs = [x] if bias is None else [x, self.constant(f"{y}/bias", bias.astype(np.float32))]
        return self.op("AnalogGemm", inputs, y, domain="pcm", layer=y)

    def lstm(self, x, y, w, r, b=None, *, direction="forward", dac_step=0.02, noise=0.0, inputs=("", "")) -> str:
        """w (directions, 4 hidden, inputs), r (directions, 4 hidden, hidden), b (directions, 8 hidden), as ONNX."""
        full = 2 ** (self.chip.dac_bits - 1) - 1
        for index, suffix in enumerate(["", "_reverse"][: len(w)]):
            self.block(y, f"W{suffix}", w[index].T[None], dac_step=dac_step, noise=noise)
            self.block(y, f"R{suffix}", r[index].T[None], dac_step=1 / full, noise=noise)
        self._layer(y, "AnalogLSTM")
        names = [x, "" if b is None else self.constant(f"{y}/bias", b.astype(np.float32)), *inputs]
        self.nodes.append(
            helper.make_node(
                "AnalogLSTM",
                names,
                [y, f"{y}/h", f"{y}/c"],
                name=y,
                domain="pcm",
                layer=y,
                hidden_size=r.shape[2],
                direction=direction,
            )
        )
        return y

    def norm(self, x, y, channels: int, layer: str = "") -> str:
        """A batch norm with random parameters."""
        values = {
            "scale": self.rng.uniform(0.5, 1.5, channels),
            "bias": self.rng.normal(0, 0.3, channels),
            "mean": self.rng.normal(0, 0.3, channels),
            "var": self.rng.uniform(0.3, 2.0, channels),
        }
        names = [self.constant(f"{y}/{key}", value.astype(np.float32)) for key, value in values.items()]
        if layer:
            self.statistics_of[y] = (layer, image_pb2.STATISTICS_KIND_BATCH_NORM)
        return self.op("BatchNormalization", [x, *names], y, epsilon=1e-5)

    def model(self, inputs: dict, outputs: dict) -> onnx.ModelProto:
        """inputs and outputs: name -> shape with "N" as the batch."""
        kinds = dict.fromkeys((*inputs, *outputs), TensorProto.FLOAT)
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("pcm", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def program(self, inputs: dict, outputs: dict, **extra) -> ChipProgram:
        return ChipProgram.build(
            self.model(inputs, outputs), self.layers, self.chip, statistics_of=self.statistics_of, **extra
        )

    def snapshot(self, **changes) -> Snapshot:
        return Snapshot(conductances=self.conductances, **changes)


def residual_cnn(maker: Maker, channels: int = 12, classes: int = 10) -> ChipProgram:
    """Stem, one residual block, pooling, classifier; input x (N, 3, 12, 12), output y (N, classes)."""
    rng = maker.rng

    def weights(outputs: int, inputs: int, kernel: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(inputs * kernel * kernel), (outputs, inputs, kernel, kernel))

    maker.conv("x", "c1", weights(channels, 3, 3), pads=[1] * 4)
    maker.op("Relu", [maker.norm("c1", "n1", channels, "c1")], "r1")
    maker.conv("r1", "c2", weights(channels, channels, 3), pads=[1] * 4, signed=False, dac_step=0.015)
    maker.op("Relu", [maker.norm("c2", "n2", channels, "c2")], "r2")
    maker.conv("r2", "c3", weights(channels, channels, 3), pads=[1] * 4, signed=False, dac_step=0.015)
    maker.op("Add", [maker.norm("c3", "n3", channels, "c3"), "r1"], "sum")
    maker.op("Relu", ["sum"], "r3")
    maker.op("GlobalAveragePool", ["r3"], "pooled")
    maker.op("Flatten", ["pooled"], "flat")
    maker.gemm("flat", "y", rng.normal(0, 0.5, (channels, classes)), rng.normal(0, 0.1, classes), signed=False)
    return maker.program({"x": ["N", 3, 12, 12]}, {"y": ["N", classes]})


def float_model(maker: Maker, program: ChipProgram) -> onnx.ModelProto:
    """The same network in standard operators, with the weights the conductances stand for."""
    nodes, tensors = [], list(maker.constants)

    def weights(block: Block) -> np.ndarray:
        g = np.zeros((block.groups, block.rows, block.columns))
        for tile in block.tiles:
            g[
                tile.first_group : tile.first_group + tile.groups,
                tile.first_row : tile.first_row + tile.rows,
                tile.first_column : tile.first_column + tile.columns,
            ] = maker.conductances[tile.tile]
        return (g * block.weight_scale.reshape(block.groups, 1, block.columns)).astype(np.float32)

    def keep(name: str, value: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    for node in program.model.graph.node:
        if node.domain != "pcm":
            nodes.append(node)
            continue
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        blocks = program.layers[attributes.pop("layer").decode()].blocks
        matrix = weights(blocks["W"])
        if node.op_type == "AnalogConv":
            outputs = matrix.shape[0] * matrix.shape[2]
            kernel = matrix.transpose(0, 2, 1).reshape(outputs, -1, *attributes["kernel_shape"])
            inputs = [node.input[0], keep(f"{node.name}/w", kernel), *node.input[1:]]
            nodes.append(helper.make_node("Conv", inputs, node.output, **attributes))
        elif node.op_type == "AnalogGemm":
            product = f"{node.name}/product" if len(node.input) > 1 else node.output[0]
            nodes.append(helper.make_node("MatMul", [node.input[0], keep(f"{node.name}/w", matrix[0])], [product]))
            if len(node.input) > 1:
                nodes.append(helper.make_node("Add", [product, node.input[1]], node.output))
        else:
            suffixes = [name[1:] for name in blocks if name.startswith("W")]
            w, r = (np.stack([weights(blocks[f"{key}{end}"])[0].T for end in suffixes]) for key in "WR")
            x, bias, *states = node.input
            given = [x, keep(f"{node.name}/w", w), keep(f"{node.name}/r", r), bias, "", *states]
            nodes.append(helper.make_node("LSTM", given, node.output, **attributes))
    graph = helper.make_graph(nodes, "float", program.model.graph.input, program.model.graph.output, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def mlp(maker: Maker) -> ChipProgram:
    """Three dense layers; input x (N, 64), output y (N, 10)."""
    rng = maker.rng
    maker.gemm("x", "g1", rng.normal(0, 0.15, (64, 48)), rng.normal(0, 0.1, 48), dac_step=0.03)
    maker.op("Relu", [maker.norm("g1", "n1", 48, "g1")], "r1")
    maker.gemm("r1", "g2", rng.normal(0, 0.15, (48, 32)), rng.normal(0, 0.1, 32), signed=False)
    maker.op("Relu", ["g2"], "r2")
    maker.gemm("r2", "y", rng.normal(0, 0.3, (32, 10)), rng.normal(0, 0.1, 10), signed=False)
    return maker.program({"x": ["N", 64]}, {"y": ["N", 10]})


def depthwise_cnn(maker: Maker) -> ChipProgram:
    """Stem, depthwise, pointwise, classifier; input x (N, 3, 12, 12), output y (N, 10)."""
    rng = maker.rng
    maker.conv("x", "c1", rng.normal(0, 0.2, (16, 3, 3, 3)), strides=[2, 2], pads=[1] * 4)
    maker.op("Relu", [maker.norm("c1", "n1", 16, "c1")], "r1")
    maker.conv("r1", "dw", rng.normal(0, 0.35, (16, 1, 3, 3)), pads=[1] * 4, group=16, signed=False)
    maker.op("Relu", [maker.norm("dw", "n2", 16, "dw")], "r2")
    maker.conv("r2", "pw", rng.normal(0, 0.25, (24, 16, 1, 1)), rng.normal(0, 0.1, 24), signed=False)
    maker.op("Relu", [maker.norm("pw", "n3", 24, "pw")], "r3")
    maker.op("GlobalAveragePool", ["r3"], "pooled")
    maker.op("Flatten", ["pooled"], "flat")
    maker.gemm("flat", "y", rng.normal(0, 0.4, (24, 10)), signed=False)
    return maker.program({"x": ["N", 3, 12, 12]}, {"y": ["N", 10]})


def lstm_network(maker: Maker, direction: str = "bidirectional", hidden: int = 12) -> ChipProgram:
    """Sequence classifier; input x (N, 9, 6), outputs y (N, 5) and the last cell states c (directions, N, hidden)."""
    rng = maker.rng
    both = 2 if direction == "bidirectional" else 1
    maker.op("Transpose", ["x"], "steps", perm=[1, 0, 2])
    w, r = rng.normal(0, 0.5, (both, 4 * hidden, 6)), rng.normal(0, 0.35, (both, 4 * hidden, hidden))
    maker.lstm("steps", "l", w, r, rng.normal(0, 0.2, (both, 8 * hidden)), direction=direction)
    maker.op("Transpose", ["l/h"], "last", perm=[1, 0, 2])
    maker.op("Reshape", ["last", maker.constant("flat", np.array([0, both * hidden]))], "features")
    maker.gemm("features", "y", rng.normal(0, 0.4, (both * hidden, 5)), rng.normal(0, 0.1, 5), dac_step=1 / 127)
    return maker.program({"x": ["N", 9, 6]}, {"y": ["N", 5], "l": [9, both, "N", hidden]})


def transformer_block(maker: Maker, width: int = 24) -> ChipProgram:
    """Attention with one head, residuals and a feed-forward pair; input x (N, 7, width), output y alike."""
    rng = maker.rng

    def dense(x: str, y: str, inputs: int, outputs: int) -> str:
        return maker.gemm(x, y, rng.normal(0, 1 / np.sqrt(inputs), (inputs, outputs)), rng.normal(0, 0.1, outputs))

    def layer_norm(x: str, y: str) -> str:
        scale = maker.constant(f"{y}/scale", rng.uniform(0.5, 1.5, width).astype(np.float32))
        return maker.op("LayerNormalization", [x, scale], y, axis=-1)

    layer_norm("x", "first")
    for name in ("query", "key", "value"):
        dense("first", name, width, width)
    maker.op("Transpose", ["key"], "turned", perm=[0, 2, 1])
    maker.op("MatMul", ["query", "turned"], "raw")
    maker.op("Mul", ["raw", maker.constant("root", np.float32(1 / np.sqrt(width)))], "scores")
    maker.op("Softmax", ["scores"], "attention", axis=-1)
    maker.op("MatMul", ["attention", "value"], "mixed")
    maker.op("Add", ["x", dense("mixed", "out", width, width)], "middle")
    layer_norm("middle", "second")
    dense("second", "up", width, 2 * width)
    maker.op("Gelu", ["up"], "active")
    maker.op("Add", ["middle", dense("active", "down", 2 * width, width)], "y")
    return maker.program({"x": ["N", 7, width]}, {"y": ["N", 7, width]})
