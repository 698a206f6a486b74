"""ONNX schemas of the analog nodes (domain "pcm", version 1), with shape inference.

A chip's program is ONNX; its analog nodes name a layer of the manifest and carry no weights. ``register()`` makes
onnx.checker check their attributes and onnx.shape_inference see through them. Needs onnx.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any

from pcmedge.errors import MissingExtraError

DOMAIN = "pcm"
VERSION = 1
CONV, GEMM, LSTM = "AnalogConv", "AnalogGemm", "AnalogLSTM"
OPERATORS = (CONV, GEMM, LSTM)

_lock = threading.Lock()

_CONV_DOC = (
    """Convolution whose weights are in crossbar tiles. X: (N, C, L) or (N, C, H, W); B: (M); Y = conv(X) + B."""
)
_GEMM_DOC = """Product with a matrix in crossbar tiles. X: (..., K); B: (N); Y: (..., N) = X @ W + B."""
_LSTM_DOC = """LSTM whose W and R are in crossbar tiles. X: (sequence, batch, inputs); B, initial_h, initial_c,
Y, Y_h, Y_c as ONNX LSTM with layout 0, gate order iofc, activations sigmoid, tanh, tanh. Absent initial states are
zero."""


def register() -> None:
    """Register the schemas with onnx; does nothing if they are. Raises MissingExtraError without onnx."""
    try:
        from onnx import defs
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Working with a chip's program") from error
    with _lock:
        if defs.has(CONV, max_inclusive_version=VERSION, domain=DOMAIN):
            return
        for operator, inputs, outputs, attributes, doc, infer in _definitions(defs):
            schema = defs.OpSchema(
                operator,
                DOMAIN,
                VERSION,
                doc=doc,
                inputs=_parameters(defs, inputs, required=1),
                outputs=_parameters(defs, outputs, required=1 if operator != LSTM else 0),
                type_constraints=[("T", ["tensor(float)"], "Activations are float32.")],
                attributes=attributes,
            )
            schema.set_type_and_shape_inference_function(infer)
            defs.register_schema(schema)
        # The registry outlives the interpreter; it must not hold Python functions when that goes.
        atexit.register(_deregister)


def _deregister() -> None:
    from onnx import defs

    for operator in OPERATORS:
        if defs.has(operator, max_inclusive_version=VERSION, domain=DOMAIN):
            defs.deregister_schema(operator, VERSION, DOMAIN)


def _definitions(defs: Any) -> list[tuple[str, list[str], list[str], list[Any], str, Callable[[Any], None]]]:
    kinds = defs.OpSchema.AttrType

    def attribute(name: str, kind: Any, doc: str) -> Any:
        return defs.OpSchema.Attribute(name, kind, doc, required=True)

    layer = attribute("layer", kinds.STRING, "Name of the layer in the image's manifest.")
    convolution = [
        attribute("kernel_shape", kinds.INTS, "As ONNX Conv."),
        attribute("strides", kinds.INTS, "As ONNX Conv."),
        attribute("pads", kinds.INTS, "As ONNX Conv; auto_pad is resolved by the compiler."),
        attribute("dilations", kinds.INTS, "As ONNX Conv."),
        attribute("group", kinds.INT, "As ONNX Conv."),
    ]
    recurrent = [
        attribute("hidden_size", kinds.INT, "Neurons in the hidden layer."),
        attribute("direction", kinds.STRING, "forward, reverse or bidirectional."),
    ]
    return [
        (CONV, ["X", "B"], ["Y"], [layer, *convolution], _CONV_DOC, _infer_conv),
        (GEMM, ["X", "B"], ["Y"], [layer], _GEMM_DOC, _infer_gemm),
        (LSTM, ["X", "B", "initial_h", "initial_c"], ["Y", "Y_h", "Y_c"], [layer, *recurrent], _LSTM_DOC, _infer_lstm),
    ]


def _parameters(defs: Any, names: list[str], *, required: int) -> list[Any]:
    options = defs.OpSchema.FormalParameterOption
    return [
        defs.OpSchema.FormalParameter(
            name, "T", param_option=options.Single if position < required else options.Optional
        )
        for position, name in enumerate(names)
    ]


def _infer_conv(context: Any) -> None:
    dims = _dims(context)
    if dims is None:
        _set(context, 0, None)
        return
    kernel, strides = _ints(context, "kernel_shape"), _ints(context, "strides")
    pads, dilations = _ints(context, "pads"), _ints(context, "dilations")
    space: list[Any] = []
    for axis, size in enumerate(dims[2:]):
        if isinstance(size, int):
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            space.append((size + pads[axis] + pads[axis + len(kernel)] - extent) // strides[axis] + 1)
        else:
            space.append(None)
    _set(context, 0, [dims[0], _channels(context), *space])


def _infer_gemm(context: Any) -> None:
    dims = _dims(context)
    _set(context, 0, None if dims is None else [*dims[:-1], _channels(context)])


def _infer_lstm(context: Any) -> None:
    dims = _dims(context)
    sequence, batch = (dims[0], dims[1]) if dims is not None else (None, None)
    hidden = context.get_attribute("hidden_size").i
    directions = 2 if context.get_attribute("direction").s == b"bidirectional" else 1
    for index in range(context.get_num_outputs()):
        if context.has_output(index):
            state = [directions, batch, hidden]
            _set(context, index, [sequence, *state] if index == 0 else state)


def _dims(context: Any) -> list[Any] | None:
    """Dimensions of X: an int, a symbol, or None; None as a whole if its rank is unknown."""
    kind = context.get_input_type(0)
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else dim.dim_param or None
        for dim in kind.tensor_type.shape.dim
    ]


def _channels(context: Any) -> int | None:
    """Output channels: the length of the bias; without one only the image's manifest (and value_info) knows."""
    if context.get_num_inputs() > 1 and context.has_input(1):
        bias = context.get_input_type(1)
        if bias is not None and bias.tensor_type.shape.dim:
            return int(bias.tensor_type.shape.dim[0].dim_value) or None
    return None


def _ints(context: Any, name: str) -> list[int]:
    return list(context.get_attribute(name).ints)


def _set(context: Any, index: int, dims: list[Any] | None) -> None:
    from onnx import helper

    kind = context.get_input_type(0)
    element = kind.tensor_type.elem_type if kind is not None else 0
    context.set_output_type(index, helper.make_tensor_type_proto(element, dims))
