"""The coefficients of each device technology, as frozen presets with their sources.

``pcm-90nm``: Nandakumar et al., ICECS 2019 (doi 10.1109/icecs46596.2019.8964852), the 1-million-device array of Joshi
et al. 2020, with the coefficients of aihwkit's ``PCMLikeNoiseModel``. ``pcm-14nm`` and ``pcm-14nm-single``: the 64-core
HERMES chip (Le Gallo et al. 2023), aihwkit's ``HermesNoiseModel`` with two devices or one per polarity. ``ideal``: no
physics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pcmedge.errors import InputValueError

from pcmedge_emulator.physics.curves import ZERO, CappedInversePower, ClippedLogarithm, Curve, Piecewise, Polynomial


@dataclass(frozen=True, kw_only=True)
class Technology:
    """What the devices of one technology do. Curves are functions of the relative conductance g = G / g_max.

    >>> get_technology("pcm-90nm").t0_s
    20.0
    """

    name: str
    source: str
    #: Largest conductance a device is programmed to, microsiemens: the conductance at g = 1.
    g_max_microsiemens: float
    #: The g_max the programming-noise fit was made for, microsiemens.
    g_max_reference_microsiemens: float
    #: Standard deviation of the programmed conductance, microsiemens at the reference g_max, from the target's g.
    programming_sigma: Curve
    #: Mean and standard deviation of the drift exponent, unit 1, from the target's g.
    drift_exponent_mean: Curve
    drift_exponent_std: Curve
    #: Q_s: relative standard deviation of 1/f noise per square root of ln(time), unit 1, from the programmed g.
    read_noise_q: Curve
    #: First read after programming; the drift law's reference time.
    t0_s: float
    #: Duration of one read; the upper band limit of 1/f noise is 1 / (2 t_read).
    t_read_s: float
    #: Short-term noise of one matrix-vector product, in the unit of weight x full-scale input (aihwkit w_noise,
    #: PCM_READ).
    short_term_noise: float
    #: Program-and-verify: when the verifying read happens after the pulse, and the default margin and iteration cap.
    verify_delay_s: float
    verify_margin_share: float
    verify_max_iterations: int

    @property
    def verify_margin_microsiemens(self) -> float:
        """Default accepted deviation from the target in program-and-verify, microsiemens."""
        return self.verify_margin_share * self.g_max_microsiemens

    def at_g_max(self, g_max_microsiemens: float) -> Technology:
        """The same technology driven over another conductance range.

        As in aihwkit, every curve is kept as a function of g = G / g_max and the programming noise, fitted in
        microsiemens, is scaled by g_max / g_max_reference: all relative errors stay those of the fit.

        Raises InputValueError unless g_max is finite and positive.
        """
        if not (math.isfinite(g_max_microsiemens) and g_max_microsiemens > 0):
            raise InputValueError(
                f"g_max must be a finite number of microsiemens above 0, found {g_max_microsiemens!r}",
                g_max_microsiemens=g_max_microsiemens,
            )
        return replace(self, g_max_microsiemens=float(g_max_microsiemens))


_PCM_90NM = Technology(
    name="pcm-90nm",
    source="Nandakumar et al., ICECS 2019; coefficients as in aihwkit PCMLikeNoiseModel",
    g_max_microsiemens=25.0,
    g_max_reference_microsiemens=25.0,
    programming_sigma=Polynomial((0.26348, 1.9650, -1.1731)),
    drift_exponent_mean=ClippedLogarithm(slope=-0.0155, intercept=0.0244, low=0.049, high=0.1),
    drift_exponent_std=ClippedLogarithm(slope=-0.0125, intercept=-0.0059, low=0.008, high=0.045),
    read_noise_q=CappedInversePower(scale=0.0088, exponent=0.65, floor=1e-3, cap=0.2),
    t0_s=20.0,
    t_read_s=250e-9,
    short_term_noise=0.0175,
    verify_delay_s=1e-3,
    verify_margin_share=0.03,
    verify_max_iterations=30,
)

_HERMES_DRIFT_MEAN = Piecewise(
    threshold=0.0945,
    below=ClippedLogarithm(slope=-0.0387, intercept=-0.0182, low=0.0720, high=0.13),
    above=Polynomial((0.0736, -0.0126, -0.0436)),
)

_PCM_14NM = Technology(
    name="pcm-14nm",
    source="Le Gallo et al., Nature Electronics 2023 (HERMES, two devices per polarity); aihwkit HermesNoiseModel",
    g_max_microsiemens=20.7,
    g_max_reference_microsiemens=20.7,
    programming_sigma=Polynomial((0.16603222, 4.71806468, -8.48101252, 4.68961419)),
    drift_exponent_mean=_HERMES_DRIFT_MEAN,
    drift_exponent_std=Piecewise(
        threshold=0.3055,
        below=ClippedLogarithm(slope=-0.0117, intercept=-0.0057, low=0.0091, high=0.04),
        above=Polynomial((0.0073, 0.0093, -0.0118)),
    ),
    read_noise_q=Piecewise(
        threshold=0.16,
        below=ClippedLogarithm(slope=-0.0117, intercept=-0.0069, low=0.015, high=0.04),
        above=Polynomial((0.0123, 0.0211, -0.0280, 0.0069)),
    ),
    t0_s=300.0,
    t_read_s=512e-9,
    short_term_noise=0.0175,
    verify_delay_s=1e-3,
    verify_margin_share=0.03,
    verify_max_iterations=30,
)

_PCM_14NM_SINGLE = replace(
    _PCM_14NM,
    name="pcm-14nm-single",
    source="Le Gallo et al., Nature Electronics 2023 (HERMES, one device per polarity); aihwkit HermesNoiseModel",
    g_max_microsiemens=10.35,
    g_max_reference_microsiemens=10.35,
    programming_sigma=Polynomial((0.15781817, 2.32443916, -2.16310839, 0.68841818)),
    drift_exponent_std=Piecewise(
        threshold=0.3039,
        below=ClippedLogarithm(slope=-0.0120, intercept=-0.0023, low=0.0124, high=0.04),
        above=Polynomial((0.0104, 0.0116, -0.0165)),
    ),
    read_noise_q=Piecewise(
        threshold=0.1591,
        below=ClippedLogarithm(slope=-0.0078, intercept=0.0038, low=0.0179, high=0.04),
        above=Polynomial((0.0088, 0.0768, -0.1352, 0.0664)),
    ),
    t0_s=200.0,
)

_IDEAL = Technology(
    name="ideal",
    source="no physics: programmed exactly, no drift, no noise",
    g_max_microsiemens=25.0,
    g_max_reference_microsiemens=25.0,
    programming_sigma=ZERO,
    drift_exponent_mean=ZERO,
    drift_exponent_std=ZERO,
    read_noise_q=ZERO,
    t0_s=20.0,
    t_read_s=250e-9,
    short_term_noise=0.0,
    verify_delay_s=1e-3,
    verify_margin_share=0.03,
    verify_max_iterations=30,
)

TECHNOLOGIES: Mapping[str, Technology] = MappingProxyType(
    {technology.name: technology for technology in (_PCM_90NM, _PCM_14NM, _PCM_14NM_SINGLE, _IDEAL)}
)


def get_technology(name: str | Technology) -> Technology:
    """The preset of that name (a Technology is returned as it is); InputValueError lists the known names."""
    if isinstance(name, Technology):
        return name
    try:
        return TECHNOLOGIES[name]
    except KeyError:
        known = ", ".join(TECHNOLOGIES)
        raise InputValueError(
            f"expected one of the device technologies {known}; found {name!r}", technology=name, known=known
        ) from None
