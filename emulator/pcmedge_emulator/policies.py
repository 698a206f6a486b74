"""Verbs on recalibration policies: which is in force, and doing what it wants.

Errors of an action go to the journal: nobody called.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pcmedge.errors import DeviceStateError, Error

from pcmedge_emulator import stored_models
from pcmedge_emulator.calibration.agreement import reference_inputs
from pcmedge_emulator.calibration.policy import (
    Policy,
    PolicyKind,
    drift_moved,
    next_run_age_s,
    next_self_test_age_s,
)
from pcmedge_emulator.calibration.proposal import median_factor
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.recalibration import Asked, recalibrate
from pcmedge_emulator.records import ModelRecord
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.selftest import self_test
from pcmedge_emulator.state import State


def due_age_s(resident: Resident) -> float:
    """The age at which the policy next acts; infinity for never. Seconds."""
    return min(_run_age_s(resident.record), _self_test_age_s(resident.record))


def _run_age_s(record: ModelRecord) -> float:
    return next_run_age_s(record.policy, record.last_run_age_s, record.last_check_age_s)


def _self_test_age_s(record: ModelRecord) -> float:
    return next_self_test_age_s(record.policy, max(record.last_run_age_s, record.last_self_test_age_s))


def next_in_s(state: State, resident: Resident) -> float:
    """Device seconds until the policy next acts; negative for never."""
    due_s = due_age_s(resident)
    return max(0.0, due_s - state.age_s(resident)) if np.isfinite(due_s) and resident.record.active else -1.0


def set_policy(state: State, name: str, policy: Policy, mutation: Mutation) -> Policy:
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        if policy.tests_itself and not reference_inputs(resident.programmed.image):
            raise DeviceStateError(
                f"The image of '{name}' has no reference inputs, so a policy cannot test it; choose one without "
                "self-tests, or compile the image with reference inputs.",
                model=name,
            )
        record = replace(resident.record, policy=policy, in_vain=0)
        changed = replace(resident, record=record)
        state.commit(
            lambda transaction: stored_models.write(transaction, changed),
            events=[state.event("policy-changed", f"The policy of '{name}' is {policy.kind.value}.", name)],
            remember=(mutation, "set-policy", policy),
        )
        state.swap(name, lambda current: replace(current, record=replace(current.record, policy=policy, in_vain=0)))
        state.wake.set()
        return policy


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """A recalibration a policy wants; as of :class:`pcmedge_emulator.recalibration.Asked`."""

    cause: str
    why: str = ""


def act(state: State, name: str) -> bool:
    """Does what the policy wants now; whether that was a recalibration. Errors go to the journal, not to a caller."""
    with state.changing:
        resident = state.residents.get(name)
        if resident is None or not resident.record.active or not np.isfinite(due_age_s(resident)):
            return False
        policy, age_s = resident.record.policy, state.age_s(resident)
        try:
            wish = _wish(state, resident, age_s)
            if wish is not None:
                asked = Asked(method=policy.method, cause=wish.cause, why=wish.why, reads=policy.reads)
                recalibrate(state, name, asked, Mutation())
            return wish is not None
        except Error as error:
            state.report("failed", f"The policy of '{name}' could not act: {error.message}", name)
            _note(state, name, last_check_age_s=age_s, last_run_age_s=age_s, last_self_test_age_s=age_s)
            return False


def _wish(state: State, resident: Resident, age_s: float) -> _Wish | None:
    """The recalibration the policy wants at this moment, after the look that is due; None if it wants none."""
    record = resident.record
    if _run_age_s(record) > max(_self_test_age_s(record), age_s):
        return _self_tested(state, resident, age_s)
    # Also if both are due: a recalibration's guard measures agreement.
    if record.policy.kind is not PolicyKind.DRIFT or _moved(state, resident, age_s):
        return _Wish(cause=record.policy.kind.value)
    _note(state, record.name, last_check_age_s=age_s)
    return None


def _moved(state: State, resident: Resident, age_s: float) -> bool:
    """Whether the drift factor has moved by what a DRIFT policy asks for."""
    read, programmed = state.take_reads(1), resident.programmed
    factors = state.readout.drift_factors(programmed, age_s, read)
    return drift_moved(resident.record.policy, median_factor(factors), resident.record.factor_at_last_run)


def _self_tested(state: State, resident: Resident, age_s: float) -> _Wish | None:
    """Tests the model, tells the journal when it starts or ceases to pass, and wants what that asks for."""
    record = resident.record
    name, floor = record.name, record.agreement_floor
    state.refresh(name)
    result = self_test(state, name, "policy")
    wanted = not result.passed and record.policy.kind is not PolicyKind.MANUAL and _may_run(record, age_s)
    why = f"agreement {result.agreement:.4g}, below {floor:.4g}"
    _note(
        state,
        name,
        last_self_test_age_s=age_s,
        in_vain=0 if result.passed else record.in_vain + wanted,
        failing=not result.passed,
    )
    if record.failing == result.passed:
        kind = "self-test-passed" if result.passed else "self-test-failed"
        message = f"The self-test of '{name}' passes again." if result.passed else f"Self-test of '{name}': {why}."
        details = {"agreement": f"{result.agreement:.4f}", "threshold": f"{floor:.4f}", "age_s": f"{age_s:.3f}"}
        state.commit(
            lambda transaction: stored_models.write(transaction, state.resident(name)),
            events=[state.event(kind, message, name, details)],
        )
    return _Wish(cause=PolicyKind.SELF_TEST.value, why=why) if wanted else None


def _may_run(record: ModelRecord, age_s: float) -> bool:
    """Whether the last recalibration is long enough ago for one that a self-test asks for."""
    never_run = record.recalibrations + record.refused == 0
    return never_run or age_s - record.last_run_age_s >= record.policy.self_test_pause_s(record.in_vain)


def _note(state: State, name: str, **changes: Any) -> None:
    state.swap(name, lambda current: replace(current, record=replace(current.record, **changes)))
