"""Recalibration beside serving: measure, ask the guard, commit or write down why not. Also rollback."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

from pcmedge.errors import CancelledError, DeviceStateError

from pcmedge_emulator import stored_models
from pcmedge_emulator.buffers import buffer_in_use
from pcmedge_emulator.calibration import guard
from pcmedge_emulator.calibration.adabs import default_reads, sample_count
from pcmedge_emulator.calibration.agreement import NOT_MEASURED, Agreement, mean_agreement, reference, reference_inputs
from pcmedge_emulator.calibration.proposal import Proposal, choose_method, image_statistics, propose
from pcmedge_emulator.engine import FastEngine, Parameters, ReferenceEngine
from pcmedge_emulator.operations import Cancelled, Progress, never, no_progress
from pcmedge_emulator.outcomes import Method, Mutation, RecalibrationOutcome, RollbackOutcome
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.selftest import remember
from pcmedge_emulator.state import State


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody wants of a recalibration; fields as of :meth:`pcmedge_emulator.chip.Chip.recalibrate`.

    ``cause`` and ``why`` go into the journal: "request", the kind of the policy, or "self-test" if it acted on one; and
    the figures it acted on, if any. ``reads``: 0 is the method's default.
    """

    method: Method
    cause: str
    why: str = ""
    batches: int = 0
    batch_size: int = 0
    reads: int = 0
    gdc_everywhere: bool = False
    force: bool = False
    compare: bool = True
    progress: Progress = no_progress
    cancelled: Cancelled = never


def recalibrate(state: State, name: str, asked: Asked, mutation: Mutation) -> RecalibrationOutcome:
    """See :meth:`pcmedge_emulator.chip.Chip.recalibrate`."""
    with state.busy("recalibrating", asked.cancelled):
        resident = state.resident(name)
        state.check(mutation, resident)
        run = _Run(state, resident, asked)
        try:
            run.measure_and_judge()
        except CancelledError as error:
            state.report("cancelled", error.message, name)
            raise
        return _finish(run, mutation)


