"""A chip of the device contract made of a few verbs of hardware.

:class:`DrivenChip` is a face with one verb per line of the contract; what changes lives in ``state.py``, and the verbs
are functions on it in ``images.py``, ``inference.py``, ``recalibration.py``, ``buffers.py`` and ``observe.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pcmedge.errors import UnimplementedError
from pcmedge.image import ChipImage

from pcmedge_emulator.calibration.policy import Policy, PolicyKind
from pcmedge_emulator.driver import buffers, images, inference, observe, recalibration
from pcmedge_emulator.driver.hardware import Arrays, Hardware
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.operations import Cancelled, Operations, Progress, never, no_progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    BufferDescription,
    CheckedRequest,
    Diagnosis,
    EraseOutcome,
    Event,
    Identity,
    InferOutcome,
    Lease,
    Method,
    ModelInfo,
    Mutation,
    ProgramAndVerify,
    ProgramOutcome,
    RecalibrationOutcome,
    RollbackOutcome,
    SelfTestOutcome,
    Telemetry,
    TileReadout,
)


class DrivenChip:
    """Leases, request ids, generations, operations, journal, storage and the rest around :class:`Hardware`.

    ``store``: a directory for what survives a power cut, or None for memory. A context manager; closing it closes the
    hardware. Serve it with :func:`pcmedge_emulator.service.server.serve`.

    >>> with DrivenChip(MyHardware(), store="/var/lib/pcm0") as chip, serve(chip, "0.0.0.0:7390") as server:
    ...     server.wait()
    """

    def __init__(self, hardware: Hardware, *, store: str | PathLike[str] | None = None) -> None:
        self.hardware = hardware
        self._state = State(hardware, None if store is None else Path(store))

    def __enter__(self) -> DrivenChip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels operations, gives the store up, closes the hardware."""
        self._state.close()
        self.hardware.close()

    @property
    def capabilities(self) -> tuple[str, ...]:
        return observe.capabilities(self._state.description)

    @property
    def operations(self) -> Operations:
        return self._state.operations

    def identity(self) -> Identity:
        return observe.identity(self._state)

    # ------------------------------------------------------------------------------------------------------------ lease

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        return self._state.leases.acquire(holder, duration_s, request_id)

    def renew_lease(self, lease_id: str, duration_s: float = 0.0) -> Lease:
        return self._state.leases.renew(lease_id, duration_s)

    def release_lease(self, lease_id: str) -> None:
        self._state.leases.release(lease_id)

    # ----------------------------------------------------------------------------------------------------------- images

    def check_program(self, size: int, *, mutation: Mutation = NO_MUTATION) -> None:
        images.check_program(self._state, mutation)

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
        """``use_retired`` changes nothing: no tile is ever retired."""
        if program_and_verify is not None:
            raise UnimplementedError("this chip does not program and verify", capability="program.verify")
        return self._state.once(
            mutation,
            "program",
            ProgramOutcome,
            lambda: images.program(
                self._state,
                image,
                over=replace,
                activate=activate,
                progress=progress or no_progress,
                cancelled=cancelled or never,
                mutation=mutation,
            ),
        )

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(model.info(self._state.age_s(model)) for model in self._state.models.values())

    def image(self, name: str) -> ChipImage:
        return self._state.model(name).image

    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        return self._state.once(
            mutation, "activate", ModelInfo, lambda: images.set_active(self._state, name, True, mutation)
        )

    def deactivate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        return self._state.once(
            mutation, "deactivate", ModelInfo, lambda: images.set_active(self._state, name, False, mutation)
        )

    def erase(self, name: str, *, mutation: Mutation = NO_MUTATION) -> EraseOutcome:
        return self._state.once(mutation, "erase", EraseOutcome, lambda: images.erase(self._state, name, mutation))

    # -------------------------------------------------------------------------------------------------------- inference

    def infer(self, name: str, inputs: Arrays) -> InferOutcome:
        return inference.infer(self._state, name, inputs)

    def check_inference(self, name: str, inputs: Arrays) -> CheckedRequest:
        return inference.check(self._state, name, inputs)

    def infer_together(self, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
        return inference.infer_together(self._state, requests)

    # ---------------------------------------------------------------------------------------------------- compensation

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
        chosen = recalibration.chosen_method(self._state, Method(method))
        return self._state.once(
            mutation,
            "recalibrate",
            RecalibrationOutcome,
            lambda: recalibration.recalibrate(
                self._state,
                name,
                chosen,
                force=force,
                progress=progress or no_progress,
                cancelled=cancelled or never,
                mutation=mutation,
            ),
        )

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        recalibration.check_recalibrates(self._state, "rollback")
        return self._state.once(
            mutation, "rollback", RollbackOutcome, lambda: recalibration.rollback(self._state, name, mutation)
        )

    def policy(self, name: str) -> tuple[Policy, float]:
        """Manual, always: the chip recalibrates when it is asked to."""
        self._state.model(name)
        return Policy(kind=PolicyKind.MANUAL), -1.0

    def set_policy(self, name: str, policy: Policy, *, mutation: Mutation = NO_MUTATION) -> tuple[Policy, float]:
        if policy.kind is not PolicyKind.MANUAL:
            raise UnimplementedError(
                f"this chip recalibrates on request only; asked for the policy {policy.kind.value}",
                capability=f"policy.{policy.kind.value}",
            )
        return self.policy(name)

    def describe_buffer(self, name: str) -> BufferDescription:
        return buffers.describe_buffer(self._state, name)

    def replace_buffer(
        self,
        name: str,
        samples: Arrays,
        *,
        statistics: Any = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        return buffers.set_buffer(self._state, name, samples, append=False, statistics=statistics, mutation=mutation)

    def append_buffer(
        self,
        name: str,
        samples: Arrays,
        *,
        statistics: Any = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        return buffers.set_buffer(self._state, name, samples, append=True, statistics=statistics, mutation=mutation)

    def self_test(self, name: str) -> SelfTestOutcome:
        return recalibration.self_test(self._state, name)

    # ---------------------------------------------------------------------------------------------------- what goes on

    def telemetry(self, *, include_tiles: bool = False, include_self_tests: bool = False) -> Telemetry:
        """No history of self-tests is kept (capability ``self-test.history``), so none is ever included."""
        return observe.telemetry(self._state, include_tiles=include_tiles)

    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]:
        return self._state.journal.after(after, limit)

    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]:
        return self._state.journal.wait(after, timeout_s)

    def read_tile(self, name: str, tile: int) -> TileReadout:
        return observe.read_tile(self._state, name, tile)

    def diagnose(
        self,
        name: str,
        *,
        false_alarm_rate: float = 0.0,
        tolerated_cells: float | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> Diagnosis:
        """What healthy devices of a technology read at an age is their maker's to know."""
        raise UnimplementedError("this chip does not diagnose its tiles", capability="diagnose")
