"""Calling a model by the names of one of its signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import CallSignature
from pcmedge.errors import InputValueError
from pcmedge.tflite.errors import raising
from pcmedge.tflite.tensors import InterpreterTensor

if TYPE_CHECKING:
    from pcmedge.tflite.interpreter import Interpreter


class SignatureRunner:
    """Made by :meth:`Interpreter.get_signature_runner`; arrays by name in, a dict of arrays by name out."""

    def __init__(
        self, interpreter: Interpreter, signature: CallSignature, tensors: Mapping[str, InterpreterTensor]
    ) -> None:
        self._interpreter = interpreter
        self._key = signature.key
        self._inputs = {entry.name: tensors[entry.tensor] for entry in signature.inputs}
        self._outputs = {entry.name: tensors[entry.tensor] for entry in signature.outputs}

    def __call__(self, **inputs: Any) -> dict[str, NDArray[Any]]:
        """Run on ``inputs``; the batch is theirs. Errors are also ValueError, those of the device RuntimeError."""
        with raising(ValueError):
            if set(inputs) != set(self._inputs):
                raise InputValueError(
                    f"signature '{self._key}' takes {', '.join(self._inputs)}; found {', '.join(inputs) or 'nothing'}",
                    argument="inputs",
                )
            arrays = {name: np.asarray(value) for name, value in inputs.items()}
        for name, value in arrays.items():
            self._interpreter.resize_tensor_input(self._inputs[name].index, value.shape)
        self._interpreter.allocate_tensors()
        for name, value in arrays.items():
            self._interpreter.set_tensor(self._inputs[name].index, value)
        self._interpreter.invoke()
        return {name: tensor.values.copy() for name, tensor in self._outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Details of the inputs by the signature's names."""
        return {name: tensor.details() for name, tensor in self._inputs.items()}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Details of the outputs by the signature's names."""
        return {name: tensor.details() for name, tensor in self._outputs.items()}
