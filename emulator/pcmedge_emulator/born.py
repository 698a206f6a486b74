"""The faults a chip comes with: those it is told to, or as many as its profile expects, drawn from serial and seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Protocol

import numpy as np
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge.image.fault_rates import FaultRates, profile_rates, rates_from

from pcmedge_emulator.arguments import one_of
from pcmedge_emulator.fault_checks import checked_together
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.physics.technology import TECHNOLOGIES
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.streams import Streams

_STUCK = (FaultKind.STUCK_AT_RESET, FaultKind.STUCK_AT_G_MAX, FaultKind.STUCK_AT_RANDOM)
_LINES = {FaultKind.DEAD_ROW: "row", FaultKind.DEAD_COLUMN: "column"}
_ADC = (FaultKind.ADC_OFFSET, FaultKind.ADC_GAIN)


class FaultLike(Protocol):
    """A fault of :mod:`pcmedge.device` or of :mod:`.injected`."""

    @property
    def kind(self) -> str: ...
    @property
    def tile(self) -> int: ...
    @property
    def row(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def amount(self) -> float: ...
    @property
    def spread(self) -> bool: ...
    @property
    def minus(self) -> bool: ...


def as_injected(fault: FaultLike) -> Fault:
    """InputTypeError for what is no fault, InputValueError for an unknown kind."""
    try:
        kind = one_of("kind of fault", str(fault.kind), tuple(FaultKind))
        fields = {name: getattr(fault, name) for name in ("tile", "row", "column", "amount", "spread", "minus")}
    except AttributeError:
        raise InputTypeError(f"a fault is a pcmedge.device.Fault, found {fault!r}") from None
    return Fault(kind=kind, **fields)


def described(faults: FaultRates | Sequence[FaultLike] | None) -> str:
    """What a chip is to come with, as its record keeps it: "" for None, which is what its profile expects."""
    if faults is None:
        return ""
    if isinstance(faults, FaultRates):
        return json.dumps(faults.by_kind(), sort_keys=True)
    if isinstance(faults, str) or not isinstance(faults, Sequence):
        raise InputTypeError(f"the faults of a chip are FaultRates or a list of faults, found {faults!r}")
    return json.dumps([asdict(as_injected(fault)) for fault in faults], sort_keys=True)


def with_born_faults(device: DeviceRecord) -> DeviceRecord:
    """The device with the faults it comes with among its faults, once it has a profile.

    A chip of the technology "ideal" comes with nothing but what it is told to. InputValueError for faults that this
    chip cannot have, or more than a device keeps.
    """
    if device.born or not device.profile:
        return device
    profile = ChipProfile.FromString(device.profile)
    found = _born(device, profile)
    checked_together(found, device, profile)
    numbered = tuple(replace(fault, number=number) for number, fault in enumerate(found, device.faults_injected + 1))
    return replace(
        device,
        faults=device.faults + numbered,
        faults_injected=device.faults_injected + len(numbered),
        born=True,
    )


def _born(device: DeviceRecord, profile: ChipProfile) -> tuple[Fault, ...]:
    told = json.loads(device.comes_with) if device.comes_with else None
    if isinstance(told, list):
        return tuple(Fault(**(fault | {"kind": FaultKind(fault["kind"])})) for fault in told)
    if told is None:
        perfect = device.technology == TECHNOLOGIES["ideal"].name
        rates = FaultRates() if perfect else profile_rates(profile)
    else:
        rates = rates_from(told)
    return drawn(rates, profile, Streams(device.serial, device.seed).born)


def drawn(
    rates: FaultRates, profile: ChipProfile, stream: Callable[[str, int], np.random.Generator]
) -> tuple[Fault, ...]:
    """Faults of a whole chip at these rates. ``stream``: by kind and tile, so that no rate moves another kind's."""
    found: list[Fault] = []
    for name, rate in rates.by_kind().items():
        kind = FaultKind(name)
        for tile in range(profile.tiles):
            if kind in _STUCK:
                found.append(Fault(kind=kind, tile=tile, amount=rate))
            elif kind in _ADC:
                found.append(Fault(kind=kind, tile=tile, amount=rate, spread=True))
            else:
                found += _on_tile(kind, rate, tile, profile, stream(name, tile))
    return tuple(found)


def _on_tile(kind: FaultKind, rate: float, tile: int, profile: ChipProfile, rng: np.random.Generator) -> list[Fault]:
    if kind is FaultKind.TILE_LOST:
        return [Fault(kind=kind, tile=tile)] if rng.random() < rate else []
    line = _LINES[kind]
    size = profile.tile_rows if line == "row" else profile.tile_columns
    if rate > size:
        raise InputValueError(f"{rate:g} faults of kind '{kind}' are expected on a tile that has {size} {line}s")
    count = min(int(rng.poisson(rate)), size)
    lines = sorted(int(at) for at in rng.choice(size, count, replace=False))
    return [
        Fault(kind=kind, tile=tile, row=at) if line == "row" else Fault(kind=kind, tile=tile, column=at) for at in lines
    ]
