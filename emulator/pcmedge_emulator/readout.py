"""How programmed tiles are read at an age: by inference, on a log-time grid, and by recalibration on its own.

Inference and recalibration see different realisations of the same read noise, so that no recalibration fits the noise
of the requests it serves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.calibration.proposal import read_out
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.engine import FastEngine, ReferenceEngine
from pcmedge_emulator.resident import Programmed
from pcmedge_emulator.streams import Streams, cell_start_s, log_time_cell

FloatArray = NDArray[np.float32]

GRID_RATIO = 1.05
"""Conductances are refreshed whenever 1 + age / t0 has grown by this ratio: G moves by 0.3 % from cell to cell."""


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Immutable; replaced whole when circuits, faults or the realisation change.

    ``realisation``: of the accumulated read noise that inference sees. ``same_read``: recalibration sees it, too (for
    studies).
    """

    circuits: Circuits
    streams: Streams
    realisation: int = 0
    same_read: bool = False

    # ------------------------------------------------------------------------------------------------------- inference

    def cell_start_s(self, age_s: float) -> float:
        """Where the cell of the log-time grid begins in which an age lies. Seconds."""
        return cell_start_s(self._cell(age_s), self.circuits.technology.t0_s, GRID_RATIO)

    def next_cell_s(self, age_s: float) -> float:
        """The age at which the next cell begins. Seconds."""
        return cell_start_s(self._cell(age_s) + 1, self.circuits.technology.t0_s, GRID_RATIO)

    def _cell(self, age_s: float) -> int:
        return log_time_cell(age_s, self.circuits.technology.t0_s, GRID_RATIO)

    def inference_engine(self, programmed: Programmed, age_s: float) -> FastEngine | ReferenceEngine:
        """The engine of one age, warmed up so that no request pays for it."""
        generation = programmed.generation
        snapshot = programmed.snapshot(
            age_s,
            self.circuits,
            lambda tile: self._inference_stream(programmed, tile, age_s),
            lambda tile: self.streams.idle(generation, tile),
        )
        engine = programmed.engine(snapshot, self.circuits)
        inputs, _ = programmed.image.reference_set()
        if sample_count(inputs) and isinstance(engine, FastEngine):
            engine.run({name: values[:1] for name, values in inputs.items()}, noise_seed=0)
        return engine

    def _inference_stream(self, programmed: Programmed, tile: int, age_s: float) -> np.random.Generator:
        return self.streams.inference(programmed.generation, tile, self._cell(age_s), self.realisation)

    # --------------------------------------------------------------------------------------------------- recalibration

    def recalibration_engine(self, programmed: Programmed, age_s: float, read: int) -> FastEngine | ReferenceEngine:
        """The engine of one age with recalibration's own realisation number ``read`` of the read noise."""
        snapshot = programmed.snapshot(
            age_s,
            self.circuits,
            lambda tile: self._recalibration_stream(programmed, tile, age_s, read),
            lambda tile: self.streams.idle(programmed.generation, tile),
        )
        return programmed.engine(snapshot, self.circuits)

    def drift_factors(
        self, programmed: Programmed, age_s: float, read: int, *, per_column: bool = False
    ) -> dict[int, FloatArray]:
        """Measured with realisation ``read``: of every logical tile, float32 of shape () or [groups * columns]."""
        return read_out(
            programmed,
            age_s,
            self.circuits,
            lambda tile: self._recalibration_stream(programmed, tile, age_s, read),
            lambda tile: self.streams.recalibration_products(read, tile),
            per_column=per_column,
        )

    def _recalibration_stream(self, programmed: Programmed, tile: int, age_s: float, read: int) -> np.random.Generator:
        """1/f noise of a physical tile; inference's own only with ``same_read``."""
        if self.same_read:
            return self._inference_stream(programmed, tile, age_s)
        return self.streams.recalibration(read, tile)
