"""Durations as people write them: ``"90s"``, ``"12h"``, ``"1d"``, ``"1y"``, or seconds as a number."""

from __future__ import annotations

import math
import re
from numbers import Real

from pcmedge.errors import InputValueError

# A year of 365 days, as the published drift measurements count it.
UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_PATTERN = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(ms|min|s|m|h|d|w|y)?\s*", re.IGNORECASE)


def parse_duration(value: str | float) -> float:
    """Seconds of a duration: a number of seconds, or one number with a unit (ms, s, m, min, h, d, w, y = 365 d).

    InputValueError if it is neither, negative, or not finite.
    """
    seconds: float | None = None
    if isinstance(value, str):
        match = _PATTERN.fullmatch(value)
        if match:
            seconds = float(match[1]) * UNITS_S[(match[2] or "s").lower()]
    elif isinstance(value, Real) and not isinstance(value, bool):
        seconds = float(value)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise InputValueError(
            f"expected a duration such as '90s', '12h', '1d', '1y' or seconds, not negative; found {value!r}",
            value=value,
        )
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest usual form, for people: 90.0 -> '1.5m', 86400.0 -> '1d'."""
    for unit in ("y", "d", "h", "m", "s"):
        if seconds >= UNITS_S[unit]:
            return f"{seconds / UNITS_S[unit]:.3g}{unit}"
    return f"{seconds:.3g}s"
