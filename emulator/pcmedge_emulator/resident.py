"""One resident image: what programming left on its tiles, and what answers requests at this moment.

All of it is immutable. The chip owns one :class:`Resident` per model and replaces it whole, so a request that took one
sees one consistent engine, set of parameters, pair of generations and age.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.image import ChipImage, Tile

from pcmedge_emulator import codec
from pcmedge_emulator.calibration.gdc import GdcReading
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.crossbar.converters import dac_limits
from pcmedge_emulator.crossbar.idle import idle_cells
from pcmedge_emulator.crossbar.tile import TileDevices, column_noise_sigma, conductances, net, total
from pcmedge_emulator.engine import ChipProgram, FastEngine, Parameters, ReferenceEngine, Snapshot
from pcmedge_emulator.history import SelfTestHistory
from pcmedge_emulator.records import ModelRecord

FloatArray = NDArray[np.float32]


class Engine(Protocol):
    """What the chip asks of an engine; FastEngine and ReferenceEngine both do."""

    def run(
        self, inputs: Mapping[str, NDArray[Any]], parameters: Parameters, *, noise_seed: int | None
    ) -> dict[str, NDArray[Any]]: ...


@dataclass(frozen=True, kw_only=True)
class ProgrammedTile:
    """One tile as programming left it. ``gain`` and ``offset`` are its ADC's, per column; None for perfect ones."""

    tile: Tile
    physical: int
    dac_levels: int
    dac_mean_square: float | FloatArray
    devices: TileDevices
    baseline: GdcReading
    gain: FloatArray | None = None
    offset: FloatArray | None = None

    def conductances(
        self, age_s: float, circuits: Circuits, rng: np.random.Generator | None
    ) -> tuple[FloatArray, FloatArray]:
        """(G+, G-) in microsiemens at this age, faults included; see :func:`.crossbar.tile.conductances`."""
        found = conductances(self.devices, age_s, circuits.technology, rng)
        return circuits.faults_of(self.physical).hold(*found, self.devices.g_max_microsiemens)

    def converters(self, circuits: Circuits) -> tuple[FloatArray | None, FloatArray | None]:
        """(gain, offset) of the ADC of every column, faults included; both None for perfect ones."""
        return circuits.faults_of(self.physical).converters(
            self.gain, self.offset, self.tile.groups * self.tile.columns
        )

    def to_bytes(self) -> bytes:
        arrays = {name: getattr(self.devices, name) for name in ("g_plus", "g_minus", "nu_plus", "nu_minus")}
        arrays |= {"baseline": self.baseline.columns, "counted": self.baseline.counted}
        if self.gain is not None and self.offset is not None:
            arrays |= {"gain": self.gain, "offset": self.offset}
        return codec.pack(arrays)

    @classmethod
    def from_bytes(cls, data: bytes, image: ChipImage, tile: Tile, physical: int) -> ProgrammedTile:
        arrays = codec.unpack(data)
        devices = TileDevices(
            g_plus=arrays["g_plus"],
            g_minus=arrays["g_minus"],
            nu_plus=arrays["nu_plus"],
            nu_minus=arrays["nu_minus"],
            g_max_microsiemens=image.manifest.profile.g_max_microsiemens,
        )
        levels, mean_square = drive(image, tile)
        return cls(
            tile=tile,
            physical=physical,
            dac_levels=levels,
            dac_mean_square=mean_square,
            devices=devices,
            baseline=GdcReading(arrays["baseline"], arrays["counted"]),
            gain=arrays.get("gain"),
            offset=arrays.get("offset"),
        )


def drive(image: ChipImage, tile: Tile) -> tuple[int, float | FloatArray]:
    """(largest DAC code, mean of (code / largest code)^2) of the block a tile belongs to.

    The mean is over the calibration set and one for all rows; of a tile with a bias row, float32 [rows], that row's
    being known exactly.
    """
    layer = next(layer for layer in image.manifest.layers if layer.name == tile.layer)
    block = next(block for block in layer.blocks if block.name == tile.block)
    levels = dac_limits(image.manifest.profile.dac_bits, block.dac_signed)[1]
    if not block.bias_code or tile.first_row + tile.rows < block.rows:
        return levels, block.dac_mean_square
    squares = np.full(tile.rows, block.dac_mean_square, np.float32)
    squares[-1] = (block.bias_code / levels) ** 2
    return levels, squares


