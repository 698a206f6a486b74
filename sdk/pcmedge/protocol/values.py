"""Messages of the contract as frozen values, where a device and its client say the same in them.

Fields are those of the messages (``proto/pcm/device/v1``, ``proto/pcm/lab/v1``), of the same names and units. What one
side says in another way (hashes as text, "never" as None) is its own: :mod:`pcmedge.device.results` of the client,
``pcmedge_emulator.outcomes`` of a chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """Care for a call that changes the device; usually left out.

    ``request_id``: repeating a call with the id of an earlier one returns the first outcome and does nothing twice; the
    client makes a fresh one if it is empty, and a chip in process gives no such protection then.
    ``expected_*_generation``: refuse (GenerationMismatchError) if the device is elsewhere. ``lease_id``: act under this
    lease (:class:`Lease`).
    """

    request_id: str = ""
    expected_program_generation: int | None = None
    expected_statistics_generation: int | None = None
    lease_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The exclusive right to program; pass ``lease_id`` in :class:`Mutation`."""

    lease_id: str
    holder: str
    remaining_s: float


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The chip; all zero while an emulated chip has not taken the profile of its first image."""

    profile: str = ""
    tile_rows: int = 0
    tile_columns: int = 0
    tiles: int = 0
    free_tiles: int = 0
    dac_bits: int = 0
    adc_bits: int = 0
    g_max_microsiemens: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ProgramAndVerify:
    """Iterative programming; 0 is the device's default."""

    margin_microsiemens: float = 0.0
    max_iterations: int = 0


@dataclass(frozen=True, kw_only=True)
class TileProgramming:
    """``tile`` is the physical tile; ``converged_fraction`` is 1 for single programming."""

    tile: int
    layer: str
    converged_fraction: float
    rms_error_microsiemens: float


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Agreement with the digital reference outputs in the image.

    ``relative_error``: root mean square of (device - digital) in standard deviations of the digital outputs.
    ``mean_absolute_difference``: mean of abs(device - digital) in the unit of the output; 0 from a device that does not
    tell.
    """

    agreement: float
    relative_error: float
    reference_inputs: int
    passed: bool
    threshold: float
    age_s: float
    program_generation: int
    statistics_generation: int
    mean_absolute_difference: float


@dataclass(frozen=True, kw_only=True)
class SelfTestRecord:
    """One measurement of agreement since programming, at ``age_s`` and ``device_time_s`` of the device's clock.

    ``cause``: "programmed", "request", "policy", or "recalibration" (the mean over its guard's reads). Differences as
    in :class:`SelfTest`.
    """

    time_unix_s: float
    device_time_s: float
    age_s: float
    agreement: float
    relative_error: float
    mean_absolute_difference: float
    statistics_generation: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class FaultFinding:
    """One departure from what a healthy tile gives: ``measured`` is further than ``bound`` from ``expected``.

    ``kind``: "tile-lost", "dead-row", "dead-column", "row-response", "column-response" (its response over that
    expected, 1), "adc-offset" (ADC codes), "cell" (in weights, 1 is g_max) or "scattered-cells" (more cells a little
    off than chance allows; their number). ``row``, ``column``: on the tile; None where the kind has none.
    """

    kind: str
    row: int | None = None
    column: int | None = None
    measured: float
    expected: float
    bound: float

    @property
    def place(self) -> str:
        """The kind with its row and column, as "dead-column, column 17"."""
        lines = (("row", self.row), ("column", self.column))
        return ", ".join([self.kind, *(f"{name} {at}" for name, at in lines if at is not None)])


@dataclass(frozen=True, kw_only=True)
class TileDiagnosis:
    """``cells``: weights that the physical ``tile`` holds; ``faulty_cells``: of those, found to be off one by one.

    ``retired``: the next programming leaves the tile alone. ``findings``: the worst first, a bounded number.
    """

    tile: int
    layer: str
    cells: int
    faulty_cells: int
    retired: bool
    findings: tuple[FaultFinding, ...]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a built-in self-test of a model's tiles found.

    ``false_alarm_rate``: the chance that a healthy chip has any finding. ``retired_tiles``: all of the device's.
    """

    tiles: tuple[TileDiagnosis, ...]
    retired_tiles: tuple[int, ...]
    false_alarm_rate: float
    age_s: float
    program_generation: int

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not any(tile.findings for tile in self.tiles)


@dataclass(frozen=True, kw_only=True)
class TileTelemetry:
    """``findings``, ``faulty_cells``: what the last diagnosis of the tile found (capability "diagnose.findings")."""

    tile: int
    layer: str
    drift_factor: float
    adc_saturation: float
    mvms: int
    age_s: float
    retired: bool = False
    findings: tuple[FaultFinding, ...] = ()
    faulty_cells: int = 0


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the device's journal; ``sequence`` grows by one per event and is never reused.

    ``lost_before``: events that were asked for and that the bounded journal no longer has, right before this one.
    """

    sequence: int
    time_unix_s: float
    device_time_s: float
    kind: str
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    lost_before: int = 0


@dataclass(frozen=True, kw_only=True)
class Clock:
    """``mode``: "real", "accelerated" or "manual"; ``rate``: device seconds per wall-clock second, 0 for manual."""

    mode: str
    rate: float
    device_time_s: float


@dataclass(frozen=True, kw_only=True)
class Advance:
    """The clock after advancing, and how many recalibrations the policy ran on the way."""

    clock: Clock
    recalibrations: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    name: str
    created_unix_s: float
    device_time_s: float
    bytes: int
    models: tuple[str, ...]
