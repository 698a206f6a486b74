"""What the image keeps of a file's interface: how inputs and outputs are quantised, and the signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcmedge.frontends.interface import Codes, Interface, Signature
from pcmedge.image.datatypes import datatype_name
from pcmedge.image.interface import CODE_DATATYPES

from .checked import check_table, guarded, tables, text
from .model import MAX_OPERANDS, Model, Tensor

MAX_SIGNATURES = 256


def interface(data: bytes, model: Model, inputs: Sequence[str], outputs: Sequence[str]) -> Interface:
    """``inputs`` and ``outputs``: the names that the file's got in the graph, in order."""
    by_input = dict(zip(model.inputs, inputs, strict=True))
    by_output = dict(zip(model.outputs, outputs, strict=True))
    codes = {}
    for index, name in (*by_input.items(), *by_output.items()):
        if (found := _codes(model.tensors[index])) is not None:
            codes[name] = found
    with guarded("its signatures"):
        return Interface(codes=codes, signatures=tuple(_signatures(data, by_input, by_output)))


def _codes(tensor: Tensor) -> Codes | None:
    quantisation = tensor.quantisation
    if quantisation is None or not quantisation.per_tensor or tensor.dtype is None:
        return None
    datatype = datatype_name(tensor.dtype)
    if datatype not in CODE_DATATYPES:
        return None
    return Codes(datatype=datatype, scale=float(quantisation.scale[0]), zero_point=int(quantisation.zero_point[0]))


def _signatures(data: bytes, inputs: Mapping[int, str], outputs: Mapping[int, str]) -> list[Signature]:
    """Those that name inputs and outputs of the model, each with a key of its own."""
    import tflite

    root = check_table(tflite.Model.GetRootAs(data, 0))
    found: dict[str, Signature] = {}
    for table in tables(root, "SignatureDefs", MAX_SIGNATURES):
        key = text(table.SignatureKey())
        taken, given = _named(table, "Inputs", inputs), _named(table, "Outputs", outputs)
        if key and key not in found and taken is not None and given is not None:
            found[key] = Signature(key=key, inputs=taken, outputs=given)
    return list(found.values())


def _named(signature: Any, field: str, names: Mapping[int, str]) -> dict[str, str] | None:
    entries = [(text(entry.Name()), int(entry.TensorIndex())) for entry in tables(signature, field, MAX_OPERANDS)]
    named = {name: names[index] for name, index in entries if name and index in names}
    fits = len(named) == len(entries) and len(set(named.values())) == len(named)
    return named if fits else None
