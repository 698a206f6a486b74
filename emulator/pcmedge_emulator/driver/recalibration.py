"""Verbs that compensate drift: recalibration and its guard, rollback, self-test."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from pcmedge.errors import CancelledError, DeviceStateError, UnimplementedError

from pcmedge_emulator.calibration.agreement import NOT_MEASURED, Agreement, reference, reference_inputs
from pcmedge_emulator.driver.hardware import Arrays, Measurement
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.operations import Cancelled, Progress
from pcmedge_emulator.outcomes import Method, Mutation, RecalibrationOutcome, RollbackOutcome, SelfTestOutcome

THRESHOLD = 0.9
"""Self-test agreement a chip passes with. Unit: 1."""


def check_recalibrates(state: State, capability: str) -> None:
    """UnimplementedError for hardware that cannot measure."""
    if not state.description.methods:
        raise UnimplementedError("this chip does not recalibrate", capability=capability)


def chosen_method(state: State, method: Method) -> Method:
    """The hardware's own in place of DEFAULT. UnimplementedError for one it has not."""
    known = state.description.methods
    if method is Method.DEFAULT and known:
        return known[0]
    if method not in known:
        names = ", ".join(known) or "none"
        raise UnimplementedError(
            f"this chip recalibrates by {names}; asked for {method.value}", capability=f"recalibrate.{method.value}"
        )
    return method


def recalibrate(
    state: State,
    name: str,
    method: Method,
    *,
    force: bool,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> RecalibrationOutcome:
    """Measures, and commits unless self-test agreement fell."""
    with state.busy("recalibrating", cancelled):
        model = state.model(name)
        state.check(mutation, model)
        try:
            return _recalibrate(state, model, method, force, progress, cancelled, mutation)
        except CancelledError as error:
            state.report("cancelled", error.message, name, {"reason": error.reason})
            raise


def _recalibrate(
    state: State,
    model: Model,
    method: Method,
    force: bool,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> RecalibrationOutcome:
    started_s, age_s = time.monotonic(), state.age_s(model)
    samples = model.samples()

    def step(done: int, total: int) -> None:
        progress("measure", done, total)
        if cancelled():
            raise CancelledError("The recalibration was cancelled; factors and statistics are as before.")

    found = state.hardware.measure(model.loaded, method, model.compensation, samples, step)
    before = _agreement(state, model, model.compensation)
    after = _agreement(state, model, found.compensation)
    refusal = _finite_refusal(found)
    if not refusal and not force and after.agreement < before.agreement:
        refusal = f"self-test agreement would fall from {before.agreement:.4f} to {after.agreement:.4f}"
    changed = _recalibrated(model, found, age_s, after.agreement) if not refusal else _refused(model, before.agreement)
    generation = changed.record.statistics_generation
    outcome = RecalibrationOutcome(
        committed=not refusal,
        refusal=refusal,
        message="",
        statistics_generation=generation,
        method=method,
        samples=len(next(iter(samples.values()), ())) if method is not Method.GDC else 0,
        agreement_before=before.agreement,
        agreement_after=after.agreement,
        relative_error_before=before.relative_error,
        relative_error_after=after.relative_error,
        median_drift_factor=found.median_drift_factor,
        mean_shift=found.mean_shift,
        duration_s=time.monotonic() - started_s,
        age_s=age_s,
        reads=found.reads,
    )
    kind = "recalibration-refused" if refusal else "recalibrated"
    text = f"Recalibration of '{model.record.name}' refused: {refusal}." if refusal else "Recalibrated."
    details = {"method": method.value, "statistics_generation": str(generation)}
    state.commit(
        events=[state.event(kind, text, model.record.name, details)],
        counters=state.numbered(statistics=generation),
        put=[changed],
        remember=(mutation, "recalibrate", outcome),
    )
    return outcome


def _finite_refusal(found: Measurement) -> str:
    wrong = sorted(name for name, values in found.compensation.items() if not np.isfinite(values).all())
    return f"the measurement of {', '.join(wrong)} is not finite" if wrong else ""


def _recalibrated(model: Model, found: Measurement, age_s: float, share: float) -> Model:
    record = replace(
        model.record,
        statistics_generation=model.record.statistics_generation + 1,
        recalibrations=model.record.recalibrations + 1,
        last_committed_age_s=age_s,
        last_agreement=share,
        median_factor=found.median_drift_factor,
    )
    return replace(model, record=record, compensation=found.compensation, previous=model.compensation)


def _refused(model: Model, share: float) -> Model:
    return replace(model, record=replace(model.record, refused=model.record.refused + 1, last_agreement=share))


def rollback(state: State, name: str, mutation: Mutation) -> RollbackOutcome:
    with state.busy(""):
        model = state.model(name)
        state.check(mutation, model)
        if model.previous is None:
            raise DeviceStateError(
                f"Model '{name}' was not recalibrated since it was programmed; nothing to roll back to.",
                model=name,
            )
        generation = model.record.statistics_generation + 1
        record = replace(model.record, statistics_generation=generation)
        changed = replace(model, record=record, compensation=model.previous, previous=model.compensation)
        outcome = RollbackOutcome(statistics_generation=generation)
        event = state.event("rolled-back", f"Model '{name}' has the previous statistics again.", name)
        state.commit(
            events=[event],
            counters=state.numbered(statistics=generation),
            put=[changed],
            remember=(mutation, "rollback", outcome),
        )
        return outcome


def self_test(state: State, name: str) -> SelfTestOutcome:
    model = state.model(name)
    found = _agreement(state, model, model.compensation)
    if found.agreement < 0:
        raise DeviceStateError(f"The image of '{name}' has no reference inputs to test against.", model=name)
    return SelfTestOutcome(
        agreement=found.agreement,
        relative_error=found.relative_error,
        mean_absolute_difference=found.mean_absolute_difference,
        reference_inputs=reference_inputs(model.image),
        passed=found.agreement >= THRESHOLD,
        threshold=THRESHOLD,
        age_s=state.age_s(model),
        program_generation=model.record.program_generation,
        statistics_generation=model.record.statistics_generation,
    )


def _agreement(state: State, model: Model, compensation: Arrays) -> Agreement:
    """Of self-test outputs with a set of factors and statistics; -1 without reference inputs."""
    compared = reference(model.image)
    if compared is None:
        return NOT_MEASURED
    inputs, compare = compared
    return compare(state.hardware.infer(model.loaded, inputs, compensation).outputs)
