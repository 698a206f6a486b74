"""A chip of the device contract made of a few verbs of hardware."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from pcmedge.errors import (
    CancelledError,
    Error,
    GenerationMismatchError,
    NotProgrammedError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.image import ChipImage

from pcmedge_emulator.driver import residents
from pcmedge_emulator.driver.book import Book
from pcmedge_emulator.driver.compensating import Compensating
from pcmedge_emulator.driver.fit import check_fit
from pcmedge_emulator.driver.hardware import AS_PROGRAMMED, Arrays, Hardware, Step
from pcmedge_emulator.driver.residents import Model, Record
from pcmedge_emulator.driver.telling import Telling
from pcmedge_emulator.inputs import check_tensors
from pcmedge_emulator.operations import Cancelled, Operations, Progress, never, no_progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    CheckedRequest,
    EraseOutcome,
    Geometry,
    Identity,
    InferOutcome,
    Lease,
    Method,
    ModelInfo,
    Mutation,
    ProgramAndVerify,
    ProgramOutcome,
)
from pcmedge_emulator.tile_allocator import place, with_residents

_METHOD_CAPABILITIES = {
    Method.GDC: "recalibrate.gdc",
    Method.GDC_PER_COLUMN: "recalibrate.gdc-per-column",
    Method.ADABS: "recalibrate.adabs",
}


class DrivenChip(Compensating, Telling):
    """Leases, request ids, generations, operations, journal, storage and the rest around :class:`Hardware`.

    ``store``: a directory for what survives a power cut, or None for memory. A context manager; closing it closes the
    hardware. Serve it with :func:`pcmedge_emulator.service.server.serve`.

    >>> with DrivenChip(MyHardware(), store="/var/lib/pcm0") as chip, serve(chip, "0.0.0.0:7390") as server:
    ...     server.wait()
    """

    def __init__(self, hardware: Hardware, *, store: str | PathLike[str] | None = None) -> None:
        self.hardware = hardware
        self.description = hardware.describe()
        self.book = Book(None if store is None else Path(store), hardware.load)
        self._out_of_service: frozenset[str] = frozenset()

    def __enter__(self) -> DrivenChip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels operations, gives the store up, closes the hardware."""
        self.book.close()
        self.hardware.close()

    # ------------------------------------------------------------------------------------------------ who it is

    @property
    def capabilities(self) -> tuple[str, ...]:
        names = ["events", "events.watch", "images", "infer", "infer.stream", "lease", "operations", "program"]
        names += ["program.replace", "self-test", "telemetry", "telemetry.watch"]
        if self.description.methods:
            names += ["buffer", "rollback"]
            names += [_METHOD_CAPABILITIES[m] for m in self.description.methods if m in _METHOD_CAPABILITIES]
        if self.description.reads_tiles:
            names.append("tile.read")
        return tuple(sorted(names))

    @property
    def operations(self) -> Operations:
        return self.book.operations

    def identity(self) -> Identity:
        known, profile = self.description, self.description.profile
        geometry = Geometry(
            profile=profile.name,
            tile_rows=profile.tile_rows,
            tile_columns=profile.tile_columns,
            tiles=profile.tiles,
            free_tiles=with_residents(profile.tiles, self.book.placed).free,
            dac_bits=profile.dac_bits,
            adc_bits=profile.adc_bits,
            g_max_microsiemens=profile.g_max_microsiemens,
        )
        return Identity(
            vendor=known.vendor,
            product=known.product,
            serial=known.serial,
            firmware_version=known.firmware_version,
            technology=known.technology,
            geometry=geometry,
            image_features=known.image_features,
            emulated=known.emulated,
        )

    # ------------------------------------------------------------------------------------------------------------ lease

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        return self.book.leases.acquire(holder, duration_s, request_id)

    def renew_lease(self, lease_id: str, duration_s: float = 0.0) -> Lease:
        return self.book.leases.renew(lease_id, duration_s)

    def release_lease(self, lease_id: str) -> None:
        self.book.leases.release(lease_id)

    # ----------------------------------------------------------------------------------------------------------- images

    def check_program(self, size: int, *, mutation: Mutation = NO_MUTATION) -> None:
        """Raises what :meth:`program` would, as far as that is known before the image's bytes."""
        if self.book.repeated(mutation, "program", ProgramOutcome):
            return
        self.book.leases.check(mutation.lease_id)
        self.book.check(mutation, None)

    def program(
        self,
        image: ChipImage,
        *,
        replace: bool = False,
        use_retired: bool = False,
        activate: bool = True,
        program_and_verify: ProgramAndVerify | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> ProgramOutcome:
        if program_and_verify is not None:
            raise UnimplementedError("this chip does not program and verify", capability="program.verify")
        report, stop = progress or no_progress, cancelled or never

        def body() -> ProgramOutcome:
            purpose = f"programming '{image.name}'"
            with self.book.leases.exclusive(mutation.lease_id, purpose), self.book.busy("programming", stop):
                self.book.check(mutation, None)
                try:
                    return self._program(image, replace, activate, report, stop, mutation)
                except Error as error:
                    kind = "cancelled" if isinstance(error, CancelledError) else "failed"
                    self.book.report(kind, error.message, image.name, {"reason": error.reason})
                    raise

        return self.book.once(mutation, "program", ProgramOutcome, body)

    def _program(
        self, image: ChipImage, over: bool, activate: bool, progress: Progress, stop: Cancelled, mutation: Mutation
    ) -> ProgramOutcome:
        image.verify()
        check_fit(self.description, image)
        self.hardware.check(image)
        placed = self.book.placed
        tiles, gone = place(self.description.profile.tiles, placed, image.name, len(image.tiles()), over=over)
        overwritten = [name for name in gone if set(placed[name]) & set(tiles)]
        stopped_s = time.monotonic()
        self._out_of_service = frozenset(overwritten)
        try:
            reports = self.hardware.program(image, tiles, stepping("program", progress, stop))
            progress("store", 0, 1)
            generation = self.book.counters.program_generation + 1
            record = Record(
                name=image.name,
                version=image.version,
                image_sha256=image.sha256,
                active=activate,
                tiles=tiles,
                program_generation=generation,
                programmed_at_s=self.book.clock.now(),
                programmed_at_unix_s=time.time(),
            )
            loaded = self.hardware.load(image, tiles)
            model = Model(record=record, image=image, loaded=loaded, compensation=AS_PROGRAMMED)
            outage_s = time.monotonic() - stopped_s if overwritten else 0.0
            info = model.info(self.book.clock.now())
            outcome = ProgramOutcome(model=info, replaced_models=tuple(gone), outage_s=outage_s, tiles=reports)
            before = [self.book.models[name] for name in gone]
            text = f"Programmed '{image.name}' version {image.version} on {len(tiles)} tiles."
            self.book.commit(
                lambda transaction: residents.write_image(transaction, model),
                events=[self.book.event("programmed", text, image.name, {"program_generation": str(generation)})],
                counters=self._counted(generation),
                put=[model],
                gone=gone,
                remember=(mutation, "program", outcome),
            )
        except BaseException:
            self.hardware.release(tiles)
            raise
        finally:
            self._out_of_service = frozenset()
        for old in before:
            self.hardware.release(tuple(set(old.record.tiles) - set(tiles)))
        return outcome

    def _counted(self, program_generation: int) -> Any:
        return replace(self.book.counters, program_generation=program_generation)

    def models(self) -> tuple[ModelInfo, ...]:
        now_s = self.book.clock.now()
        return tuple(model.info(now_s) for model in self.book.models.values())

    def image(self, name: str) -> ChipImage:
        return self.book.model(name).image

    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        return self._set_active(name, True, mutation)

    def deactivate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        return self._set_active(name, False, mutation)

    def _set_active(self, name: str, active: bool, mutation: Mutation) -> ModelInfo:
        verb = "activate" if active else "deactivate"

        def body() -> ModelInfo:
            with self.book.leases.exclusive(mutation.lease_id, f"{verb} '{name}'"), self.book.busy(""):
                model = self.book.model(name)
                self.book.check(mutation, model)
                changed = replace(model, record=replace(model.record, active=active))
                outcome = changed.info(self.book.clock.now())
                event = self.book.event(f"{verb}d", f"Model '{name}' was {verb}d.", name)
                self.book.commit(events=[event], put=[changed], remember=(mutation, verb, outcome))
                return outcome

        return self.book.once(mutation, verb, ModelInfo, body)

    def erase(self, name: str, *, mutation: Mutation = NO_MUTATION) -> EraseOutcome:
        def body() -> EraseOutcome:
            with self.book.leases.exclusive(mutation.lease_id, f"erasing '{name}'"), self.book.busy(""):
                model = self.book.model(name)
                self.book.check(mutation, model)
                outcome = EraseOutcome(freed_tiles=len(model.record.tiles))
                event = self.book.event("erased", f"Model '{name}' was erased.", name)
                self.book.commit(events=[event], gone=[name], remember=(mutation, "erase", outcome))
                self.hardware.release(model.record.tiles)
                return outcome

        return self.book.once(mutation, "erase", EraseOutcome, body)

    # -------------------------------------------------------------------------------------------------------- inference

    def infer(self, name: str, inputs: Arrays) -> InferOutcome:
        return self.infer_together([self.check_inference(name, inputs)])[0]

    def check_inference(self, name: str, inputs: Arrays) -> CheckedRequest:
        try:
            model = self._answering(name)
            checked, samples = check_tensors(model.inputs, inputs)
        except Error:
            self.book.activity.failed()
            raise
        shapes = tuple((key, values.dtype.str, values.shape[1:]) for key, values in checked.items())
        generation = model.record.program_generation
        return CheckedRequest(
            name=name, inputs=checked, samples=samples, generation=generation, kind=(name, generation, shapes)
        )

    def infer_together(self, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
        """Requests of one kind in one run of the hardware."""
        first = requests[0]
        model = self._answering(first.name)
        record = model.record
        if record.program_generation != first.generation:
            if len(requests) == 1:
                return (self.infer(first.name, first.inputs),)
            raise GenerationMismatchError("the model was programmed again since these requests were checked")
        merged = {key: np.concatenate([request.inputs[key] for request in requests]) for key in first.inputs}
        age_s = model.age_s(self.book.clock.now())
        try:
            answer = self.hardware.infer(model.loaded, merged, model.compensation)
        except Error:
            if len(requests) == 1:
                self.book.activity.failed()
            raise
        samples = sum(request.samples for request in requests)
        model.inferences.add(samples)
        self.book.activity.served(len(requests))
        ends = np.cumsum([request.samples for request in requests]).tolist()
        return tuple(
            InferOutcome(
                outputs={key: values[end - request.samples : end] for key, values in answer.outputs.items()},
                age_s=age_s,
                program_generation=record.program_generation,
                statistics_generation=record.statistics_generation,
                noise=answer.noise,
            )
            for request, end in zip(requests, ends, strict=True)
        )

    def _answering(self, name: str) -> Model:
        if name in self._out_of_service:
            raise UnavailableError(f"Model '{name}' does not answer while its tiles are programmed.", model=name)
        model = self.book.model(name)
        if not model.record.active:
            raise NotProgrammedError(f"Model '{name}' is resident but not active. Activate it first.", model=name)
        return model


def stepping(phase: str, progress: Progress, stop: Cancelled) -> Step:
    """Reports a step of a long verb, and ends it if somebody wants that."""

    def step(done: int, total: int) -> None:
        progress(phase, done, total)
        if stop():
            raise CancelledError(f"Cancelled in phase '{phase}', after {done} of {total}; the device is as before.")

    return step
