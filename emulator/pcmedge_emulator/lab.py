"""Verbs only an emulator has: moving time, the clock's mode, snapshots, noise, read-noise realisations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pcmedge.errors import CancelledError, ClockError, Error, InputValueError, NotFoundError

from pcmedge_emulator import stored_models
from pcmedge_emulator.circuits import ReadNoise
from pcmedge_emulator.clock import LONGEST_S, ClockMode
from pcmedge_emulator.operations import Cancelled
from pcmedge_emulator.outcomes import AdvanceOutcome, ClockReading, Mutation, SnapshotInfo
from pcmedge_emulator.policies import act, due_age_s
from pcmedge_emulator.records import SnapshotRecord
from pcmedge_emulator.state import State
from pcmedge_emulator.store_tables import Transaction

MOST_ACTIONS = 256
"""Policy actions (looks and recalibrations) one advance runs; what a policy wanted beyond is one action at the end."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOISES: tuple[ReadNoise, ...] = ("off", "additive", "input-dependent")


# ----------------------------------------------------------------------------------------------------------------- time


def set_clock(state: State, mode: ClockMode, rate: float, mutation: Mutation) -> ClockReading:
    with state.busy(""):
        before = state.clock.state()
        state.clock.set_mode(mode, rate)
        try:
            reading = state.clock.reading()
            message = f"The clock is {mode.value} at {reading.rate:g} device seconds per second."
            state.commit(events=[state.event("clock-changed", message)], remember=(mutation, "set-clock", reading))
        except Exception:
            state.clock.set_mode(before.mode, before.rate)
            raise
        if mode is ClockMode.MANUAL:
            refresh_all(state)
        state.wake.set()
        return reading


def _wishes(state: State) -> list[tuple[float, str]]:
    """(device time, model) of the next thing each policy wants; none of a policy that never wants anything."""
    return [
        (resident.record.programmed_at_s + due_age_s(resident), name)
        for name, resident in state.residents.items()
        if resident.record.active and np.isfinite(due_age_s(resident))
    ]


def advance(state: State, by_s: float, cancelled: Cancelled, mutation: Mutation) -> AdvanceOutcome:
    """Moves time forward and runs on the way what the policies would have run, each at its own moment.

    CancelledError before one of these actions: time stands where the one before it was, and the journal says so. So it
    does after StoreUnwritableError: a device whose age is not stored would be younger after a restart.
    """
    with state.busy("", cancelled):
        target_s, started_s = _target_s(state, by_s), state.clock.now()
        recalibrations = 0
        for move_to_s, name in _actions(state, target_s):
            if cancelled():
                raise _stopped(state, by_s, state.clock.now() - started_s, recalibrations)
            state.clock.advance(max(0.0, move_to_s - state.clock.now()))
            recalibrations += act(state, name)
        state.clock.advance(max(0.0, target_s - state.clock.now()))
        outcome = AdvanceOutcome(clock=state.clock.reading(), recalibrations=recalibrations)
        message = f"Time advanced by {by_s:g} s; {recalibrations} recalibrations on the way."
        try:
            state.commit(events=[state.event("time-advanced", message)], remember=(mutation, "advance", outcome))
        except Error:
            state.clock.take_back(max(started_s, state.stored_device_s))
            refresh_all(state, force=True)
            raise
        refresh_all(state)
        state.wake.set()
        return outcome


def _target_s(state: State, by_s: float) -> float:
    """Where an advance leads to on the device's clock. ClockError, InputValueError if it cannot."""
    if state.clock.mode is ClockMode.REAL:
        raise ClockError(
            "A real clock cannot be advanced: it follows the wall clock. Set the clock to manual or accelerated first.",
            mode=state.clock.mode.value,
        )
    if not (np.isfinite(by_s) and by_s >= 0.0):
        raise InputValueError(f"Time advances by 0 seconds or more, got {by_s!r}.", by_s=by_s)
    target_s = state.clock.now() + by_s
    if target_s > LONGEST_S:
        raise InputValueError(f"Device time goes up to {LONGEST_S:g} s; asked for {target_s:g} s.", by_s=by_s)
    return target_s


def _actions(state: State, target_s: float) -> Iterator[tuple[float, str]]:
    """(device time, model) of each thing the policies want up to ``target_s``, in order; the caller does it."""
    for _ in range(MOST_ACTIONS):
        wish = min(_wishes(state), default=None)
        if wish is None or wish[0] > target_s:
            return
        yield wish
    yield from [(target_s, name) for at_s, name in _wishes(state) if at_s <= target_s]


def _stopped(state: State, by_s: float, advanced_s: float, recalibrations: int) -> CancelledError:
    """Leaves the device consistent where it stands, writes that down, and returns what to raise."""
    refresh_all(state)
    state.wake.set()
    error = CancelledError(
        f"Advancing time was cancelled after {advanced_s:g} of {by_s:g} s and {recalibrations} recalibrations. They "
        "stand; advance by the rest to go on.",
        advanced_s=repr(float(advanced_s)),
        recalibrations=recalibrations,
    )
    state.report("cancelled", error.message, details=error.metadata)
    return error


