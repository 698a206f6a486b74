"""IR drop: the wire of a bit line has resistance, so cells far from the converter see less voltage."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

NOMINAL_WIRE_RESISTANCE_OHM = 0.35
"""Per cell; aihwkit's default."""


def ir_drop(
    codes: npt.NDArray[np.generic],
    g_net: npt.NDArray[np.floating],
    *,
    dac_levels: int,
    g_max_microsiemens: float,
    scale: float = 1.0,
    wire_resistance_ohm: float = NOMINAL_WIRE_RESISTANCE_OHM,
) -> npt.NDArray[np.float64]:
    """What IR drop takes off every partial sum, in DAC codes; float64 [N, groups * columns].

    codes [N, groups, rows], g_net [groups, rows, columns], ``dac_levels`` the largest code, ``scale`` the chip
    profile's ``ir_drop`` (0 off, 1 nominal). For one column with n rows, w = g_net and x = code / dac_levels::

        a = n R_wire g_max sum_j |w_j| |x_j|          c = a (0.05 a^2 - 0.2 a + 0.5)
        drop = scale * c * sum_j w_j code_j (1 - (1 - j / n)^2),  j = 0 .. n - 1, row 0 next to the converter

    n is the number of connected rows of the column. Source: aihwkit ``applyIrDrop`` (second order, time-independent).
    """
    for what, value in (("scale", scale), ("wire resistance", wire_resistance_ohm)):
        if not (math.isfinite(value) and value >= 0):
            raise InputValueError(f"the IR-drop {what} must be finite and not negative, found {value!r}")
    samples, _, rows = codes.shape
    x = codes.astype(np.float64).transpose(1, 0, 2)
    g = g_net.astype(np.float64)
    position = 1.0 - np.square(1.0 - np.arange(rows) / rows)
    conductance_ratio = wire_resistance_ohm * g_max_microsiemens * 1e-6
    a = np.matmul(np.abs(x), np.abs(g)) * (rows * conductance_ratio / dac_levels)
    c = a * (a * (0.05 * a - 0.2) + 0.5)
    dropped: npt.NDArray[np.float64] = scale * c * np.matmul(x * position, g)
    return dropped.transpose(1, 0, 2).reshape(samples, -1)
