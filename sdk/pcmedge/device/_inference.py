"""Scripts of inference: which model, which tensors, requests and replies of the Open Inference Protocol."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge._contract import inference_pb2
from pcmedge.device._calls import Script, Session, build_message
from pcmedge.device.results import InferResult, Tensor
from pcmedge.errors import (
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    ModelNotFoundError,
    NotProgrammedError,
)
from pcmedge.protocol import tensors

Array = NDArray[Any]
Inputs = ArrayLike | Mapping[str, ArrayLike]
"""An array for a model with one input, or arrays by input name. The first axis is the batch."""
Outputs = Any
"""An array for a model with one output, or a dict of arrays by output name.

Which of the two depends on the model, so a union would have every caller narrow it; ``InferResult`` is typed exactly.
"""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a client needs to know of a resident model."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def find_model(session: Session, model: str | None) -> Script[str]:
    """The model meant: the one named, else the only active one. InputError listing them if there are several."""
    if model is not None:
        return model
    reply = yield session.read("RepositoryIndex", inference_pb2.RepositoryIndexRequest(ready=True))
    names = sorted({entry.name for entry in reply.models})
    if not names:
        raise NotProgrammedError("no model is active on the device; program an image, or activate a resident one")
    if len(names) > 1:
        raise InputError(
            f"{len(names)} models are active ({', '.join(names)}); say which with model=",
            argument="model",
            models=",".join(names),
        )
    return str(names[0])


def model_spec(session: Session, model: str | None = None) -> Script[ModelSpec]:
    """Names, datatypes and shapes of a model's inputs and outputs (-1 is any size; the first axis is the batch)."""
    name = yield from find_model(session, model)
    reply = yield session.read("ModelMetadata", build_message(inference_pb2.ModelMetadataRequest, name=name))
    spec = session.specs[name] = ModelSpec(
        name=name,
        inputs=tuple(_tensor(tensor) for tensor in reply.inputs),
        outputs=tuple(_tensor(tensor) for tensor in reply.outputs),
    )
    if model is None:
        session.default_model = name
    return spec


def remembered_spec(session: Session, model: str | None) -> Script[ModelSpec]:
    """The spec without asking again; who uses it looks again when the device disagrees."""
    name = session.default_model if model is None else model
    known = session.specs.get(name) if isinstance(name, str) else None
    return known if known is not None else (yield from model_spec(session, model))


def _tensor(message: Any) -> Tensor:
    return Tensor(name=message.name, datatype=message.datatype, shape=tuple(message.shape))


def named_arrays(spec: ModelSpec, inputs: Inputs) -> dict[str, Array]:
    """Arrays by input name. Floats of another width become the model's; anything else keeps its dtype for the device
    to judge. Lists take the model's dtype.
    """
    if not isinstance(inputs, Mapping):
        if len(spec.inputs) != 1:
            raise InputError(
                f"model {spec.name!r} has {len(spec.inputs)} inputs ({', '.join(t.name for t in spec.inputs)}); pass a "
                "dict of arrays by name",
                model=spec.name,
            )
        inputs = {spec.inputs[0].name: inputs}
    datatypes = {tensor.name: tensor.datatype for tensor in spec.inputs}
    return {str(name): _array(str(name), value, datatypes.get(str(name))) for name, value in inputs.items()}


