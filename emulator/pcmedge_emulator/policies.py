"""Verbs on recalibration policies: which is in force, and doing what it wants.

Errors of an action go to the journal: nobody called.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pcmedge.errors import Error

from pcmedge_emulator import stored_models
from pcmedge_emulator.calibration.policy import Policy, PolicyKind, drift_moved, next_due_age_s
from pcmedge_emulator.calibration.proposal import median_factor, read_out
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.recalibration import Asked, recalibrate
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.selftest import self_test
from pcmedge_emulator.state import State


def due_age_s(resident: Resident) -> float:
    """The age at which the policy next acts; infinity for never. Seconds."""
    record = resident.record
    return next_due_age_s(record.policy, record.last_run_age_s, record.last_check_age_s)


def next_in_s(state: State, resident: Resident) -> float:
    """Device seconds until the policy next acts; negative for never."""
    due_s = due_age_s(resident)
    return max(0.0, due_s - state.age_s(resident)) if np.isfinite(due_s) and resident.record.active else -1.0


def set_policy(state: State, name: str, policy: Policy, mutation: Mutation) -> Policy:
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        record = replace(resident.record, policy=policy)
        changed = replace(resident, record=record)
        state.commit(
            lambda transaction: stored_models.write(transaction, changed),
            events=[state.event("policy-changed", f"The policy of '{name}' is {policy.kind.value}.", name)],
            remember=(mutation, "set-policy", policy),
        )
        state.swap(name, lambda current: replace(current, record=replace(current.record, policy=policy)))
        state.wake.set()
        return policy


def act(state: State, name: str) -> bool:
    """Does what the policy wants now; whether that was a recalibration. Errors go to the journal, not to a caller."""
    with state.changing:
        resident = state.residents.get(name)
        if resident is None or not resident.record.active:
            return False
        policy = resident.record.policy
        try:
            wanted = not policy.measures or _wanted(state, resident)
            if wanted:
                asked = Asked(method=policy.method, cause=policy.kind.value, reads=policy.reads)
                recalibrate(state, name, asked, Mutation())
            return wanted
        except Error as error:
            state.report("failed", f"The policy of '{name}' could not recalibrate: {error.message}", name)
            _looked(state, name, state.age_s(resident), failed=True)
            return False


def _wanted(state: State, resident: Resident) -> bool:
    """Looks at what a measuring policy looks at; notes the look if it wants nothing."""
    record, age_s = resident.record, state.age_s(resident)
    if record.policy.kind is PolicyKind.DRIFT:
        read, programmed = state.take_reads(1), resident.programmed
        factors = read_out(
            programmed,
            age_s,
            state.circuits,
            lambda tile: state.recalibration_stream(programmed, tile, age_s, read),
            lambda tile: state.streams.recalibration_products(read, tile),
        )
        wanted = drift_moved(record.policy, median_factor(factors), record.factor_at_last_run)
    else:
        state.refresh(record.name)
        wanted = self_test(state, record.name).agreement < record.policy.agreement_threshold
    if not wanted:
        _looked(state, record.name, age_s)
    return wanted


def _looked(state: State, name: str, age_s: float, *, failed: bool = False) -> None:
    def note(current: Resident) -> Resident:
        record = replace(current.record, last_check_age_s=age_s)
        return replace(current, record=replace(record, last_run_age_s=age_s) if failed else record)

    state.swap(name, note)
