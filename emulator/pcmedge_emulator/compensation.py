"""Verbs that compensate drift: recalibrate, roll back, policy, calibration buffer, self-test."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import CancelledError, DeviceStateError, Error, InputShapeError, InputValueError

from pcmedge_emulator.calibration import guard
from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.calibration.policy import Policy, PolicyKind, drift_moved, next_due_age_s
from pcmedge_emulator.calibration.proposal import (
    Proposal,
    choose_method,
    image_statistics,
    median_factor,
    propose,
    read_out,
)
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.outcomes import (
    BufferDescription,
    Method,
    Mutation,
    RecalibrationOutcome,
    RollbackOutcome,
    SelfTestOutcome,
)
from pcmedge_emulator.resident import Buffer, Programmed, Resident
from pcmedge_emulator.state import State

LARGEST_BUFFER_BYTES = 256 * 2**20
"""An application's calibration buffer is refused beyond this."""

Inputs = Mapping[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]
Cancelled = Callable[[], bool]


# --------------------------------------------------------------------------------------------------------------- buffer


def _buffer(resident: Resident) -> tuple[Inputs, bool]:
    """(the buffer recalibration measures on, whether digital statistics of exactly it exist)."""
    if resident.buffer is not None:
        return resident.buffer.samples, False
    manifest = resident.programmed.image.manifest
    if manifest.calibration_buffer.kind not in ("stored", "synthetic"):
        return {}, False
    reference = resident.programmed.program.reference_statistics
    complete = set(reference) >= set(resident.programmed.program.statistics)
    has_reference = manifest.calibration_buffer.has_reference_statistics and complete
    return resident.programmed.image.calibration_buffer(), has_reference


def describe_buffer(resident: Resident) -> BufferDescription:
    samples, has_reference = _buffer(resident)
    kind = resident.programmed.image.manifest.calibration_buffer.kind
    source = {"stored": "image", "synthetic": "synthetic"}.get(kind, "none")
    digest = hashlib.sha256()
    for spec in resident.programmed.program.inputs:
        if spec.name in samples:
            digest.update(np.ascontiguousarray(samples[spec.name]).data)
    return BufferDescription(
        source="application" if resident.buffer is not None else source,
        samples=sample_count(samples),
        bytes=sum(array.nbytes for array in samples.values()),
        has_reference_statistics=has_reference,
        sha256=digest.digest() if samples else b"",
    )


def set_buffer(state: State, name: str, samples: Inputs, append: bool, mutation: Mutation) -> BufferDescription:
    """Replaces or appends; the samples are checked as an inference's inputs are."""
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        arrays = {key: np.asarray(values) for key, values in samples.items()}
        checked, _ = check_inputs(resident.programmed.program, arrays)
        sizes = {key: len(values) for key, values in checked.items()}
        if len(set(sizes.values())) > 1:
            raise InputShapeError(f"Every input of a calibration buffer has as many samples, got {sizes}.")
        if append:
            present = _buffer(resident)[0]
            checked = {
                key: np.concatenate([present[key], values]) if present else values for key, values in checked.items()
            }
        size = sum(values.nbytes for values in checked.values())
        if size > LARGEST_BUFFER_BYTES:
            raise InputValueError(
                f"A calibration buffer has at most {LARGEST_BUFFER_BYTES} bytes, this one would have {size}. "
                "Keep fewer samples: some tens do.",
                bytes=size,
            )
        buffer = Buffer(samples={key: values.copy() for key, values in checked.items()})
        changed = replace(resident, buffer=buffer)
        outcome = describe_buffer(changed)
        message = f"The calibration buffer of '{name}' has {outcome.samples} samples of the application."
        state.commit(
            lambda transaction: state.write_resident(transaction, changed),
            events=[state.event("buffer-changed", message, name, {"samples": str(outcome.samples)})],
            remember=(mutation, "append-buffer" if append else "replace-buffer", outcome),
        )
        state.swap(name, lambda current: replace(current, buffer=buffer))
        return outcome


# ------------------------------------------------------------------------------------------------------------ self-test


def _reference(programmed: Programmed) -> tuple[Inputs, Callable[[Inputs], guard.Agreement]] | None:
    """The image's reference inputs, and how outputs for them agree with the digital ones; None if it has none."""
    inputs, outputs = programmed.image.reference_set()
    if not inputs or not outputs:
        return None
    wanted = programmed.image.manifest.application.class_output
    name = wanted if wanted in outputs else next(iter(outputs))
    return inputs, lambda got: guard.agreement(got[name], outputs[name])


def _reference_inputs(programmed: Programmed) -> int:
    return sample_count(programmed.image.reference_set()[0])


