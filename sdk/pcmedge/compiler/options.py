"""Options of one compilation, checked before any work is done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import InputValueError
from pcmedge.image.targets import DTYPES, TargetFormat

from .bias import BiasChoice
from .clipping import EXPECTED_NOISE, Noise, Scalings
from .ranges import RangeChoice


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the image, apart from model and data. ``require_analog`` is a fraction of the MACs, or None."""

    scaling: Scalings = "layer"
    clip_sigma: float | Literal["search"] | None = None
    expected_noise: Noise = EXPECTED_NOISE
    bias_correction: bool = False
    adc_range: RangeChoice = "mse"
    dac_range: RangeChoice = "mse"
    require_analog: float | None = None
    recorded_statistics: bool = True
    bias: BiasChoice = "digital"
    targets: TargetFormat = "int16"

    def __post_init__(self) -> None:
        _one_of("scaling", self.scaling, ("layer", "column", "auto"))
        _one_of("adc_range", self.adc_range, ("mse", "max"))
        _one_of("dac_range", self.dac_range, ("mse", "max"))
        _one_of("bias", self.bias, ("digital", "row"))
        _one_of("targets", self.targets, tuple(DTYPES))
        clip = self.clip_sigma
        if clip not in (None, "search") and (not isinstance(clip, (int, float)) or not clip > 0):
            raise InputValueError(
                f"clip_sigma: expected a positive number of standard deviations, 'search' or None, found {clip!r}. "
                "Joshi et al. use 2.0 to 2.5.",
                found=clip,
            )
        _check_noise(self.expected_noise)

    def to_json(self) -> str:
        """The options as recorded in the image's provenance; ``targets`` where they are not int16.

        Left out otherwise so that images made before there was a choice can still be made byte for byte.
        """
        recorded = {name: value for name, value in self.__dict__.items() if (name, value) != ("targets", "int16")}
        return json.dumps(recorded, sort_keys=True)


def _check_noise(noise: object) -> None:
    coefficients = noise if isinstance(noise, (tuple, list)) else (noise,)
    if coefficients and all(isinstance(each, (int, float)) and math.isfinite(each) for each in coefficients):
        values = [sum(each * (g / 16) ** power for power, each in enumerate(coefficients)) for g in range(17)]
        if all(0 <= value < 1 for value in values):
            return
    raise InputValueError(
        "expected_noise: expected the error of a conductance as a share of g_max, from 0 to below 1 (or coefficients "
        f"of a polynomial in the conductance that lies there), found {noise!r}.",
        found=noise,
    )


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputValueError(f"{option}: expected one of {', '.join(allowed)}; found {value!r}.", found=value)


def parse_share(value: str | float | None) -> float | None:
    """``"95%"``, ``0.95`` or ``95`` as a fraction; None stays None."""
    if value is None:
        return None
    try:
        share = float(value.strip().removesuffix("%")) if isinstance(value, str) else float(value)
    except ValueError:
        share = -1.0
    if (isinstance(value, str) and value.strip().endswith("%")) or share > 1:
        share /= 100
    if not 0 <= share <= 1:
        raise InputValueError(f"require_analog: expected a share such as '95%' or 0.95, found {value!r}.", found=value)
    return share


def too_large(profile: ChipProfile, needed: int, by_layer: Mapping[str, int], bias_tiles: int = 0) -> str:
    """The message for a model that does not fit the chip; ``bias_tiles`` of those needed are due to bias rows."""
    largest = sorted(by_layer.items(), key=lambda item: -item[1])[:5]
    shares = ", ".join(f"{name} {count}" for name, count in largest)
    return (
        f"The model needs {needed} tiles of {profile.tile_rows} x {profile.tile_columns}; the chip profile "
        f"'{profile.name}' has {profile.tiles}. Largest layers: {shares}. "
        "Use a smaller model or a profile with more tiles."
        + (f" {bias_tiles} of them are due to bias rows: bias='digital' does without." if bias_tiles else "")
    )
