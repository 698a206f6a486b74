"""Global drift compensation (GDC): one read-out of how much a tile, or each of its columns, has lost.

The probe drives one row at a time with the largest DAC code, reads every column through the ADC in a range of its own,
and sums the magnitudes, weighted with the magnitudes of the targets. The factor is the sum right after programming over
the sum now. docs/calibration.md defines it exactly, says how far it is off, and why it is weighted.

Source: Le Gallo et al. 2018 and Joshi et al. 2020 (summed current of known cells); aihwkit ``GlobalDriftCompensation``
(one row at a time, mean magnitude) and ``PerColumnDriftCompensation``. The weighting is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge.image.targets import FULL_SCALE, Targets, full_scale

from pcmedge_emulator.crossbar.converters import adc, adc_limit
from pcmedge_emulator.crossbar.tile import net, total
from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]

SMALLEST_COUNTED_TARGET = 654.5 / FULL_SCALE
"""2 % of full scale (between two int16 codes). Below it a cell's reading is half programming noise, so a column without
a stronger one has no factor of its own."""

PROBE_HEADROOM = 1.25
"""The probing range of the ADC ends at this many times g_max: a device can be programmed above its target."""

DEFAULT_READS = 4
"""Products averaged per row."""

SMALLEST_FACTOR, LARGEST_FACTOR = 0.5, 16.0
"""Factors are clamped to this range; drift over 30 years needs about 6."""


@dataclass(frozen=True, eq=False)
class GdcReading:
    """What the probe saw: weighted sums of |(G+ - G-) / g_max| as read through the converters, unit 1.

    ``columns`` float32 [groups * columns], the sum over each column; ``counted`` int32, how many of its cells weigh at
    least :data:`SMALLEST_COUNTED_TARGET`.
    """

    columns: Array
    counted: npt.NDArray[np.int32]

    @property
    def tile(self) -> float:
        """The sum over the whole tile."""
        return float(self.columns.sum(dtype=np.float64))


def cell_weights(target: Targets) -> Array:
    """The weights of the read-out, |target| / full scale; float32, shape of the target as stored.

    Sums of |target| |g| have the slope of the conductances on their targets as their ratio, which is what a product has
    lost: strong cells carry it, and drift less than weak ones.
    """
    weights: Array = np.abs(target.astype(np.float32))
    weights *= np.float32(1 / full_scale(target.dtype))
    return weights


def counted_cells(target: Targets) -> npt.NDArray[np.bool_]:
    """Weights of the unweighted read-out, as published: 1 where |target| >= 2 % of full scale, else 0."""
    return np.abs(target.astype(np.float64)) >= SMALLEST_COUNTED_TARGET * full_scale(target.dtype)


@dataclass(frozen=True, eq=False)
class CellReadings:
    """Every cell read alone. ``codes`` float32 [groups, rows, columns]: mean ADC codes less those of a product of
    zeros, ``zeros`` float32 [groups * columns]. One code is ``step`` DAC codes, so ``step / dac_levels`` of weight 1.
    """

    codes: Array
    zeros: Array
    step: float


def read_cells(
    g_plus: Array,
    g_minus: Array,
    g_max_microsiemens: float,
    technology: Technology,
    *,
    dac_levels: int,
    adc_bits: int,
    rng: np.random.Generator | None,
    reads: int = DEFAULT_READS,
    gain: npt.ArrayLike | None = None,
    offset: npt.ArrayLike | None = None,
    ideal_converters: bool = False,
) -> CellReadings:
    """For every row r the product of the code vector ``dac_levels * e_r``, ``reads`` times; see :func:`probe`."""
    if not (g_plus.shape == g_minus.shape and g_plus.ndim == 3):
        raise InputShapeError(
            "g_plus, g_minus (and weights) must share one shape [groups, rows, columns], found "
            f"{list(g_plus.shape)}, {list(g_minus.shape)}"
        )
    if reads < 1:
        raise InputValueError(f"the read-out averages at least 1 read, found {reads}", reads=reads)
    groups, _, columns = g_plus.shape
    signal = net(g_plus, g_minus, g_max_microsiemens) * np.float32(dac_levels)
    sigma = np.float32(technology.short_term_noise * dac_levels) * np.sqrt(total(g_plus, g_minus, g_max_microsiemens))
    step = PROBE_HEADROOM * dac_levels / adc_limit(adc_bits)
    per_column = (groups, 1, columns)
    column_gain = None if gain is None else np.asarray(gain, dtype=np.float32).reshape(per_column)
    column_offset = None if offset is None else np.asarray(offset, dtype=np.float32).reshape(per_column)

    def convert(p: Array) -> Array:
        if ideal_converters:
            return p / np.float32(step)
        return adc(p, step, adc_bits, column_gain, column_offset).codes.astype(np.float32)

    zero = convert(np.zeros(per_column, dtype=np.float32))
    average = np.zeros_like(signal)
    for _ in range(reads if rng is not None else 1):
        average += convert(signal if rng is None else signal + sigma * rng.standard_normal(signal.shape, np.float32))
    average /= np.float32(reads if rng is not None else 1)
    return CellReadings(average - zero, zero.reshape(-1), step)


def probe(
    g_plus: Array,
    g_minus: Array,
    g_max_microsiemens: float,
    weights: npt.NDArray[np.float32] | npt.NDArray[np.bool_],
    technology: Technology,
    *,
    dac_levels: int,
    adc_bits: int,
    rng: np.random.Generator | None,
    reads: int = DEFAULT_READS,
    gain: npt.ArrayLike | None = None,
    offset: npt.ArrayLike | None = None,
    ideal_converters: bool = False,
) -> GdcReading:
    """Read one tile out: for every row r the product of the code vector ``dac_levels * e_r``, ``reads`` times.

    ``g_plus``, ``g_minus`` [groups, rows, columns] in microsiemens: one realisation of the conductances now, which the
    caller draws from recalibration's own stream. ``weights`` from :func:`cell_weights` (or :func:`counted_cells`).
    ``rng`` gives the short-term noise of each product (None: off). ``gain`` and ``offset`` are the ADC's, per column,
    as in :func:`pcmedge_emulator.crossbar.converters.adc`; the offset is first measured with a product of zeros and
    subtracted.

    One product reads, in DAC codes, p = L g_net + w L sqrt(g_total) xi (L = dac_levels, w the technology's short-term
    noise); its ADC step is 1.25 L / (2^(adc_bits-1) - 1).
    """
    if weights.shape != g_plus.shape:
        raise InputShapeError(
            "g_plus, g_minus and weights must share one shape [groups, rows, columns], found "
            f"{list(g_plus.shape)}, {list(g_minus.shape)}, {list(weights.shape)}"
        )
    cells = read_cells(
        g_plus,
        g_minus,
        g_max_microsiemens,
        technology,
        dac_levels=dac_levels,
        adc_bits=adc_bits,
        rng=rng,
        reads=reads,
        gain=gain,
        offset=offset,
        ideal_converters=ideal_converters,
    )
    magnitude = np.abs(cells.codes)
    magnitude *= weights
    read_out = magnitude.sum(axis=1, dtype=np.float32).reshape(-1) * np.float32(cells.step / dac_levels)
    counted = np.sum(weights >= SMALLEST_COUNTED_TARGET, axis=1, dtype=np.int32)
    return GdcReading(read_out, counted.reshape(-1))


def compensation(baseline: GdcReading, now: GdcReading, *, per_column: bool = False) -> Array:
    """The factor for the digital output: read-out at the baseline over read-out now, clamped to 0.5 .. 16.

    Float32, shape () for the tile or [groups * columns] with ``per_column``. A column without a counted cell takes the
    tile's factor, a tile without one takes 1. A read-out that has fallen to zero takes the largest factor.
    """
    if baseline.columns.shape != now.columns.shape or not np.array_equal(baseline.counted, now.counted):
        raise InputShapeError(
            f"baseline and present read-out are of different cells: {baseline.columns.shape[0]} columns with "
            f"{baseline.counted.sum()} cells, and {now.columns.shape[0]} with {now.counted.sum()}"
        )
    tile = _ratio(np.array([baseline.tile]), np.array([now.tile]), baseline.counted.sum(keepdims=True), 1.0)
    if not per_column:
        return tile.reshape(()).astype(np.float32)
    return _ratio(baseline.columns, now.columns, baseline.counted, float(tile[0])).astype(np.float32)


def _ratio(
    before: npt.NDArray[np.floating],
    now: npt.NDArray[np.floating],
    counted: npt.NDArray[np.integer],
    otherwise: float,
) -> npt.NDArray[np.float64]:
    start = before.astype(np.float64)
    readable = (counted > 0) & (start > 0)
    factor = np.full(start.shape, otherwise)
    np.divide(start, np.maximum(now, start / LARGEST_FACTOR), out=factor, where=readable)
    return np.where(readable, np.maximum(factor, SMALLEST_FACTOR), factor)
