"""Bias correction: what clipping and rounding the weights shifts a layer's mean output by, given back digitally.

The network is run with the weights its tiles are to hold, layer after layer in one pass: every layer's mean per channel
is compared with the float network's on the same samples, and put right before the next layer sees it (Nagel et al.
2019, arXiv:1906.04721, call this empirical bias correction). The difference goes into the layer's bias, in front of its
batch norm, so that pre-activations on the chip keep the means that recalibration compares them with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calibration import pick
from .digital import StoredBlock, with_weights
from .graph import Array, Graph, make_node
from .layers import CONV, LSTM, Layer
from .lowering import lower
from .measure import BlockKey
from .runtime import FloatModel
from .scaling import ScaledBlock
from .statistics import StatisticsPlan

# All samples are one batch, because their mean enters the next layer: so many, or what fits into this memory.
_MAX_SAMPLES, _LEAST_SAMPLES, _BYTES = 256, 16, 512 * 2**20
# Shifts below this share of the channel's deviation change nothing, and are not worth an addition.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
class Corrected:
    """Layers with their new biases, which are constants of ``graph``, a copy."""

    graph: Graph
    layers: tuple[Layer, ...]


def correct_biases(
    graph: Graph,
    layers: tuple[Layer, ...],
    plan: StatisticsPlan,
    scaled: Mapping[BlockKey, ScaledBlock],
    samples: Mapping[str, Array],
) -> Corrected:
    """Add to the biases of all layers but LSTMs (whose gates have no mean of their own) what their means lack."""
    chosen = _one_batch(graph, layers, samples)
    correctable = [layer for layer in layers if layer.operator != LSTM]
    means, deviations = _moments(graph, correctable, chosen)
    stored = with_weights(
        lower(graph, layers, plan, {}),
        {key: StoredBlock(block.weights().astype(np.float32), None) for key, block in scaled.items()},
    )
    shifts = FloatModel(stored, [_insert(stored, layer, means[layer.name]) for layer in correctable]).run(chosen)
    constants = dict(graph.constants)
    made: dict[str, Layer] = {}
    for layer, shift in zip(correctable, shifts.values(), strict=True):
        change = shift.reshape(-1)
        if np.all(np.abs(change) <= _NEGLIGIBLE * deviations[layer.name]):
            continue
        before = graph.constants[layer.bias].reshape(-1) if layer.bias else np.zeros(1, np.float32)
        name = graph.fresh(f"{layer.name}/corrected_bias")
        constants[name] = np.ascontiguousarray((before + change).astype(np.float32))
        made[layer.name] = replace(layer, bias=name)
    return Corrected(replace(graph, constants=constants), tuple(made.get(layer.name, layer) for layer in layers))


def _insert(stored: Graph, layer: Layer, mean: Array) -> str:
    """Put ``+ (mean - mean of this batch)`` behind a layer; the name of what is added."""
    place = next(index for index, node in enumerate(stored.nodes) if layer.output in node.output)
    raw, wanted = stored.fresh(f"{layer.output}/uncorrected"), stored.fresh(f"{layer.name}/mean")
    node = stored.nodes[place]
    node.output[list(node.output).index(layer.output)] = raw
    rank = stored.type_of(layer.output).rank or (
        len(layer.options["kernel_shape"]) + 2 if layer.operator == CONV else 2
    )
    channel = _channel_axis(layer, rank)
    shape = [1] * rank
    shape[channel] = -1
    axes = stored.fresh(f"{layer.name}/axes")
    stored.constants[axes] = np.array([axis for axis in range(rank) if axis != channel], np.int64)
    stored.constants[wanted] = mean.astype(np.float32).reshape(shape)
    found, shift = stored.fresh(f"{layer.name}/batch_mean"), stored.fresh(f"{layer.name}/shift")
    stored.nodes[place + 1 : place + 1] = [
        make_node("ReduceMean", [raw, axes], [found], name=found, keepdims=1),
        make_node("Sub", [wanted, found], [shift], name=shift),
        make_node("Add", [raw, shift], [layer.output], name=f"{shift}/added"),
    ]
    return shift


def _moments(
    graph: Graph, layers: Sequence[Layer], samples: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Mean and standard deviation per channel of every layer's output in the float network."""
    sums: dict[str, list[Array]] = {layer.name: [] for layer in layers}
    for tensors in FloatModel(graph, [layer.output for layer in layers]).batches(samples):
        for layer in layers:
            values = tensors[layer.output]
            channels = np.moveaxis(values, _channel_axis(layer, values.ndim), -1)
            rows = channels.reshape(-1, channels.shape[-1]).astype(np.float64)
            sums[layer.name].append(np.stack([np.full(rows.shape[1], len(rows)), rows.sum(0), np.square(rows).sum(0)]))
    means, deviations = {}, {}
    for name, parts in sums.items():
        count, total, squares = np.sum(parts, axis=0)
        means[name] = total / count
        deviations[name] = np.sqrt(np.maximum(0.0, squares / count - np.square(means[name])))
    return means, deviations


def _channel_axis(layer: Layer, rank: int) -> int:
    return 1 if layer.operator == CONV else rank - 1


def _one_batch(graph: Graph, layers: Sequence[Layer], samples: Mapping[str, Array]) -> dict[str, Array]:
    one = FloatModel(graph, [layer.output for layer in layers]).run({name: each[:1] for name, each in samples.items()})
    largest = max(value.nbytes for value in one.values())
    return pick(samples, max(_LEAST_SAMPLES, min(_MAX_SAMPLES, _BYTES // (4 * largest))))