class _Run:
    """One recalibration: its moment, its read-noise realisations, and what came of it so far."""

    def __init__(self, state: State, resident: Resident, asked: Asked) -> None:
        self.started_s = time.monotonic()
        self.state = state
        self.resident = resident
        self.programmed = resident.programmed
        self.asked = asked
        self.age_s = state.age_s(resident)
        self.guard_reads = 1 if state.readout.same_read else guard.GUARD_READS
        self.buffer, self.digital = buffer_in_use(resident)
        self.method, self.message, self.refusal = choose_method(
            asked.method,
            has_statistics=bool(self.programmed.program.statistics),
            buffer_samples=sample_count(self.buffer),
            has_reference=self.digital is not None,
        )
        self.adaptive = self.method in (Method.ADABS, Method.ADABS_PAIRED)
        self.reads = default_reads(self.method) if asked.reads == 0 or not self.adaptive else asked.reads
        self.first_read = state.take_reads(self.reads + self.guard_reads)
        self.before = self.after = self.alone = NOT_MEASURED
        self.proposal = Proposal(
            parameters=resident.parameters,
            drift_compensation=resident.parameters,
            samples=0,
            median_factor=resident.record.median_factor,
            mean_shift=0.0,
        )

    def measure_and_judge(self) -> None:
        """Sets the proposal, and the refusal if there is a reason for one."""
        if not self.refusal and self.adaptive and not self.asked.force:
            self.refusal = guard.buffer_refusal(self.buffer)
        if self.refusal:
            return
        self.proposal = self._measure()
        candidate = self.proposal.parameters
        self.refusal = guard.finite_refusal(candidate.statistics, candidate.drift_factors)
        if self.refusal:
            return
        if self.asked.compare or not self.asked.force:
            self._compare(candidate)
        if not self.asked.force:
            self.refusal = self._judge(candidate)

    def _measure(self) -> Proposal:
        programmed, read = self.programmed, self.first_read
        self.asked.progress("read", 0, len(programmed.tiles))
        factors = self.state.readout.drift_factors(
            programmed, self.age_s, read, per_column=self.method is Method.GDC_PER_COLUMN
        )
        self.asked.progress("read", len(programmed.tiles), len(programmed.tiles))
        self._stop_if_cancelled()
        return propose(
            self.method,
            programmed,
            self.resident.parameters,
            [partial(self._read, read + number) for number in range(self.reads)],
            factors,
            self.buffer,
            digital=self.digital,
            gdc_everywhere=self.asked.gdc_everywhere,
            batches=self.asked.batches,
            batch_size=self.asked.batch_size,
            progress=self.asked.progress,
            cancelled=self.asked.cancelled,
        )

    def _read(self, number: int) -> tuple[FastEngine | ReferenceEngine, int]:
        """The chip as one read of it finds it, and the seed of the noise of its products."""
        engine = self.state.readout.recalibration_engine(self.programmed, self.age_s, number)
        return engine, self.state.streams.recalibration_seed(number)

    def _compare(self, candidate: Parameters) -> None:
        """Old parameters, new ones and drift compensation alone on the same reads with the same noise, none of them the
        one measured on.
        """
        compared = reference(self.programmed.image)
        if compared is None:
            return
        inputs, agreement = compared
        old: list[Agreement] = []
        new: list[Agreement] = []
        alone: list[Agreement] = []
        for number in range(self.guard_reads):
            self._stop_if_cancelled()
            engine, seed = self._read(self.first_read + self.reads + number)
            old.append(agreement(engine.run(inputs, self.resident.parameters, noise_seed=seed)))
            if self.adaptive:
                alone.append(agreement(engine.run(inputs, self.proposal.drift_compensation, noise_seed=seed)))
            if number:
                outputs = engine.run(inputs, candidate, noise_seed=seed)
            else:
                # Counting costs a second session, so one read counts for all.
                outputs, saturation = engine.run_with_saturation(inputs, candidate, noise_seed=seed)
                self.resident.counters.saturation(saturation)
            new.append(agreement(outputs))
            self.asked.progress("guard", number + 1, self.guard_reads)
        self.before, self.after = mean_agreement(old), mean_agreement(new)
        self.alone = mean_agreement(alone) if alone else NOT_MEASURED

    def _judge(self, candidate: Parameters) -> str:
        refusal = guard.statistics_refusal(candidate.statistics, image_statistics(self.programmed))
        if refusal or self.before is NOT_MEASURED:
            return refusal
        inputs = reference_inputs(self.programmed.image)
        refusal = guard.agreement_refusal(self.before, self.after, inputs)
        if refusal or self.alone is NOT_MEASURED:
            return refusal
        return guard.drift_compensation_refusal(self.alone, self.after, inputs)

    def _stop_if_cancelled(self) -> None:
        if self.asked.cancelled():
            raise CancelledError("The recalibration was cancelled; factors and statistics are as before.")

    @property
    def in_force(self) -> Agreement:
        """Agreement of what requests get afterwards, over the guard's reads."""
        return self.before if self.refusal else self.after

    def result(self) -> tuple[Resident, DeviceRecord]:
        """The model and the device as they are afterwards; what requests see is new only if nothing was refused."""
        record, device, factor = self.resident.record, self.state.device, self.proposal.median_factor
        in_force = self.in_force
        record = replace(
            record,
            last_run_age_s=self.age_s,
            factor_at_last_run=factor,
            median_factor=factor,
            last_agreement=record.last_agreement if in_force is NOT_MEASURED else in_force.agreement,
        )
        if self.refusal:
            return replace(self.resident, record=replace(record, refused=record.refused + 1)), device
        generation = record.statistics_generation + 1
        record = replace(
            record,
            statistics_generation=generation,
            last_committed_age_s=self.age_s,
            recalibrations=record.recalibrations + 1,
        )
        device = replace(device, statistics_generation=max(device.statistics_generation, generation))
        changed = replace(
            self.resident, record=record, parameters=self.proposal.parameters, previous=self.resident.parameters
        )
        return changed, device


def _finish(run: _Run, mutation: Mutation) -> RecalibrationOutcome:
    """Commits, or writes down why not."""
    state, name = run.state, run.resident.record.name
    changed, device = run.result()
    outcome = RecalibrationOutcome(
        committed=not run.refusal,
        refusal=run.refusal,
        message=run.message,
        statistics_generation=changed.record.statistics_generation,
        method=run.method,
        samples=run.proposal.samples,
        reads=run.reads,
        agreement_before=run.before.agreement,
        agreement_after=run.after.agreement,
        relative_error_before=run.before.relative_error,
        relative_error_after=run.after.relative_error,
        median_drift_factor=run.proposal.median_factor,
        mean_shift=run.proposal.mean_shift,
        duration_s=time.monotonic() - run.started_s,
        age_s=run.age_s,
    )
    text = f"Recalibration of '{name}' refused: {run.refusal}" if run.refusal else f"Recalibrated '{name}'"
    event = state.event(
        "recalibration-refused" if run.refusal else "recalibrated",
        f"{text} ({run.message})." if run.message else f"{text}.",
        name,
        {
            "method": run.method.value,
            "cause": run.asked.cause,
            "why": run.asked.why,
            "reads": str(run.reads),
            "statistics_generation": str(outcome.statistics_generation),
            "agreement_before": f"{run.before.agreement:.4f}",
            "agreement_after": f"{run.after.agreement:.4f}",
            "median_drift_factor": f"{run.proposal.median_factor:.4f}",
            "age_s": f"{run.age_s:.3f}",
        },
    )
    state.commit(
        lambda transaction: stored_models.write(transaction, changed),
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
    if run.in_force is not NOT_MEASURED:
        remember(state, changed, run.in_force, run.age_s, "recalibration")
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
            lambda transaction: stored_models.write(transaction, changed),
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
