"""Lowering of a whole chip program to a plain ONNX graph for ONNX Runtime.

Analog nodes become converters and convolutions or matrix products with the conductances of one snapshot as constants;
batch-norm statistics and drift factors become one packed session input; every other node is copied untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from pcmedge_emulator.engine.analog import AnalogContext, BandKey, NoiseInput, NoiseMode
from pcmedge_emulator.engine.converters import Codes, as_float
from pcmedge_emulator.engine.convolution import lower_conv
from pcmedge_emulator.engine.graph import GraphBuilder, ParameterLayout, names_in, tensor_names, unknown_shape
from pcmedge_emulator.engine.product import lower_matmul
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.recurrent import lower_lstm
from pcmedge_emulator.engine.state import Precision, Snapshot
from pcmedge_emulator.engine.statistics import Mode, rewrite_batch_norm
from pcmedge_emulator.engine.validation import ONNX_OPSET, layer_name

# IR version 10 is the one that came with opset 21.
_IR_VERSION = 10

Purpose = Literal["run", "shapes", "saturation", "batch", "paired"]


@dataclass(frozen=True)
class Lowered:
    """A plain ONNX model, and what its extra inputs and outputs mean.

    ``noise`` are the session inputs that take read noise; with purpose "shapes" the outputs ``shapes`` tell the shapes
    of their numbers, in the same order. ``statistics`` maps a batch norm to its outputs (mean, variance).
    ``saturation`` maps a row tile to its outputs (codes at full scale per column, all codes).
    ``constant_bytes``: what the model's constants take.
    """

    model: onnx.ModelProto
    layout: ParameterLayout
    noise: tuple[NoiseInput, ...]
    shapes: tuple[str, ...]
    statistics: dict[str, tuple[str, str]]
    saturation: dict[BandKey, tuple[str, str]]
    constant_bytes: int


def lower(
    program: ChipProgram,
    snapshot: Snapshot,
    purpose: Purpose,
    *,
    precision: Precision = "exact",
    weight_bits: int = 8,
) -> Lowered:
    """The plain graph for one purpose: inference, noise shapes, inference with saturation counts, or measurement."""
    graph = program.model.graph
    builder, layout = GraphBuilder(tensor_names(graph)), ParameterLayout()
    noise_mode: NoiseMode = "off" if snapshot.read_noise == "off" else "shapes" if purpose == "shapes" else "added"
    context = AnalogContext(
        program=program,
        snapshot=snapshot,
        builder=builder,
        layout=layout,
        noise_mode=noise_mode,
        record_codes=purpose == "saturation",
        precision=precision,
        weight_bits=weight_bits,
    )
    mode: Mode = purpose if purpose in ("batch", "paired") else "run"
    statistics = _copy_nodes(context, graph.node, mode)
    outputs = list(graph.output)
    shapes: list[str] = []
    saturation: dict[BandKey, tuple[str, str]] = {}
    if purpose in ("batch", "paired"):
        outputs = [unknown_shape(name) for pair in statistics.values() for name in pair]
    elif purpose == "shapes":
        shapes = [builder.node("Shape", [noise.like], "noise-shape") for noise in context.noise]
        outputs = [unknown_shape(name, TensorProto.INT64) for name in shapes]
    elif purpose == "saturation":
        saturation = {key: _count_saturated(context, key, codes) for key, codes in context.codes.items()}
        for count, size in saturation.values():
            outputs += [unknown_shape(count), unknown_shape(size, TensorProto.INT64)]
    noise = [unknown_shape(name) for given in context.noise for name in (given.gaussian, given.signs)]
    if noise_mode != "added":
        noise = []
    model = assemble(builder, layout, [*graph.input, *noise], outputs, graph.initializer)
    constants = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    return Lowered(model, layout, tuple(context.noise), tuple(shapes), statistics, saturation, constants)


def assemble(
    builder: GraphBuilder,
    layout: ParameterLayout,
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    initializers: Iterable[onnx.TensorProto] = (),
    domains: Iterable[tuple[str, int]] = (("", ONNX_OPSET),),
) -> onnx.ModelProto:
    """A model from the builder's nodes, with the packed parameters unpacked first."""
    unpack, sizes, packed = layout.nodes()
    nodes, results = [*unpack, *builder.nodes], list(outputs)
    tensors = [*initializers, *builder.initializers, *sizes]
    constants = {tensor.name for tensor in tensors}
    real = [value for value in inputs if value.name not in constants]
    # What a rewritten node no longer reads (a batch norm's own statistics) is left behind.
    used = names_in(nodes) | {value.name for value in results}
    kept = [tensor for tensor in tensors if tensor.name in used]
    graph = helper.make_graph(nodes, "pcmedge", [*real, *packed], results, kept)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains],
        ir_version=_IR_VERSION,
    )


