"""Devices that break rule 39: the lab's clock, snapshots and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pcmedge_emulator.clock import ClockState
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.outcomes import NO_MUTATION, AdvanceOutcome, InferOutcome, Mutation, SnapshotInfo

from wrong_devices.firmware import Firmware


class _Turning(Firmware):
    def turn_clock(self, device_time_s: float) -> None:
        now = self._state.clock.state()
        moved = ClockState(
            mode=now.mode, rate=now.rate, device_time_s=device_time_s, wall_unix_s=self._state.clock.wall_unix_s()
        )
        self._state.clock.resume(moved, keep_mode=True)

    def reprogram(self, name: str, later_s: float) -> None:
        """Moves the moment a model was programmed at."""
        self._state.swap(
            name,
            lambda at: replace(at, record=replace(at.record, programmed_at_s=at.record.programmed_at_s + later_s)),
        )


class AgesActiveOnly(_Turning, rules=("R39",)):
    """Advances time for the models that answer; the others rest."""

    def advance(self, by_s: float, *, mutation: Mutation = NO_MUTATION, **options: Any) -> AdvanceOutcome:
        outcome = super().advance(by_s, mutation=mutation, **options)
        for name, resident in self._state.residents.items():
            if not resident.record.active:
                self.reprogram(name, by_s)
        return outcome


class TimeGoesBack(_Turning, rules=("R39",)):
    """Advances by a negative time as well."""

    def advance(self, by_s: float, *, mutation: Mutation = NO_MUTATION, **options: Any) -> AdvanceOutcome:
        now_s = self._state.clock.now()
        if by_s >= 0 or now_s + by_s < 0:
            return super().advance(by_s, mutation=mutation, **options)
        self.turn_clock(now_s + by_s)
        return AdvanceOutcome(clock=self.clock(), recalibrations=0)


class AdvanceCountsDouble(_Turning, rules=("R39",)):
    """Advances the device's clock and, besides, the ages: they grow by twice as much."""

    def advance(self, by_s: float, *, mutation: Mutation = NO_MUTATION, **options: Any) -> AdvanceOutcome:
        outcome = super().advance(by_s, mutation=mutation, **options)
        for name in self._state.residents:
            self.reprogram(name, -by_s)
        return outcome


class RestoreTurnsClockBack(_Turning, rules=("R39",)):
    """Restores the device's clock with the rest of a snapshot."""

    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        outcome = super().restore(name, mutation=mutation)
        for model in self._state.residents:
            self.reprogram(model, outcome.device_time_s - self._state.clock.now())
        self.turn_clock(outcome.device_time_s)
        return outcome


class RestoreKeepsAges(_Turning, rules=("R39",)):
    """Restores values, and has the models as old as if they had aged since the snapshot."""

    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        outcome = super().restore(name, mutation=mutation)
        for model in self._state.residents:
            self.reprogram(model, outcome.device_time_s - self._state.clock.now())
        return outcome


class RestoreForgetsStatistics(_Turning, rules=("R39",)):
    """A snapshot has conductances; statistics after a restore are those of the image."""

    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        outcome = super().restore(name, mutation=mutation)
        for model in self._state.residents:
            self._state.swap(model, lambda now: replace(now, parameters=Parameters()))
        return outcome


class NoiseFlagStuck(Firmware, rules=("R39",)):
    """Says in every reply that noise is on: the hardware it was written for cannot switch it."""

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        return replace(super().infer(name, inputs), noise=True)


class NoiseOffStillNoisy(Firmware, rules=("R39",)):
    """Switches the noise of one of its converters off, and says that all is off."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._random = np.random.default_rng(1)

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        outcome = super().infer(name, inputs)
        if outcome.noise:
            return outcome
        noisy = {k: (v + self._random.normal(0, 1e-3, v.shape)).astype(v.dtype) for k, v in outcome.outputs.items()}
        return replace(outcome, outputs=noisy)
