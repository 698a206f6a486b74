"""Rewrites of the float graph into the few forms the layer matcher knows; results stay those of the original model.

* a batch axis that an exporter fixed in Reshape constants becomes free;
* Gemm with a constant right matrix becomes Gemm(A, W[K, N], bias[N]) with alpha = beta = 1 and nothing transposed;
* Conv gets every attribute explicit, ``auto_pad`` resolved to pads;
* Einsum that multiplies the last axis by a constant matrix becomes MatMul;
* LSTM loses initial states that are provably zero, and names its hidden states.
"""

from __future__ import annotations

import numpy as np
import onnx

from pcmedge.errors import CompileError

from .graph import Array, Graph, TensorType, attributes, make_node

BATCH = "batch"
_SHUFFLES = frozenset({"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"})


def free_batch_axis(graph: Graph) -> None:
    """Make the first axis of every input dynamic, and Reshape constants that repeat a fixed batch size follow it."""
    fixed: set[int] = set()
    for value in graph.inputs:
        kind = graph.type_of(value.name)
        if kind.shape is None or not kind.shape:
            raise CompileError(
                f"Input '{value.name}' has no batch axis (shape {kind.shape}). Give every input a known rank with the "
                "batch as its first axis.",
                input=value.name,
            )
        if isinstance(kind.shape[0], int):
            fixed.add(kind.shape[0])
        dims = value.type.tensor_type.shape.dim
        dims[0].Clear()
        dims[0].dim_param = BATCH
        graph.types[value.name] = TensorType(kind.element, (BATCH, *kind.shape[1:]))
    if len(fixed) == 1:
        _follow_batch(graph, fixed.pop())
    if fixed:
        for name in [name for name in graph.types if name not in graph.input_names]:
            del graph.types[name]
    inputs = {value.name: value for value in graph.inputs}
    for output in graph.outputs:
        if output.name in inputs:
            # A model may hand one of its inputs on: nothing computes it, so nothing else knows its shape.
            output.CopyFrom(inputs[output.name])
        elif output.type.tensor_type.HasField("shape"):
            element = output.type.tensor_type.elem_type
            output.type.tensor_type.Clear()
            output.type.tensor_type.elem_type = element


def _follow_batch(graph: Graph, batch: int) -> None:
    for node in graph.nodes:
        if node.op_type != "Reshape" or node.input[1] not in graph.constants or attributes(node).get("allowzero", 0):
            continue
        target = graph.constants[node.input[1]]
        source = graph.type_of(node.input[0]).shape
        if target.ndim == 1 and target.size and target[0] == batch and (not source or source[0] in (batch, BATCH)):
            name = graph.fresh(f"{node.output[0]}_shape")
            graph.constants[name] = np.concatenate([[0], target[1:]]).astype(np.int64)
            node.input[1] = name


def normalise(graph: Graph) -> None:
    """Bring Gemm, Conv and LSTM to their plain forms (see the module's docstring)."""
    nodes: list[onnx.NodeProto] = []
    producers = graph.producers()
    for node in graph.nodes:
        if node.op_type == "Gemm" and node.input[1] in graph.constants:
            nodes += _plain_gemm(graph, node)
        elif node.op_type == "Conv":
            nodes.append(_plain_conv(graph, node))
        elif node.op_type == "Einsum":
            nodes.append(_plain_einsum(graph, node))
        elif node.op_type == "LSTM":
            nodes.append(_plain_lstm(graph, node, producers))
        else:
            nodes.append(node)
    graph.nodes = nodes
    graph.sweep()


def _plain_gemm(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    options = attributes(node)
    weights = graph.constants[node.input[1]]
    if weights.dtype != np.float32:
        return [node]
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    source, output = node.input[0], node.output[0]
    if options.get("transA", 0):
        source = graph.fresh(f"{node.input[0]}_transposed")
        before.append(make_node("Transpose", [node.input[0]], [source], name=f"{source}/transpose", perm=[1, 0]))
    if options.get("transB", 0):
        weights = np.ascontiguousarray(weights.T)
    weights = weights * np.float32(options.get("alpha", 1.0))
    name = _constant(graph, node.input[1], weights)
    inputs = [source, name]
    addend = node.input[2] if len(node.input) > 2 else ""
    beta = np.float32(options.get("beta", 1.0))
    if addend and beta != 0:
        bias = _as_bias(graph.constants.get(addend), weights.shape[1])
        if bias is not None:
            inputs.append(_constant(graph, addend, bias * beta))
        else:
            output = graph.fresh(f"{node.output[0]}_product")
            scaled = addend
            if beta != 1:
                scaled = graph.fresh(f"{node.output[0]}_addend")
                factor = _constant(graph, f"{node.output[0]}_beta", np.array(beta))
                after.append(make_node("Mul", [addend, factor], [scaled], name=f"{scaled}/mul"))
            after.append(make_node("Add", [output, scaled], list(node.output), name=f"{output}/add"))
    graph.types.setdefault(output, graph.type_of(node.output[0]))
    plain = make_node("Gemm", inputs, [output], name=node.name)
    return [*before, plain, *after]


def _as_bias(value: Array | None, columns: int) -> Array | None:
    """A constant addend as one value per column, or None if it is not constant over the rows."""
    if value is None or value.ndim > 2 or (value.ndim == 2 and value.shape[0] != 1) or value.size not in (1, columns):
        return None
    return np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (columns,)))


