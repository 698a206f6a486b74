"""Verbs on images: program, activate, deactivate, erase."""

from __future__ import annotations

import time
from dataclasses import replace

from pcmedge.errors import CancelledError, Error, ImageTrustError, StoreUnwritableError
from pcmedge.image import ChipImage

from pcmedge_emulator import stored_models
from pcmedge_emulator.born import with_born_faults
from pcmedge_emulator.calibration.policy import Policy
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.fit import check_features
from pcmedge_emulator.history import SelfTestHistory
from pcmedge_emulator.operations import Cancelled, Progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    EraseOutcome,
    ModelInfo,
    Mutation,
    ProgramAndVerify,
    ProgramOutcome,
)
from pcmedge_emulator.programming import IMAGE_FEATURES, check_profile, program_image, program_on
from pcmedge_emulator.records import ModelRecord
from pcmedge_emulator.resident import Counters, Programmed, Resident
from pcmedge_emulator.selftest import tested_as_programmed
from pcmedge_emulator.state import State
from pcmedge_emulator.store_tables import Transaction
from pcmedge_emulator.tile_allocator import place
from pcmedge_emulator.trust import Trust


def info(state: State, resident: Resident) -> ModelInfo:
    record = resident.record
    return ModelInfo(
        name=record.name,
        version=record.version,
        image_sha256=record.image_sha256,
        active=record.active,
        tiles=len(record.physical),
        program_generation=record.program_generation,
        statistics_generation=record.statistics_generation,
        programmed_at_unix_s=record.programmed_at_unix_s,
        age_s=state.age_s(resident),
        size_bytes=resident.programmed.image.size,
    )


def check_program(state: State, size: int, mutation: Mutation) -> None:
    """See :meth:`pcmedge_emulator.chip.Chip.check_program`."""
    if state.repeated(mutation, "program", ProgramOutcome):
        return
    state.leases.check(mutation.lease_id)
    state.check(mutation, None)
    limit = state.store.max_bytes
    if limit is not None and size > limit:
        raise StoreUnwritableError(
            f"An image of {size} bytes does not fit into this device's store of {limit} bytes.", size=size, limit=limit
        )


