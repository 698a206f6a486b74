"""What a frontend tells the image about the source model's interface, carried by the ONNX model it returns.

A frontend that reads a quantised format gives a float program and says here how the format itself holds inputs and
outputs; ``compile`` writes it into the manifest. It travels as one JSON entry of the model's ``metadata_props``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pcmedge._contract.image_pb2 import CallSignature, Manifest, NamedTensor, Quantization
from pcmedge.errors import CompileError
from pcmedge.image.interface import interface_problems

if TYPE_CHECKING:
    import onnx

KEY: Final = "pcmedge.interface"


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Integer codes of one input or output: value = scale * (code - zero_point); ``datatype`` such as "INT8"."""

    datatype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A named way to call the model: the caller's names of inputs and outputs -> names of the model's tensors."""

    key: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Interface:
    """``codes`` by name of an input or output; tensors not in it are plain values."""

    codes: Mapping[str, Codes] = field(default_factory=dict)
    signatures: tuple[Signature, ...] = ()


def attach(model: onnx.ModelProto, interface: Interface) -> None:
    """Write the interface into the model; it replaces one that is there."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (KEY, json.dumps(asdict(interface), sort_keys=True))]:
        model.metadata_props.add(key=key, value=value)


def interface_of(model: onnx.ModelProto) -> Interface:
    """The interface a frontend attached, an empty one if none did. CompileError if it is not one."""
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        return Interface()
    try:
        found = json.loads(text)
        return Interface(
            codes={str(name): _codes(value) for name, value in found["codes"].items()},
            signatures=tuple(_signature(value) for value in found["signatures"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CompileError(
            f"The model's metadata '{KEY}' is not what pcmedge writes ({type(error).__name__}: {error}). Remove the "
            "entry from metadata_props."
        ) from error


def describe(interface: Interface, manifest: Manifest) -> None:
    """Write the interface into a manifest whose inputs and outputs are there. CompileError if it does not fit them."""
    specs = {spec.name: spec for spec in (*manifest.model.inputs, *manifest.model.outputs)}
    try:
        for name, codes in interface.codes.items():
            specs[name].quantization.CopyFrom(Quantization(**asdict(codes)))
        manifest.application.signatures.extend(
            CallSignature(key=signature.key, inputs=_named(signature.inputs), outputs=_named(signature.outputs))
            for signature in interface.signatures
        )
    except KeyError as error:
        raise CompileError(f"The model's interface describes {error}, which is no input or output.") from error
    except ValueError as error:
        raise CompileError(f"The model's interface is not possible: {error}.") from error
    if problem := next(interface_problems(manifest), None):
        raise CompileError(f"The model's interface is not possible: {problem}.")


def _codes(value: Mapping[str, Any]) -> Codes:
    return Codes(datatype=str(value["datatype"]), scale=float(value["scale"]), zero_point=int(value["zero_point"]))


def _signature(value: Mapping[str, Any]) -> Signature:
    return Signature(
        key=str(value["key"]),
        inputs={str(name): str(tensor) for name, tensor in value["inputs"].items()},
        outputs={str(name): str(tensor) for name, tensor in value["outputs"].items()},
    )


def _named(names: Mapping[str, str]) -> list[NamedTensor]:
    return [NamedTensor(name=name, tensor=tensor) for name, tensor in names.items()]
