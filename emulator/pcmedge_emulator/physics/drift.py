"""Structural relaxation: the conductance of a PCM device falls as a power of time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]


def checked_age(age_s: float) -> float:
    """The age in seconds as a finite number >= 0; a negative one (a clock set back) counts as 0.

    Raises InputValueError for NaN and infinity.
    """
    if not math.isfinite(age_s):
        raise InputValueError(f"the age must be a finite number of seconds, found {age_s!r}", age_s=age_s)
    return max(float(age_s), 0.0)


def _relative(g_target: npt.ArrayLike, technology: Technology) -> Array:
    return np.asarray(g_target, dtype=np.float32) / np.float32(technology.g_max_microsiemens)


def drift_exponent_mean(g_target: npt.ArrayLike, technology: Technology) -> Array:
    """Mean of the drift exponent nu of devices programmed to ``g_target`` (microsiemens, any shape; result unit 1).

    pcm-90nm: clip(-0.0155 ln g + 0.0244, 0.049, 0.1) with g = max(G_T / g_max, 1e-7).
    Source: Nandakumar et al. 2019; aihwkit ``generate_drift_coefficients``.
    """
    return technology.drift_exponent_mean(_relative(g_target, technology))


def drift_exponent_std(g_target: npt.ArrayLike, technology: Technology) -> Array:
    """Device-to-device standard deviation of nu before folding (microsiemens in, any shape; result unit 1).

    pcm-90nm: clip(-0.0125 ln g - 0.0059, 0.008, 0.045). Source: as :func:`drift_exponent_mean`.
    """
    return technology.drift_exponent_std(_relative(g_target, technology))


def sample_drift_exponents(g_target: npt.ArrayLike, technology: Technology, rng: np.random.Generator) -> Array:
    """One drift exponent per device, nu = |mu_nu(G_T) + sigma_nu(G_T) xi|, drawn once when it is programmed.

    From the *target* conductance (microsiemens, any shape; result of that shape, unit 1). Source: as
    :func:`drift_exponent_mean`.
    """
    relative = _relative(g_target, technology)
    nu = technology.drift_exponent_std(relative)
    nu *= rng.standard_normal(nu.shape, dtype=np.float32)
    nu += technology.drift_exponent_mean(relative)
    return np.abs(nu, out=nu)


def drift(g_programmed: Array, nu: Array, age_s: float, t0_s: float) -> Array:
    """Conductance after structural relaxation, G(t) = G_P (t / t0)^-nu with t = age + t0.

    g_programmed in microsiemens and nu of the same shape; ``age_s`` counts from the first read, which is ``t0_s`` after
    the programming pulse, so that nothing has drifted at age 0. Negative ages count as 0; NaN and infinity raise
    InputValueError.
    Source: Joshi et al. 2020, Methods; the shift by t0 as in aihwkit.
    """
    log_ratio = math.log1p(checked_age(age_s) / t0_s)
    drifted = np.multiply(nu, np.float32(-log_ratio), dtype=np.float32)
    np.exp(drifted, out=drifted)
    drifted *= g_programmed
    return drifted
