"""Verbs that break and mend the emulated silicon. What a fault does to a tile is ``crossbar/faults.py``'s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import DeviceStateError, InputValueError

from pcmedge_emulator.crossbar.faults import STUCK
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.lab import refresh_all
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.state import State

MOST_FAULTS = 65536
"""Injected faults a device keeps; one with a share of cells counts once."""

_CONVERTERS = (FaultKind.ADC_OFFSET, FaultKind.ADC_GAIN)


@dataclass(frozen=True, kw_only=True)
class FaultsOutcome:
    """All faults there are, in the order they were injected."""

    faults: tuple[Fault, ...]


def inject(state: State, faults: Sequence[Fault], mutation: Mutation) -> FaultsOutcome:
    """Breaks the silicon now, whatever is programmed on it; all of ``faults`` or, if one cannot be, none."""
    with state.busy(""):
        profile = state.profile
        if profile is None:
            raise DeviceStateError(
                "This chip has no tiles to break yet: it takes the profile of its first image. Program an image, or "
                "start it with a profile."
            )
        for fault in faults:
            _check(fault, profile)
        device = state.device
        if len(device.faults) + len(faults) > MOST_FAULTS:
            raise InputValueError(
                f"A device keeps at most {MOST_FAULTS} faults; it has {len(device.faults)}, {len(faults)} more were "
                "asked for. Clear some, or give a share of cells as one fault.",
                limit=MOST_FAULTS,
            )
        numbered = tuple(
            replace(fault, number=device.faults_injected + number) for number, fault in enumerate(faults, start=1)
        )
        changed = replace(
            device, faults=device.faults + numbered, faults_injected=device.faults_injected + len(numbered)
        )
        kinds = ",".join(sorted({fault.kind.value for fault in faults}))
        tiles = sorted({fault.tile for fault in faults})
        message = f"{len(faults)} faults were injected on tiles {_listed(tiles)} ({kinds})."
        return _change(state, changed, "faults-injected", message, "inject-faults", mutation)


def clear(state: State, tiles: Sequence[int], mutation: Mutation) -> FaultsOutcome:
    """Mends the named tiles (none named: all), and takes them back into use if they were retired."""
    with state.busy(""):
        device, chosen = state.device, set(tiles)
        kept = tuple(fault for fault in device.faults if chosen and fault.tile not in chosen)
        retired = tuple(tile for tile in device.retired if chosen and tile not in chosen)
        message = f"{len(device.faults) - len(kept)} faults were cleared, {len(kept)} are left."
        changed = replace(device, faults=kept, retired=retired)
        return _change(state, changed, "faults-cleared", message, "clear-faults", mutation)


def _change(
    state: State, device: DeviceRecord, kind: str, message: str, verb: str, mutation: Mutation
) -> FaultsOutcome:
    outcome = FaultsOutcome(faults=device.faults)
    state.commit(events=[state.event(kind, message)], device=device, remember=(mutation, verb, outcome))
    state.set_faults(device)
    refresh_all(state, force=True)
    return outcome


def _listed(tiles: Sequence[int]) -> str:
    shown = ", ".join(map(str, tiles[:16]))
    return f"{shown} and {len(tiles) - 16} more" if len(tiles) > 16 else shown


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
