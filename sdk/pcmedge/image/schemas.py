"""ONNX schemas of the domain "pcm", so that the checker and shape inference know our nodes. Needs onnx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pcmedge.errors import MissingExtraError

DOMAIN: Final = "pcm"
DOMAIN_VERSION: Final = 1
ONNX_OPSET: Final = 21
ANALOG_OPERATORS: Final = ("AnalogConv", "AnalogGemm", "AnalogLSTM")


def register() -> None:
    """Register AnalogConv, AnalogGemm and AnalogLSTM with onnx; calling it again changes nothing.

    The number of outputs of AnalogConv and AnalogGemm is not in their node (weights are on the tiles), so shape
    inference knows the rank and, with a bias, the channels; the program's value_info has the rest.
    """
    try:
        import onnx.defs as defs
    except ImportError:
        raise MissingExtraError.for_extra("emulator", "the ONNX schemas of analog nodes") from None
    for make in (_conv, _gemm, _lstm):
        schema, infer = make(defs.OpSchema)
        if not defs.has(schema.name, domain=DOMAIN, max_inclusive_version=DOMAIN_VERSION):
            schema.set_type_and_shape_inference_function(infer)
            defs.register_schema(schema)


Made = tuple[Any, Callable[[Any], None]]


def _schema(kind: Any, name: str, inputs: list[str], outputs: list[str], attributes: list[Any], doc: str) -> Any:
    optional = kind.FormalParameterOption.Optional
    return kind(
        name,
        DOMAIN,
        DOMAIN_VERSION,
        doc=doc,
        inputs=[kind.FormalParameter(n.rstrip("?"), "T", param_option=optional) if n.endswith("?")
                else kind.FormalParameter(n, "T") for n in inputs],
        outputs=[kind.FormalParameter(n.rstrip("?"), "T", param_option=optional) if n.endswith("?")
                 else kind.FormalParameter(n, "T") for n in outputs],
        type_constraints=[("T", ["tensor(float)"], "Activations are float32.")],
        attributes=[kind.Attribute("layer", kind.AttrType.STRING, "Layer in manifest.", required=True), *attributes],
    )  # fmt: skip


def _conv(kind: Any) -> Made:
    ints = kind.AttrType.INTS
    attributes = [kind.Attribute(name, ints, f"As in Conv: {name}.", required=name == "kernel_shape")
                  for name in ("kernel_shape", "strides", "pads", "dilations")]  # fmt: skip
    group = kind.Attribute("group", kind.AttrType.INT, "As in Conv: groups.", required=False)
    doc = "Convolution by matrix-vector products on crossbar tiles, plus the digital bias B."
    schema = _schema(kind, "AnalogConv", ["X", "B?"], ["Y"], [*attributes, group], doc)
    return schema, _infer_conv


def _gemm(kind: Any) -> Made:
    doc = "Y = X W + B over the last axis; W is on crossbar tiles, B digital."
    return _schema(kind, "AnalogGemm", ["X", "B?"], ["Y"], [], doc), _infer_gemm


def _lstm(kind: Any) -> Made:
    attributes = [
        kind.Attribute("hidden_size", kind.AttrType.INT, "As in LSTM.", required=True),
        kind.Attribute("direction", kind.AttrType.STRING, "forward or bidirectional, as in LSTM.", required=False),
    ]
    doc = "LSTM (gates iofc, layout 0) whose matrices W and R are on crossbar tiles; gates and B are digital."
    inputs, outputs = ["X", "B?", "initial_h?", "initial_c?"], ["Y?", "Y_h?", "Y_c?"]
    return _schema(kind, "AnalogLSTM", inputs, outputs, attributes, doc), _infer_lstm


def _input_dims(context: Any) -> tuple[Any, list[Any]] | None:
    """The type of X and its dimensions, or None while it is unknown."""
    kind = context.get_input_type(0)
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return kind, list(kind.tensor_type.shape.dim)


def _output(kind: Any, dims: list[Any]) -> Any:
    """A type like ``kind`` with the dimensions ``dims``: an int, None (unknown) or a dimension to copy."""
    made = type(kind)()
    made.tensor_type.elem_type = kind.tensor_type.elem_type
    made.tensor_type.shape.SetInParent()
    for dim in dims:
        new = made.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            new.dim_value = dim
        elif dim is not None:
            new.CopyFrom(dim)
    return made


def _channels(context: Any) -> int | None:
    """Outputs of the layer, if there is a bias of known length."""
    bias = context.get_input_type(1) if context.get_num_inputs() > 1 else None
    dims = [] if bias is None else list(bias.tensor_type.shape.dim)
    return int(dims[0].dim_value) or None if len(dims) == 1 else None


def _ints(context: Any, name: str, default: list[int]) -> list[int]:
    attribute = context.get_attribute(name)
    return default if attribute is None else [int(value) for value in attribute.ints]


def _infer_conv(context: Any) -> None:
    found = _input_dims(context)
    if found is None:
        return
    kind, dims = found
    kernel = _ints(context, "kernel_shape", [])
    rank = len(kernel)
    ones = [1] * rank
    strides, dilations = _ints(context, "strides", ones), _ints(context, "dilations", ones)
    pads = _ints(context, "pads", [0] * (2 * rank))
    sizes: list[Any] = []
    for axis, dim in enumerate(dims[2:]):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        known = dim.HasField("dim_value")
        padded = dim.dim_value + pads[axis] + pads[axis + rank]
        sizes.append((padded - reach) // strides[axis] + 1 if known else None)
    context.set_output_type(0, _output(kind, [dims[0], _channels(context), *sizes]))


def _infer_gemm(context: Any) -> None:
    found = _input_dims(context)
    if found is not None:
        kind, dims = found
        context.set_output_type(0, _output(kind, [*dims[:-1], _channels(context)]))


def _infer_lstm(context: Any) -> None:
    found = _input_dims(context)
    if found is None:
        return
    kind, (steps, batch, _) = found
    hidden = int(context.get_attribute("hidden_size").i)
    direction = context.get_attribute("direction")
    directions = 2 if direction is not None and direction.s == b"bidirectional" else 1
    shapes = ([steps, directions, batch, hidden], [directions, batch, hidden], [directions, batch, hidden])
    for index, shape in enumerate(shapes[: context.get_num_outputs()]):
        context.set_output_type(index, _output(kind, shape))
