"""Channels last: the layout in which ONNX Runtime multiplies in int8.

Of a plain graph ONNX Runtime makes ``com.microsoft.QLinearConv`` with ``channels_last`` itself and keeps the layout
through the standard operators between. It does not know ours, and would change the layout around every convolution; so
the convolutions that feed a ReadOut are put that way here, and tensors change layout only where others read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import onnx
from onnx import helper

# ReadOut's inputs that are laid out as its product is; the others are per channel.
_RESIDUAL = 4


def channels_last(nodes: Iterable[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes, with int8 convolutions over two axes that feed read-outs, and those read-outs, channels last.

    ``outputs``: of the graph, which keep their layout.
    """
    # The plain graph's own nodes are not ours to change.
    nodes = [_copied(node) if _movable(node) else node for node in nodes]
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)
    moved = [node for node in nodes if _movable(node) and all(map(_takes_products, readers[node.output[0]]))]
    if not moved:
        return nodes
    return _Layouts(nodes, moved, readers).moved(outputs)


def _movable(node: onnx.NodeProto) -> bool:
    return node.op_type == "QLinearConv" and any(
        item.name == "kernel_shape" and len(item.ints) == 2 for item in node.attribute
    )


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _reads_out(node: onnx.NodeProto) -> bool:
    operator: str = node.op_type
    return operator.startswith("ReadOut_")


def _takes_products(node: onnx.NodeProto) -> bool:
    return _reads_out(node) or node.op_type.startswith("Measure_")


def _laid_out(node: onnx.NodeProto) -> list[str]:
    """Outputs that are laid out as the input is; a Measure of 8-bit codes has statistics alone."""
    return [] if node.op_type.startswith("Measure_") else [name for name in node.output if name]


class _Layouts:
    """Which tensors exist channels last, under a name of their own, and in which layout each node reads."""

    def __init__(
        self, nodes: list[onnx.NodeProto], moved: list[onnx.NodeProto], readers: dict[str, list[onnx.NodeProto]]
    ) -> None:
        self._nodes, self._readers = nodes, readers
        self._inside = {id(node) for node in moved}
        self._last: set[str] = set()
        for node in moved:
            self._last.add(node.output[0])
            for reader in readers[node.output[0]]:
                self._inside.add(id(reader))
                self._last.update(_laid_out(reader))
        for node in nodes:
            if node.op_type.startswith("Convert_") and node.input[0] in self._last:
                self._inside.add(id(node))
                self._last.add(node.output[0])

    def moved(self, outputs: set[str]) -> list[onnx.NodeProto]:
        made: dict[str, onnx.NodeProto] = {}
        for node in self._nodes:
            if id(node) in self._inside:
                for index in (0, _RESIDUAL) if _reads_out(node) else (0,):
                    if index < len(node.input) and node.input[index]:
                        self._read_last(node, index, made)
            else:
                for name in node.input:
                    self._keep_first(name, made)
        for name in outputs:
            self._keep_first(name, made)
        for node in self._nodes:
            if id(node) in self._inside:
                _put_last(node)
        return [*self._nodes, *made.values()]

    def _read_last(self, node: onnx.NodeProto, index: int, made: dict[str, onnx.NodeProto]) -> None:
        name = node.input[index]
        if name not in self._last and name not in made:
            made[name] = helper.make_node("Transpose", [name], [_named(name)], name=_named(name), perm=[0, 2, 3, 1])
        node.input[index] = _named(name)

    def _keep_first(self, name: str, made: dict[str, onnx.NodeProto]) -> None:
        if name in self._last and name not in made:
            made[name] = helper.make_node("Transpose", [_named(name)], [name], name=f"{name}/first", perm=[0, 3, 1, 2])


def _named(name: str) -> str:
    return f"{name}/last"


def _put_last(node: onnx.NodeProto) -> None:
    laid_out = _laid_out(node)
    for index, name in enumerate(node.output):
        node.output[index] = _named(name) if name in laid_out else name
    if node.op_type == "QLinearConv":
        node.domain = "com.microsoft"
        node.attribute.append(helper.make_attribute("channels_last", 1))
    for item in node.attribute:
        if item.name == "last":
            item.i = 1
