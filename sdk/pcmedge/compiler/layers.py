"""Which nodes go into the crossbar: the matcher. Every other node stays digital, with a sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from pcmedge.errors import CompileError

from .graph import Array, Graph, attributes, describe_node
from .names import LayerNames

CONV, GEMM, LSTM = "AnalogConv", "AnalogGemm", "AnalogLSTM"
_LSTM_OPTIONS = frozenset({"hidden_size", "direction", "layout", "input_forget", "activations"})
_LSTM_ACTIVATIONS = ("sigmoid", "tanh", "tanh")


@dataclass(frozen=True)
class Block:
    """Float weights of one block: ``weights`` float32 [groups, rows, columns], rows in (channel, ky, kx) order.

    ``window`` is the number of kernel positions per input channel (1 for matrices): row tiles end on multiples of it.
    With a ``bias_code`` the last row of every group holds the bias, in units of ``bias_code`` input codes.
    """

    name: str
    weights: Array
    window: int = 1
    bias_code: int = 0

    @property
    def input_rows(self) -> int:
        """Rows per group that inputs drive: all but the bias row."""
        return int(self.weights.shape[1]) - bool(self.bias_code)


def kernels(matrices: Array, kernel_shape: Sequence[int]) -> Array:
    """Matrices [groups, rows, columns] as the kernels of a convolution, [groups * columns, channels, *kernel_shape]."""
    groups, _rows, columns = matrices.shape
    return np.ascontiguousarray(matrices.transpose(0, 2, 1).reshape(groups * columns, -1, *kernel_shape))


@dataclass(frozen=True)
class Layer:
    """One analog layer as found in the float graph.

    ``source`` is the tensor that enters the DACs, ``output`` the pre-activation (bias included) in the float graph;
    ``covers`` are the float nodes it replaces, ``node`` carries the source model's name and operator.
    """

    name: str
    operator: str
    node: onnx.NodeProto
    covers: tuple[onnx.NodeProto, ...]
    source: str
    outputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    bias: str
    channels: int
    options: dict[str, Any] = field(default_factory=dict)
    states: tuple[str, str] = ("", "")
    """Names of initial_h and initial_c of an LSTM, empty for zeros."""

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclass(frozen=True)
class Matching:
    """Analog layers in execution order, and for every other node (by its first output) why it is digital."""

    layers: tuple[Layer, ...]
    digital: dict[str, str]


def match(graph: Graph, origins: dict[str, str]) -> Matching:
    """Find every layer whose constant weights can sit in crossbar tiles.

    ``origins``: module path per output name, where the source knew one. Tied weights (one initialiser, several nodes)
    give every node tiles of its own: two layers read at different moments cannot share a DAC range.
    """
    consumers = graph.consumers()
    names = LayerNames()
    layers: list[Layer] = []
    digital: dict[str, str] = {}
    covered: set[int] = set()
    for node in graph.nodes:
        if id(node) in covered:
            continue
        found = _match_node(graph, node, consumers, names, origins)
        if isinstance(found, Layer):
            layers.append(found)
            covered.update(id(each) for each in found.covers)
        else:
            digital[_key(node)] = found
    return Matching(tuple(layers), digital)


def _key(node: onnx.NodeProto) -> str:
    return str(next(name for name in node.output if name))


def _match_node(
    graph: Graph,
    node: onnx.NodeProto,
    consumers: dict[str, list[onnx.NodeProto]],
    names: LayerNames,
    origins: dict[str, str],
) -> Layer | str:
    if node.domain:
        return "digital operator"
    if node.op_type == "Conv":
        reason = _why_not_conv(graph, node)
        return reason or _conv(graph, node, names.choose(node, origins))
    if node.op_type in ("Gemm", "MatMul"):
        reason = _why_not_matrix(graph, node)
        return reason or _matrix(graph, node, consumers, names.choose(node, origins))
    if node.op_type == "LSTM":
        reason = _why_not_lstm(graph, node)
        return reason or _lstm(graph, node, names.choose(node, origins))
    return _DIGITAL.get(node.op_type, "digital operator: not a product with stored weights")


_DIGITAL = {
    "BatchNormalization": "per-channel scale and offset, kept digital so that its statistics can follow the drift",
    "ConvTranspose": "transposed convolutions are not placed on tiles; computed digitally",
    "GRU": "of the recurrent layers only LSTM is placed on tiles; computed digitally",
    "RNN": "of the recurrent layers only LSTM is placed on tiles; computed digitally",
    "Einsum": "not a product of the last axis with a constant matrix; write it as MatMul to place it on tiles",
    "MatMulInteger": "integer product; use QuantizeLinear/DequantizeLinear around MatMul to place it on tiles",
    "ConvInteger": "integer convolution; use QuantizeLinear/DequantizeLinear around Conv to place it on tiles",
}


def _why_not_weights(graph: Graph, node: onnx.NodeProto, names: list[str]) -> str:
    for name in names:
        if name not in graph.constants:
            return f"its weights '{name}' are computed at run time, not stored"
        weights = graph.constants[name]
        if weights.dtype != np.float32:
            return f"its weights are {weights.dtype}; only float32 weights are placed on tiles"
        if not np.all(np.isfinite(weights)):
            raise CompileError(
                f"Layer '{describe_node(node)}' ({node.op_type}) has weights that are not finite. "
                "Expected finite float32 weights; check the training run.",
                node=describe_node(node),
            )
        if not np.any(weights):
            return "all its weights are zero: there is nothing to store"
    return ""


def _why_not_conv(graph: Graph, node: onnx.NodeProto) -> str:
    if reason := _why_not_weights(graph, node, [node.input[1]]):
        return reason
    weights = graph.constants[node.input[1]]
    if weights.ndim not in (3, 4):
        return f"{weights.ndim - 2}-dimensional convolution; only 1 and 2 dimensions are placed on tiles"
    options = attributes(node)
    sizes = {"strides": weights.ndim - 2, "dilations": weights.ndim - 2, "pads": 2 * (weights.ndim - 2)}
    fits = all(len(options.get(key, [])) == size for key, size in sizes.items())
    if not fits or options.get("group", 0) < 1 or weights.shape[0] % options["group"] or not weights.size:
        return "its attributes do not fit its weights"
    if options.get("auto_pad", "NOTSET") != "NOTSET":
        return "auto_pad SAME with a stride needs a fixed input size to resolve its padding; export with fixed sizes"
    if len(node.input) > 2 and node.input[2] and node.input[2] not in graph.constants:
        return "its bias is computed at run time"
    return ""


def _conv(graph: Graph, node: onnx.NodeProto, name: str) -> Layer:
    weights = graph.constants[node.input[1]]
    options = attributes(node)
    groups, outputs = int(options["group"]), weights.shape[0]
    flat = weights.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    block = Block("W", np.ascontiguousarray(flat), window=int(np.prod(weights.shape[2:])))
    return Layer(
        name=name,
        operator=CONV,
        node=node,
        covers=(node,),
        source=node.input[0],
        outputs=(node.output[0],),
        blocks=(block,),
        bias=_bias(graph, node.input[2] if len(node.input) > 2 else ""),
        channels=outputs,
        options={key: options[key] for key in ("dilations", "group", "kernel_shape", "pads", "strides")},
    )


def _why_not_matrix(graph: Graph, node: onnx.NodeProto) -> str:
    left, right = node.input[0], node.input[1]
    if right not in graph.constants:
        if left in graph.constants:
            return (
                f"the constant '{left}' is the left operand; a crossbar multiplies inputs by a matrix on the right: "
                "write x @ W (transpose both) to place it on tiles"
            )
        return "both operands are computed at run time: no weights to store"
    if graph.constants[right].ndim != 2:
        return f"its constant has {graph.constants[right].ndim} dimensions; only plain matrices are placed on tiles"
    if reason := _why_not_weights(graph, node, [right]):
        return reason
    rank = graph.type_of(left).rank
    return "" if rank is None or rank >= 2 else "its input is a vector without a batch axis"


def _matrix(graph: Graph, node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]], name: str) -> Layer:
    weights = graph.constants[node.input[1]]
    covers: tuple[onnx.NodeProto, ...] = (node,)
    output = node.output[0]
    bias = node.input[2] if len(node.input) > 2 else ""
    readers = consumers.get(output, [])
    alone = node.op_type == "MatMul" and len(readers) == 1 and output not in graph.output_names
    if alone and (found := _added_bias(graph, readers[0], output, weights.shape[1])):
        bias, covers, output = found, (node, readers[0]), readers[0].output[0]
    return Layer(
        name=name,
        operator=GEMM,
        node=node,
        covers=covers,
        source=node.input[0],
        outputs=(output,),
        blocks=(Block("W", weights[np.newaxis]),),
        bias=_bias(graph, bias),
        channels=weights.shape[1],
    )


def _added_bias(graph: Graph, add: onnx.NodeProto, product: str, columns: int) -> str:
    """Name of the vector constant that an Add behind a MatMul adds per column; empty if it does something else."""
    if add.op_type != "Add" or add.domain:
        return ""
    other = add.input[1] if add.input[0] == product else add.input[0]
    value = graph.constants.get(other)
    rank = graph.type_of(product).rank
    if value is None or other == product or value.dtype != np.float32 or value.size != columns:
        return ""
    if not value.ndim or value.shape[-1] != columns or rank is None or value.ndim > rank:
        return ""
    if value.ndim == 1:
        return str(other)
    name = graph.fresh(f"{other}_vector")
    graph.constants[name] = value.reshape(columns)
    return name


def _bias(graph: Graph, name: str) -> str:
    """The bias, unless it is all zeros (exporters write those for layers without one)."""
    if not name:
        return ""
    value = graph.constants.get(name)
    return "" if value is not None and not np.any(value) else name


def _why_not_lstm(graph: Graph, node: onnx.NodeProto) -> str:
    options = attributes(node)
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    directions = 2 if options.get("direction", "forward") == "bidirectional" else 1
    activations = [_text(each).lower() for each in options.get("activations", _LSTM_ACTIVATIONS * directions)]
    unusual = sorted(set(options) - _LSTM_OPTIONS)
    if any(graph.type_of(name).rank != 3 for name in inputs[1:3]):
        return "its weights do not have the three axes of an LSTM's"
    if inputs[4]:
        return "sequence_lens (padded sequences) is not supported by the analog LSTM; computed digitally"
    if inputs[7]:
        return "peephole connections are not supported by the analog LSTM; computed digitally"
    if activations != list(_LSTM_ACTIVATIONS * directions):
        return f"activations {', '.join(activations)} are not those of the analog LSTM; computed digitally"
    if options.get("layout", 0):
        return "layout 1 is not supported by the analog LSTM: transpose to (sequence, batch, inputs)"
    if options.get("input_forget", 0) or unusual:
        found = ", ".join(unusual) or "input_forget"
        return f"attribute {found} is not supported by the analog LSTM; computed digitally"
    if inputs[3] and inputs[3] not in graph.constants:
        return "its bias is computed at run time"
    return _why_not_weights(graph, node, [inputs[1], inputs[2]])


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _lstm(graph: Graph, node: onnx.NodeProto, name: str) -> Layer:
    options = attributes(node)
    direction = options.get("direction", "forward")
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    blocks: list[Block] = []
    for index, suffix in enumerate(("", "_reverse") if direction == "bidirectional" else ("",)):
        for kind, tensor in (("W", inputs[1]), ("R", inputs[2])):
            weights = graph.constants[tensor][index]
            blocks.append(Block(kind + suffix, np.ascontiguousarray(weights.T)[np.newaxis]))
    hidden = int(graph.constants[inputs[2]].shape[2])
    return Layer(
        name=name,
        operator=LSTM,
        node=node,
        covers=(node,),
        source=inputs[0],
        outputs=tuple([*node.output, "", ""][:3]),
        blocks=tuple(blocks),
        bias=_bias(graph, inputs[3]),
        channels=hidden * (2 if direction == "bidirectional" else 1),
        options={"direction": direction, "hidden_size": hidden},
        states=(inputs[5], inputs[6]),
    )