@dataclass(frozen=True, kw_only=True)
class Programmed:
    """An image on its tiles, from one programming on; nothing here changes until it is erased.

    ``profile`` is the chip's own: geometry as the image's, but the circuits' imperfections are the chip's.
    """

    image: ChipImage
    program: ChipProgram
    profile: ChipProfile
    generation: int
    tiles: tuple[ProgrammedTile, ...]

    def snapshot(
        self,
        age_s: float,
        circuits: Circuits,
        read: Callable[[int], np.random.Generator],
        idle: Callable[[int], np.random.Generator],
    ) -> Snapshot:
        """The analog state at an age. ``read`` gives the stream of 1/f noise of a physical tile, ``idle`` that of its
        unused cells."""
        nets: dict[int, FloatArray] = {}
        sigmas: dict[int, FloatArray] = {}
        sums: dict[int, FloatArray] = {}
        gains: dict[int, FloatArray] = {}
        offsets: dict[int, FloatArray] = {}
        g_max = self.profile.g_max_microsiemens
        for tile in self.tiles:
            number = tile.tile.tile
            g_plus, g_minus = tile.conductances(age_s, circuits, read(tile.physical))
            nets[number] = net(g_plus, g_minus, g_max)
            sigma = column_noise_sigma(
                g_plus, g_minus, g_max, tile.dac_levels, tile.dac_mean_square, circuits.technology
            )
            gain, offset = tile.converters(circuits)
            if self.profile.connect_idle and tile.tile.groups > 1:
                cells = idle_cells(
                    groups=tile.tile.groups,
                    rows=tile.tile.rows,
                    columns=tile.tile.columns,
                    g_max_microsiemens=g_max,
                    dac_levels=tile.dac_levels,
                    dac_mean_square=float(np.mean(tile.dac_mean_square)),
                    age_s=age_s,
                    technology=circuits.technology,
                    rng=idle(tile.physical),
                )
                alive = ~circuits.faults_of(tile.physical).dead(len(cells.offset))
                sigma = np.sqrt(np.square(sigma) + np.float32(cells.variance) * alive)
                # A current on the bit line, in DAC codes before the ADC: it passes the ADC's gain and step.
                pattern = cells.offset * alive / np.float32(tile.tile.adc_step)
                gain = np.ones_like(pattern) if gain is None else gain
                offset = gain * pattern + (np.float32(0) if offset is None else offset)
            sigmas[number] = sigma
            if circuits.read_noise == "input-dependent":
                sums[number] = total(g_plus, g_minus, g_max)
            if gain is not None and offset is not None:
                gains[number], offsets[number] = gain, offset
        if gains:
            # An engine wants those of every tile or of none.
            for number, sigma in sigmas.items():
                gains.setdefault(number, np.ones_like(sigma))
                offsets.setdefault(number, np.zeros_like(sigma))
        return Snapshot(
            conductances=nets,
            column_sigma=sigmas if circuits.read_noise == "additive" else None,
            pair_sums=sums if circuits.read_noise == "input-dependent" else None,
            noise_coefficient=circuits.technology.short_term_noise,
            gain=gains or None,
            offset=offsets or None,
            converters=circuits.converters,
            read_noise=circuits.read_noise if circuits.noisy else "off",
        )

    def engine(self, snapshot: Snapshot, circuits: Circuits) -> FastEngine | ReferenceEngine:
        if circuits.engine == "reference":
            return ReferenceEngine(self.program, snapshot)
        return FastEngine(self.program, snapshot, threads=circuits.threads, precision=circuits.precision)


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """A calibration buffer an application put in place of the image's; input name -> [samples, ...].

    ``statistics``: digital mean and variance of exactly these samples, batch norm -> float32 [C] each; None if the
    application gave none.
    """

    samples: Mapping[str, NDArray[Any]]
    statistics: Mapping[str, tuple[FloatArray, FloatArray]] | None = None

    def to_bytes(self) -> bytes:
        if self.statistics is None:
            return codec.pack(self.samples)
        # No input has an empty name (ONNX's word for "absent"), so it marks a buffer that has statistics.
        arrays: dict[str, NDArray[Any]] = {"": np.zeros(0)}
        arrays |= {f"sample\n{name}": values for name, values in self.samples.items()}
        for node, (mean, variance) in self.statistics.items():
            arrays |= {f"mean\n{node}": mean, f"variance\n{node}": variance}
        return codec.pack(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Buffer:
        arrays = codec.unpack(data)
        if "" not in arrays:
            return cls(samples=arrays)

        def part(kind: str) -> dict[str, NDArray[Any]]:
            return {name.partition("\n")[2]: v for name, v in arrays.items() if name.startswith(f"{kind}\n")}

        means, variances = part("mean"), part("variance")
        return cls(samples=part("sample"), statistics={node: (means[node], variances[node]) for node in means})


@dataclass
class Counters:
    """What a model has done since the emulator started; the only thing about it that changes in place."""

    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    inferences: int = 0
    requests: int = 0
    self_tests: int = 0
    saturated: dict[int, int] = field(default_factory=dict)
    converted: dict[int, int] = field(default_factory=dict)

    def ticket(self) -> int:
        """The number of this request since the start, from 0; it names the request's own noise."""
        with self.lock:
            self.requests += 1
            return self.requests - 1

    def self_test_ticket(self) -> int:
        """The number of this self-test since the start, from 0."""
        with self.lock:
            self.self_tests += 1
            return self.self_tests - 1

    def count(self, samples: int) -> None:
        with self.lock:
            self.inferences += samples

    def saturation(self, counts: Mapping[int, tuple[int, int]]) -> None:
        """Adds (conversions at full scale, conversions) per logical tile."""
        with self.lock:
            for tile, (saturated, converted) in counts.items():
                self.saturated[tile] = self.saturated.get(tile, 0) + saturated
                self.converted[tile] = self.converted.get(tile, 0) + converted

    def saturation_share(self, tile: int | None = None) -> float:
        """Share of conversions at full scale, of one logical tile or of all. Unit: 1."""
        with self.lock:
            saturated = sum(self.saturated.values()) if tile is None else self.saturated.get(tile, 0)
            converted = sum(self.converted.values()) if tile is None else self.converted.get(tile, 0)
        return saturated / converted if converted else 0.0


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A model as it answers at this moment.

    ``previous`` are the parameters a rollback returns to; ``buffer`` replaces the image's if there is one; ``engine``
    holds the conductances of ``engine_age_s``.
    """

    record: ModelRecord
    programmed: Programmed
    parameters: Parameters
    previous: Parameters | None
    buffer: Buffer | None
    engine: FastEngine | ReferenceEngine
    engine_age_s: float
    first_seed: int
    counters: Counters
    history: SelfTestHistory
