"""What is compared between the two simulators, quantity by quantity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ks import Comparison, compare
from pcmedge_emulator.physics import Technology
from pcmedge_emulator.physics.curves import CappedInversePower, ClippedLogarithm, Polynomial
from samples import CHIPS, MOMENTS, Devices, OurChips, TheirChips

LEVELS: Mapping[str, tuple[float, float]] = {
    "RESET": (-1.0, 0.0),
    "0 to 0.1": (0.0, 0.1),
    "0.1 to 0.3": (0.1, 0.3),
    "0.3 to 0.6": (0.3, 0.6),
    "0.6 to 1": (0.6, 1.0),
}
"""Ranges (low, high] of the target's g."""


def device_comparisons(
    ours: Devices, theirs: Devices, technology: Technology, moments: Mapping[str, float] = MOMENTS
) -> list[Comparison]:
    """Every quantity of single devices: G, its error, the drift exponent, and the read noise by itself."""
    g = ours.target / technology.g_max_microsiemens
    result: list[Comparison] = []
    for level, (low, high) in LEVELS.items():
        member = (g > low) & (g <= high)
        result.append(_compare("G - target", level, "programmed", member, *_errors(ours, theirs, None)))
        result.append(_compare("drift exponent", level, "programmed", member, ours.nu, theirs.nu))
        for moment, age_s in moments.items():
            result.append(_compare("G - target", level, moment, member, *_errors(ours, theirs, moment)))
            noise = (_read_noise(each, moment, age_s, technology) for each in (ours, theirs))
            result.append(_compare("read noise / G", level, moment, member, *noise))
    in_use = g > 0
    for moment in (None, *moments):
        pair = (each.programmed if moment is None else each.at[moment] for each in (ours, theirs))
        result.append(_compare("G", "all but RESET", moment or "programmed", in_use, *pair))
    return result


def _compare(
    quantity: str, level: str, moment: str, member: np.ndarray, ours: np.ndarray, theirs: np.ndarray
) -> Comparison:
    first, second = ours[member], theirs[member]
    return compare(quantity, level, moment, first[np.isfinite(first)], second[np.isfinite(second)])


def _errors(ours: Devices, theirs: Devices, moment: str | None) -> tuple[np.ndarray, np.ndarray]:
    if moment is None:
        return ours.programmed - ours.target, theirs.programmed - theirs.target
    return ours.at[moment] - ours.target, theirs.at[moment] - theirs.target


def _read_noise(devices: Devices, moment: str, age_s: float, technology: Technology) -> np.ndarray:
    """What is left of a conductance when its own drift is divided out; NaN for a device at exactly 0."""
    drifted = devices.programmed * (1 + age_s / technology.t0_s) ** -devices.nu
    return np.divide(devices.at[moment], drifted, out=np.full_like(drifted, np.nan), where=drifted > 0) - 1


WEIGHT_MOMENTS: Mapping[str, float | None] = {"programmed": None, "first read": 0.0, **MOMENTS}
"""When net weights are compared: as programmed, without read noise; at age 0; and later."""

VARIANTS: Mapping[str, dict[str, bool]] = {
    "as they are": {},
    "net weight kept": {"fold": True},
    "scale recomputed": {"rescale": True},
    "both": {"fold": True, "rescale": True},
}
"""Our chips as they are, and with the differences to aihwkit given up one at a time and together."""


def weight_errors(weights: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Two views of w - w_target [chips, weights], each counted in the direction of the target's sign.

    "error" as it is; "compensated error" after dividing each chip by its own least-squares slope on the target, the
    best that one global drift factor can do.
    """
    slope = weights @ wanted / (wanted @ wanted)
    sign = np.sign(wanted)
    return {
        "weight error": ((weights - wanted) * sign).reshape(-1),
        "compensated weight error": ((weights / slope[:, np.newaxis] - wanted) * sign).reshape(-1),
    }


Spread = dict[tuple[str, str], tuple[float, float]]
"""Root mean square of (ours, theirs) by quantity and moment."""


def weight_comparisons(ours: OurChips, theirs: TheirChips, variant: str) -> tuple[list[Comparison], Spread]:
    """Comparisons of net weights at every moment, and the root mean square errors there."""
    wanted = theirs.wanted.numpy().reshape(-1).astype(np.float64)
    found: list[Comparison] = []
    spread: Spread = {}
    for moment, age_s in WEIGHT_MOMENTS.items():
        first = weight_errors(ours.weights(age_s, **VARIANTS[variant]), wanted)
        second = weight_errors(theirs.weights(age_s), wanted)
        for quantity in first:
            found.append(compare(quantity, "all", moment, first[quantity], second[quantity]))
            spread[quantity, moment] = (_root_mean_square(first[quantity]), _root_mean_square(second[quantity]))
    return found, spread


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def perturbed(technology: Technology, share: float = 0.05) -> dict[str, Technology]:
    """The technology with one coefficient wrong by a share of itself, for every coefficient of ``pcm-90nm``."""
    wrong = 1 + share
    result: dict[str, Technology] = {}
    programming, q = technology.programming_sigma, technology.read_noise_q
    assert isinstance(programming, Polynomial)
    assert isinstance(q, CappedInversePower)
    for index in range(len(programming.coefficients)):
        changed = tuple(c * wrong if i == index else c for i, c in enumerate(programming.coefficients))
        result[f"programming c{index}"] = replace(technology, programming_sigma=Polynomial(changed))
    for field, title in (("drift_exponent_mean", "mean of nu"), ("drift_exponent_std", "spread of nu")):
        curve = getattr(technology, field)
        assert isinstance(curve, ClippedLogarithm)
        for name in ("slope", "intercept", "low", "high"):
            changed_curve = replace(curve, **{name: getattr(curve, name) * wrong})
            result[f"{title}: {name}"] = replace(technology, **{field: changed_curve})
    for name in ("scale", "exponent", "cap"):
        changed_q = replace(q, **{name: getattr(q, name) * wrong})
        result[f"read noise Q: {name}"] = replace(technology, read_noise_q=changed_q)
    result["t0"] = replace(technology, t0_s=technology.t0_s * wrong)
    return result


NEEDS_MORE = "spread of nu: intercept"
"""5 % of this coefficient is at most 3.7 % of the spread, and over a narrow range of g only."""
MORE_CHIPS = 4 * CHIPS
"""Programmings with which it shows; drift exponents and programming errors only."""
