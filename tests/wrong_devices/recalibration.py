"""Devices that break rules 17, 18 and 36: recalibrating beside serving, the guard, rollback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pcmedge.errors import DeviceStateError, RecalibrationRefusedError, UnavailableError
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    Event,
    InferOutcome,
    Method,
    Mutation,
    RecalibrationOutcome,
    RollbackOutcome,
)

from wrong_devices.firmware import Firmware

# -------------------------------------------------------------------------------------------------- one set per request


class StaleStatistics(Firmware, rules=("R17",)):
    """Stores new factors and statistics, counts a generation, and computes with those it had loaded before."""

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        resident = self._state.residents.get(name)
        if resident is None or resident.previous is None or not resident.record.active:
            return super().infer(name, inputs)
        outcome = super().infer(name, inputs)
        noise_seed = 1 if outcome.noise else None
        return replace(outcome, outputs=resident.engine.run(inputs, resident.previous, noise_seed=noise_seed))


class _Mixing(Firmware):
    """The first request after a commit is answered by :meth:`mixed`: it was in the pipeline when the set changed."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._answered: dict[str, int] = {}

    def mixed(self, old: Any, new: Any, resident: Any, inputs: Any) -> Any:
        raise NotImplementedError

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        outcome = super().infer(name, inputs)
        resident = self._state.resident(name)
        generation = outcome.statistics_generation
        before = self._answered.get(name, generation)
        self._answered[name] = generation
        if generation <= before or resident.previous is None:
            return outcome
        return replace(outcome, outputs=self.mixed(resident.previous, resident.parameters, resident, inputs))


class MixedTiles(_Mixing, rules=("R17",)):
    """Loads new factors tile by tile while requests run: one request sees the first tile's old and the second's new."""

    def mixed(self, old: Parameters, new: Parameters, resident: Any, inputs: Any) -> Any:
        first = min(new.drift_factors, default=0)
        factors = {**new.drift_factors, first: old.drift_factors.get(first, 1.0)}
        mixed = Parameters(drift_factors=factors, statistics=new.statistics)
        return resident.engine.run(inputs, mixed, noise_seed=None)