def _copy_nodes(context: AnalogContext, nodes: Iterable[onnx.NodeProto], mode: Mode) -> dict[str, tuple[str, str]]:
    builder, statistics = context.builder, {}
    for node in nodes:
        if node.domain == "pcm":
            _lower_analog(context, node)
        elif node.op_type == "BatchNormalization" and node.name in context.program.statistics:
            measured = rewrite_batch_norm(node, context.program, builder, context.layout, mode)
            if measured is not None:
                statistics[node.name] = measured
        else:
            builder.nodes.append(node)
    return statistics


def _lower_analog(context: AnalogContext, node: onnx.NodeProto) -> None:
    builder, layer = context.builder, layer_name(node)
    if node.op_type == "AnalogLSTM":
        lower_lstm(context, node)
        return
    block = context.program.layers[layer].blocks["W"]
    codes = context.dac(builder, node.input[0], block, f"{layer}/{block.name}/dac")
    if node.op_type == "AnalogConv":
        y = lower_conv(context, node, codes)
        axes = next(len(item.ints) for item in node.attribute if item.name == "kernel_shape")
    else:
        y = lower_matmul(context, builder, layer, block, codes)
        axes = 0
    if len(node.input) > 1 and node.input[1]:
        bias = node.input[1]
        if axes:
            shape = builder.constant([1, -1] + [1] * axes, np.int64, "per-channel")
            bias = builder.node("Reshape", [bias, shape], f"{layer}/bias")
        builder.add("Add", [y, bias], [node.output[0]])
    else:
        builder.rename(y, node.output[0])


def _count_saturated(context: AnalogContext, key: BandKey, codes: Codes) -> tuple[str, str]:
    """Outputs: codes at full scale per column (float32 [groups * columns]) and the number of codes (int64)."""
    builder, hint = context.builder, f"{key.layer}/{key.block}/{key.index}/saturated"
    magnitude = builder.node("Abs", [as_float(builder, codes, hint)], hint)
    limit = builder.constant(codes.full_scale, np.float32, "full-scale")
    hits = builder.node("Cast", [builder.node("GreaterOrEqual", [magnitude, limit], hint)], hint, to=TensorProto.FLOAT)
    # Columns are axis 1 of a convolution and the last axis of everything else: bring them to the last of two.
    columns = context.program.layers[key.layer].blocks[key.block]
    width = columns.groups * columns.columns
    if context.program.layers[key.layer].operator == "AnalogConv":
        shape = builder.constant([0, width, -1], np.int64, "flat")
        axes = builder.constant([0, 2], np.int64, "axes")
    else:
        shape = builder.constant([-1, width], np.int64, "flat")
        axes = builder.constant([0], np.int64, "axes")
    flat = builder.node("Reshape", [hits, shape], hint)
    count = builder.node("ReduceSum", [flat, axes], hint, keepdims=0)
    return count, builder.node("Size", [codes.name], hint)


def lower_layer(
    program: ChipProgram,
    snapshot: Snapshot,
    layer: str,
    block: str,
    *,
    precision: Precision = "exact",
    weight_bits: int = 8,
) -> tuple[onnx.ModelProto, list[str]]:
    """One block of one layer, without read noise: input ``codes`` (float32), outputs its ADC codes per row tile."""
    node = next(node for node in program.model.graph.node if node.domain == "pcm" and layer_name(node) == layer)
    builder, layout = GraphBuilder(["codes"]), ParameterLayout()
    context = AnalogContext(
        program=program,
        snapshot=snapshot,
        builder=builder,
        layout=layout,
        noise_mode="off",
        precision=precision,
        weight_bits=weight_bits,
    )
    codes = Codes("codes", False, 0)
    if context.integer:
        signed = program.layers[layer].blocks[block].dac_signed
        kind = TensorProto.INT8 if signed else TensorProto.UINT8
        codes = Codes(builder.node("Cast", ["codes"], "whole", to=kind), True, 0, signed)
    if node.op_type == "AnalogConv":
        lower_conv(context, node, codes)
    else:
        lower_matmul(context, builder, layer, program.layers[layer].blocks[block], codes)
    names = [as_float(builder, code, "out") for code in context.codes.values()]
    model = assemble(builder, layout, [unknown_shape("codes")], [unknown_shape(name) for name in names])
    return model, names
