"""What a device's answers become: frozen values with units in their names, and the options of calls.

Some are the contract's messages as they are (:mod:`pcmedge.protocol.values`), the others say it for people and JSON.

Seconds end in ``_s``, wall-clock times in ``_unix_s`` (seconds since the Unix epoch), conductances in
``_microsiemens``. Hashes are hexadecimal strings. Every value goes through ``dataclasses.asdict`` to JSON, except
arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pcmedge.errors import RecalibrationRefusedError
from pcmedge.protocol.values import Geometry, SelfTestRecord, TileProgramming, TileTelemetry


@dataclass(frozen=True, kw_only=True)
class Identity:
    vendor: str
    product: str
    serial: str
    firmware_version: str
    contract_version: int
    contract_minor: int
    emulated: bool
    technology: str
    geometry: Geometry
    capabilities: tuple[str, ...]
    image_features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a long operation stands. ``unit`` says what ``done`` and ``total`` count ("tiles", "batches")."""

    operation_id: str
    kind: str
    state: str
    phase: str
    done: int
    total: int
    unit: str
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class ResidentModel:
    """One image on the chip. ``age_s`` counts from the end of programming on the device's clock."""

    name: str
    version: int
    image_sha256: str
    active: bool
    tiles: int
    program_generation: int
    statistics_generation: int
    programmed_at_unix_s: float
    age_s: float
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """``replaced_models`` stopped answering for ``outage_s`` when ``replace`` was needed."""

    model: ResidentModel
    replaced_models: tuple[str, ...]
    outage_s: float
    tiles: tuple[TileProgramming, ...]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of a model. ``datatype`` is an Open Inference name ("FP32"); -1 in ``shape`` is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class InferResult:
    """One answer and where it came from. ``latency_s`` is measured by the client, over the whole call."""

    outputs: Mapping[str, NDArray[Any]]
    model: str
    age_s: float
    program_generation: int
    statistics_generation: int
    noise: bool
    device_serial: str
    latency_s: float

    @property
    def output(self) -> NDArray[Any]:
        """The first output; the only one of most models."""
        return next(iter(self.outputs.values()))


@dataclass(frozen=True, kw_only=True)
class RecalibrationResult:
    """``committed`` is False when the guard kept the old statistics; ``refusal`` says why.

    ``agreement_before``, ``agreement_after``: share of reference inputs whose class equals the digital one's.
    ``median_drift_factor``: 1 right after programming. ``mean_shift``: root mean square shift of the batch-norm
    means in units of the channel's standard deviation. ``reads``: reads of the chip the statistics are averaged over.
    """

    committed: bool
    refusal: str
    statistics_generation: int
    method: str
    samples: int
    agreement_before: float
    agreement_after: float
    median_drift_factor: float
    mean_shift: float
    duration_s: float
    age_s: float
    reads: int = 0

    def raise_for_refusal(self) -> None:
        """RecalibrationRefusedError if the device kept its old statistics."""
        if not self.committed:
            raise RecalibrationRefusedError(
                f"the device kept its statistics (generation {self.statistics_generation}): {self.refusal}",
                agreement_before=self.agreement_before,
                agreement_after=self.agreement_after,
            )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When the device recalibrates by itself.

    ``kind``: "manual", "interval" (every ``interval_s`` of device time), "log-time" (whenever the age has grown by
    ``log_time_ratio``), "drift" (when the median drift factor moved by ``drift_threshold``, relative) or "self-test"
    (when agreement falls below the floor). ``reads``: of the chip, that statistics are averaged over; 0 for the
    device's default. ``next_in_s`` is the device's answer, None if it foresees none.

    With any kind the device may test itself every ``self_test_interval_s`` of device time, or whenever the age has
    grown by ``self_test_ratio``; every kind but "manual" then also recalibrates when agreement is below the floor: the
    larger of ``agreement_threshold`` and the agreement right after programming less ``agreement_drop``. At least
    ``self_test_spacing_s`` of device time lie between a recalibration and one for a self-test; each that did not help
    doubles them, until a self-test passes. Figures at 0 are the device's defaults: none of these self-tests, a
    threshold of 0.9 (none with a drop), no drop, a spacing of an hour.
    """

    kind: str = "manual"
    method: str = "default"
    interval_s: float = 0.0
    log_time_ratio: float = 0.0
    drift_threshold: float = 0.0
    agreement_threshold: float = 0.0
    next_in_s: float | None = None
    reads: int = 0
    self_test_interval_s: float = 0.0
    self_test_ratio: float = 0.0
    agreement_drop: float = 0.0
    self_test_spacing_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BufferDescription:
    """``source``: "image", "synthetic" (made from the image's seed), "application" or "none"."""

    source: str
    samples: int
    bytes: int
    has_reference_statistics: bool
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelTelemetry:
    """``last_recalibration_age_s`` and ``last_agreement`` are None if there was none; ``energy_j`` is an estimate.

    ``self_tests``: oldest first, the newest 256 since programming; empty unless asked for. ``agreement_floor``: what
    the policy in force asks of agreement, 0 if nothing.
    """

    name: str
    age_s: float
    program_generation: int
    statistics_generation: int
    inferences: int
    last_recalibration_age_s: float | None
    median_drift_factor: float
    adc_saturation: float
    last_agreement: float | None
    energy_j: float
    recalibrations: int
    recalibrations_refused: int
    tiles: tuple[TileTelemetry, ...]
    self_tests: tuple[SelfTestRecord, ...] = ()
    agreement_floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """``state``: "idle", "serving", "programming", "recalibrating" or "degraded". Requests count since start.

    ``health``: whether to send requests here: "alive" (answers, but no active model), "ready", "recalibrating" (and
    ready), "degraded" (ready, with ``degraded_reasons``), or "unspecified" from a device without "telemetry.health".
    ``store_bytes``: what its persistent memory takes, 0 if it has none.

    ``degraded_reasons``: why "degraded", one sentence each; also while the state says what the device is busy with.
    ``requests_queued``: inference requests that wait for the chip now; ``requests_rejected``: answered BUSY because too
    many waited. ``retired_tiles``: found unfit by a diagnosis (:class:`Diagnosis`).
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
    sequence: int
    degraded_reasons: tuple[str, ...] = ()
    requests_queued: int = 0
    requests_rejected: int = 0
    health: str = "unspecified"
    store_bytes: int = 0
    retired_tiles: int = 0


@dataclass(frozen=True, kw_only=True)
class TileReadout:
    """Conductances of one physical tile now, with one realisation of read noise: float32 [rows, columns]."""

    tile: int
    layer: str
    g_plus_microsiemens: NDArray[Any]
    g_minus_microsiemens: NDArray[Any]
    age_s: float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``kind``: "stuck-at-reset", "stuck-at-g-max", "stuck-at-random", "dead-row", "dead-column", "tile-lost",
    "adc-offset" (``amount`` in ADC codes) or "adc-gain" (relative); for the stuck kinds ``amount`` is a share of cells.

    ``tile`` is the physical tile. Without an ``amount`` a stuck kind means the one device at ``row`` and ``column``, of
    G- if ``minus``. ``spread``: an ADC kind gives every column a draw of its own from N(0, amount^2), instead of
    ``column`` the amount. ``number`` is the device's.
    """

    kind: str
    tile: int
    row: int = 0
    column: int = 0
    amount: float = 0.0
    spread: bool = False
    minus: bool = False
    number: int = 0
