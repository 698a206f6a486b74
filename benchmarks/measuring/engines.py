"""pcmedge's engines on one chip's conductances: what is compared with digital inference and with other simulators."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import Error
from pcmedge_emulator.crossbar.tile import column_noise_sigma, conductances, net, program_tile
from pcmedge_emulator.engine import ChipProgram, FastEngine, Snapshot
from pcmedge_emulator.engine.native.library import state
from pcmedge_emulator.physics import get_technology, stream
from pcmedge_emulator.resident import drive

from benchmarks.measuring.networks import Workload

DAY_S = 86400.0
Precision = Literal["exact", "turbo"]
ReadNoise = Literal["off", "additive"]


class EngineAbsent(Exception):
    """This engine is not in this version, or not for this processor; the message says which."""


@dataclass(frozen=True)
class Aged:
    """One ``pcm-90nm`` chip a day after programming: the conductances, and the noise of a product at each column."""

    program: ChipProgram
    conductances: dict[int, NDArray[np.float32]]
    sigma: dict[int, NDArray[np.float32]]

    @classmethod
    def of(cls, workload: Workload, age_s: float = DAY_S) -> Aged:
        image, technology = workload.image, get_technology("pcm-90nm")
        g_max = image.manifest.profile.g_max_microsiemens
        nets, sigmas = {}, {}
        for tile in image.tiles():
            devices, _ = program_tile(
                image.target(tile), g_max, technology, stream("benchmark", 0, "program", tile.tile)
            )
            pair = conductances(devices, age_s, technology, stream("benchmark", 0, "read", tile.tile))
            nets[tile.tile] = net(*pair, g_max)
            sigmas[tile.tile] = column_noise_sigma(*pair, g_max, *drive(image, tile), technology)
        return cls(ChipProgram.from_image(image), nets, sigmas)

    def engine(self, precision: Precision, read_noise: ReadNoise, threads: int, *, native: bool = True) -> FastEngine:
        """``read_noise`` "off": noise is frozen in the conductances; "additive": every product has its own beside it.
        ``native``: with compiled read-outs, which are waited for, where they can be had.

        Raises :class:`EngineAbsent`.
        """
        snapshot = Snapshot(conductances=self.conductances, column_sigma=self.sigma, read_noise=read_noise)
        settings: dict[str, Any] = {"threads": threads, "native": native}
        if native:
            state(wait=True)
        if precision != "exact":
            if "precision" not in inspect.signature(FastEngine).parameters:
                raise EngineAbsent(f'this version has no precision="{precision}"')
            settings["precision"] = precision
        try:
            return FastEngine(self.program, snapshot, **settings)
        except Error as problem:
            raise EngineAbsent(problem.message) from problem

    @property
    def input(self) -> str:
        return self.program.inputs[0].name
