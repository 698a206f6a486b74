"""Names of tensors, nodes and layers: those of the file where it has any, each once."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Model, Operator, Tensor

# How Keras names what a layer with weights computes; the layer's name comes before it.
_WEIGHTED = {
    "CONV_2D": ("BiasAdd", "Conv", "Conv2D"),
    "DEPTHWISE_CONV_2D": ("BiasAdd", "depthwise"),
    "FULLY_CONNECTED": ("BiasAdd", "MatMul"),
    "TRANSPOSE_CONV": ("BiasAdd", "conv2d_transpose"),
}


def unique(stem: str, taken: set[str]) -> str:
    """``stem``, with a number if it is taken already; taken from now on."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def tensor_names(model: Model, taken: set[str]) -> dict[int, str]:
    """Names of the interface as they are; inside, the first of the names a tensor was fused from."""
    interface = dict.fromkeys((*model.inputs, *model.outputs))
    found = {index: unique(model.tensors[index].name or f"tensor_{index}", taken) for index in interface}
    for tensor in model.tensors:
        if tensor.index not in found:
            found[tensor.index] = unique(tensor.name.split(";")[0] or f"tensor_{tensor.index}", taken)
    return found


def stem_of(operator: Operator, tensors: Sequence[Tensor]) -> str:
    """A short name for an operator, out of the names its result was fused from: the layer's, else the first."""
    name = tensors[operator.outputs[0]].name if operator.outputs else ""
    parts = [part.removesuffix(":0") for part in name.split(";") if part]
    if operator.kind in _WEIGHTED:
        for part in parts:
            path, _, last = part.rpartition("/")
            if path and last.rstrip("0123456789_") in _WEIGHTED[operator.kind]:
                return path
    return parts[0] if parts else f"{operator.kind.lower()}_{operator.index}"
