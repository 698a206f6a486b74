"""What the service asks of a chip, whoever made it.

:class:`DeviceChip` has a verb per line of the device contract, with the frozen values of
:mod:`pcmedge_emulator.outcomes` for arguments and answers; every verb raises only :mod:`pcmedge.errors`, and
``UnimplementedError`` where the capability is not among :attr:`DeviceChip.capabilities`. The emulated chip
(:class:`pcmedge_emulator.chip.Chip`) is one; :class:`pcmedge_emulator.driver.DrivenChip` makes one of a few verbs of
hardware. Nothing here knows physics. What the verbs promise is in docs/device-contract.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pcmedge.image import ChipImage

from pcmedge_emulator.calibration.policy import Policy
from pcmedge_emulator.injected import Fault
from pcmedge_emulator.operations import Cancelled, Operations, Progress
from pcmedge_emulator.outcomes import (
    AdvanceOutcome,
    BufferDescription,
    CheckedRequest,
    ClockReading,
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
    SnapshotInfo,
    Telemetry,
    TileReadout,
)

Inputs = Mapping[str, NDArray[Any]]
Statistics = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class DeviceChip(Protocol):
    """A chip that can be served. Thread-safe."""

    @property
    def capabilities(self) -> tuple[str, ...]: ...

    @property
    def operations(self) -> Operations: ...

    def identity(self) -> Identity: ...

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease: ...

    def renew_lease(self, lease_id: str, duration_s: float = 0.0) -> Lease: ...

    def release_lease(self, lease_id: str) -> None: ...

    def check_program(self, size: int, *, mutation: Mutation) -> None: ...

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
        mutation: Mutation,
    ) -> ProgramOutcome: ...

    def models(self) -> tuple[ModelInfo, ...]: ...

    def image(self, name: str) -> ChipImage: ...

    def activate(self, name: str, *, mutation: Mutation = ...) -> ModelInfo: ...

    def deactivate(self, name: str, *, mutation: Mutation = ...) -> ModelInfo: ...

    def erase(self, name: str, *, mutation: Mutation) -> EraseOutcome: ...

    def infer(self, name: str, inputs: Inputs) -> InferOutcome: ...

    def check_inference(self, name: str, inputs: Inputs) -> CheckedRequest: ...

    def infer_together(self, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]: ...

    def recalibrate(
        self,
        name: str,
        method: Method | str = ...,
        *,
        batches: int = 0,
        batch_size: int = 0,
        reads: int = 0,
        gdc_everywhere: bool = False,
        force: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation,
    ) -> RecalibrationOutcome: ...

    def rollback(self, name: str, *, mutation: Mutation) -> RollbackOutcome: ...

    def policy(self, name: str) -> tuple[Policy, float]: ...

    def set_policy(self, name: str, policy: Policy, *, mutation: Mutation) -> tuple[Policy, float]: ...

    def replace_buffer(
        self,
        name: str,
        samples: Inputs,
        *,
        statistics: Statistics | None = None,
        image_sha256: bytes = b"",
        mutation: Mutation,
    ) -> BufferDescription: ...

    def append_buffer(
        self,
        name: str,
        samples: Inputs,
        *,
        statistics: Statistics | None = None,
        image_sha256: bytes = b"",
        mutation: Mutation,
    ) -> BufferDescription: ...

    def describe_buffer(self, name: str) -> BufferDescription: ...

    def self_test(self, name: str) -> SelfTestOutcome: ...

    def telemetry(self, *, include_tiles: bool = False, include_self_tests: bool = False) -> Telemetry: ...

    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]: ...

    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]: ...

    def read_tile(self, name: str, tile: int) -> TileReadout: ...

    def diagnose(
        self,
        name: str,
        *,
        false_alarm_rate: float = 0.0,
        tolerated_cells: float | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation,
    ) -> Diagnosis: ...


@runtime_checkable
class LabChip(Protocol):
    """What LabService asks beyond that; silicon has none of it."""

    def clock(self) -> ClockReading: ...

    def set_clock(self, mode: str, rate: float = 1.0, *, mutation: Mutation) -> ClockReading: ...

    def advance(self, by_s: float, *, cancelled: Cancelled | None = None, mutation: Mutation) -> AdvanceOutcome: ...

    def snapshot(self, name: str, *, mutation: Mutation) -> SnapshotInfo: ...

    def restore(self, name: str, *, mutation: Mutation) -> SnapshotInfo: ...

    def snapshots(self) -> tuple[SnapshotInfo, ...]: ...

    def delete_snapshot(self, name: str, *, mutation: Mutation) -> None: ...

    def set_noise(self, read_noise: str, *, mutation: Mutation) -> str: ...

    def inject_faults(self, found: Sequence[Fault], *, mutation: Mutation) -> tuple[Fault, ...]: ...

    def clear_faults(self, tiles: Sequence[int] = (), *, mutation: Mutation) -> tuple[Fault, ...]: ...

    def faults(self) -> tuple[Fault, ...]: ...