def _constant(graph: Graph, stem: str, value: Array) -> str:
    """Store a constant; under the old name if it is unchanged."""
    old = graph.constants.get(stem)
    if old is not None and old.shape == value.shape and old.dtype == value.dtype and np.array_equal(old, value):
        return stem
    name = graph.fresh(stem)
    graph.constants[name] = value
    return name


def _plain_conv(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    kernel = graph.type_of(node.input[1]).shape
    if kernel is None or len(kernel) < 3 or not all(isinstance(dim, int) for dim in kernel):
        return node
    window = [int(dim) for dim in kernel[2:] if isinstance(dim, int)]
    options = attributes(node)
    strides = list(options.get("strides", [1] * len(window)))
    dilations = list(options.get("dilations", [1] * len(window)))
    mode = options.get("auto_pad", "NOTSET")
    pads = list(options.get("pads", [0] * 2 * len(window)))
    if mode == "VALID":
        pads = [0] * 2 * len(window)
    elif len(strides) != len(window) or len(dilations) != len(window):
        return node
    elif mode.startswith("SAME"):
        same = _same_pads(graph.type_of(node.input[0]), window, strides, dilations, upper=mode == "SAME_UPPER")
        if same is None:
            return node
        pads = same
    return make_node(
        "Conv",
        list(node.input),
        list(node.output),
        name=node.name,
        dilations=dilations,
        group=options.get("group", 1),
        kernel_shape=window,
        pads=pads,
        strides=strides,
    )


def _plain_einsum(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto:
    """``...k,ok->...o`` with a constant matrix (either order, either way round) as MatMul; anything else as it is."""
    terms, _, result = attributes(node)["equation"].replace(" ", "").partition("->")
    operands = list(zip(terms.split(","), node.input, strict=True))
    if len(operands) != 2 or "." in terms:
        return node
    (letters, source), (matrix, name) = operands if operands[1][1] in graph.constants else operands[::-1]
    if name not in graph.constants or source in graph.constants or len(matrix) != 2 or len(letters) < 2:
        return node
    summed, made = letters[-1], result[-1:]
    plain = len(set(letters)) == len(letters) and made not in letters and set(matrix) == {summed, made}
    if not plain or result != letters[:-1] + made:
        return node
    weights = graph.constants[name] if matrix == summed + made else np.ascontiguousarray(graph.constants[name].T)
    return make_node("MatMul", [source, _constant(graph, name, weights)], list(node.output), name=node.name)


def _same_pads(
    source: TensorType, window: list[int], strides: list[int], dilations: list[int], *, upper: bool
) -> list[int] | None:
    """Pads of auto_pad SAME_UPPER / SAME_LOWER: output size = ceil(input size / stride) (ONNX operator Conv)."""
    if source.shape is None or len(source.shape) != len(window) + 2:
        return None
    begins: list[int] = []
    ends: list[int] = []
    for size, kernel, stride, dilation in zip(source.shape[2:], window, strides, dilations, strict=True):
        extent = (kernel - 1) * dilation + 1
        if isinstance(size, int):
            total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        elif stride == 1:
            total = extent - 1
        else:
            return None
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return begins + ends


def _plain_lstm(graph: Graph, node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto:
    inputs = list(node.input)
    for position in (5, 6, 7):
        if len(inputs) > position and inputs[position] and _is_zero(graph, inputs[position], producers):
            inputs[position] = ""
    while inputs and not inputs[-1]:
        inputs.pop()
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    del plain.input[:]
    plain.input.extend(inputs)
    if not plain.output[0]:
        # The hidden states are looked at to choose ranges, whether or not the model uses them.
        plain.output[0] = graph.fresh(f"{node.name or 'lstm'}_hidden_states")
    return plain


def _is_zero(graph: Graph, name: str, producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a tensor is all zeros whatever the input: zero constants, broadcast, cut or moved about."""
    if name in graph.constants:
        return not np.any(graph.constants[name])
    node = producers.get(name)
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        value = attributes(node).get("value")
        return value is None or not np.any(onnx.numpy_helper.to_array(value))
    return node.op_type in _SHUFFLES and _is_zero(graph, node.input[0], producers)