def _array(name: str, value: ArrayLike, datatype: str | None) -> Array:
    expected = tensors.dtype_of(datatype) if datatype else None
    try:
        array = np.asarray(value, dtype=expected if isinstance(value, (list, tuple, int, float)) else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputTypeError(
            f"input {name!r} cannot become an array of {datatype or 'any datatype'}: {error}", tensor=name
        ) from error
    if expected is not None and expected.kind == array.dtype.kind == "f" and array.dtype != expected:
        with np.errstate(over="ignore"):
            array = array.astype(expected)
    return array


def infer_request(spec: ModelSpec, inputs: Inputs, request_id: str = "") -> inference_pb2.ModelInferRequest:
    request = inference_pb2.ModelInferRequest(model_name=spec.name, id=request_id)
    tensors.add_inputs(request, named_arrays(spec, inputs))
    return request


def infer_detailed(
    session: Session, inputs: Inputs, *, model: str | None = None, timeout_s: float | None = None
) -> Script[InferResult]:
    """One batch through the chip, with the age, generations and noise setting it was computed under.

    ``inputs``: an array (or a dict of arrays by input name) whose first axis is the batch. ``timeout_s``: deadline in
    seconds instead of the connection's. Raises InputShapeError, InputTypeError, InputValueError, ModelNotFoundError,
    NotProgrammedError, UnavailableError.
    """
    known = dict(session.specs)
    spec = yield from remembered_spec(session, model)
    while True:
        started_s = time.perf_counter()
        try:
            reply = yield session.read("ModelInfer", infer_request(spec, inputs), timeout_s)
        except (InputError, ModelNotFoundError, NotProgrammedError) as error:
            # What was remembered may be of an image that somebody else has replaced; look once more.
            if spec.name not in known or known[spec.name] != spec:
                raise
            session.forget_models()
            known = {}
            spec, stale = (yield from model_spec(session, model)), spec
            if spec == stale:
                raise error from None
        else:
            return infer_result(reply, time.perf_counter() - started_s)


def infer(
    session: Session, inputs: Inputs, *, model: str | None = None, timeout_s: float | None = None
) -> Script[Outputs]:
    """One batch through the chip: an array in, an array out (a dict by output name if the model has several).

    ``inputs``: an array (or a dict of arrays by input name) whose first axis is the batch. ``timeout_s``: deadline in
    seconds instead of the connection's. Raises InputShapeError, InputTypeError, InputValueError, ModelNotFoundError,
    NotProgrammedError, UnavailableError.
    """
    result = yield from infer_detailed(session, inputs, model=model, timeout_s=timeout_s)
    return plain_outputs(result)


def plain_outputs(result: InferResult) -> Outputs:
    return result.output if len(result.outputs) == 1 else dict(result.outputs)


def infer_result(reply: inference_pb2.ModelInferResponse, latency_s: float) -> InferResult:
    parameters = reply.parameters
    return InferResult(
        outputs={name: array.copy() for name, array in tensors.read_outputs(reply).items()},
        model=reply.model_name,
        age_s=parameters["pcm_age_s"].double_param,
        program_generation=parameters["pcm_program_generation"].int64_param,
        statistics_generation=parameters["pcm_statistics_generation"].int64_param,
        noise=parameters["pcm_noise"].bool_param,
        device_serial=parameters["pcm_device_serial"].string_param,
        latency_s=latency_s,
    )


def check_samples(spec: ModelSpec, samples: Inputs) -> dict[str, Array]:
    """Calibration samples by input, each [samples, ...] with the model's shape and dtype, all of the same length."""
    arrays = named_arrays(spec, samples)
    if set(arrays) != {tensor.name for tensor in spec.inputs}:
        raise InputValueError(
            f"model {spec.name!r} needs samples of {', '.join(t.name for t in spec.inputs)}; found {', '.join(arrays)}",
            model=spec.name,
        )
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    for tensor in spec.inputs:
        array = arrays[tensor.name]
        if tensors.datatype_of(array) != tensor.datatype:
            raise InputTypeError(
                f"samples of input {tensor.name!r} must be {tensor.datatype}, found {array.dtype}", tensor=tensor.name
            )
        fits = array.ndim == len(tensor.shape) and all(
            e in (-1, f) for e, f in zip(tensor.shape[1:], array.shape[1:], strict=False)
        )
        if not fits or len(counts) != 1 or 0 in counts:
            raise InputShapeError(
                f"samples of input {tensor.name!r} must have shape {list(tensor.shape)} with at least one sample, as "
                f"many for every input; found {list(array.shape)}",
                tensor=tensor.name,
                expected=list(tensor.shape),
                found=list(array.shape),
            )
    return arrays
