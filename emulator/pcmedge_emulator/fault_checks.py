"""Which faults a chip can have, and how a list of them is told of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import InputValueError

from pcmedge_emulator.crossbar.faults import STUCK
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.records import DeviceRecord

MOST_FAULTS = 65536
"""Faults a device keeps; one with a share of cells counts once."""

_CONVERTERS = (FaultKind.ADC_OFFSET, FaultKind.ADC_GAIN)


def told(faults: Sequence[Fault]) -> str:
    """On which tiles, and of which kinds."""
    tiles = sorted({fault.tile for fault in faults})
    shown = ", ".join(map(str, tiles[:16])) + (f" and {len(tiles) - 16} more" if len(tiles) > 16 else "")
    return f"tiles {shown} ({','.join(sorted({fault.kind.value for fault in faults}))})"


def checked_together(faults: Sequence[Fault], device: DeviceRecord, profile: ChipProfile) -> None:
    """InputValueError for a fault this chip cannot have, or if there would be more than a device keeps."""
    for fault in faults:
        _check(fault, profile)
    if len(device.faults) + len(faults) > MOST_FAULTS:
        raise InputValueError(
            f"A device keeps at most {MOST_FAULTS} faults; it has {len(device.faults)}, {len(faults)} more were "
            "asked for. Clear some, or give a share of cells as one fault.",
            limit=MOST_FAULTS,
        )


def _check(fault: Fault, profile: ChipProfile) -> None:
    """InputValueError for what no tile of this chip can have."""

    def need(holds: bool, what: str, found: object) -> None:
        if not holds:
            raise InputValueError(f"A fault of kind '{fault.kind}' has {what}; found {found!r}.", kind=fault.kind.value)

    need(0 <= fault.tile < profile.tiles, f"a tile from 0 to {profile.tiles - 1}", fault.tile)
    need(0 <= fault.row < profile.tile_rows, f"a row from 0 to {profile.tile_rows - 1}", fault.row)
    need(0 <= fault.column < profile.tile_columns, f"a column from 0 to {profile.tile_columns - 1}", fault.column)
    need(math.isfinite(fault.amount), "a finite amount", fault.amount)
    if fault.kind in STUCK:
        need(0 <= fault.amount <= 1, "a share of devices from 0 to 1 as its amount", fault.amount)
        whole = fault.amount > 0
        need(not whole or not (fault.row or fault.column or fault.minus), "a share or one device, not both", fault)
    elif fault.kind in _CONVERTERS:
        need(fault.amount != 0, "an amount other than 0", fault.amount)
        need(not fault.spread or fault.amount > 0, "a spread above 0", fault.amount)
        lowest = -1.0 if fault.kind is FaultKind.ADC_GAIN else -math.inf
        need(fault.amount >= lowest, "an amount of at least -1, a gain of 0", fault.amount)
        need(not fault.spread or not fault.column, "a spread over all columns or one column, not both", fault)
        need(fault.row == 0, "no row", fault.row)
    else:
        need(fault.amount == 0, "no amount", fault.amount)
        need(fault.row == 0 or fault.kind is FaultKind.DEAD_ROW, "no row", fault.row)
        need(fault.column == 0 or fault.kind is FaultKind.DEAD_COLUMN, "no column", fault.column)
    need(fault.kind in _CONVERTERS or not fault.spread, "no spread", fault.spread)
    need(fault.kind in STUCK or not fault.minus, "no 'minus'", fault.minus)
