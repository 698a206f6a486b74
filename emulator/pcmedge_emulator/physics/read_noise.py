"""Read noise on two time scales: 1/f noise accumulated since programming, and the fresh noise of every product.

The first is one realisation per evaluation of the conductances; the second is drawn for each matrix-vector product
(MVM).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.physics.drift import checked_age
from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]


def accumulated_read_noise_share(g_programmed: Array, since_programming_s: float, technology: Technology) -> Array:
    """Relative standard deviation of 1/f noise a time t after the pulse, Q_s(G_P) sqrt(ln((t + t_read) / (2 t_read))).

    The power spectrum Q_s^2 G^2 / f integrated from 1 / (t + t_read) to 1 / (2 t_read). g_programmed in microsiemens,
    any shape; t in seconds since the pulse, at least t_read; the result, of that shape, has unit 1.
    Source: Nandakumar et al. 2019; aihwkit ``apply_drift_noise_to_conductance``.
    """
    t_read = technology.t_read_s
    share = technology.read_noise_q(g_programmed / np.float32(technology.g_max_microsiemens))
    share *= np.float32(math.sqrt(math.log(max((since_programming_s + t_read) / (2 * t_read), 1.0))))
    return share


def accumulated_read_noise_sigma(g_drifted: Array, g_programmed: Array, age_s: float, technology: Technology) -> Array:
    """Standard deviation of accumulated 1/f noise, sigma = G(t) Q_s(G_P) sqrt(ln((t + t_read) / (2 t_read))).

    Conductances in microsiemens, all of one shape; t = age + t0 as in :func:`pcmedge_emulator.physics.drift.drift`, so
    that devices are noisy at age 0 already. Source: as :func:`accumulated_read_noise_share`.
    """
    sigma = accumulated_read_noise_share(g_programmed, checked_age(age_s) + technology.t0_s, technology)
    sigma *= g_drifted
    return sigma


def read(
    g_drifted: Array, g_programmed: Array, age_s: float, technology: Technology, rng: np.random.Generator
) -> Array:
    """One realisation of the conductances at this age, G = max(0, G(t) + sigma(t) xi) with xi ~ N(0, 1) per device.

    Conductances in microsiemens, all of one shape. Source: aihwkit ``apply_drift_noise_to_conductance``.
    """
    result = accumulated_read_noise_sigma(g_drifted, g_programmed, age_s, technology)
    result *= rng.standard_normal(result.shape, dtype=np.float32)
    result += g_drifted
    return np.maximum(result, np.float32(0), out=result)


def short_term_sigma(g_total: Array, dac_levels: int, dac_mean_square: float | Array, technology: Technology) -> Array:
    """Additive form: noise of one MVM per column at the calibration set's mean square input, in DAC codes.

    sigma = w sqrt(x2 sum_j g_total_j) L: ``g_total`` = (G+ + G-) / g_max [..., rows, columns] (both devices of a pair
    carry current, both make noise), ``dac_levels`` L the largest DAC code, ``dac_mean_square`` x2 the mean of
    (code / L)^2, of all rows or [rows] of each (a bias row is always driven with the same code). Result [..., columns].
    Source: aihwkit noise type PCM_READ with w_noise = 0.0175 (Rasch et al. 2023), there with |G+ - G-|.
    """
    if isinstance(dac_mean_square, np.ndarray):
        driven: Array = np.einsum("...rc,r->...c", g_total, dac_mean_square.astype(np.float32))
        return np.float32(technology.short_term_noise * dac_levels) * np.sqrt(driven)
    scale = technology.short_term_noise * dac_levels * math.sqrt(dac_mean_square)
    sigma: Array = np.float32(scale) * np.sqrt(g_total.sum(axis=-2, dtype=np.float32))
    return sigma


def input_dependent_sigma(
    codes: npt.NDArray[np.generic], g_total: npt.NDArray[np.floating], technology: Technology
) -> npt.NDArray[np.float64]:
    """Exact form: noise of each MVM and column, sigma = w sqrt(sum_j g_total_j code_j^2), in DAC codes.

    codes [N, groups, rows], g_total [groups, rows, columns] = (G+ + G-) / g_max. Result [N, groups * columns], float64.
    Source: as :func:`short_term_sigma`.
    """
    squares = np.square(codes.astype(np.float64)).transpose(1, 0, 2)
    variance = np.matmul(squares, g_total.astype(np.float64)).transpose(1, 0, 2)
    sigma: npt.NDArray[np.float64] = technology.short_term_noise * np.sqrt(variance.reshape(len(codes), -1))
    return sigma
