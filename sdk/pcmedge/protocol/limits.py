"""Numbers that a field of the contract could carry and that mean nothing; refused by client and device alike."""

from __future__ import annotations

from pcmedge.errors import InputValueError

MAX_MESSAGE_BYTES = 64 << 20
"""Of one message of the contract; what may be larger is streamed."""

LONGEST_INTERVAL_S = 1e9
"""A third of a century, as for deadlines."""


def check_interval(interval_s: float) -> None:
    """InputValueError unless ``WatchTelemetryRequest.interval_s`` is 0 or a number of seconds somebody can wait."""
    if not 0.0 <= interval_s <= LONGEST_INTERVAL_S:
        raise InputValueError(
            f"interval_s is 0 (for 1 s) to {LONGEST_INTERVAL_S:.0e} seconds between readings; found {interval_s!r}",
            argument="interval_s",
        )
