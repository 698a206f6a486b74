"""Verbs on images: program, activate, deactivate, erase."""

from __future__ import annotations

import time
from dataclasses import replace

from pcmedge.errors import CancelledError, Error
from pcmedge.image import ChipImage

from pcmedge_emulator.driver import residents
from pcmedge_emulator.driver.fit import check_fit
from pcmedge_emulator.driver.hardware import AS_PROGRAMMED, Step
from pcmedge_emulator.driver.residents import Model, Record
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.operations import Cancelled, Progress
from pcmedge_emulator.outcomes import EraseOutcome, ModelInfo, Mutation, ProgramOutcome
from pcmedge_emulator.tile_allocator import place


def check_program(state: State, mutation: Mutation) -> None:
    """Raises what :func:`program` would, as far as that is known before the image's bytes."""
    if state.repeated(mutation, "program", ProgramOutcome):
        return
    state.leases.check(mutation.lease_id)
    state.check(mutation, None)


def program(
    state: State,
    image: ChipImage,
    *,
    over: bool,
    activate: bool,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> ProgramOutcome:
    """Beside the residents if there is room, else over them if ``over``; a failure changes nothing."""
    purpose = f"programming '{image.name}'"
    with state.leases.exclusive(mutation.lease_id, purpose), state.busy("programming", cancelled):
        state.check(mutation, None)
        try:
            return _program(state, image, over, activate, progress, cancelled, mutation)
        except Error as error:
            kind = "cancelled" if isinstance(error, CancelledError) else "failed"
            state.report(kind, error.message, image.name, {"reason": error.reason})
            raise


def _program(
    state: State,
    image: ChipImage,
    over: bool,
    activate: bool,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> ProgramOutcome:
    image.verify()
    check_fit(state.description, image)
    state.hardware.check(image)
    placed = state.placed
    tiles, gone = place(state.description.profile.tiles, placed, image.name, len(image.tiles()), over=over)
    overwritten = [name for name in gone if set(placed[name]) & set(tiles)]
    stopped_s = time.monotonic()
    state.out_of_service = frozenset(overwritten)
    try:
        reports = state.hardware.program(image, tiles, _stepping("program", progress, cancelled))
        progress("store", 0, 1)
        generation = state.counters.program_generation + 1
        record = Record(
            name=image.name,
            version=image.version,
            image_sha256=image.sha256,
            active=activate,
            tiles=tiles,
            program_generation=generation,
            programmed_at_s=state.clock.now(),
            programmed_at_unix_s=time.time(),
        )
        loaded = state.hardware.load(image, tiles)
        model = Model(record=record, image=image, loaded=loaded, compensation=AS_PROGRAMMED)
        outage_s = time.monotonic() - stopped_s if overwritten else 0.0
        info = model.info(state.age_s(model))
        outcome = ProgramOutcome(model=info, replaced_models=tuple(gone), outage_s=outage_s, tiles=reports)
        before = [state.models[name] for name in gone]
        text = f"Programmed '{image.name}' version {image.version} on {len(tiles)} tiles."
        state.commit(
            lambda transaction: residents.write_image(transaction, model),
            events=[state.event("programmed", text, image.name, {"program_generation": str(generation)})],
            counters=state.numbered(program=generation),
            put=[model],
            gone=gone,
            remember=(mutation, "program", outcome),
        )
    except BaseException:
        state.hardware.release(tiles)
        raise
    finally:
        state.out_of_service = frozenset()
    for old in before:
        state.hardware.release(tuple(set(old.record.tiles) - set(tiles)))
    return outcome


def _stepping(phase: str, progress: Progress, stop: Cancelled) -> Step:
    """Reports a step of a long verb, and ends it if somebody wants that."""

    def step(done: int, total: int) -> None:
        progress(phase, done, total)
        if stop():
            raise CancelledError(f"Cancelled in phase '{phase}', after {done} of {total}; the device is as before.")

    return step


def set_active(state: State, name: str, active: bool, mutation: Mutation) -> ModelInfo:
    verb = "activate" if active else "deactivate"
    with state.leases.exclusive(mutation.lease_id, f"{verb} '{name}'"), state.busy(""):
        model = state.model(name)
        state.check(mutation, model)
        changed = replace(model, record=replace(model.record, active=active))
        outcome = changed.info(state.age_s(changed))
        event = state.event(f"{verb}d", f"Model '{name}' was {verb}d.", name)
        state.commit(events=[event], put=[changed], remember=(mutation, verb, outcome))
        return outcome


def erase(state: State, name: str, mutation: Mutation) -> EraseOutcome:
    with state.leases.exclusive(mutation.lease_id, f"erasing '{name}'"), state.busy(""):
        model = state.model(name)
        state.check(mutation, model)
        outcome = EraseOutcome(freed_tiles=len(model.record.tiles))
        event = state.event("erased", f"Model '{name}' was erased.", name)
        state.commit(events=[event], gone=[name], remember=(mutation, "erase", outcome))
        state.hardware.release(model.record.tiles)
        return outcome
