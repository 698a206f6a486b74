"""MACs, energy and latency per inference, and the placement report.

Source of the figures: HERMES project chip, 64 cores of 256 x 256, 8-bit inputs and outputs, one-phase read: 63.1 TOPS
at 9.76 TOPS/W (Le Gallo et al., Nat. Electron. 6:680, 2023). Per core: 2 x 256 x 256 operations in 133 ns for 13.4 nJ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from pcmedge._contract.image_pb2 import ChipProfile, NodePlacement, PlacementReport

from .graph import Graph, attributes, describe_node
from .layers import CONV, LSTM, Layer
from .placement import Region

MVM_LATENCY_S = 133e-9
MVM_ENERGY_J = 13.4e-9
REFERENCE_SIZE = 256
REFERENCE_BITS = 8
# Operators that multiply and accumulate, and where their two operands are among the inputs.
_OPERANDS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"), (0, 1)),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "Einsum"), (0, 1)),
}
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger"})
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

Sizes = Mapping[str, tuple[int, ...]]
"""Concrete shape of tensors for one sample."""


def tensors_to_measure(graph: Graph, layers: Sequence[Layer]) -> list[str]:
    """Tensors whose concrete shapes the counts need."""
    names = [name for layer in layers for name in (layer.source, layer.output)]
    for node in graph.nodes:
        if node.op_type in _OPERANDS:
            operands = (
                node.input if node.op_type == "Einsum" else [node.input[index] for index in _OPERANDS[node.op_type]]
            )
            names += [name for name in (*operands, node.output[0]) if name not in graph.constants]
    return list(dict.fromkeys(name for name in names if name))


def positions(layer: Layer, sizes: Sizes) -> int:
    """Matrix-vector products per inference of one sample on each of the layer's tiles, a two-phase one counted once."""
    if layer.operator == LSTM:
        sequence, batch = sizes[layer.source][:2]
        return sequence * batch
    total = math.prod(sizes[layer.output])
    return total // layer.channels


def digital_macs(node: onnx.NodeProto, graph: Graph, sizes: Sizes) -> int:
    """Multiply-accumulates of one digital node for one sample; elementwise and shape operators count as none."""
    if node.op_type not in _OPERANDS:
        return 0

    def size(name: str) -> tuple[int, ...]:
        return graph.constants[name].shape if name in graph.constants else sizes.get(name, ())

    if node.op_type == "Einsum":
        return _einsum_macs(attributes(node)["equation"], [size(name) for name in node.input])
    first, second = _OPERANDS[node.op_type]
    left, right, out = size(node.input[first]), size(node.input[second]), size(node.output[0])
    if node.op_type in _CONVOLUTIONS:
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    if node.op_type in _GATES:
        hidden = right[1] // _GATES[node.op_type] if len(right) > 1 else 0
        return math.prod(left[:2]) * right[0] * right[1] * (left[2] + hidden)
    inner = left[-1] if left else 1
    if node.op_type == "Gemm":
        inner = math.prod(left) // max(1, out[0])
    return math.prod(out) * inner


def _einsum_macs(equation: str, sizes: Sequence[tuple[int, ...]]) -> int:
    """Product of the lengths of all axes: what a direct evaluation multiplies. An ellipsis counts once."""
    lengths: dict[str, int] = {}
    for term, size in zip(equation.partition("->")[0].replace(" ", "").split(","), sizes, strict=True):
        before, dots, after = term.partition("...")
        shared = math.prod(size[len(before) : len(size) - len(after)]) if dots else 1
        lengths["..."] = max(lengths.get("...", 1), shared)
        lengths.update(zip(before, size, strict=False))
        lengths.update(zip(after, size[len(size) - len(after) :], strict=True))
    return math.prod(lengths.values())


@dataclass(frozen=True)
class LayerCost:
    tiles: int
    utilisation: float
    macs: int
    mvms: int
    phases: int
    energy_j: float
    latency_s: float
    weights: int


