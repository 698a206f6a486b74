"""The verbs of a driven chip that compensate drift: recalibration and its guard, rollback, buffer, self-test."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pcmedge.errors import CancelledError, DeviceStateError, UnimplementedError

from pcmedge_emulator.calibration.guard import Agreement, agreement
from pcmedge_emulator.calibration.policy import Policy, PolicyKind
from pcmedge_emulator.driver.hardware import Arrays, Hardware, Measurement
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.inputs import check_tensors
from pcmedge_emulator.operations import Cancelled, Progress, never, no_progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    BufferDescription,
    Method,
    Mutation,
    RecalibrationOutcome,
    RollbackOutcome,
    SelfTestOutcome,
)

if TYPE_CHECKING:
    from pcmedge_emulator.driver.book import Book
    from pcmedge_emulator.driver.hardware import Description

THRESHOLD = 0.9
"""Self-test agreement a chip passes with. Unit: 1."""


class Compensating:
    """Needs the attributes of :class:`~pcmedge_emulator.driver.driven.DrivenChip`."""

    book: Book
    hardware: Hardware
    description: Description

    def recalibrate(
        self,
        name: str,
        method: Method | str = Method.DEFAULT,
        *,
        batches: int = 0,
        batch_size: int = 0,
        reads: int = 0,
        gdc_everywhere: bool = False,
        force: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> RecalibrationOutcome:
        """Measures, and commits unless self-test agreement fell. Batches and reads are the hardware's choice."""
        chosen = self._method(Method(method))
        report, stop = progress or no_progress, cancelled or never

        def body() -> RecalibrationOutcome:
            with self.book.busy("recalibrating", stop):
                model = self.book.model(name)
                self.book.check(mutation, model)
                try:
                    return self._recalibrate(model, chosen, force, report, stop, mutation)
                except CancelledError as error:
                    self.book.report("cancelled", error.message, name, {"reason": error.reason})
                    raise

        return self.book.once(mutation, "recalibrate", RecalibrationOutcome, body)

    def _method(self, method: Method) -> Method:
        known = self.description.methods
        if method is Method.DEFAULT and known:
            return known[0]
        if method not in known:
            names = ", ".join(known) or "none"
            raise UnimplementedError(
                f"this chip recalibrates by {names}; asked for {method.value}", capability=f"recalibrate.{method.value}"
            )
        return method

    def _recalibrate(
        self, model: Model, method: Method, force: bool, progress: Progress, stop: Cancelled, mutation: Mutation
    ) -> RecalibrationOutcome:
        started_s, age_s = time.monotonic(), model.age_s(self.book.clock.now())
        samples = model.samples()

        def step(done: int, total: int) -> None:
            progress("measure", done, total)
            if stop():
                raise CancelledError("The recalibration was cancelled; factors and statistics are as before.")

        found = self.hardware.measure(model.loaded, method, model.compensation, samples, step)
        before = self._agreement(model, model.compensation)
        after = self._agreement(model, found.compensation)
        refusal = _finite_refusal(found)
        if not refusal and not force and after.agreement < before.agreement:
            refusal = f"self-test agreement would fall from {before.agreement:.4f} to {after.agreement:.4f}"
        changed = (
            _recalibrated(model, found, age_s, after.agreement) if not refusal else _refused(model, before.agreement)
        )
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
        self.book.commit(
            events=[self.book.event(kind, text, model.record.name, details)],
            counters=self._counted_statistics(generation),
            put=[changed],
            remember=(mutation, "recalibrate", outcome),
        )
        return outcome

    def _counted_statistics(self, generation: int) -> Any:
        highest = max(self.book.counters.statistics_generation, generation)
        return replace(self.book.counters, statistics_generation=highest)

    def _agreement(self, model: Model, compensation: Arrays) -> Agreement:
        """Of self-test outputs with a set of factors and statistics; -1 without reference inputs."""
        inputs, outputs = model.image.reference_set()
        if not inputs or not outputs:
            return Agreement(agreement=-1.0, relative_error=-1.0)
        wanted = model.image.manifest.application.class_output
        name = wanted if wanted in outputs else next(iter(outputs))
        return agreement(self.hardware.infer(model.loaded, inputs, compensation).outputs[name], outputs[name])

    def self_test(self, name: str) -> SelfTestOutcome:
        model = self.book.model(name)
        found = self._agreement(model, model.compensation)
        if found.agreement < 0:
            raise DeviceStateError(f"The image of '{name}' has no reference inputs to test against.", model=name)
        return SelfTestOutcome(
            agreement=found.agreement,
            relative_error=found.relative_error,
            mean_absolute_difference=found.mean_absolute_difference,
            reference_inputs=len(next(iter(model.image.reference_set()[0].values()))),
            passed=found.agreement >= THRESHOLD,
            threshold=THRESHOLD,
            age_s=model.age_s(self.book.clock.now()),
            program_generation=model.record.program_generation,
            statistics_generation=model.record.statistics_generation,
        )

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        self._recalibrating("rollback")

        def body() -> RollbackOutcome:
            with self.book.busy(""):
                model = self.book.model(name)
                self.book.check(mutation, model)
                if model.previous is None:
                    raise DeviceStateError(
                        f"Model '{name}' was not recalibrated since it was programmed; nothing to roll back to.",
                        model=name,
                    )
                generation = model.record.statistics_generation + 1
                record = replace(model.record, statistics_generation=generation)
                changed = replace(model, record=record, compensation=model.previous, previous=model.compensation)
                outcome = RollbackOutcome(statistics_generation=generation)
                event = self.book.event("rolled-back", f"Model '{name}' has the previous statistics again.", name)
                self.book.commit(
                    events=[event],
                    counters=self._counted_statistics(generation),
                    put=[changed],
                    remember=(mutation, "rollback", outcome),
                )
                return outcome

        return self.book.once(mutation, "rollback", RollbackOutcome, body)

    def _recalibrating(self, capability: str) -> None:
        if not self.description.methods:
            raise UnimplementedError("this chip does not recalibrate", capability=capability)

    # ----------------------------------------------------------------------------------------------------------- policy

    def policy(self, name: str) -> tuple[Policy, float]:
        """Manual, always: the chip recalibrates when it is asked to."""
        self.book.model(name)
        return Policy(kind=PolicyKind.MANUAL), -1.0

    def set_policy(self, name: str, policy: Policy, *, mutation: Mutation = NO_MUTATION) -> tuple[Policy, float]:
        if policy.kind is not PolicyKind.MANUAL:
            raise UnimplementedError(
                f"this chip recalibrates on request only; asked for the policy {policy.kind.value}",
                capability=f"policy.{policy.kind.value}",
            )
        return self.policy(name)

    # ----------------------------------------------------------------------------------------------------------- buffer

    def describe_buffer(self, name: str) -> BufferDescription:
        self._recalibrating("buffer")
        return self.book.model(name).describe_buffer()

    def replace_buffer(
        self,
        name: str,
        samples: Arrays,
        *,
        statistics: Any = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        return self._set_buffer(name, samples, False, statistics, mutation)

    def append_buffer(
        self,
        name: str,
        samples: Arrays,
        *,
        statistics: Any = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        return self._set_buffer(name, samples, True, statistics, mutation)

    def _set_buffer(
        self, name: str, samples: Arrays, append: bool, statistics: Any, mutation: Mutation
    ) -> BufferDescription:
        self._recalibrating("buffer")
        if statistics is not None:
            raise UnimplementedError("this chip takes samples without statistics", capability="buffer.statistics")
        verb = "append-buffer" if append else "replace-buffer"

        def body() -> BufferDescription:
            with self.book.busy(""):
                model = self.book.model(name)
                self.book.check(mutation, model)
                checked, _ = check_tensors(model.inputs, samples)
                present = model.samples() if append else {}
                joined = {k: np.concatenate([present[k], v]) if k in present else v for k, v in checked.items()}
                changed = replace(model, buffer={key: values.copy() for key, values in joined.items()})
                outcome = changed.describe_buffer()
                text = f"The calibration buffer of '{name}' has {outcome.samples} samples of the application."
                event = self.book.event("buffer-changed", text, name)
                self.book.commit(events=[event], put=[changed], remember=(mutation, verb, outcome))
                return outcome

        return self.book.once(mutation, verb, BufferDescription, body)


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