def self_test(state: State, name: str) -> SelfTestOutcome:
    """Agreement of what requests get at this moment with the image's digital reference outputs."""
    resident = state.resident(name)
    seed = resident.first_seed + resident.counters.ticket()
    reference = _reference(resident.programmed)
    threshold = resident.record.policy.agreement_threshold
    if reference is None:
        raise DeviceStateError(
            f"The image of '{name}' has no reference inputs, so there is nothing to test against.",
            model=name,
        )
    inputs, compare = reference
    outputs, saturation = resident.engine.run_with_saturation(inputs, resident.parameters, noise_seed=seed)
    agreement = compare(outputs)
    resident.counters.saturation(saturation)
    state.swap(
        name, lambda current: replace(current, record=replace(current.record, last_agreement=agreement.agreement))
    )
    return SelfTestOutcome(
        agreement=agreement.agreement,
        relative_error=agreement.relative_error,
        reference_inputs=_reference_inputs(resident.programmed),
        passed=agreement.agreement >= threshold,
        threshold=threshold,
        age_s=resident.engine_age_s,
        program_generation=resident.record.program_generation,
        statistics_generation=resident.record.statistics_generation,
    )


# -------------------------------------------------------------------------------------------------------- recalibration


def recalibrate(
    state: State,
    name: str,
    method: Method,
    *,
    batches: int,
    batch_size: int,
    gdc_everywhere: bool,
    force: bool,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
    cause: str,
) -> RecalibrationOutcome:
    """See :meth:`pcmedge_emulator.chip.Chip.recalibrate`. ``cause`` goes into the journal."""
    with state.busy("recalibrating"):
        resident = state.resident(name)
        state.check(mutation, resident)
        started_s = time.monotonic()
        run = _Run(state, resident, progress, cancelled)
        buffer, has_reference = _buffer(resident)
        chosen, message, refusal = choose_method(
            method,
            has_statistics=bool(resident.programmed.program.statistics),
            buffer_samples=sample_count(buffer),
            has_reference=has_reference,
        )
        if not refusal and not force and chosen in (Method.ADABS, Method.ADABS_PAIRED):
            refusal = guard.buffer_refusal(buffer)
        before = after = guard.Agreement(agreement=-1.0, relative_error=-1.0)
        proposal = Proposal(
            parameters=resident.parameters,
            samples=0,
            median_factor=resident.record.median_factor,
            mean_shift=0.0,
        )
        try:
            if not refusal:
                proposal = run.measure(chosen, buffer, gdc_everywhere, batches, batch_size)
                refusal = guard.finite_refusal(proposal.parameters.statistics, proposal.parameters.drift_factors)
            if not refusal:
                before, after = run.compare(proposal.parameters)
                if not force:
                    refusal = run.judge(proposal.parameters, before, after)
        except CancelledError as error:
            state.report("cancelled", error.message, name)
            raise
        return _finish(
            state, resident, run, proposal, chosen, message, refusal, before, after, started_s, mutation, cause
        )


class _Run:
    """One recalibration: its moment and its read-noise realisations."""

    def __init__(self, state: State, resident: Resident, progress: Progress, cancelled: Cancelled) -> None:
        self.state = state
        self.resident = resident
        self.progress = progress
        self.cancelled = cancelled
        self.age_s = state.age_s(resident)
        self.guard_reads = 1 if state.same_read else guard.GUARD_READS
        self.first_read = state.take_reads(1 + self.guard_reads)

    def measure(self, method: Method, buffer: Inputs, gdc_everywhere: bool, batches: int, batch_size: int) -> Proposal:
        state, programmed, read = self.state, self.resident.programmed, self.first_read
        self.progress("read", 0, len(programmed.tiles))
        factors = read_out(
            programmed,
            self.age_s,
            state.circuits,
            lambda tile: state.recalibration_stream(programmed, tile, self.age_s, read),
            lambda tile: state.streams.recalibration_products(read, tile),
            per_column=method is Method.GDC_PER_COLUMN,
        )
        self.progress("read", len(programmed.tiles), len(programmed.tiles))
        self._stop_if_cancelled()
        return propose(
            method,
            programmed,
            self.resident.parameters,
            state.recalibration_engine(programmed, self.age_s, read),
            factors,
            buffer,
            gdc_everywhere=gdc_everywhere,
            batches=batches,
            batch_size=batch_size,
            noise_seed=state.streams.recalibration_seed(read),
            progress=self.progress,
            cancelled=self.cancelled,
        )

    def compare(self, candidate: Parameters) -> tuple[guard.Agreement, guard.Agreement]:
        """Old and new parameters on the same reads with the same noise, none of them the one measured on."""
        state, programmed = self.state, self.resident.programmed
        reference = _reference(programmed)
        if reference is None:
            nothing = guard.Agreement(agreement=-1.0, relative_error=-1.0)
            return nothing, nothing
        inputs, agreement = reference
        old: list[guard.Agreement] = []
        new: list[guard.Agreement] = []
        for number in range(self.guard_reads):
            self._stop_if_cancelled()
            read = self.first_read + 1 + number
            engine = state.recalibration_engine(programmed, self.age_s, read)
            seed = state.streams.recalibration_seed(read)
            old.append(agreement(engine.run(inputs, self.resident.parameters, noise_seed=seed)))
            if number:
                outputs = engine.run(inputs, candidate, noise_seed=seed)
            else:
                # Counting costs a second session, so one read counts for all.
                outputs, saturation = engine.run_with_saturation(inputs, candidate, noise_seed=seed)
                self.resident.counters.saturation(saturation)
            new.append(agreement(outputs))
            self.progress("guard", number + 1, self.guard_reads)
        return guard.mean_agreement(old), guard.mean_agreement(new)

    def judge(self, candidate: Parameters, before: guard.Agreement, after: guard.Agreement) -> str:
        programmed = self.resident.programmed
        refusal = guard.statistics_refusal(candidate.statistics, image_statistics(programmed))
        if refusal or before.agreement < 0.0:
            return refusal
        return guard.agreement_refusal(before, after, _reference_inputs(programmed))

    def _stop_if_cancelled(self) -> None:
        if self.cancelled():
            raise CancelledError("The recalibration was cancelled; factors and statistics are as before.")


