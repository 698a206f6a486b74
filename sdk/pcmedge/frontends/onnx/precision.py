"""float16 and bfloat16 models as float32 ones: the chip's digital side and its weights are float32."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_NARROW = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every narrow float of a model (inputs and outputs too) as float32; the model itself if it has none.

    Weights keep their values exactly; sums and activations are no longer rounded to 11 bits in between.
    """
    if not any(
        _is_narrow(value) for value in (*model.graph.input, *model.graph.output, *model.graph.value_info)
    ) and not (any(tensor.data_type in _NARROW for tensor in model.graph.initializer)):
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    # What was inferred with narrow types is inferred again from the wide ones.
    del wide.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(wide)


def _is_narrow(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in _NARROW


def _widen_graph(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if _is_narrow(value):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    _widen_tensors(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                attribute.i = TensorProto.FLOAT
            _widen_tensors((attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors)
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _widen_graph(body)


def _widen_tensors(tensors: Iterable[onnx.TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_type in _NARROW:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
