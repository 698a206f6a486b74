"""The chip's named randomness: which stream serves which purpose.

Every stream is a function of serial number, seed, purpose and index (:func:`pcmedge_emulator.physics.random.stream`),
so a device can be reproduced and one more draw somewhere changes no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pcmedge_emulator.physics.random import stream


@dataclass(frozen=True)
class Streams:
    """The streams of one device.

    Tiles are physical ones; ``generation`` is the program generation, so that programming again draws anew.
    """

    serial: str
    seed: int

    def programming(self, generation: int, tile: int) -> np.random.Generator:
        """Programming noise and drift exponents of one tile."""
        return stream(self.serial, self.seed, "programming", generation, tile)

    def baseline(self, generation: int, tile: int) -> tuple[np.random.Generator, np.random.Generator]:
        """The read-out right after programming: (1/f noise, noise of each product)."""
        return (
            stream(self.serial, self.seed, "baseline", generation, tile),
            stream(self.serial, self.seed, "baseline-products", generation, tile),
        )

    def converters(self, tile: int) -> np.random.Generator:
        """ADC gain and offset of a tile's columns: the circuit's, whatever is programmed."""
        return stream(self.serial, self.seed, "converters", tile)

    def idle(self, generation: int, tile: int) -> np.random.Generator:
        """The RESET devices in the unused cells of a tile."""
        return stream(self.serial, self.seed, "idle", generation, tile)

    def inference(self, generation: int, tile: int, cell: int, realisation: int) -> np.random.Generator:
        """1/f read noise that inference sees, per cell of the log-time grid; ``realisation`` is 0 outside studies."""
        return stream(self.serial, self.seed, "inference", generation, tile, cell, realisation)

    def recalibration(self, read: int, tile: int) -> np.random.Generator:
        """1/f read noise that a recalibration or its guard sees; ``read`` counts such reads over the device's life."""
        return stream(self.serial, self.seed, "recalibration", read, tile)

    def recalibration_products(self, read: int, tile: int) -> np.random.Generator:
        """Noise of each product of the read-out of a recalibration."""
        return stream(self.serial, self.seed, "recalibration-products", read, tile)

    def recalibration_seed(self, read: int) -> int:
        """Seed of the noise of each product while a recalibration or its guard runs the network."""
        return int(stream(self.serial, self.seed, "recalibration-network", read).integers(2**48))

    def self_tests(self, generation: int, boot: int) -> int:
        """First seed of the noise of each product of self-tests; one takes the next number, and none of a request's."""
        return int(stream(self.serial, self.seed, "self-tests", generation, boot).integers(2**48))

    def diagnosis(self, number: int, tile: int) -> np.random.Generator:
        """1/f read noise of reading a tile back."""
        return stream(self.serial, self.seed, "diagnosis", number, tile)

    def fault(self, number: int) -> np.random.Generator:
        """Which devices an injected fault hits, and how."""
        return stream(self.serial, self.seed, "fault", number)

    def born(self, kind: str, tile: int) -> np.random.Generator:
        """How many faults of a kind a tile comes with, and on which lines."""
        return stream(self.serial, self.seed, f"born-{kind}", tile)

    def products(self, generation: int, boot: int) -> int:
        """First seed of the noise of each product of inferences; a request takes the next number."""
        return int(stream(self.serial, self.seed, "products", generation, boot).integers(2**48))


def log_time_cell(age_s: float, t0_s: float, ratio: float) -> int:
    """The cell of the log-time grid an age lies in: floor(ln(1 + age / t0) / ln(ratio))."""
    # The tiny addend keeps the start of a cell, computed by cell_start_s, in that cell.
    return math.floor(math.log1p(age_s / t0_s) / math.log(ratio) + 1e-9)


def cell_start_s(cell: int, t0_s: float, ratio: float) -> float:
    """The age at which a cell begins. Seconds."""
    return t0_s * math.expm1(cell * math.log(ratio))
