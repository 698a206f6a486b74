"""What follows a product, as one operator of our own: a rewriting of the lowered plain graph.

The plain graph stays the definition. Where it says

    [Add of noise] -> ADC -> DequantizeLinear by column -> [BatchNormalization] -> [Add] -> [Relu] -> [DAC]

every arrow moves all activations through the caches. ``ReadOut`` (``read_out.c``) is all of it in one pass over them;
``Convert`` is a converter left over. A batch norm that measures its statistics needs two passes: ``Measure`` goes as
far as the ADC and yields them and the codes, of which a ``ReadOut`` makes the rest. Whatever does not match stays as it
is.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pcmedge_emulator.engine.graph import PARAMETERS, names_in
from pcmedge_emulator.engine.native.layout import channels_last
from pcmedge_emulator.engine.native.reading import Converter, Graph, attribute

DOMAIN = "pcmedge.native"

Shapes = Mapping[str, tuple[object, ...]]


def fused(model: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto:
    """The model with read-outs and converters as operators of our own; the model itself if none of it matches.

    ``shapes``: what is known of the shapes of the program's tensors. Only tensors of one known shape are added in a
    read-out, which does not broadcast.
    """
    graph = Graph(model)
    taken: set[str] = set()
    made: list[onnx.NodeProto] = []
    for node in graph.nodes:
        chain = _begin(graph, node)
        if chain is not None:
            _follow(graph, chain, shapes, taken)
            made.extend(chain.made(graph))
            taken.update(each.output[0] for each in chain.nodes)
    for node in graph.nodes:
        if node.output[0] not in taken and (converter := graph.converter(node)) is not None:
            converter = graph.as_numbers(converter)
            made.append(_convert(converter, node.input[0]))
            taken.update(each.output[0] for each in converter.nodes)
    if not made:
        return model
    nodes = [*(node for node in graph.nodes if node.output[0] not in taken), *made]
    nodes, sizes = _unpacked(graph, nodes)
    return _with_nodes(model, channels_last(nodes, graph.outputs), sizes)


@dataclass
class _Chain:
    """Standard nodes that one ReadOut stands for, as far as they have been followed; ``value``: what the last makes.

    ``low``, ``high``, ``zero``: of the ADC codes of the tensor ``product``. ``kind``: its element type.
    """

    product: str
    kind: str
    channels: int
    low: float
    high: float
    zero: float
    scale_at: int
    value: str
    nodes: list[onnx.NodeProto]
    noise: tuple[str, str, str] | None = None
    norm: onnx.NodeProto | None = None
    norm_at: tuple[int, int] = (-1, -1)
    measuring: onnx.NodeProto | None = None
    offset: str = ""
    residual: str = ""
    lower: float = -math.inf
    upper: float = math.inf
    dac: Converter | None = None

    def take(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        self.value = node.output[0]

    def made(self, graph: Graph) -> list[onnx.NodeProto]:
        if self.measuring is None:
            return [self._read_out(graph, self.kind, self.product, self.noise)]
        if self.kind != "float":
            return [self._measure(self.measuring, ""), self._read_out(graph, self.kind, self.product, None)]
        codes = f"{self.product}/codes"
        return [self._measure(self.measuring, codes), self._read_out(graph, "int8", codes, None)]

    def _measure(self, norm: onnx.NodeProto, codes: str) -> onnx.NodeProto:
        return helper.make_node(
            f"Measure_{self.kind}",
            [self.product, PARAMETERS, *(self.noise or ())],
            [*norm.output[1:3], *([codes] if codes else [])],
            name=f"{self.product}/measure",
            domain=DOMAIN,
            **self._conversion(self.noise is not None),
            codes=int(bool(codes)),
        )

    def _read_out(self, graph: Graph, kind: str, read: str, noise: tuple[str, str, str] | None) -> onnx.NodeProto:
        dac, norm = self.dac, self.norm
        wanted = dac is None or self.value in graph.outputs or len(graph.readers(self.value)) > 1
        by_column = norm.input[1:3] if norm else ("", self.offset)
        inputs = [read, PARAMETERS, *by_column, self.residual, *(noise or ("", "", ""))]
        if norm is not None and self.measuring is not None:
            inputs += self.measuring.output[1:3] if norm is self.measuring else norm.input[3:5]
        while not inputs[-1]:
            inputs.pop()
        return helper.make_node(
            f"ReadOut_{kind}_{dac.kind if dac else self.kind}",
            inputs,
            [self.value if wanted else "", *([dac.name] if dac else [])],
            name=f"{self.product}/read-out",
            domain=DOMAIN,
            **self._conversion(noise is not None),
            mean_at=self.norm_at[0],
            variance_at=self.norm_at[1],
            measured=int(self.measuring is not None),
            offset=int(bool(self.offset)),
            residual=int(bool(self.residual)),
            values=int(wanted),
            codes=int(dac is not None),
            epsilon=float(attribute(norm, "epsilon", 1e-5)) if norm else 0.0,
            lower=self.lower,
            upper=self.upper,
            step=dac.step if dac else 1.0,
            low=dac.low if dac else 0.0,
            high=dac.high if dac else 0.0,
        )

    def _conversion(self, noise: bool) -> dict[str, int | float]:
        """Attributes of what both operators begin with: products, their ADC and scale."""
        return {
            "channels": self.channels,
            "last": 0,
            "scale_at": self.scale_at,
            "noise": int(noise),
            "adc_low": self.low,
            "adc_high": self.high,
            "zero": self.zero,
        }


def _begin(graph: Graph, node: onnx.NodeProto) -> _Chain | None:
    """The chain behind a convolution whose ADC is ``node``, as far as the digital scale: of floats, or of int8 sums."""
    if node.op_type == "QuantizeLinear":
        adc = graph.converter(node)
        if adc is None or (adc.step, adc.kind) != (1.0, "int8"):
            return None
        chain = _Chain(node.input[0], "float", 0, adc.low, adc.high, 0.0, 0, adc.name, list(adc.nodes))
        _noise(graph, chain)
        if graph.maker(chain.product, "Conv") is None:
            return None
    elif node.op_type == "Clip" and (product := graph.maker(node.input[0], "QLinearConv")) is not None:
        signed = graph.array(product.input[7]).dtype.kind == "i"
        limits = graph.limits(node, *((-128.0, 127.0) if signed else (0.0, 255.0)))
        if limits is None or len(graph.readers(node.input[0])) != 1:
            return None
        kind, zero = "int8" if signed else "uint8", graph.number(product.input[7])
        assert zero is not None  # the lowering's
        chain = _Chain(node.input[0], kind, 0, *limits, zero, 0, node.output[0], [node])
    else:
        return None
    scaled = graph.only(chain.value, "DequantizeLinear")
    if scaled is None or attribute(scaled, "axis", 1) != 1 or scaled.input[1] not in graph.places:
        return None
    if len(scaled.input) > 2 and graph.number(scaled.input[2]) != chain.zero:
        return None
    chain.scale_at, chain.channels = graph.places[scaled.input[1]]
    if chain.noise and graph.size(chain.noise[2]) != chain.channels:
        return None
    chain.take(scaled)
    return chain


def _noise(graph: Graph, chain: _Chain) -> None:
    """Begin the chain before the noise: p + gaussian * (signs * sigma), sigma a constant."""
    added = graph.maker(chain.product, "Add")
    noise = graph.maker(added.input[1], "Mul") if added else None
    signed = graph.maker(noise.input[1], "Mul") if noise else None
    if added is None or noise is None or signed is None or graph.size(signed.input[1]) is None:
        return
    if any(len(graph.readers(node.output[0])) != 1 for node in (added, noise, signed)):
        return
    chain.noise = noise.input[0], signed.input[0], signed.input[1]
    chain.product = added.input[0]
    chain.nodes += [signed, noise, added]


def _follow(graph: Graph, chain: _Chain, shapes: Shapes, taken: set[str]) -> None:
    """On through what is digital, as far as it matches and no other chain has taken it, to the next DAC."""
    _bias(graph, chain)
    if not chain.offset:
        _norm(graph, chain)
    add = graph.only(chain.value, "Add")
    if add is not None and add.output[0] not in taken:
        other = add.input[1] if add.input[0] == chain.value else add.input[0]
        if other != chain.value and shapes.get(other) and shapes.get(other) == shapes.get(chain.value):
            chain.residual = other
            chain.take(add)
    _activation(graph, chain, taken)
    for reader in graph.readers(chain.value):
        if (dac := graph.converter(reader)) is not None and reader.input[0] == chain.value:
            dac = graph.as_numbers(dac) if chain.kind == "float" else dac
            if (dac.kind == "float") == (chain.kind == "float"):
                chain.dac = dac
                chain.nodes += dac.nodes
                return


def _norm(graph: Graph, chain: _Chain) -> None:
    """A batch norm by parameters; by what it measures itself; or by what is made of what another one measures."""
    readers = graph.readers(chain.value)
    if chain.value in graph.outputs or any(
        (node.op_type, node.domain, node.input[0]) != ("BatchNormalization", "", chain.value) for node in readers
    ):
        return
    measuring = [node for node in readers if attribute(node, "training_mode", 0)]
    others = [node for node in readers if not attribute(node, "training_mode", 0)]
    if not measuring and len(others) == 1:
        mean, variance = (graph.places.get(name) for name in others[0].input[3:5])
        if mean and variance and mean[1] == variance[1] == chain.channels:
            chain.norm, chain.norm_at = others[0], (mean[0], variance[0])
            chain.take(others[0])
    elif len(measuring) == 1 and len(others) <= 1 and _measures(graph, measuring[0], only=bool(others)):
        chain.measuring, chain.norm = measuring[0], [*measuring, *others][-1]
        for node in (*measuring, *others):
            chain.take(node)


def _measures(graph: Graph, norm: onnx.NodeProto, *, only: bool) -> bool:
    """Whether a batch norm in training mode yields the statistics of its batch; ``only``: and nothing that is read."""
    normed = norm.output[0]
    if only and (normed in graph.outputs or graph.readers(normed)):
        return False
    return len(norm.output) == 3 and attribute(norm, "momentum", 0.9) == 0.0


def _bias(graph: Graph, chain: _Chain) -> None:
    """A digital bias: a constant by column, shaped to be added."""
    add = graph.only(chain.value, "Add")
    shaped = graph.maker(add.input[1], "Reshape") if add else None
    if add is not None and shaped is not None and graph.size(shaped.input[0]) == chain.channels:
        chain.offset = shaped.input[0]
        chain.take(add)


def _activation(graph: Graph, chain: _Chain, taken: set[str]) -> None:
    relu, clip = graph.only(chain.value, "Relu"), graph.only(chain.value, "Clip")
    if relu is not None and relu.output[0] not in taken:
        chain.lower = 0.0
        chain.take(relu)
    elif clip is not None and clip.output[0] not in taken:
        limits = graph.limits(clip, -math.inf, math.inf)
        if limits is not None:
            chain.lower, chain.upper = limits
            chain.take(clip)


def _convert(converter: Converter, x: str) -> onnx.NodeProto:
    return helper.make_node(
        f"Convert_{converter.kind}",
        [x],
        [converter.name],
        name=f"{converter.name}/convert",
        domain=DOMAIN,
        step=converter.step,
        low=converter.low,
        high=converter.high,
    )


def _unpacked(graph: Graph, nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes with a Split of the parameters into what somebody still reads and what lies between; its new sizes."""
    split = next((node for node in nodes if list(node.output) == list(graph.places) and graph.places), None)
    if split is None:
        return nodes, []
    others = [node for node in nodes if node is not split]
    read = graph.outputs | names_in(others)
    parts: list[tuple[str, int]] = []
    for name, (_first, size) in graph.places.items():
        if name in read or not parts or parts[-1][0] in read:
            parts.append((name, size))
        else:
            parts[-1] = name, parts[-1][1] + size
    if not any(name in read for name, _size in parts):
        return others, []
    sizes = numpy_helper.from_array(np.array([size for _name, size in parts], np.int64), f"{split.input[1]}/native")
    less = helper.make_node("Split", [PARAMETERS, sizes.name], [name for name, _size in parts], name=split.name, axis=0)
    return [less, *others], [sizes]


def _with_nodes(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto]
) -> onnx.ModelProto:
    given = [*model.graph.initializer, *constants]
    graph = helper.make_graph(_sorted(list(nodes)), model.graph.name, model.graph.input, model.graph.output, given)
    domains = [helper.make_opsetid(DOMAIN, 1), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=[*model.opset_import, *domains], ir_version=model.ir_version)


def _sorted(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Each behind what it reads."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    reads = {
        index: {makers[name] for name in names_in([node]) if makers.get(name, index) != index}
        for index, node in enumerate(nodes)
    }
    return [nodes[index] for index in graphlib.TopologicalSorter(reads).static_order()]
