"""Lowering of an analog LSTM: W x for all steps at once, R h step by step inside a Scan, not unrolled.

The gates are ONNX's (i, o, f, c), their nonlinearities digital. The hidden state is bounded by tanh, so its DAC is
signed with the fixed step of block "R" (1/127 for 8 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pcmedge_emulator.engine.analog import AnalogContext, BandKey
from pcmedge_emulator.engine.converters import Codes
from pcmedge_emulator.engine.geometry import bands
from pcmedge_emulator.engine.graph import GraphBuilder
from pcmedge_emulator.engine.product import lower_matmul


@dataclass(frozen=True)
class Direction:
    """One direction of a layer: the suffix of its blocks' names, its index on axis 0 of B, initial_h and initial_c."""

    suffix: str
    index: int
    reverse: bool


def directions(direction: str) -> tuple[Direction, ...]:
    """The passes over the sequence that ONNX's attribute ``direction`` asks for."""
    if direction == "bidirectional":
        return Direction("", 0, False), Direction("_reverse", 1, True)
    return (Direction("", 0, direction == "reverse"),)


def lower_lstm(context: AnalogContext, node: onnx.NodeProto) -> None:
    """Add the nodes of one AnalogLSTM (layout 0) to the context's graph, outputs named as the node's."""
    attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    layer = attributes["layer"].decode()
    hidden = int(attributes["hidden_size"])
    passes = directions(attributes.get("direction", b"forward").decode())
    given = [*node.input, "", "", "", ""][:4]
    builder = context.builder
    sequences, last_h, last_c = [], [], []
    for one in passes:
        y, h, c = _one_direction(context, layer, hidden, given, one)
        axis = [builder.constant([value], np.int64, "axis") for value in (1, 0)]
        sequences.append(builder.node("Unsqueeze", [y, axis[0]], f"{layer}/Y"))
        last_h.append(builder.node("Unsqueeze", [h, axis[1]], f"{layer}/Y_h"))
        last_c.append(builder.node("Unsqueeze", [c, axis[1]], f"{layer}/Y_c"))
    for output, parts, axis_index in zip(node.output, (sequences, last_h, last_c), (1, 0, 0), strict=False):
        if output:
            builder.add("Concat", parts, [output], axis=axis_index)


def _one_direction(
    context: AnalogContext, layer: str, hidden: int, given: list[str], one: Direction
) -> tuple[str, str, str]:
    """Hidden states of all steps (T, N, H), last hidden and last cell state (N, H)."""
    builder = context.builder
    x, bias, initial_h, initial_c = given
    blocks = context.program.layers[layer].blocks
    inward, recurrent = blocks[f"W{one.suffix}"], blocks[f"R{one.suffix}"]
    hint = f"{layer}/{recurrent.name}"
    gates = lower_matmul(context, builder, layer, inward, context.dac(builder, x, inward, f"{layer}/{inward.name}/dac"))
    if bias:
        row = builder.node("Gather", [bias, builder.constant(one.index, np.int64, "index")], f"{hint}/biases", axis=0)
        halves = [builder.fresh(f"{hint}/bias"), builder.fresh(f"{hint}/bias")]
        builder.add("Split", [row], halves, axis=0, num_outputs=2)
        gates = builder.node("Add", [gates, builder.node("Add", halves, f"{hint}/bias")], f"{hint}/gates")
    h, c = (_initial_state(builder, state, one, gates, hidden, hint) for state in (initial_h, initial_c))
    rows = bands(recurrent)
    scales = {index: context.scale_parameter(layer, recurrent, index, band) for index, band in enumerate(rows)}
    noise: list[str] = []
    if context.noise_mode != "off":
        made = [context.noise_input(f"{hint}/{i}", gates, planes=False) for i in range(len(rows))]
        if context.noise_mode == "added":
            noise = [name for one_input in made for name in (one_input.gaussian, one_input.signs)]
    body, codes = _step(context, layer, hidden, recurrent.name, scales, len(noise))
    names = [builder.fresh(f"{hint}/{part}") for part in ("last_h", "last_c", "states")]
    recorded = [builder.fresh(f"{hint}/codes") for _code in codes]
    backward = [int(one.reverse)]
    builder.add(
        "Scan",
        [h, c, gates, *noise],
        [*names, *recorded],
        body=body,
        num_scan_inputs=1 + len(noise),
        scan_input_directions=backward * (1 + len(noise)),
        scan_output_directions=backward * (1 + len(recorded)),
    )
    for (key, code), name in zip(codes.items(), recorded, strict=True):
        context.codes[key] = code.named(name)
    return names[2], names[0], names[1]


