"""Self-tests: agreement of the device with the digital network, and the history of it."""

from __future__ import annotations

from dataclasses import replace

from pcmedge.errors import DeviceStateError, Error

from pcmedge_emulator import stored_models
from pcmedge_emulator.calibration.agreement import Agreement, reference, reference_inputs
from pcmedge_emulator.outcomes import SelfTestOutcome, SelfTestRecord
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.state import State


def tested_as_programmed(state: State, resident: Resident) -> Resident:
    """A model nobody has seen yet with its agreement right after programming, which a policy may measure drops from."""
    found = _measure(state, resident)
    if found is None:
        return resident
    resident.history.add(_line(state, resident, found, resident.engine_age_s, "programmed"))
    return replace(resident, record=replace(resident.record, agreement_as_programmed=found.agreement))


def self_test(state: State, name: str, cause: str = "request") -> SelfTestOutcome:
    """Agreement of what requests get at this moment with the image's digital reference outputs.

    Beside serving: it takes no number of the requests' noise, changes no generation and waits for no mutation. The
    history keeps it with its ``cause``. DeviceStateError for an image without reference inputs.
    """
    resident = state.resident(name)
    found = _measure(state, resident, count_saturation=True)
    if found is None:
        raise DeviceStateError(
            f"The image of '{name}' has no reference inputs, so there is nothing to test against.",
            model=name,
        )

    def noted(current: Resident) -> Resident:
        if current.programmed is not resident.programmed:
            return current
        return replace(current, record=replace(current.record, last_agreement=found.agreement))

    state.swap(name, noted)
    remember(state, resident, found, resident.engine_age_s, cause)
    floor = resident.record.agreement_floor
    return SelfTestOutcome(
        agreement=found.agreement,
        relative_error=found.relative_error,
        reference_inputs=reference_inputs(resident.programmed.image),
        passed=found.agreement >= floor,
        threshold=floor,
        age_s=resident.engine_age_s,
        program_generation=resident.record.program_generation,
        statistics_generation=resident.record.statistics_generation,
        mean_absolute_difference=found.mean_absolute_difference,
    )


def _measure(state: State, resident: Resident, *, count_saturation: bool = False) -> Agreement | None:
    compared = reference(resident.programmed.image)
    if compared is None:
        return None
    inputs, compare = compared
    first = state.streams.self_tests(resident.record.program_generation, state.device.boots)
    seed = first + resident.counters.self_test_ticket()
    if not count_saturation:
        return compare(resident.engine.run(inputs, resident.parameters, noise_seed=seed))
    outputs, saturation = resident.engine.run_with_saturation(inputs, resident.parameters, noise_seed=seed)
    resident.counters.saturation(saturation)
    return compare(outputs)


def remember(state: State, resident: Resident, found: Agreement, age_s: float, cause: str) -> None:
    """A line of the history; stored now if nobody is changing the device, else, or if that fails, with the next one."""
    history = resident.history
    history.add(_line(state, resident, found, age_s, cause))
    if not state.changing.acquire(blocking=False):
        return
    try:
        current = state.residents.get(resident.record.name)
        if current is not None and current.history is history:
            written: list[int] = []
            state.commit(lambda transaction: written.append(stored_models.write_self_tests(transaction, current)))
            history.saved(written[0])
    except Error:
        # Who asked for a self-test has its answer; a store that cannot be written is told to who changes something.
        return
    finally:
        state.changing.release()


def _line(state: State, resident: Resident, found: Agreement, age_s: float, cause: str) -> SelfTestRecord:
    return SelfTestRecord(
        time_unix_s=state.clock.wall_unix_s(),
        device_time_s=state.clock.now(),
        age_s=age_s,
        agreement=found.agreement,
        relative_error=found.relative_error,
        mean_absolute_difference=found.mean_absolute_difference,
        statistics_generation=resident.record.statistics_generation,
        cause=cause,
    )
