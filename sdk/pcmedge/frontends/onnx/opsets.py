"""Any opset that is understood → the pinned one."""

from __future__ import annotations

import onnx
import onnx.inliner
from onnx import version_converter

from pcmedge.errors import CompileError

from .reading import first_line


def require_known(model: onnx.ModelProto, oldest: int, pinned: int) -> None:
    """Raise CompileError for opsets older than ``oldest`` or newer than the installed onnx."""
    found, newest = _opset(model), int(onnx.defs.onnx_opset_version())
    if found < oldest:
        raise CompileError(
            f"The model uses ONNX opset {found}; {oldest} to {newest} are understood. "
            f"Convert it with onnx.version_converter or export it again with opset {pinned}.",
            found=found,
        )
    if found > newest:
        raise CompileError(
            f"The model uses ONNX opset {found}; the installed onnx {onnx.__version__} knows {oldest} to {newest}. "
            f"Update it (pip install -U onnx) or export the model with opset {pinned}.",
            found=found,
        )


def inline(model: onnx.ModelProto, pinned: int) -> onnx.ModelProto:
    """Model-local functions, and operators newer than ``pinned`` that ONNX itself defines by older ones, spelled out.

    What has no such definition stays, for :mod:`pcmedge.compiler.support` to name.
    """
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        newer = [node for node in model.graph.node if _is_newer(node, pinned)]
        if newer:
            names = sorted({node.op_type for node in newer})
            for node in newer:
                _spell_defaults(node)
            model = onnx.inliner.inline_selected_functions(
                _typed(model), [("", name) for name in names], inline_schema_functions=True
            )
    except Exception as error:
        raise CompileError(
            f"The functions of the ONNX model could not be spelled out: {first_line(error)}. "
            f"Export it with opset {pinned}."
        ) from error
    return model


def convert(model: onnx.ModelProto, pinned: int) -> onnx.ModelProto:
    """The model in opset ``pinned``, checked. Raises CompileError if onnx cannot convert it."""
    found = _opset(model)
    if found == pinned:
        return model
    if found > pinned:
        _plain_global_max_pool(model)
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, pinned)
        onnx.checker.check_model(converted)
    except Exception as error:
        raise CompileError(
            f"The model of opset {found} could not be converted to opset {pinned}: {first_line(error)}. "
            f"Export it with opset {pinned}."
        ) from error
    return converted


def _is_newer(node: onnx.NodeProto, pinned: int) -> bool:
    if node.domain not in ("", "ai.onnx") or onnx.defs.has(node.op_type, max_inclusive_version=pinned, domain=""):
        return False
    if not onnx.defs.has(node.op_type, domain=""):
        return False
    schema = onnx.defs.get_schema(node.op_type, domain="")
    return bool(schema.has_function or schema.has_context_dependent_function)


def _spell_defaults(node: onnx.NodeProto) -> None:
    """Attributes that the node leaves to their defaults: the inliner looks for them on the node only."""
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in onnx.defs.get_schema(node.op_type, domain="").attributes.items():
        if name not in given and attribute.default_value.type:
            node.attribute.add().CopyFrom(attribute.default_value)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the types of everything in it: definitions may depend on what they are applied to, constants included."""
    typed = onnx.shape_inference.infer_shapes(model)
    named = {value.name for value in (*typed.graph.input, *typed.graph.value_info)}
    for tensor in typed.graph.initializer:
        if tensor.name not in named:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            typed.graph.value_info.append(value)
    return typed


def _plain_global_max_pool(model: onnx.ModelProto) -> None:
    """GlobalMaxPool as ReduceMax: of the operators that grew new types after opset 21, onnx cannot convert this one."""
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    for index, node in enumerate(model.graph.node):
        if node.op_type != "GlobalMaxPool" or node.domain or node.input[0] not in ranks:
            continue
        axes = f"{node.output[0]}/axes"
        model.graph.initializer.append(
            onnx.helper.make_tensor(
                axes, onnx.TensorProto.INT64, [ranks[node.input[0]] - 2], range(2, ranks[node.input[0]])
            )
        )
        plain = onnx.helper.make_node("ReduceMax", [node.input[0], axes], node.output, name=node.name, keepdims=1)
        model.graph.node[index].CopyFrom(plain)


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