def layer_cost(
    layer: Layer, regions: Mapping[str, Sequence[Region]], signed: Mapping[str, bool], count: int, profile: ChipProfile
) -> LayerCost:
    """Cost of one layer: ``count`` products on each tile; tiles of a layer, and the blocks of an LSTM, run in parallel.

    Energy per product = 13.4 nJ x (word lines x bit lines in use) / (256 x 256) x phases; latency 133 ns x phases, both
    times 2^(dac_bits - 8) for the length of the input pulse. Signed inputs are read in two phases. Bias rows count as
    weights and cost energy, but are no MACs: an addition is none, wherever it happens.
    """
    pulse = 2.0 ** (int(profile.dac_bits) - REFERENCE_BITS)
    energy, tiles, used, biases, phases_of_layer = 0.0, 0, 0, 0, 1
    for block in layer.blocks:
        phases = 2 if signed[block.name] else 1
        phases_of_layer = max(phases_of_layer, phases)
        biases += layer.channels if block.bias_code else 0
        for region in regions[block.name]:
            tiles += 1
            used += region.used_cells
            energy += MVM_ENERGY_J * pulse * phases * region.active_cells / REFERENCE_SIZE**2
    return LayerCost(
        tiles=tiles,
        utilisation=used / (tiles * profile.tile_rows * profile.tile_columns),
        macs=(used - biases) * count,
        mvms=tiles * count,
        phases=phases_of_layer,
        energy_j=energy * count,
        latency_s=MVM_LATENCY_S * pulse * phases_of_layer * count,
        weights=used,
    )


def energy_source(profile: ChipProfile) -> str:
    """A sentence for the report: where the figures come from and what is extrapolated."""
    text = (
        "HERMES 64-core chip (Le Gallo et al., Nat. Electron. 2023): 63.1 TOPS at 9.76 TOPS/W with one-phase 8-bit "
        "reads, that is 133 ns and 13.4 nJ per matrix-vector product of 256 x 256; charged for the word "
        "lines x bit lines in use; "
        "signed inputs take two phases; digital operators, data movement and idle power are not included"
    )
    extrapolated: list[str] = []
    if (profile.tile_rows, profile.tile_columns) != (REFERENCE_SIZE, REFERENCE_SIZE):
        extrapolated.append(
            f"tiles of {profile.tile_rows} x {profile.tile_columns} (energy with the cells in use, same latency)"
        )
    if profile.dac_bits != REFERENCE_BITS:
        extrapolated.append(f"{profile.dac_bits}-bit inputs (pulse length with 2^bits)")
    return text + (f"; extrapolated to {' and '.join(extrapolated)}." if extrapolated else ".")


def report(
    graph: Graph,
    layers: Sequence[Layer],
    digital: Mapping[str, str],
    costs: Mapping[str, LayerCost],
    sizes: Sizes,
    profile: ChipProfile,
    digital_parameters: int,
    biases: Mapping[str, str],
) -> PlacementReport:
    """Per node of the float graph: analog or digital, why, and what it costs. ``biases``: a sentence per layer."""
    found = PlacementReport(energy_source=energy_source(profile), digital_parameters=digital_parameters)
    by_node = {id(layer.node): layer for layer in layers}
    covered = {id(node): layer for layer in layers for node in layer.covers}
    for node in graph.nodes:
        if id(node) in by_node:
            layer = by_node[id(node)]
            found.nodes.append(_analog(layer, costs[layer.name], biases.get(layer.name, "")))
        elif id(node) in covered:
            found.nodes.add(
                node=describe_node(node),
                operator=node.op_type,
                analog=not covered[id(node)].bias,
                reason="the bias of the layer before it, "
                + ("added behind its tiles" if covered[id(node)].bias else "on a row of its tiles"),
            )
        else:
            found.nodes.add(
                node=describe_node(node),
                operator=node.op_type,
                reason=digital[next(name for name in node.output if name)],
                macs=digital_macs(node, graph, sizes),
            )
    found.analog_macs = sum(cost.macs for cost in costs.values())
    found.digital_macs = sum(node.macs for node in found.nodes if not node.analog)
    found.tiles = sum(cost.tiles for cost in costs.values())
    found.analog_weights = sum(cost.weights for cost in costs.values())
    found.devices = 2 * found.analog_weights
    cells = found.tiles * profile.tile_rows * profile.tile_columns
    found.utilisation = found.analog_weights / cells if cells else 0.0
    found.energy_j = sum(cost.energy_j for cost in costs.values())
    found.latency_s = sum(cost.latency_s for cost in costs.values())
    return found


def _analog(layer: Layer, cost: LayerCost, bias: str) -> NodePlacement:
    kinds = {CONV: "convolution", LSTM: "LSTM"}
    inputs = "signed inputs, two phases" if cost.phases == 2 else "unsigned inputs, one phase"
    return NodePlacement(
        node=describe_node(layer.node),
        operator=layer.node.op_type,
        analog=True,
        reason=f"{kinds.get(layer.operator, 'product')} with stored weights; {inputs}" + (f"; {bias}" if bias else ""),
        layer=layer.name,
        tiles=cost.tiles,
        utilisation=cost.utilisation,
        macs=cost.macs,
        mvms=cost.mvms,
        phases=cost.phases,
        energy_j=cost.energy_j,
        latency_s=cost.latency_s,
    )
