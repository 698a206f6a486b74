"""What noise-aware training adds, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Literal

from pcmedge.errors import InputTypeError, InputValueError

ETA_JOSHI = 0.038
"""Relative weight noise sigma_dG / g_max = 0.94 uS / 25 uS of Joshi et al. 2020 (Nat. Commun. 11:2473)."""

CLIP_SIGMA = 2.5
"""Clipping bound in standard deviations of a layer's weights; Joshi et al. 2020 use 2.0 to 2.5."""


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """The terms of noise-aware training; comparable, printable, immutable.

    ``eta``: standard deviation of the weight noise, as a share of w_max (unit 1).
    ``clip_sigma``: ``clip()`` bounds a layer's weights to this many of their standard deviations; None: no clipping.
    ``scaling``: w_max is the largest |w| of the weight ("layer") or of each output ("column"), as the compiler maps it.
    ``dac_bits``, ``adc_bits``: quantise the layer's input and output in the forward pass; None: leave them alone.
    ``range_momentum``: share of the newest batch in the tracked converter ranges (unit 1).
    ``seed``: draw the noise from streams of this seed instead of torch's global generator.

    Raises InputTypeError for what is no number (of bits and seeds: no integer), InputValueError out of range.
    """

    eta: float = ETA_JOSHI
    clip_sigma: float | None = CLIP_SIGMA
    scaling: Literal["layer", "column"] = "layer"
    dac_bits: int | None = None
    adc_bits: int | None = None
    range_momentum: float = 0.1
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, kind, value in (
            ("eta", (int, float), self.eta),
            ("clip_sigma", (int, float, NoneType), self.clip_sigma),
            ("range_momentum", (int, float), self.range_momentum),
            ("dac_bits", (int, NoneType), self.dac_bits),
            ("adc_bits", (int, NoneType), self.adc_bits),
            ("seed", (int, NoneType), self.seed),
        ):
            if not isinstance(value, kind) or isinstance(value, bool):
                expected = "a number" if float in kind else "an integer"
                raise InputTypeError(f"{name} must be {expected}, found {value!r}.")
        if not 0.0 <= self.eta < 1.0:
            raise InputValueError(f"eta is a share of w_max: expected 0 <= eta < 1, found {self.eta}.")
        if self.clip_sigma is not None and not self.clip_sigma > 0.0:
            raise InputValueError(f"clip_sigma must be positive (or None for no clipping), found {self.clip_sigma}.")
        if self.scaling not in ("layer", "column"):
            raise InputValueError(f"scaling must be 'layer' or 'column', found {self.scaling!r}.")
        for name, bits in (("dac_bits", self.dac_bits), ("adc_bits", self.adc_bits)):
            if bits is not None and not 2 <= bits <= 16:
                raise InputValueError(f"{name} must be from 2 to 16 (or None for no converter), found {bits}.")
        if not 0.0 < self.range_momentum <= 1.0:
            raise InputValueError(f"range_momentum must be in (0, 1], found {self.range_momentum}.")
