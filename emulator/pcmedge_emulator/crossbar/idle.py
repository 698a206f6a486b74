"""Idle cells: what the unused cells of a tile add to its columns when they stay connected (profile ``connect_idle``).

A tile that holds several groups (a depthwise convolution) uses a block diagonal. Below a column of one group lie cells
in the rows of the other groups; nobody programmed them to a weight, but those rows are driven, so their RESET devices
carry current. Rows no group uses are held at 0 V and add nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

from pcmedge_emulator.physics.drift import checked_age
from pcmedge_emulator.physics.technology import Technology


@dataclass(frozen=True, eq=False)
class IdleCells:
    """What idle cells add to each column of a tile, in DAC codes.

    ``variance`` is added to the square of the column's short-term sigma; ``offset`` [columns] is a fixed pattern, added
    to the partial sum.
    """

    variance: float
    offset: npt.NDArray[np.float32]


def idle_cells(
    *,
    groups: int,
    rows: int,
    columns: int,
    g_max_microsiemens: float,
    dac_levels: int,
    dac_mean_square: float,
    age_s: float,
    technology: Technology,
    rng: np.random.Generator,
) -> IdleCells:
    """The contribution of the n = (groups - 1) rows driven idle pairs under each of the groups * columns columns.

    A RESET device has G = max(0, s xi) with s = sigma_prog(0): mean m = s / sqrt(2 pi), variance v = s^2 (1/2 - 1/(2
    pi)). With L = ``dac_levels`` and x2 = ``dac_mean_square`` (mean of (code / L)^2) and d = (t / t0)^-nu at RESET's
    mean nu::

        variance = w^2 L^2 x2 n 2 m d / g_max                 short-term noise of 2 n devices (PCM_READ)
        offset   ~ N(0, L^2 x2 n 2 v d^2 / g_max^2)           unequal RESET devices of n pairs

    The offset is exact if the other groups' inputs keep their root mean square; where they vary, this part is noise of
    the same variance. ``rng`` must be the tile's own stream, the same at every age, so that the pattern stays. Own
    derivation from the programming model; a simplification: all idle devices drift with the mean exponent.
    """
    if min(groups, rows, columns) < 1:
        raise InputValueError(f"a tile block is at least 1 x 1 x 1, found {groups} x {rows} x {columns}")
    scaled = technology.at_g_max(g_max_microsiemens)
    reset = np.zeros(1, dtype=np.float32)
    relative_sigma = float(scaled.programming_sigma(reset)[0]) / scaled.g_max_reference_microsiemens
    drifted = (1 + checked_age(age_s) / scaled.t0_s) ** -float(scaled.drift_exponent_mean(reset)[0])
    mean = relative_sigma / math.sqrt(2 * math.pi)
    variance = relative_sigma**2 * (0.5 - 0.5 / math.pi)
    drive = dac_levels**2 * dac_mean_square * (groups - 1) * rows
    offset = rng.standard_normal(groups * columns, dtype=np.float32)
    offset *= np.float32(math.sqrt(drive * 2 * variance) * drifted)
    return IdleCells(scaled.short_term_noise**2 * drive * 2 * mean * drifted, offset)
