"""Statistics behind analog layers: whose batch norm belongs to which layer, and means and variances per channel.

Adaptive statistics need a per-channel scale and offset behind every analog layer. Where the model has a batch norm,
that is it. Where it has none (or it arrived folded into the weights), an identity batch norm is put there: mean and
variance recorded on the calibration set, scale = sqrt(variance + epsilon), offset = mean. It changes nothing until the
chip adapts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from .graph import Array, Graph
from .layers import CONV, GEMM, Layer

NONE, BATCH_NORM, RECORDED = "none", "batch_norm", "recorded"
EPSILON = 1e-5
# What may lie between a classifier and the graph's output: reshaping, monotonic or pooling operators. Normalising the
# scores of a classifier by a small buffer's statistics would move its class priors, so those layers are left alone.
_TO_OUTPUT = frozenset(
    (
        *(
            "ArgMax",
            "AveragePool",
            "Cast",
            "Clip",
            "DequantizeLinear",
            "Dropout",
            "Exp",
            "Flatten",
            "GlobalAveragePool",
        ),
        *("Identity", "Log", "LogSoftmax", "QuantizeLinear", "ReduceMean", "Reshape", "Sigmoid", "Slice", "Softmax"),
        *("Squeeze", "Tanh", "TopK", "Transpose", "Unsqueeze"),
    )
)


@dataclass
class Moments:
    """Mean and population variance per channel, merged batch by batch in float64 (Chan et al. 1979)."""

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, values: Array) -> None:
        """Add activations of shape (samples, channels, ...)."""
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        exact = values.astype(np.float64)
        count = exact.size // exact.shape[1]
        mean = exact.mean(axis=axes)
        shape = (1, -1, *[1] * (values.ndim - 2))
        squares = np.square(exact - mean.reshape(shape)).sum(axis=axes)
        if not self.count:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        delta = mean - self.mean
        self.squares = self.squares + squares + np.square(delta) * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    @property
    def variance(self) -> Array:
        return self.squares / self.count


def name_batch_norms(graph: Graph, origins: Mapping[str, str]) -> None:
    """Give every BatchNormalization a unique node name; it is the id of its statistics."""
    taken = {node.name for node in graph.nodes if node.op_type != "BatchNormalization"}
    for index, node in enumerate(graph.nodes):
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        stem = origins.get(node.output[0]) or node.name or f"batch_norm_{index}"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        node.name = name


def batch_norm_inputs(graph: Graph) -> dict[str, str]:
    """Name of every batch norm -> the tensor that enters it, whose statistics are the node's."""
    return {
        node.name: node.input[0] for node in graph.nodes if node.op_type == "BatchNormalization" and not node.domain
    }


@dataclass(frozen=True)
class StatisticsPlan:
    """Per layer: ``kind``, ``node`` (its batch norm). Per batch norm: ``inputs`` (tensor entering it), ``layer_of``."""

    kind: dict[str, str]
    node: dict[str, str]
    inputs: dict[str, str]
    layer_of: dict[str, str]

    @property
    def recorded(self) -> list[str]:
        return [layer for layer, kind in self.kind.items() if kind == RECORDED]


def plan_statistics(graph: Graph, layers: tuple[Layer, ...], *, record: bool) -> StatisticsPlan:
    """Decide for every analog layer which batch norm carries its statistics."""
    consumers = graph.consumers()
    inputs = batch_norm_inputs(graph)
    plan = StatisticsPlan({}, {}, inputs, dict.fromkeys(inputs, ""))
    for layer in layers:
        own = _batch_norm_behind(graph, layer, consumers)
        if own is not None:
            plan.kind[layer.name], plan.node[layer.name] = BATCH_NORM, own.name
            plan.layer_of[own.name] = layer.name
        elif record and _can_record(graph, layer, consumers):
            node_name = graph.fresh(f"{layer.name}/statistics")
            plan.kind[layer.name], plan.node[layer.name] = RECORDED, node_name
            plan.inputs[node_name], plan.layer_of[node_name] = layer.output, layer.name
        else:
            plan.kind[layer.name], plan.node[layer.name] = NONE, ""
    return plan


def _batch_norm_behind(
    graph: Graph, layer: Layer, consumers: Mapping[str, list[onnx.NodeProto]]
) -> onnx.NodeProto | None:
    """The batch norm that everything of the layer's output passes; None if a shortcut leads around it.

    A shortcut (a pre-activation residual network has one behind its stem) would carry the drifted signal on, with
    neither statistics nor a drift factor.
    """
    readers = consumers.get(layer.output, [])
    if len(readers) != 1 or layer.output in graph.output_names:
        return None
    found = readers[0]
    return found if found.op_type == "BatchNormalization" and found.input[0] == layer.output else None


def _can_record(graph: Graph, layer: Layer, consumers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    # Channels must be axis 1: so they are behind convolutions, and behind products of plain matrices.
    right_rank = layer.operator == CONV or (layer.operator == GEMM and graph.type_of(layer.output).rank == 2)
    return right_rank and not _only_to_outputs(layer.output, set(graph.output_names), consumers)


def _only_to_outputs(name: str, outputs: set[str], consumers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Whether a tensor is a graph output, or reaches outputs through nothing but reshaping or monotonic operators."""
    if name in outputs:
        return True
    readers = consumers.get(name, [])
    return all(
        node.op_type in _TO_OUTPUT and all(_only_to_outputs(out, outputs, consumers) for out in node.output if out)
        for node in readers
    )
