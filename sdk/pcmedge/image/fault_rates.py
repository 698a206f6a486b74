"""How many faults of each kind silicon is expected to have. Where they are is another draw for every chip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import InputTypeError, InputValueError

_OF_PROFILE: Final = {
    "stuck_at_reset": "stuck_at_reset_share",
    "stuck_at_g_max": "stuck_at_g_max_share",
    "stuck_at_random": "stuck_at_random_share",
    "dead_row": "dead_rows_per_tile",
    "dead_column": "dead_columns_per_tile",
    "tile_lost": "lost_tile_share",
}
"""Rate -> field of ChipProfile."""

SHARES: Final = ("stuck_at_reset", "stuck_at_g_max", "stuck_at_random", "tile_lost")


@dataclass(frozen=True, kw_only=True)
class FaultRates:
    """Expected faults by kind; 0 is none. Raises InputTypeError, InputValueError.

    ``stuck_at_reset``, ``stuck_at_g_max``, ``stuck_at_random``: share of all devices, 0 to 1. ``dead_row``,
    ``dead_column``: expected number per tile (Poisson). ``tile_lost``: share of tiles, 0 to 1. ``adc_offset`` (ADC
    codes), ``adc_gain`` (relative): standard deviation over the columns of every tile.
    """

    stuck_at_reset: float = 0.0
    stuck_at_g_max: float = 0.0
    stuck_at_random: float = 0.0
    dead_row: float = 0.0
    dead_column: float = 0.0
    tile_lost: float = 0.0
    adc_offset: float = 0.0
    adc_gain: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            kind = name.replace("_", "-")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputTypeError(f"the rate of {kind} is a number, found {value!r}", kind=kind)
            if not (math.isfinite(value) and value >= 0):
                raise InputValueError(f"the rate of {kind} is 0 or more, found {value!r}", kind=kind)
            if name in SHARES and value > 1:
                raise InputValueError(f"the rate of {kind} is a share, at most 1; found {value!r}", kind=kind)

    def __bool__(self) -> bool:
        """Whether any fault is expected."""
        return any(asdict(self).values())

    def by_kind(self) -> dict[str, float]:
        """Rates above 0 under the names of the fault kinds ("stuck-at-reset", ...)."""
        return {name.replace("_", "-"): float(value) for name, value in asdict(self).items() if value}

    def times(self, factor: float) -> FaultRates:
        """Rates ``factor`` times as large, shares at most 1; of the ADC's, whose variances add, the square root."""
        scaled = {
            name: value * (math.sqrt(factor) if name.startswith("adc") else factor)
            for name, value in asdict(self).items()
        }
        return FaultRates(**{name: min(value, 1.0) if name in SHARES else value for name, value in scaled.items()})

    def __str__(self) -> str:
        """As :func:`parse_rates` reads it; "none" without any."""
        return ",".join(f"{kind}={value!r}" for kind, value in self.by_kind().items()) or "none"


KINDS: Final = tuple(field.name.replace("_", "-") for field in fields(FaultRates))


def profile_rates(profile: ChipProfile) -> FaultRates:
    """The faults that chips of a profile are expected to come with (its ADC spreads are not among them)."""
    return FaultRates(**{rate: getattr(profile, field) for rate, field in _OF_PROFILE.items()})


def rates_from(values: Mapping[str, Any]) -> FaultRates:
    """Rates by kind, as of JSON. InputValueError for an unknown kind."""
    unknown = [kind for kind in values if kind not in KINDS]
    if unknown:
        raise InputValueError(
            f"no kind of fault {', '.join(map(repr, unknown))}; there are {', '.join(KINDS)}", kind=unknown[0]
        )
    return FaultRates(**{kind.replace("-", "_"): value for kind, value in values.items()})


def parse_rates(text: str) -> FaultRates:
    """Rates from ``KIND=RATE,KIND=RATE`` ("stuck-at-random=0.001,dead-column=0.1"), or "none". InputValueError."""
    values: dict[str, float] = {}
    for part in () if text.strip() == "none" else text.split(","):
        kind, equals, number = part.strip().partition("=")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or kind in values:
            raise InputValueError(
                f"expected faults as KIND=RATE,KIND=RATE, each kind once, or none; found {text!r}. Kinds are "
                f"{', '.join(KINDS)}",
                faults=text,
            )
        values[kind] = value
    return rates_from(values)
