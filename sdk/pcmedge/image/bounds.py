"""Limits on what an ONNX graph may ask of the machine that computes it, known before anything computes it.

A file of a few hundred bytes can ask for a tensor of 2^62 elements or a loop of as many turns: shape inference,
constant folding and ONNX Runtime would all try. Used on models that come in and on the programs of images.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

MAX_ELEMENTS: Final = 2**26
"""Of one computed tensor, per sample: 256 MiB of float32."""
MAX_TRIPS: Final = 2**20
"""Turns of a loop whose number is a constant."""
LOOP_SECONDS: Final = 20.0
"""How long one run of a graph with a Loop may take; nothing else in ONNX can run for ever."""
_EQUATION: Final = re.compile(rb"[A-Za-z., ]+(->[A-Za-z. ]*)?")
_RANGE_COST: Final = 64
# Lists of sizes, pads and repeats are short; longer constants are data.
_LIST: Final = 64


def excess(graph: onnx.GraphProto) -> str | None:
    """What in a graph is beyond the limits, as far as its constants tell; None if nothing is."""
    return _excess(graph, {})


def malformed(graph: onnx.GraphProto) -> str | None:
    """What onnx and ONNX Runtime do not survive and their checker lets pass; None if nothing is.

    Shape inference of onnx 1.23 never ends on some Einsum equations and makes as many results as a Split is told;
    ONNX Runtime 1.32 reads the first of no elements where the turns of a Loop are an empty tensor.
    """
    return _malformed(graph, {})


def elements(node: onnx.NodeProto, constants: Mapping[str, Array]) -> int:
    """A lower bound on the elements a node makes, from its operands that are constant; 0 if nothing is known."""

    def numbers(position: int) -> list[float]:
        name = node.input[position] if position < len(node.input) else ""
        value = constants.get(name)
        if value is None or value.dtype.kind not in "fiu" or value.size > _LIST:
            return []
        return [each if math.isfinite(each) else 0 for each in value.reshape(-1).tolist()]

    operand = constants[node.input[0]].size if node.input and node.input[0] in constants else 1
    match node.op_type:
        case "ConstantOfShape":
            return _product(numbers(0))
        case "Expand":
            return _product(numbers(1))
        case "Tile":
            return _product(numbers(1)) * operand
        case "Resize" | "Upsample":
            scales = numbers(2 if node.op_type == "Resize" else 1)
            return max(_product(numbers(3)), int(_product(scales) * operand))
        case "Pad":
            pads = numbers(1)
            each = zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=False)
            grown = _product([1 + max(0, before + after) for before, after in each])
            return max(grown, int(max(map(abs, pads), default=0)))
        case "OneHot":
            return _product(numbers(1))
        case "Col2Im":
            return _product(numbers(1))
        case "Range":
            start, limit, step = numbers(0), numbers(1), numbers(2)
            count = int((limit[0] - start[0]) / step[0]) if start and limit and step and step[0] else 0
            # Shape inference remembers every number of it, at 140 bytes each.
            return _RANGE_COST * max(count, 0)
    sizes = next((list(each.ints) for each in node.attribute if each.name == "shape"), [])
    return _product(sizes) if node.op_type in ("RandomNormal", "RandomUniform") else 0


def excess_inferred(model: onnx.ModelProto) -> str | None:
    """As :func:`excess`, of every tensor whose shape ONNX can infer."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # what cannot be inferred is no statement on its size
        return None
    for value in inferred.value_info:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value > 0]
        if (count := _product(sizes)) > MAX_ELEMENTS:
            return too_many(f"tensor '{value.name}'", count)
    return None


def too_many(what: str, count: int) -> str:
    """The sentence for a tensor beyond the limit."""
    return f"{what} has {count:.3g} elements per sample; at most {MAX_ELEMENTS} are computed"


def has_loop(graph: onnx.GraphProto) -> bool:
    """Whether a run of it may have no end."""
    return any(node.op_type == "Loop" or any(map(has_loop, _bodies(node))) for node in graph.node)


def run(session: Any, names: Sequence[str], feeds: Mapping[str, Any], *, loops: bool) -> list[Any]:
    """``session.run``; with ``loops`` it is broken off after LOOP_SECONDS, and raises what ONNX Runtime then raises."""
    if not loops:
        found: list[Any] = session.run(list(names), dict(feeds))
        return found
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(LOOP_SECONDS, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        ended: list[Any] = session.run(list(names), dict(feeds), options)
        return ended
    finally:
        timer.cancel()


def _malformed(graph: onnx.GraphProto, outer: Mapping[str, Array]) -> str | None:
    constants = {**outer, **_short_constants(graph)}
    for node in graph.node:
        what = f"node '{node.name}' ({node.op_type})"
        if node.op_type == "Einsum":
            equation = next((each.s for each in node.attribute if each.name == "equation"), b"")
            if not _EQUATION.fullmatch(equation) or equation.split(b"->")[0].count(b",") + 1 != len(node.input):
                return f"{what} of {len(node.input)} operands has the equation {equation!r}"
        if node.op_type in ("If", "Loop"):
            for name in node.input[: 1 if node.op_type == "If" else 2]:
                if name in constants and constants[name].size != 1:
                    return f"{what} is controlled by '{name}', which has {constants[name].size} values instead of one"
        wanted = next((each.i for each in node.attribute if each.name == "num_outputs"), 0)
        if node.op_type == "Split" and wanted and wanted != len(node.output):
            return f"{what} has {len(node.output)} results and is told to make {wanted}"
        for body in _bodies(node):
            if (found := _malformed(body, constants)) is not None:
                return found
    return None


def _excess(graph: onnx.GraphProto, outer: Mapping[str, Array]) -> str | None:
    constants = {**outer, **_short_constants(graph)}
    for node in graph.node:
        what = f"node '{node.name}' ({node.op_type})"
        if (count := elements(node, constants)) > MAX_ELEMENTS:
            return too_many(f"the result of {what}", count)
        trips = constants.get(node.input[0]) if node.op_type == "Loop" and node.input else None
        if trips is not None and trips.size == 1 and trips.dtype.kind in "iu" and int(trips.reshape(-1)[0]) > MAX_TRIPS:
            return f"{what} runs {int(trips.reshape(-1)[0])} times; at most {MAX_TRIPS} turns are computed"
        for body in _bodies(node):
            if (found := _excess(body, constants)) is not None:
                return found
    for value in (*graph.input, *graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if _product([size for size in sizes if size]) > MAX_ELEMENTS:
            return too_many(f"tensor '{value.name}'", _product(sizes))
    return None


def _short_constants(graph: onnx.GraphProto) -> dict[str, Array]:
    from onnx import numpy_helper

    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            tensors += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    found = {}
    for name, tensor in tensors:
        if 0 <= _product(list(tensor.dims)) <= _LIST and not tensor.external_data:
            try:
                found[name] = np.asarray(numpy_helper.to_array(tensor))
            except (KeyError, TypeError, ValueError, NotImplementedError):
                continue  # a damaged tensor, which others name
    return found


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _product(sizes: Sequence[float]) -> int:
    """As a Python number, which does not overflow; sizes that mean "what is left" count as one."""
    return int(math.prod(max(size, 1) if size < 0 else size for size in sizes)) if sizes else 0
