"""Faults as they are injected and listed: values only, so that a service can speak of them without any physics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What is broken; see docs/physics.md."""

    STUCK_AT_RESET = "stuck-at-reset"
    STUCK_AT_G_MAX = "stuck-at-g-max"
    STUCK_AT_RANDOM = "stuck-at-random"
    DEAD_ROW = "dead-row"
    """The word line is not driven: its devices carry no current."""
    DEAD_COLUMN = "dead-column"
    """The bit line is open: its devices carry no current."""
    TILE_LOST = "tile-lost"
    """The tile no longer answers; its codes read 0."""
    ADC_OFFSET = "adc-offset"
    ADC_GAIN = "adc-gain"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One injected fault of a physical tile; ``number`` counts the injections of a device and names its randomness.

    ``amount``: of the stuck kinds the share of the tile's devices (0: the one device at ``row`` and ``column``, of G-
    if ``minus``); of "adc-offset" ADC codes added; of "adc-gain" what is added to the relative gain of 1. ``spread``:
    the ADC kinds give every column of the tile a draw of its own from N(0, amount^2), instead of ``column`` the amount.
    """

    kind: FaultKind
    tile: int
    row: int = 0
    column: int = 0
    amount: float = 0.0
    spread: bool = False
    minus: bool = False
    number: int = 0
