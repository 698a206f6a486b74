"""The published device models, written out once more from the papers and in float64, for the tests to compare with.

Nandakumar et al., ICECS 2019, and the HERMES chip (Le Gallo et al. 2023), with the coefficients of aihwkit. g = G /
g_max.
"""

from __future__ import annotations

import math


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def safe_log(g: float) -> float:
    return math.log(max(g, 1e-7))


def programming_sigma(name: str, g: float) -> float:
    """Microsiemens at the technology's own g_max."""
    if name == "pcm-90nm":
        return 0.26348 + 1.9650 * g - 1.1731 * g**2
    if name == "pcm-14nm":
        return 0.16603222 + 4.71806468 * g - 8.48101252 * g**2 + 4.68961419 * g**3
    return 0.15781817 + 2.32443916 * g - 2.16310839 * g**2 + 0.68841818 * g**3


def drift_exponent(name: str, g: float) -> tuple[float, float]:
    """Mean and standard deviation before folding."""
    if name == "pcm-90nm":
        return (
            clip(-0.0155 * safe_log(g) + 0.0244, 0.049, 0.1),
            clip(-0.0125 * safe_log(g) - 0.0059, 0.008, 0.045),
        )
    mean = clip(-0.0387 * safe_log(g) - 0.0182, 0.0720, 0.13) if g < 0.0945 else -0.0436 * g**2 - 0.0126 * g + 0.0736
    if name == "pcm-14nm":
        low = clip(-0.0117 * safe_log(g) - 0.0057, 0.0091, 0.04)
        return mean, low if g < 0.3055 else -0.0118 * g**2 + 0.0093 * g + 0.0073
    low = clip(-0.0120 * safe_log(g) - 0.0023, 0.0124, 0.04)
    return mean, low if g < 0.3039 else -0.0165 * g**2 + 0.0116 * g + 0.0104


def read_noise_q(name: str, g: float) -> float:
    if name == "pcm-90nm":
        return min(0.0088 / max(g**0.65, 1e-3), 0.2)
    if name == "pcm-14nm":
        if g < 0.16:
            return clip(-0.0117 * safe_log(g) - 0.0069, 0.015, 0.04)
        return 0.0069 * g**3 - 0.0280 * g**2 + 0.0211 * g + 0.0123
    if g < 0.1591:
        return clip(-0.0078 * safe_log(g) + 0.0038, 0.0179, 0.04)
    return 0.0664 * g**3 - 0.1352 * g**2 + 0.0768 * g + 0.0088


G_MAX = {"pcm-90nm": 25.0, "pcm-14nm": 20.7, "pcm-14nm-single": 10.35}
T0_S = {"pcm-90nm": 20.0, "pcm-14nm": 300.0, "pcm-14nm-single": 200.0}
T_READ_S = {"pcm-90nm": 250e-9, "pcm-14nm": 512e-9, "pcm-14nm-single": 512e-9}


def read_noise_share(name: str, g: float, age_s: float) -> float:
    """sigma_read / G(t)."""
    t = age_s + T0_S[name]
    return read_noise_q(name, g) * math.sqrt(math.log((t + T_READ_S[name]) / (2 * T_READ_S[name])))
