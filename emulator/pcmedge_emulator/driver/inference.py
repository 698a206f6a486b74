"""Verbs that ask the network: one inference, and several requests in one run of the hardware."""

from __future__ import annotations

from collections.abc import Sequence

from pcmedge.errors import Error, GenerationMismatchError, NotProgrammedError, UnavailableError

from pcmedge_emulator.driver.hardware import Arrays
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.inputs import check_tensors
from pcmedge_emulator.outcomes import CheckedRequest, InferOutcome
from pcmedge_emulator.together import checked_request, merged, parted


def infer(state: State, name: str, inputs: Arrays) -> InferOutcome:
    return infer_together(state, [check(state, name, inputs)])[0]


def check(state: State, name: str, inputs: Arrays) -> CheckedRequest:
    try:
        model = _answering(state, name)
        checked, samples = check_tensors(model.inputs, inputs)
    except Error:
        state.activity.failed()
        raise
    return checked_request(name, model.record.program_generation, checked, samples)


def infer_together(state: State, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
    """Requests of one kind in one run of the hardware."""
    first = requests[0]
    model = _answering(state, first.name)
    record = model.record
    if record.program_generation != first.generation:
        if len(requests) == 1:
            return (infer(state, first.name, first.inputs),)
        raise GenerationMismatchError("the model was programmed again since these requests were checked")
    age_s = state.age_s(model)
    try:
        answer = state.hardware.infer(model.loaded, merged(requests), model.compensation)
    except Error:
        if len(requests) == 1:
            state.activity.failed()
        raise
    model.inferences.add(sum(request.samples for request in requests))
    state.activity.served(len(requests))
    return tuple(
        InferOutcome(
            outputs=outputs,
            age_s=age_s,
            program_generation=record.program_generation,
            statistics_generation=record.statistics_generation,
            noise=answer.noise,
        )
        for outputs in parted(answer.outputs, requests)
    )


def _answering(state: State, name: str) -> Model:
    if name in state.out_of_service:
        raise UnavailableError(f"Model '{name}' does not answer while its tiles are programmed.", model=name)
    model = state.model(name)
    if not model.record.active:
        raise NotProgrammedError(f"Model '{name}' is resident but not active. Activate it first.", model=name)
    return model
