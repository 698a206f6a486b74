"""Verbs that ask the network: one inference, and several requests in one run of the hardware."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pcmedge.errors import Error, GenerationMismatchError, NotProgrammedError, UnavailableError

from pcmedge_emulator.driver.hardware import Arrays
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.inputs import check_tensors
from pcmedge_emulator.outcomes import CheckedRequest, InferOutcome


def infer(state: State, name: str, inputs: Arrays) -> InferOutcome:
    return infer_together(state, [check(state, name, inputs)])[0]


def check(state: State, name: str, inputs: Arrays) -> CheckedRequest:
    try:
        model = _answering(state, name)
        checked, samples = check_tensors(model.inputs, inputs)
    except Error:
        state.activity.failed()
        raise
    shapes = tuple((key, values.dtype.str, values.shape[1:]) for key, values in checked.items())
    generation = model.record.program_generation
    return CheckedRequest(
        name=name, inputs=checked, samples=samples, generation=generation, kind=(name, generation, shapes)
    )


def infer_together(state: State, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
    """Requests of one kind in one run of the hardware."""
    first = requests[0]
    model = _answering(state, first.name)
    record = model.record
    if record.program_generation != first.generation:
        if len(requests) == 1:
            return (infer(state, first.name, first.inputs),)
        raise GenerationMismatchError("the model was programmed again since these requests were checked")
    merged = {key: np.concatenate([request.inputs[key] for request in requests]) for key in first.inputs}
    age_s = state.age_s(model)
    try:
        answer = state.hardware.infer(model.loaded, merged, model.compensation)
    except Error:
        if len(requests) == 1:
            state.activity.failed()
        raise
    samples = sum(request.samples for request in requests)
    model.inferences.add(samples)
    state.activity.served(len(requests))
    ends = np.cumsum([request.samples for request in requests]).tolist()
    return tuple(
        InferOutcome(
            outputs={key: values[end - request.samples : end] for key, values in answer.outputs.items()},
            age_s=age_s,
            program_generation=record.program_generation,
            statistics_generation=record.statistics_generation,
            noise=answer.noise,
        )
        for request, end in zip(requests, ends, strict=True)
    )


def _answering(state: State, name: str) -> Model:
    if name in state.out_of_service:
        raise UnavailableError(f"Model '{name}' does not answer while its tiles are programmed.", model=name)
    model = state.model(name)
    if not model.record.active:
        raise NotProgrammedError(f"Model '{name}' is resident but not active. Activate it first.", model=name)
    return model
