"""Verbs that ask the network: one inference, and several requests in one run of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import Error, GenerationMismatchError, InternalError, NotProgrammedError, UnavailableError

from pcmedge_emulator.clock import ClockMode
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.outcomes import CheckedRequest, InferOutcome
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.state import State
from pcmedge_emulator.together import checked_request, merged, parted

Array = NDArray[Any]


def infer(state: State, name: str, inputs: Mapping[str, Array]) -> InferOutcome:
    """See :meth:`pcmedge_emulator.chip.Chip.infer`. Takes no lock that a mutation holds."""
    try:
        resident = _answering(state, name)
        noise = resident.engine.snapshot.read_noise != "off"
        outputs = resident.engine.run(inputs, resident.parameters, noise_seed=_seed(resident) if noise else None)
    except Error:
        state.activity.failed()
        raise
    samples = next((int(np.shape(values)[0]) for values in inputs.values()), 1)
    _served(state, resident, samples, requests=1)
    return _outcome(resident, outputs)


def check(state: State, name: str, inputs: Mapping[str, Array]) -> CheckedRequest:
    """See :meth:`pcmedge_emulator.chip.Chip.check_inference`."""
    try:
        resident = _answering(state, name)
        program = resident.programmed.program
        checked, samples = check_inputs(program, inputs)
    except Error:
        state.activity.failed()
        raise
    generation = resident.record.program_generation
    return checked_request(name, generation, checked, samples, shares=_free_batch(program))


def infer_together(state: State, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
    """See :meth:`pcmedge_emulator.chip.Chip.infer_together`."""
    first = requests[0]
    if len(requests) == 1:
        return (infer(state, first.name, first.inputs),)
    if first.kind is None or any(request.kind != first.kind for request in requests):
        raise InternalError("requests of different kinds were put into one run of the engine; please report it")
    resident = _answering(state, first.name)
    found = resident.record.program_generation
    if found != first.generation:
        raise GenerationMismatchError(
            f"The requests were checked against program generation {first.generation} of model '{first.name}', the "
            f"device is at {found}. Ask for each alone.",
            expected=first.generation,
            found=found,
            what="program",
        )
    noise = resident.engine.snapshot.read_noise != "off"
    outputs = resident.engine.run(merged(requests), resident.parameters, noise_seed=_seed(resident) if noise else None)
    samples = sum(request.samples for request in requests)
    for name, values in outputs.items():
        if not values.ndim or values.shape[0] != samples:
            raise InternalError(f"output {name!r} has shape {values.shape} for {samples} samples; please report it")
    _served(state, resident, samples, requests=len(requests))
    return tuple(_outcome(resident, own) for own in parted(outputs, requests))


def _answering(state: State, name: str) -> Resident:
    """The model as it answers now: one consistent engine, set of parameters and pair of generations."""
    resident = state.residents.get(name)
    if name in state.out_of_service:
        raise UnavailableError(
            f"Model '{name}' does not answer while its tiles are being programmed. Repeat the request.", model=name
        )
    if resident is None:
        resident = state.resident(name)
    if not resident.record.active:
        raise NotProgrammedError(f"Model '{name}' is resident but not active. Activate it first.", model=name)
    return resident


def _seed(resident: Resident) -> int:
    """The seed of this run of the engine: the next number of the model's own, whoever asks."""
    return resident.first_seed + resident.counters.ticket()


def _free_batch(program: ChipProgram) -> bool:
    """Whether axis 0 of every input and output is a batch of any size; the engine cuts large batches by this rule."""
    specs = (*program.inputs, *program.outputs)
    return bool(program.inputs) and all(spec.shape and spec.shape[0] is None for spec in specs)


def _served(state: State, resident: Resident, samples: int, *, requests: int) -> None:
    resident.counters.count(samples)
    state.activity.served(requests)
    if state.clock.mode is not ClockMode.MANUAL and state.is_stale(resident):
        state.wake.set()


def _outcome(resident: Resident, outputs: Mapping[str, Array]) -> InferOutcome:
    return InferOutcome(
        outputs=outputs,
        age_s=resident.engine_age_s,
        program_generation=resident.record.program_generation,
        statistics_generation=resident.record.statistics_generation,
        noise=resident.engine.snapshot.read_noise != "off",
    )