def program(
    state: State,
    image: ChipImage,
    *,
    replace_residents: bool,
    use_retired: bool,
    activate: bool,
    program_and_verify: ProgramAndVerify | None,
    policy: Policy,
    trust: Trust,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> ProgramOutcome:
    """See :meth:`pcmedge_emulator.chip.Chip.program`."""
    with state.leases.exclusive(mutation.lease_id, f"programming '{image.name}'"), state.busy("programming", cancelled):
        state.check(mutation, None)
        try:
            return _program(
                state,
                image,
                replace_residents,
                use_retired,
                activate,
                program_and_verify,
                policy,
                trust,
                progress,
                cancelled,
                mutation,
            )
        except Error as error:
            kind = "cancelled" if isinstance(error, CancelledError) else "failed"
            state.report(kind, f"Programming '{image.name}': {error.message}", image.name, {"reason": error.reason})
            raise


def _program(
    state: State,
    image: ChipImage,
    replace_residents: bool,
    use_retired: bool,
    activate: bool,
    options: ProgramAndVerify | None,
    policy: Policy,
    trust: Trust,
    progress: Progress,
    cancelled: Cancelled,
    mutation: Mutation,
) -> ProgramOutcome:
    progress("verify", 0, 1)
    if image.path is not None:
        # A mapped file may be overwritten while the device lives; the device keeps bytes of its own.
        image = ChipImage.from_bytes(image.to_bytes(), verify=False)
    image.verify()
    warning = trust.check_signer(image)
    trust.check_version(state.store, image)
    adopted = state.profile is None
    profile = state.profile or image.manifest.profile
    check_features(image, IMAGE_FEATURES)
    check_profile(image, profile)
    made = with_born_faults(replace(state.device, profile=profile.SerializeToString())) if adopted else state.device
    chip_program = program_on(profile, image)
    progress("verify", 1, 1)
    physical, gone = place(
        profile.tiles,
        state.placed,
        image.name,
        len(image.tiles()),
        over=replace_residents,
        retired=() if use_retired else state.device.retired,
    )
    generation = state.device.program_generation + 1
    # Models of other names, and the old one of this name if its tiles are needed, stop answering from here on.
    overwritten = [name for name in gone if set(state.residents[name].record.physical) & set(physical)]
    stopped_s = time.monotonic()
    state.set_out_of_service(overwritten)
    if adopted:
        state.set_faults(made)
    try:
        programmed, reports = program_image(
            image,
            chip_program,
            profile,
            physical,
            generation,
            state.circuits,
            state.streams,
            options=options,
            progress=progress,
            cancelled=cancelled,
        )
        progress("store", 0, 1)
        resident = tested_as_programmed(state, _fresh(state, programmed, activate, policy, physical))
        if cancelled():
            raise CancelledError(f"Programming '{image.name}' was cancelled; the device is as it was before.")
        outcome = ProgramOutcome(
            model=info(state, resident),
            replaced_models=tuple(gone),
            outage_s=time.monotonic() - stopped_s if overwritten else 0.0,
            tiles=reports,
        )
        device = replace(state.device, program_generation=generation)
        if adopted:
            # Made before the reads that programming took were counted.
            device = replace(made, program_generation=generation, reads=device.reads)

        def write(transaction: Transaction) -> None:
            for name in gone:
                stored_models.delete(transaction, name)
            stored_models.write_programmed(transaction, programmed)
            stored_models.write(transaction, resident)
            stored_models.drop_unused(state.store, transaction)
            trust.remember(state.store, transaction, image)

        details = {"program_generation": str(generation), "tiles": str(len(physical)), "replaced": ",".join(gone)}
        message = f"Programmed '{image.name}' version {image.version} on {len(physical)} tiles."
        if warning is not None:
            message += f" Signature: {warning.message}."
            details["signature"] = warning.reason
        state.commit(
            write,
            events=[
                state.event("programmed", message, image.name, details),
                *state.born_event(state.device, made),
            ],
            device=device,
            remember=(mutation, "program", outcome),
        )
        state.install([resident], gone)
        progress("store", 1, 1)
        return outcome
    finally:
        state.set_out_of_service([])
        if adopted:
            state.set_faults(state.device)


def _fresh(state: State, programmed: Programmed, activate: bool, policy: Policy, physical: tuple[int, ...]) -> Resident:
    """A model right after programming: factors 1, statistics as compiled, nothing compensated yet."""
    image = programmed.image
    record = ModelRecord(
        name=image.name,
        version=image.version,
        image_sha256=image.sha256,
        active=activate,
        physical=physical,
        program_generation=programmed.generation,
        programmed_at_s=state.clock.now(),
        programmed_at_unix_s=state.clock.wall_unix_s(),
        policy=policy,
    )
    return Resident(
        record=record,
        programmed=programmed,
        parameters=Parameters(),
        previous=None,
        buffer=None,
        engine=state.readout.inference_engine(programmed, 0.0),
        engine_age_s=0.0,
        first_seed=state.streams.products(programmed.generation, state.device.boots),
        counters=Counters(),
        history=SelfTestHistory(programmed.generation),
    )


def set_active(state: State, name: str, active: bool, trust: Trust, mutation: Mutation) -> ModelInfo:
    verb = "activate" if active else "deactivate"
    with state.leases.exclusive(mutation.lease_id, f"{verb} '{name}'"), state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        if active:
            trust.check_signer(resident.programmed.image)
        changed = replace(resident, record=replace(resident.record, active=active))
        outcome = info(state, changed)
        if active:
            # Nobody kept its conductances up to date while it was inactive.
            state.refresh(name)
        state.commit(
            lambda transaction: stored_models.write(transaction, changed),
            events=[state.event(f"{verb}d", f"Model '{name}' was {verb}d.", name)],
            remember=(mutation, verb, outcome),
        )
        state.swap(name, lambda current: replace(current, record=replace(current.record, active=active)))
        state.wake.set()
        return outcome


def erase(state: State, name: str, mutation: Mutation) -> EraseOutcome:
    with state.leases.exclusive(mutation.lease_id, f"erasing '{name}'"), state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        outcome = EraseOutcome(freed_tiles=len(resident.record.physical))

        def write(transaction: Transaction) -> None:
            stored_models.delete(transaction, name)
            stored_models.drop_unused(state.store, transaction)

        message = f"Model '{name}' was erased; {outcome.freed_tiles} tiles are free again."
        state.commit(write, events=[state.event("erased", message, name)], remember=(mutation, "erase", outcome))
        state.install(remove=[name])
        return outcome


def deactivate_untrusted(state: State, trust: Trust) -> None:
    """Models that were programmed under another policy, or whose signer is no longer trusted, answer no more."""
    for name, resident in list(state.residents.items()):
        try:
            trust.check_signer(resident.programmed.image)
        except ImageTrustError as error:
            if resident.record.active:
                set_active(state, name, False, trust, NO_MUTATION)
                why = f"'{name}' was deactivated, until it is activated under keys that vouch for it: {error.message}"
                state.report("untrusted", why, name, {"reason": error.reason})
