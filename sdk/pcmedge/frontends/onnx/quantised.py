"""Quantised models in the operator format (QOperator) → float operators between DequantizeLinear and QuantizeLinear.

An integer operator y = QLinearF(x) *is* Quantize(F(Dequantize(x))): the ONNX specification of QLinearConv and
QLinearMatMul, and ONNX Runtime's of its own (domain com.microsoft; operators in docs/ContribOperators.md of ONNX
Runtime). Spelled out, the weights fold to float32 and can lie in a crossbar; the rounding of activations stays, for a
QuantizeLinear may also do the work of a ReLU that the quantiser has removed. Dynamic quantisation is refused: its
scales come from the whole batch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import onnx
from onnx import helper

from pcmedge.errors import UnsupportedOperatorError

OLDEST_OPSET = 13
"""DequantizeLinear knows scales per channel since then."""
_MICROSOFT = "com.microsoft"
_STATIC = (
    "quantise statically in the QDQ format: onnxruntime.quantization.quantize_static(quant_format=QuantFormat.QDQ)"
)
_DYNAMIC = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QAttention"}
)


def has_integer_operators(model: onnx.ModelProto) -> bool:
    return any(_rule(node) for node in model.graph.node)


def to_float_operators(model: onnx.ModelProto) -> None:
    """Rewrite in place. Raises UnsupportedOperatorError that names every dynamically quantised node."""
    dynamic = [node for node in model.graph.node if node.op_type in _DYNAMIC]
    if dynamic:
        first = dynamic[0]
        raise UnsupportedOperatorError(
            f"{len(dynamic)} nodes are dynamically quantised (first: '{first.name or first.output[0]}', operator "
            f"{first.op_type}): their scales depend on the whole batch at hand. Compile the float model, or {_STATIC}.",
            count=len(dynamic),
            nodes=", ".join(node.name or node.output[0] for node in dynamic),
            operators=", ".join(dict.fromkeys(node.op_type for node in dynamic)),
        )
    if not has_integer_operators(model):
        return
    rewriter = _Rewriter(model.graph)
    nodes = []
    for node in model.graph.node:
        rule = _rule(node)
        nodes += rule(rewriter, node) if rule else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if not any(node.domain == _MICROSOFT for node in nodes):
        imports = [entry for entry in model.opset_import if entry.domain != _MICROSOFT]
        del model.opset_import[:]
        model.opset_import.extend(imports)


@dataclass(frozen=True)
class _Quantised:
    """A tensor with its scale and zero point; ``axis`` is that of a scale per channel, if the scale has one."""

    tensor: str
    scale: str
    zero_point: str
    axis: int | None = None


class _Rewriter:
    """Makes the nodes of one graph under names of their own."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}

    def fresh(self, stem: str) -> str:
        name = next(name for name in (f"{stem}/{number}" for number in count(1)) if name not in self._taken)
        self._taken.add(name)
        return name

    def dequantize(self, value: _Quantised) -> tuple[str, onnx.NodeProto]:
        """The float tensor's name, and the node that makes it."""
        made = self.fresh(f"{value.tensor}_dequantized")
        inputs = [value.tensor, value.scale, *([value.zero_point] if value.zero_point else [])]
        options = {} if value.axis is None else {"axis": value.axis}
        return made, helper.make_node("DequantizeLinear", inputs, [made], name=made, **options)

    def between(
        self, node: onnx.NodeProto, operator: str, sources: Sequence[_Quantised], result: _Quantised, **options: Any
    ) -> list[onnx.NodeProto]:
        """``operator`` on the dequantised sources, its result quantised, or left float if it has no scale."""
        made = [self.dequantize(source) for source in sources]
        inner = self.fresh(f"{node.output[0]}_float") if result.scale else node.output[0]
        work = helper.make_node(operator, [name for name, _ in made], [inner], name=node.name or inner, **options)
        nodes = [*(each for _, each in made), work]
        if result.scale:
            inputs = [inner, result.scale, *([result.zero_point] if result.zero_point else [])]
            nodes.append(helper.make_node("QuantizeLinear", inputs, node.output, name=f"{inner}/quantize"))
        return nodes

    def bias(self, tensor: str, first: str, second: str) -> tuple[_Quantised, onnx.NodeProto]:
        """An int32 bias, whose scale is the product of those of input and weights."""
        scale = self.fresh(f"{tensor}_scale")
        return _Quantised(tensor, scale, "", 0), helper.make_node("Mul", [first, second], [scale], name=scale)


