"""What the chip's verbs take and return: frozen values without protobuf or gRPC.

The service layer turns them into messages of the device contract (``proto/pcm/device/v1``), field by field; names and
units are those of the contract. Seconds end in ``_s``, ages count from the end of programming on the device's clock.
Values that a client has in the same form are :mod:`pcmedge.protocol.values`'s; four of them have another name here,
because a chip has a clock, snapshots and self-tests of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.protocol.values import Advance as AdvanceOutcome
from pcmedge.protocol.values import Clock as ClockReading
from pcmedge.protocol.values import (
    Diagnosis,
    Event,
    FaultFinding,
    Geometry,
    Lease,
    Mutation,
    ProgramAndVerify,
    SelfTestRecord,
    TileDiagnosis,
    TileProgramming,
    TileTelemetry,
)
from pcmedge.protocol.values import SelfTest as SelfTestOutcome
from pcmedge.protocol.values import Snapshot as SnapshotInfo
from pcmedge.protocol.version import CONTRACT_MINOR, CONTRACT_VERSION

__all__ = [
    "NO_MUTATION",
    "AdvanceOutcome",
    "BufferDescription",
    "CheckedRequest",
    "ClockReading",
    "Diagnosis",
    "Digest",
    "EraseOutcome",
    "Event",
    "FaultFinding",
    "Geometry",
    "Health",
    "Identity",
    "InferOutcome",
    "Lease",
    "Method",
    "ModelInfo",
    "ModelTelemetry",
    "Mutation",
    "ProgramAndVerify",
    "ProgramOutcome",
    "RecalibrationOutcome",
    "RollbackOutcome",
    "SelfTestOutcome",
    "SelfTestRecord",
    "SnapshotInfo",
    "Telemetry",
    "TileDiagnosis",
    "TileProgramming",
    "TileReadout",
    "TileTelemetry",
]

Digest = bytes
"""A SHA-256, 32 bytes."""


class Method(StrEnum):
    """How a recalibration compensates drift; see docs/calibration.md."""

    DEFAULT = "default"
    """Paired statistics where the buffer has digital reference statistics, else plain AdaBS, else GDC."""
    GDC = "gdc"
    """Global drift compensation, one factor per tile, statistics as programmed."""
    GDC_PER_COLUMN = "gdc-per-column"
    """Global drift compensation, one factor per column of a tile, statistics as programmed."""
    ADABS = "adabs"
    """Adaptive batch-norm statistics as published (Joshi et al. 2020)."""
    ADABS_PAIRED = "adabs-paired"
    """Adaptive statistics moved only by what differs from the digital ones on the same buffer."""


NO_MUTATION = Mutation()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the device is; what it can do is for the service to say, which knows what it serves."""

    vendor: str
    product: str
    serial: str
    firmware_version: str
    technology: str
    geometry: Geometry
    image_features: tuple[str, ...]
    contract_version: int = CONTRACT_VERSION
    contract_minor: int = CONTRACT_MINOR
    emulated: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One resident image (ResidentImage of the contract)."""

    name: str
    version: int
    image_sha256: bytes
    active: bool
    tiles: int
    program_generation: int
    statistics_generation: int
    programmed_at_unix_s: float
    age_s: float
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProgramOutcome:
    model: ModelInfo
    replaced_models: tuple[str, ...]
    outage_s: float
    tiles: tuple[TileProgramming, ...]


@dataclass(frozen=True, kw_only=True)
class EraseOutcome:
    freed_tiles: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedRequest:
    """An inference whose inputs fit the program of one generation.

    ``inputs``: input name -> [samples, ...]. ``kind``: requests of equal kind may share a run of the engine (same
    model, programming, dtypes and shapes behind the batch axis); None may share with nobody.
    """

    name: str
    inputs: Mapping[str, NDArray[Any]]
    samples: int
    generation: int
    kind: Hashable | None


@dataclass(frozen=True, kw_only=True)
class InferOutcome:
    """``age_s`` is the age of the conductances that computed the answer; ``noise`` whether per-MVM noise was on."""

    outputs: Mapping[str, NDArray[np.generic]]
    age_s: float
    program_generation: int
    statistics_generation: int
    noise: bool


@dataclass(frozen=True, kw_only=True)
class RecalibrationOutcome:
    """``method`` is what was done (never DEFAULT), ``message`` why if that is not what was asked.

    ``agreement_*``: share of reference inputs whose largest output is the digital one's, over the guard's reads.
    ``mean_shift``: root mean square over all channels of the shift of the means in channel standard deviations.
    ``reads``: reads of the chip it was measured on, the guard's not counted.
    """

    committed: bool
    refusal: str
    message: str
    statistics_generation: int
    method: Method
    samples: int
    agreement_before: float
    agreement_after: float
    relative_error_before: float
    relative_error_after: float
    median_drift_factor: float
    mean_shift: float
    duration_s: float
    age_s: float
    reads: int = 1


@dataclass(frozen=True, kw_only=True)
class RollbackOutcome:
    statistics_generation: int


@dataclass(frozen=True, kw_only=True)
class BufferDescription:
    """``source``: "image", "synthetic", "application" or "none"."""

    source: str
    samples: int
    bytes: int
    has_reference_statistics: bool
    sha256: Digest


@dataclass(frozen=True, kw_only=True)
class ModelTelemetry:
    """``last_recalibration_age_s`` and ``last_agreement`` are negative if there was none.

    ``agreement_floor``: what the policy asks of agreement, 0 if nothing.
    """

    name: str
    age_s: float
    program_generation: int
    statistics_generation: int
    inferences: int
    last_recalibration_age_s: float
    median_drift_factor: float
    adc_saturation: float
    last_agreement: float
    energy_j: float
    recalibrations: int
    recalibrations_refused: int
    tiles: tuple[TileTelemetry, ...] = ()
    self_tests: tuple[SelfTestRecord, ...] = ()
    agreement_floor: float = 0.0


class Health(StrEnum):
    """Whether to send requests here: the last of these that holds."""

    ALIVE = "alive"
    READY = "ready"
    RECALIBRATING = "recalibrating"
    DEGRADED = "degraded"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """``state``: "idle", "serving", "programming", "recalibrating" or "degraded".

    ``degraded_reasons``: why "degraded", also while the state says what the device is busy with instead. ``health``:
    whether to send requests here. ``store_bytes``: what the store's files take, 0 in memory.
    """

    time_unix_s: float
    device_time_s: float
    uptime_s: float
    state: str
    models: tuple[ModelTelemetry, ...]
    tiles: int
    free_tiles: int
    requests_served: int
    requests_failed: int
    memory_bytes: int
    degraded_reasons: tuple[str, ...] = ()
    health: Health = Health.ALIVE
    store_bytes: int = 0
    retired_tiles: int = 0


@dataclass(frozen=True, kw_only=True)
class TileReadout:
    """Conductances of one physical tile at this moment with one realisation of read noise.

    ``g_plus``, ``g_minus``: float32 [rows, columns] in microsiemens; several groups lie block-diagonally.
    """

    tile: int
    layer: str
    rows: int
    columns: int
    g_plus: NDArray[np.float32]
    g_minus: NDArray[np.float32]
    age_s: float