def _finish(
    state: State,
    resident: Resident,
    run: _Run,
    proposal: Proposal,
    method: Method,
    message: str,
    refusal: str,
    before: guard.Agreement,
    after: guard.Agreement,
    started_s: float,
    mutation: Mutation,
    cause: str,
) -> RecalibrationOutcome:
    """Commits, or writes down why not."""
    name, record, committed = resident.record.name, resident.record, not refusal
    record = replace(
        record,
        last_run_age_s=run.age_s,
        factor_at_last_run=proposal.median_factor,
        median_factor=proposal.median_factor,
        last_agreement=after.agreement if committed else max(before.agreement, record.last_agreement),
        refused=record.refused + (not committed),
    )
    device = state.device
    if committed:
        record = replace(
            record,
            statistics_generation=record.statistics_generation + 1,
            last_committed_age_s=run.age_s,
            recalibrations=record.recalibrations + 1,
        )
        device = replace(device, statistics_generation=max(device.statistics_generation, record.statistics_generation))
    changed = replace(resident, record=record)
    if committed:
        changed = replace(changed, parameters=proposal.parameters, previous=resident.parameters)
    outcome = RecalibrationOutcome(
        committed=committed,
        refusal=refusal,
        message=message,
        statistics_generation=record.statistics_generation,
        method=method,
        samples=proposal.samples,
        agreement_before=before.agreement,
        agreement_after=after.agreement,
        relative_error_before=before.relative_error,
        relative_error_after=after.relative_error,
        median_drift_factor=proposal.median_factor,
        mean_shift=proposal.mean_shift,
        duration_s=time.monotonic() - started_s,
        age_s=run.age_s,
    )
    details = {
        "method": method.value,
        "cause": cause,
        "statistics_generation": str(record.statistics_generation),
        "agreement_before": f"{before.agreement:.4f}",
        "agreement_after": f"{after.agreement:.4f}",
        "median_drift_factor": f"{proposal.median_factor:.4f}",
        "age_s": f"{run.age_s:.3f}",
    }
    text = f"Recalibrated '{name}'" if committed else f"Recalibration of '{name}' refused: {refusal}"
    event = state.event(
        "recalibrated" if committed else "recalibration-refused",
        f"{text} ({message})." if message else f"{text}.",
        name,
        details,
    )
    state.commit(
        lambda transaction: state.write_resident(transaction, changed),
        events=[event],
        device=device,
        remember=(mutation, "recalibrate", outcome),
    )
    # The conductances may have been refreshed meanwhile: everything but them is replaced.
    state.swap(
        name,
        lambda current: replace(
            current, record=changed.record, parameters=changed.parameters, previous=changed.previous
        ),
    )
    state.wake.set()
    return outcome


def rollback(state: State, name: str, mutation: Mutation) -> RollbackOutcome:
    """Factors and statistics of before the last committed recalibration, as a new generation."""
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        if resident.previous is None:
            raise DeviceStateError(
                f"Model '{name}' has no previous statistics to roll back to: it was not recalibrated since it was "
                "programmed.",
                model=name,
            )
        generation = resident.record.statistics_generation + 1
        record = replace(resident.record, statistics_generation=generation)
        changed = replace(resident, record=record, parameters=resident.previous, previous=resident.parameters)
        outcome = RollbackOutcome(statistics_generation=generation)
        state.commit(
            lambda transaction: state.write_resident(transaction, changed),
            events=[
                state.event(
                    "rolled-back",
                    f"Model '{name}' has the previous statistics again, as generation {generation}.",
                    name,
                    {"statistics_generation": str(generation)},
                )
            ],
            device=replace(state.device, statistics_generation=max(state.device.statistics_generation, generation)),
            remember=(mutation, "rollback", outcome),
        )
        state.swap(
            name,
            lambda current: replace(current, record=record, parameters=changed.parameters, previous=changed.previous),
        )
        return outcome


# --------------------------------------------------------------------------------------------------------------- policy


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
            lambda transaction: state.write_resident(transaction, changed),
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
                recalibrate(
                    state,
                    name,
                    policy.method,
                    batches=0,
                    batch_size=0,
                    gdc_everywhere=False,
                    force=False,
                    progress=lambda phase, done, total: None,
                    cancelled=lambda: False,
                    mutation=Mutation(),
                    cause=policy.kind.value,
                )
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
