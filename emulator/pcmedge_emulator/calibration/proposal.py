"""What a recalibration would set: measured beside the values in force, changing nothing.

The order is that of docs/calibration.md: read the tiles out, choose the factors, measure the statistics with those
factors, look at the result. Whether it is committed is the guard's answer and the chip's deed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge._contract import image_pb2
from pcmedge.errors import CancelledError

from pcmedge_emulator.calibration import adabs
from pcmedge_emulator.calibration.gdc import cell_weights, compensation, probe
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.engine import FastEngine, Parameters, ReferenceEngine
from pcmedge_emulator.outcomes import Method
from pcmedge_emulator.resident import Programmed

FloatArray = NDArray[np.float32]
Statistics = dict[str, tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """``median_factor`` is over all tiles, applied or not; ``mean_shift`` as in RecalibrationOutcome. Unit: 1.

    ``drift_compensation``: what global drift compensation alone would set on the same read, for the guard.
    """

    parameters: Parameters
    drift_compensation: Parameters
    samples: int
    median_factor: float
    mean_shift: float


def choose_method(
    asked: Method, *, has_statistics: bool, buffer_samples: int, has_reference: bool
) -> tuple[Method, str, str]:
    """(method, message, refusal) for what was asked and what there is; one of message and refusal may be set.

    ``has_statistics``: the program has batch norms. ``has_reference``: digital statistics exist for this buffer.
    """
    if asked is Method.DEFAULT:
        if not has_statistics:
            return Method.GDC, "the model has no batch-norm statistics: global drift compensation alone", ""
        if not buffer_samples:
            return Method.GDC, "there is no calibration buffer: global drift compensation alone", ""
        if not has_reference:
            message = "no digital reference statistics exist for this buffer: statistics as published, not paired"
            return Method.ADABS, message, ""
        return Method.ADABS_PAIRED, "", ""
    if asked in (Method.ADABS, Method.ADABS_PAIRED):
        if not has_statistics:
            return asked, "", "the model has no batch-norm statistics to adapt; use global drift compensation"
        if not buffer_samples:
            return asked, "", "there is no calibration buffer; replace it, or use global drift compensation"
        if asked is Method.ADABS_PAIRED and not has_reference:
            return asked, "", "no digital reference statistics exist for this buffer; use the method 'adabs'"
    return asked, "", ""


def read_out(
    programmed: Programmed,
    age_s: float,
    circuits: Circuits,
    read: Callable[[int], np.random.Generator],
    products: Callable[[int], np.random.Generator],
    *,
    per_column: bool = False,
) -> dict[int, FloatArray]:
    """Drift factor of every logical tile now, float32 of shape () or [groups * columns].

    ``read`` and ``products`` give the streams of a physical tile for 1/f noise and for the noise of each product.
    """
    factors = {}
    for tile in programmed.tiles:
        gain, offset = tile.converters(circuits)
        now = probe(
            *tile.conductances(age_s, circuits, read(tile.physical)),
            programmed.profile.g_max_microsiemens,
            cell_weights(programmed.image.target(tile.tile)),
            circuits.technology,
            dac_levels=tile.dac_levels,
            adc_bits=programmed.profile.adc_bits,
            rng=products(tile.physical) if circuits.noisy else None,
            gain=gain,
            offset=offset,
            ideal_converters=circuits.converters == "ideal",
        )
        factors[tile.tile.tile] = compensation(tile.baseline, now, per_column=per_column)
    return factors


def median_factor(factors: Mapping[int, FloatArray]) -> float:
    """Median over tiles of the (mean) factor; 1 for a program without tiles. Unit: 1."""
    return float(np.median([float(np.mean(factor)) for factor in factors.values()])) if factors else 1.0


def _applied(programmed: Programmed, factors: dict[int, FloatArray], everywhere: bool) -> dict[int, float | FloatArray]:
    """The factors that are applied: where no batch norm follows always, elsewhere if asked."""
    followed = {
        layer.name
        for layer in programmed.image.manifest.layers
        if layer.statistics_kind not in (image_pb2.STATISTICS_KIND_UNSPECIFIED, image_pb2.STATISTICS_KIND_NONE)
    }
    return {
        tile.tile.tile: _scalar(factors[tile.tile.tile])
        for tile in programmed.tiles
        if everywhere or tile.tile.layer not in followed
    }


def _scalar(factor: FloatArray) -> float | FloatArray:
    return float(factor) if factor.ndim == 0 else factor


def image_statistics(programmed: Programmed) -> Statistics:
    """Node -> (mean, variance) as compiled."""
    return {node: (norm.mean, norm.var) for node, norm in programmed.program.statistics.items()}


def propose(
    method: Method,
    programmed: Programmed,
    in_force: Parameters,
    reads: Sequence[Callable[[], tuple[FastEngine | ReferenceEngine, int]]],
    factors: dict[int, FloatArray],
    buffer: Mapping[str, NDArray[Any]],
    *,
    digital: Mapping[str, tuple[FloatArray, FloatArray]] | None,
    gdc_everywhere: bool,
    batches: int,
    batch_size: int,
    progress: Callable[[str, int, int], None],
    cancelled: Callable[[], bool],
) -> Proposal:
    """The parameters a method gives. ``reads``: each gives an engine with the conductances of one read of the chip and
    the seed of its products' noise; statistics are measured on every one and averaged.

    GDC sets factors on every tile and takes the image's statistics; the adaptive methods set statistics, and factors
    where no batch norm follows (everywhere with ``gdc_everywhere``). ``digital``: statistics of exactly the buffer,
    what the paired method compares with.
    """
    adaptive = method in (Method.ADABS, Method.ADABS_PAIRED)
    applied = _applied(programmed, factors, gdc_everywhere or not adaptive)
    running = {**image_statistics(programmed), **in_force.statistics}
    measuring = Parameters(drift_factors=applied, statistics=running)
    measured: list[Mapping[str, tuple[FloatArray, FloatArray]]] = []
    samples = 0
    for number, read in enumerate(reads if adaptive else ()):
        if cancelled():
            raise CancelledError("The recalibration was cancelled while measuring; the statistics are as before.")
        engine, seed = read()
        if method is Method.ADABS_PAIRED:
            samples = adabs.sample_count(buffer)
            measured.append(engine.measure(buffer, measuring, method="paired", reference=digital, noise_seed=seed))
            progress("measure", number + 1, len(reads))
            continue
        # One generator for all mini-batches of a read: every product of every one has noise of its own.
        products = np.random.default_rng(seed)
        statistics, samples = adabs.published(
            partial(_batch_moments, engine, measuring, products),
            buffer,
            running,
            batches=batches,
            batch_size=batch_size,
            progress=partial(_read_progress, progress, number, len(reads)),
            cancelled=cancelled,
        )
        measured.append(statistics)
    statistics = adabs.averaged(measured) if measured else {}
    return Proposal(
        parameters=Parameters(drift_factors=applied, statistics=statistics),
        drift_compensation=Parameters(drift_factors=_applied(programmed, factors, everywhere=True)),
        samples=samples,
        median_factor=median_factor(factors),
        mean_shift=_mean_shift({**image_statistics(programmed), **statistics}, running, programmed),
    )


def _batch_moments(
    engine: FastEngine | ReferenceEngine,
    parameters: Parameters,
    products: np.random.Generator,
    inputs: Mapping[str, NDArray[Any]],
) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    return engine.measure(inputs, parameters, method="batch", noise_seed=products)


def _read_progress(progress: Callable[[str, int, int], None], read: int, reads: int, done: int, total: int) -> None:
    """Mini-batches of all reads."""
    progress("measure", read * total + done, reads * total)


def _mean_shift(new: Statistics, old: Statistics, programmed: Programmed) -> float:
    """Root mean square over all channels of (new - old mean) in the image's standard deviations. Unit: 1."""
    shifts = [
        np.square(np.asarray(new[node][0], np.float64) - old[node][0]) / (norm.var.astype(np.float64) + norm.epsilon)
        for node, norm in programmed.program.statistics.items()
    ]
    return float(np.sqrt(np.mean(np.concatenate(shifts)))) if shifts else 0.0