def refresh_all(state: State, *, force: bool = False) -> None:
    for name in list(state.residents):
        state.refresh(name, force=force)


# ------------------------------------------------------------------------------------------------------------ snapshots


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputValueError(f"A snapshot's name has 1 to 64 characters of [A-Za-z0-9._-], got {name!r}.", name=name)
    return name


def _info(state: State, name: str) -> SnapshotInfo:
    record = stored_models.snapshot_record(state.store, name)
    models = stored_models.records(state.store, name)
    return SnapshotInfo(
        name=name,
        created_unix_s=record.created_unix_s,
        device_time_s=record.device_time_s,
        bytes=sum(state.store.contents_bytes(model.program_generation) for model in models.values()),
        models=tuple(models),
    )


def snapshots(state: State) -> tuple[SnapshotInfo, ...]:
    with state.changing:
        return tuple(_info(state, name) for name in state.store.spaces())


def snapshot(state: State, name: str, mutation: Mutation) -> SnapshotInfo:
    """Keeps the state of all models under a name; an earlier snapshot of that name is replaced."""
    _checked_name(name)
    with state.busy(""):
        record = SnapshotRecord(created_unix_s=state.clock.wall_unix_s(), device_time_s=state.clock.now())
        outcome = SnapshotInfo(
            name=name,
            created_unix_s=record.created_unix_s,
            device_time_s=record.device_time_s,
            bytes=sum(state.store.contents_bytes(r.programmed.generation) for r in state.residents.values()),
            models=tuple(state.residents),
        )

        def write(transaction: Transaction) -> None:
            stored_models.write_snapshot(transaction, name, record)
            stored_models.drop_unused(state.store, transaction)

        event = state.event("snapshot", f"Snapshot '{name}' was taken.", details={"snapshot": name})
        state.commit(write, events=[event], remember=(mutation, "snapshot", outcome))
        return outcome


def _existing(state: State, name: str) -> str:
    if name not in state.store.spaces():
        known = ", ".join(state.store.spaces()) or "none"
        raise NotFoundError(f"There is no snapshot '{name}'; there are: {known}.", snapshot=name)
    return name


def restore(state: State, name: str, mutation: Mutation) -> SnapshotInfo:
    """Every model as it was when the snapshot was taken, at the age it had then. Device time goes on from now.

    Statistics generations are new numbers, so that nobody takes the restored state for the one they knew.
    """
    with state.leases.exclusive(mutation.lease_id, f"restoring '{name}'"), state.busy("programming"):
        outcome = _info(state, _existing(state, name))
        generation = state.device.statistics_generation + 1
        restored = [
            replace(resident, record=replace(resident.record, statistics_generation=generation))
            for resident in state.load(name)
        ]
        gone = list(state.residents)

        def write(transaction: Transaction) -> None:
            stored_models.restore_snapshot(transaction, name)
            for resident in restored:
                stored_models.write(transaction, resident)
            stored_models.drop_unused(state.store, transaction)

        state.commit(
            write,
            events=[state.event("restored", f"Snapshot '{name}' was restored.", details={"snapshot": name})],
            device=replace(state.device, statistics_generation=generation),
            remember=(mutation, "restore", outcome),
        )
        state.install(restored, gone)
        return outcome


def delete_snapshot(state: State, name: str, mutation: Mutation) -> SnapshotInfo:
    """What was deleted."""
    with state.busy(""):
        outcome = _info(state, _existing(state, name))

        def write(transaction: Transaction) -> None:
            transaction.delete_space(name)
            stored_models.drop_unused(state.store, transaction)

        state.commit(write, remember=(mutation, "delete-snapshot", outcome))
        return outcome


# ---------------------------------------------------------------------------------------------------------------- noise


def set_noise(state: State, read_noise: str) -> str:
    """Switches the noise of each matrix-vector product; a restart goes back to what the chip was started with."""
    chosen = next((noise for noise in _NOISES if noise == read_noise), None)
    if chosen is None:
        raise InputValueError(f"Read noise is one of {', '.join(_NOISES)}, got {read_noise!r}.", read_noise=read_noise)
    with state.busy(""):
        before = state.circuits
        state.set_circuits(replace(before, read_noise=chosen))
        try:
            refresh_all(state, force=True)
        except Exception:
            state.set_circuits(before)
            raise
        return chosen


def set_read_realisation(state: State, realisation: int) -> None:
    """Another realisation of the accumulated read noise that inference sees, from now on; for studies."""
    if realisation < 0:
        raise InputValueError(f"Read-noise realisations count from 0, got {realisation}.")
    with state.busy(""):
        state.set_realisation(realisation)
        refresh_all(state, force=True)
