"""The emulated chip: the one owner of its mutable state.  (Signatures first; bodies follow.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge_emulator.calibration.policy import DEFAULT_POLICY, Policy
from pcmedge_emulator.clock import Clock, ClockMode
from pcmedge_emulator.operations import Operations
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    AdvanceOutcome,
    BufferDescription,
    ClockReading,
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

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

Progress = Callable[[str, int, int], None]
Cancelled = Callable[[], bool]


class Chip:
    """Thread-safe; a context manager. Every verb raises only :mod:`pcmedge.errors`."""

    operations: Operations

    def __init__(
        self,
        *,
        profile: Any = None,
        technology: str = "pcm-90nm",
        serial: str = "emulator-0",
        seed: int = 0,
        clock: Clock | None = None,
        store: Path | str | None = None,
        engine: str = "fast",
        converters: str = "profile",
        read_noise: str = "additive",
        threads: int = 1,
        default_policy: Policy = DEFAULT_POLICY,
        same_read: bool = False,
    ) -> None: ...

    def close(self) -> None: ...
    def identity(self) -> Identity: ...

    # lease
    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease: ...
    def renew_lease(self, lease_id: str, duration_s: float = 0.0) -> Lease: ...
    def release_lease(self, lease_id: str) -> None: ...

    # images
    def program(
        self,
        image: ChipImage,
        *,
        replace: bool = False,
        activate: bool = True,
        program_and_verify: ProgramAndVerify | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> ProgramOutcome: ...
    def models(self) -> tuple[ModelInfo, ...]: ...
    def image(self, name: str) -> ChipImage: ...
    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo: ...
    def deactivate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo: ...
    def erase(self, name: str, *, mutation: Mutation = NO_MUTATION) -> EraseOutcome: ...
    def infer(self, name: str, inputs: Mapping[str, Any]) -> InferOutcome: ...

    # recalibration
    def recalibrate(
        self,
        name: str,
        method: Method | str = Method.DEFAULT,
        *,
        batches: int = 0,
        batch_size: int = 0,
        gdc_everywhere: bool = False,
        force: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> RecalibrationOutcome: ...
    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome: ...
    def policy(self, name: str) -> tuple[Policy, float]:
        """The policy, and device seconds until it next acts (negative: never)."""
        ...

    def set_policy(self, name: str, policy: Policy, *, mutation: Mutation = NO_MUTATION) -> tuple[Policy, float]: ...
    def replace_buffer(
        self, name: str, samples: Mapping[str, Any], *, mutation: Mutation = NO_MUTATION
    ) -> BufferDescription: ...
    def append_buffer(
        self, name: str, samples: Mapping[str, Any], *, mutation: Mutation = NO_MUTATION
    ) -> BufferDescription: ...
    def describe_buffer(self, name: str) -> BufferDescription: ...
    def self_test(self, name: str) -> SelfTestOutcome: ...

    # what is going on
    def telemetry(self, *, include_tiles: bool = False) -> Telemetry: ...
    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]: ...
    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]: ...
    def read_tile(self, name: str, tile: int) -> TileReadout: ...

    # lab
    def clock(self) -> ClockReading: ...
    def set_clock(self, mode: ClockMode | str, rate: float = 1.0, *, mutation: Mutation = NO_MUTATION) -> ClockReading: ...
    def advance(self, by_s: float, *, mutation: Mutation = NO_MUTATION) -> AdvanceOutcome: ...
    def snapshot(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo: ...
    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo: ...
    def snapshots(self) -> tuple[SnapshotInfo, ...]: ...
    def delete_snapshot(self, name: str, *, mutation: Mutation = NO_MUTATION) -> None: ...
    def set_noise(self, read_noise: str, *, mutation: Mutation = NO_MUTATION) -> str: ...
    def noise(self) -> str: ...
