"""Agreement with the digital network on the reference inputs an image brings along: for self-tests and the guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pcmedge.errors import DeviceStateError

from pcmedge_emulator.buffers import Inputs
from pcmedge_emulator.calibration import guard
from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.outcomes import SelfTestOutcome
from pcmedge_emulator.resident import Programmed
from pcmedge_emulator.state import State


def reference(programmed: Programmed) -> tuple[Inputs, Callable[[Inputs], guard.Agreement]] | None:
    """The image's reference inputs, and how outputs for them agree with the digital ones; None if it has none."""
    inputs, outputs = programmed.image.reference_set()
    if not inputs or not outputs:
        return None
    wanted = programmed.image.manifest.application.class_output
    name = wanted if wanted in outputs else next(iter(outputs))
    return inputs, lambda got: guard.agreement(got[name], outputs[name])


def reference_inputs(programmed: Programmed) -> int:
    """How many reference inputs the image has."""
    return sample_count(programmed.image.reference_set()[0])


def self_test(state: State, name: str) -> SelfTestOutcome:
    """Agreement of what requests get at this moment with the image's digital reference outputs."""
    resident = state.resident(name)
    seed = resident.first_seed + resident.counters.ticket()
    compared = reference(resident.programmed)
    threshold = resident.record.policy.agreement_threshold
    if compared is None:
        raise DeviceStateError(
            f"The image of '{name}' has no reference inputs, so there is nothing to test against.",
            model=name,
        )
    inputs, compare = compared
    outputs, saturation = resident.engine.run_with_saturation(inputs, resident.parameters, noise_seed=seed)
    agreement = compare(outputs)
    resident.counters.saturation(saturation)
    state.swap(
        name, lambda current: replace(current, record=replace(current.record, last_agreement=agreement.agreement))
    )
    return SelfTestOutcome(
        agreement=agreement.agreement,
        relative_error=agreement.relative_error,
        reference_inputs=reference_inputs(resident.programmed),
        passed=agreement.agreement >= threshold,
        threshold=threshold,
        age_s=resident.engine_age_s,
        program_generation=resident.record.program_generation,
        statistics_generation=resident.record.statistics_generation,
    )