_Rule = Callable[[_Rewriter, onnx.NodeProto], list[onnx.NodeProto]]


def _inputs(node: onnx.NodeProto, most: int) -> list[str]:
    return [*node.input, *[""] * (most - len(node.input))]


def _options(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _conv(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, xs, xz, w, ws, wz, ys, yz, b = _inputs(node, 9)
    sources, before = [_Quantised(x, xs, xz), _Quantised(w, ws, wz, 0)], []
    if b:
        bias, scale = rewriter.bias(b, xs, ws)
        sources, before = [*sources, bias], [scale]
    options = {key: value for key, value in _options(node).items() if key != "channels_last"}
    return [*before, *rewriter.between(node, "Conv", sources, _Quantised(node.output[0], ys, yz), **options)]


def _matmul(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    a, a_scale, a_zero, b, b_scale, b_zero, ys, yz = _inputs(node, 8)
    sources = [_Quantised(a, a_scale, a_zero), _Quantised(b, b_scale, b_zero, -1)]
    return rewriter.between(node, "MatMul", sources, _Quantised(node.output[0], ys, yz))


def _gemm(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    a, a_scale, a_zero, b, b_scale, b_zero, c, ys, yz = _inputs(node, 9)
    options = _options(node)
    sources = [_Quantised(a, a_scale, a_zero), _Quantised(b, b_scale, b_zero, 0 if options.get("transB", 0) else 1)]
    before = []
    if c:
        bias, scale = rewriter.bias(c, a_scale, b_scale)
        sources, before = [*sources, bias], [scale]
        # C is in units of alpha * a_scale * b_scale; Gemm's beta brings alpha to it.
        options["beta"] = options.get("alpha", 1.0)
    return [*before, *rewriter.between(node, "Gemm", sources, _Quantised(node.output[0], ys, yz), **options)]


def _binary(operator: str) -> _Rule:
    def rule(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        a, a_scale, a_zero, b, b_scale, b_zero, ys, yz = _inputs(node, 8)
        sources = [_Quantised(a, a_scale, a_zero), _Quantised(b, b_scale, b_zero)]
        return rewriter.between(node, operator, sources, _Quantised(node.output[0], ys, yz))

    return rule


def _unary(operator: str, *dropped: str) -> _Rule:
    def rule(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        x, xs, xz, ys, yz = _inputs(node, 5)
        options = {key: value for key, value in _options(node).items() if key not in dropped}
        return rewriter.between(node, operator, [_Quantised(x, xs, xz)], _Quantised(node.output[0], ys, yz), **options)

    return rule


def _concat(rewriter: _Rewriter, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    ys, yz, *rest = node.input
    sources = [_Quantised(*rest[at : at + 3]) for at in range(0, len(rest), 3)]
    return rewriter.between(node, "Concat", sources, _Quantised(node.output[0], ys, yz), **_options(node))


_STANDARD: dict[str, _Rule] = {"QLinearConv": _conv, "QLinearMatMul": _matmul}
_CONTRIBUTED: dict[str, _Rule] = {
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearConcat": _concat,
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearSoftmax": _unary("Softmax", "opset"),
    "QLinearAveragePool": _unary("AveragePool", "channels_last"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool", "channels_last"),
}


def _rule(node: onnx.NodeProto) -> _Rule | None:
    if _options(node).get("channels_last", 0):
        return None
    rules = _CONTRIBUTED if node.domain == _MICROSOFT else {} if node.domain else _STANDARD
    return rules.get(node.op_type)