class MixedRows(_Mixing, rules=("R17",)):
    """Looks statistics up sample by sample: a batch under way ends with others than it began with."""

    def mixed(self, old: Parameters, new: Parameters, resident: Any, inputs: Any) -> Any:
        first = resident.engine.run(inputs, old, noise_seed=None)
        second = resident.engine.run(inputs, new, noise_seed=None)
        return {
            key: np.concatenate([values[: (len(values) + 1) // 2], second[key][(len(values) + 1) // 2 :]])
            for key, values in first.items()
        }


class GenerationAhead(Firmware, rules=("R17", "R23")):
    """Counts statistics generations from 1 in its replies and from 0 everywhere else."""

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        outcome = super().infer(name, inputs)
        return replace(outcome, statistics_generation=outcome.statistics_generation + 1)


class RefusesWhileRecalibrating(Firmware, rules=("R17",)):
    """Takes no requests while it measures."""

    _measuring = False

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        self._measuring = True
        try:
            return super().recalibrate(name, *args, **options)
        finally:
            self._measuring = False

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        if self._measuring:
            raise UnavailableError("the device is being recalibrated; repeat the request")
        return super().infer(name, inputs)


class CandidateServedEarly(Firmware, rules=("R17", "R18")):
    """Puts measured factors in force to see how the guard likes them, and takes them back: requests meanwhile get the
    candidate under the number of the old set. A refused recalibration leaves the candidate there."""

    def recalibrate(self, name: str, *args: Any, force: bool = False, **options: Any) -> RecalibrationOutcome:
        outcome = super().recalibrate(name, *args, force=force, **options)
        if not outcome.committed:
            resident = self._state.resident(name)
            doubled = {tile.tile.tile: 1.5 for tile in resident.programmed.tiles}
            moved = Parameters(drift_factors=doubled, statistics=resident.parameters.statistics)
            self._state.swap(name, lambda now: replace(now, parameters=moved))
        return outcome


# ------------------------------------------------------------------------------------------------------------ the guard


class GuardNotAsked(Firmware, rules=("R18",)):
    """Commits whatever it measured."""

    def recalibrate(
        self, name: str, method: Method | str = Method.DEFAULT, *, force: bool = False, **options: Any
    ) -> RecalibrationOutcome:
        return super().recalibrate(name, method, force=True, **options)


class RefusalIsError(Firmware, rules=("R18",)):
    """Ends a recalibration that its guard refused with an error."""

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        outcome = super().recalibrate(name, *args, **options)
        if not outcome.committed:
            raise RecalibrationRefusedError(outcome.refusal)
        return outcome


class RefusalWithoutWhy(Firmware, rules=("R18",)):
    """Says that it did not commit, and not why."""

    def recalibrate(self, name: str, *args: Any, **options: Any) -> RecalibrationOutcome:
        return replace(super().recalibrate(name, *args, **options), refusal="")


class RefusalNotInJournal(Firmware, rules=("R18", "R35")):
    """The journal has what changed; a recalibration that was refused changed nothing."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        event = self._state.event

        def renamed(kind: str, *args: Any, **options: Any) -> Event:
            return event("diagnosed" if kind == "recalibration-refused" else kind, *args, **options)

        self._state.event = renamed  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------------------------------- rollback


class _RollingBack(Firmware):
    """A rollback leaves (parameters, previous) as :meth:`rolled` says, made of (in force, before)."""

    def rolled(self, force: Parameters, before: Parameters) -> tuple[Parameters, Parameters | None]:
        return before, force

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        generation = self._state.resident(name).record.statistics_generation
        outcome = super().rollback(name, mutation=mutation)
        now = self._state.resident(name)
        if outcome.statistics_generation != generation and now.previous is not None:
            parameters, previous = self.rolled(now.previous, now.parameters)
            self._state.swap(name, lambda at: replace(at, parameters=parameters, previous=previous))
        return outcome


class RollbackToImage(_RollingBack, rules=("R36",)):
    """Goes back to what was programmed, however many recalibrations ago that was."""

    def rolled(self, force: Parameters, before: Parameters) -> tuple[Parameters, Parameters | None]:
        return Parameters(), force


class RollbackKeepsTheSet(_RollingBack, rules=("R36",)):
    """Counts a generation and goes on with the factors and statistics it had."""

    def rolled(self, force: Parameters, before: Parameters) -> tuple[Parameters, Parameters | None]:
        return force, before


class RollbackOfFactorsOnly(_RollingBack, rules=("R36",)):
    """Brings the factors back and forgets the statistics, which lie in another memory."""

    def rolled(self, force: Parameters, before: Parameters) -> tuple[Parameters, Parameters | None]:
        return Parameters(drift_factors=before.drift_factors, statistics=force.statistics), force


class SecondRollbackStays(_RollingBack, rules=("R36",)):
    """Keeps the older set as the one to go back to: a second rollback undoes nothing."""

    def rolled(self, force: Parameters, before: Parameters) -> tuple[Parameters, Parameters | None]:
        return before, before


class RollbackOfNothing(Firmware, rules=("R36",)):
    """A rollback without a recalibration before it succeeds and counts."""

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        try:
            return super().rollback(name, mutation=mutation)
        except DeviceStateError:
            resident = self._state.resident(name)
            self._state.swap(name, lambda now: replace(now, previous=resident.parameters))
            return super().rollback(name, mutation=mutation)


class RollbackNotCounted(Firmware, rules=("R8", "R36")):
    """Gives the old set its old number back."""

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        outcome = super().rollback(name, mutation=mutation)
        number = max(0, outcome.statistics_generation - 2)
        self._state.swap(name, lambda now: replace(now, record=replace(now.record, statistics_generation=number)))
        return RollbackOutcome(statistics_generation=number)
