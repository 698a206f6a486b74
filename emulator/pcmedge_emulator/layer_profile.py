"""One emulated chip asked where its time goes and which of its converters are at full scale, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from numpy.typing import NDArray
from pcmedge.errors import InternalError
from pcmedge.image import ChipImage

from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.engine import FastEngine, Precision
from pcmedge_emulator.engine.layer_times import RunTimes, run_times


@dataclass(frozen=True)
class LayerMeasurements:
    """``times`` of this processor; ``saturation``: layer -> share of its ADC codes at full scale (unit 1)."""

    times: RunTimes
    saturation: Mapping[str, float]


def measure_layers(
    image: ChipImage,
    inputs: Mapping[str, NDArray[Any]],
    *,
    physics: str,
    read_noise: str,
    precision: str,
    seed: int,
    age_s: float,
    threads: int,
    runs: int,
) -> LayerMeasurements:
    """Program a chip of its own, age it without compensation, and measure one batch of ``inputs`` on it.

    Raises what programming and inference raise.
    """
    with Chip(
        technology=physics,
        seed=seed,
        clock=Clock.manual(),
        read_noise=read_noise,
        precision=precision,
        threads=threads,
        default_policy=MANUAL,
    ) as chip:
        chip.program(image)
        chip.advance(age_s)
        resident = chip._state.resident(image.name)
        engine = resident.engine
        if not isinstance(engine, FastEngine):
            raise InternalError("profiles are taken of the fast engine")
        # A native read-out computes what is digital together with an analog layer; a profile tells them apart.
        arithmetic = cast(Precision, precision)  # the chip has looked at it
        engine = FastEngine(engine.program, engine.snapshot, threads=threads, precision=arithmetic, native=False)
        times = run_times(engine, inputs, resident.parameters, runs=runs, threads=threads)
        _, table = engine.run_with_saturation(inputs, resident.parameters, noise_seed=0)
    codes: dict[str, list[int]] = {}
    for tile in image.tiles():
        saturated, converted = table.get(tile.tile, (0, 0))
        sums = codes.setdefault(tile.layer, [0, 0])
        sums[0] += saturated
        sums[1] += converted
    return LayerMeasurements(times, {layer: at / of if of else 0.0 for layer, (at, of) in codes.items()})
