"""Float graph → chip program: analog nodes in place of the layers, recorded statistics behind them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from pcmedge.image import schemas

from .graph import PCM_DOMAIN, Graph, TensorType, make_node
from .layers import LSTM, Layer
from .statistics import EPSILON, Moments, StatisticsPlan


def lower(graph: Graph, layers: tuple[Layer, ...], plan: StatisticsPlan, recorded: Mapping[str, Moments]) -> Graph:
    """The program of an image; tensors keep the float graph's names, so both can be compared tensor by tensor.

    ``recorded``: moments of the pre-activation of every layer in ``plan.recorded``.
    """
    program = Graph(
        name=graph.name,
        nodes=[],
        constants=dict(graph.constants),
        inputs=graph.inputs,
        outputs=graph.outputs,
        types=dict(graph.types),
    )
    last = {id(layer.covers[-1]): layer for layer in layers}
    covered = {id(node) for layer in layers for node in layer.covers}
    for node in graph.nodes:
        if id(node) in last:
            program.nodes += _analog_nodes(program, last[id(node)], plan, recorded)
        elif id(node) not in covered:
            program.nodes.append(node)
    program.sweep()
    schemas.register()
    program.infer()
    _keep_known(program, graph)
    return program


def _analog_nodes(
    program: Graph, layer: Layer, plan: StatisticsPlan, recorded: Mapping[str, Moments]
) -> list[onnx.NodeProto]:
    inputs = [layer.source, layer.bias]
    attrs: dict[str, object] = {"layer": layer.name, **layer.options}
    outputs = [*layer.outputs]
    if layer.operator == LSTM:
        inputs += layer.states
    while not inputs[-1]:
        inputs.pop()
    while not outputs[-1]:
        outputs.pop()
    if layer.name not in recorded:
        return [make_node(layer.operator, inputs, outputs, name=layer.name, domain=PCM_DOMAIN, **attrs)]
    raw = program.fresh(f"{layer.output}_before_statistics")
    program.types[raw] = program.type_of(layer.output)
    analog = make_node(layer.operator, inputs, [raw], name=layer.name, domain=PCM_DOMAIN, **attrs)
    return [analog, _identity_batch_norm(program, layer, raw, plan.node[layer.name], recorded[layer.name])]


def _identity_batch_norm(program: Graph, layer: Layer, raw: str, node_name: str, moments: Moments) -> onnx.NodeProto:
    """BatchNormalization with scale = sqrt(var + epsilon), bias = mean: the identity until its statistics move."""
    mean = moments.mean.astype(np.float32)
    variance = moments.variance.astype(np.float32)
    scale = np.sqrt(variance + np.float32(EPSILON))
    names: list[str] = []
    for role, value in (("scale", scale), ("bias", mean), ("mean", mean), ("var", variance)):
        name = program.fresh(f"{node_name}/{role}")
        program.constants[name] = value
        names.append(name)
    return make_node("BatchNormalization", [raw, *names], [layer.output], name=node_name, epsilon=EPSILON)


def _keep_known(program: Graph, graph: Graph) -> None:
    """What the exporter knew about a tensor stays, where inference through the analog nodes found less."""
    for name, kind in graph.types.items():
        found = program.types.get(name)
        if found is None or not found.element or found.shape is None:
            program.types[name] = kind
        elif kind.shape is not None and len(kind.shape) == len(found.shape):
            dims = tuple(new if new is not None else old for new, old in zip(found.shape, kind.shape, strict=True))
            program.types[name] = TensorType(found.element, dims)