def _initial_state(builder: GraphBuilder, state: str, one: Direction, gates: str, hidden: int, hint: str) -> str:
    if state:
        return builder.node(
            "Gather", [state, builder.constant(one.index, np.int64, "index")], f"{hint}/initial", axis=0
        )
    batch = builder.node("Shape", [gates], f"{hint}/batch", start=1, end=2)
    shape = builder.node("Concat", [batch, builder.constant([hidden], np.int64, "hidden")], f"{hint}/shape", axis=0)
    return builder.node("Expand", [builder.constant(0.0, np.float32, "zero"), shape], f"{hint}/initial")


def _step(
    context: AnalogContext, layer: str, hidden: int, block_name: str, scales: dict[int, str], noises: int
) -> tuple[onnx.GraphProto, dict[BandKey, Codes]]:
    """The Scan body of one time step, and the ADC codes it hands out when codes are recorded."""
    block = context.program.layers[layer].blocks[block_name]
    hint = f"{layer}/{block_name}/step"
    body = context.builder.child()
    h, c, gates = (body.fresh(f"{hint}/{part}") for part in ("h", "c", "gates"))
    noise = [body.fresh(f"{hint}/{'signs' if index % 2 else 'gaussian'}") for index in range(noises)]
    outside = set(context.codes)
    codes_in = context.dac(body, h, block, f"{hint}/dac")
    recurrent = lower_matmul(
        context, body, layer, block, codes_in, list(zip(noise[::2], noise[1::2], strict=True)), scales
    )
    codes = {key: context.codes.pop(key) for key in list(context.codes) if key not in outside}
    summed = body.node("Add", [gates, recurrent], f"{hint}/gates")
    parts = [body.fresh(f"{hint}/{gate}") for gate in ("i", "o", "f", "g")]
    body.add("Split", [summed], parts, axis=-1, num_outputs=4)
    i, o, f = (body.node("Sigmoid", [part], f"{hint}/gate") for part in parts[:3])
    g = body.node("Tanh", [parts[3]], f"{hint}/candidate")
    kept, added = body.node("Mul", [f, c], f"{hint}/kept"), body.node("Mul", [i, g], f"{hint}/added")
    next_c = body.node("Add", [kept, added], f"{hint}/cell")
    next_h = body.node("Mul", [o, body.node("Tanh", [next_c], f"{hint}/squashed")], f"{hint}/hidden")
    state = body.node("Identity", [next_h], f"{hint}/state")
    # Scan wants the shapes of its body's outputs, which cannot be inferred from noise inputs of unknown shape.
    outputs = [_row(name, hidden) for name in (next_h, next_c, state)]
    if context.record_codes:
        outputs += [_row(code.name, 4 * hidden, _type(code)) for code in codes.values()]
    else:
        codes = {}
    inputs = [_row(h, hidden), _row(c, hidden), _row(gates, 4 * hidden)]
    inputs += [_row(name, 1 if index % 2 else 4 * hidden) for index, name in enumerate(noise)]
    graph = helper.make_graph(body.nodes, f"pcm/{hint}", inputs, outputs)
    return graph, codes


def _type(codes: Codes) -> int:
    if not codes.integer:
        return int(onnx.TensorProto.FLOAT)
    return int(onnx.TensorProto.INT8 if codes.signed else onnx.TensorProto.UINT8)


def _row(name: str, width: int, dtype: int = onnx.TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A value (N, width) of the loop body."""
    return helper.make_tensor_value_info(name, dtype, [None, width])
