"""The device ``pcmedge serve`` emulates: its options, and the chip they make."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pcmedge.cli.options import PHYSICS_HELP, READ_NOISE_HELP, ReadNoise
from pcmedge.cli.settings import checked
from pcmedge.errors import MissingExtraError


class Converters(enum.StrEnum):
    profile = "profile"
    ideal = "ideal"


def _technology(text: str) -> object:
    from pcmedge_emulator.physics.technology import get_technology

    return get_technology(text)


def _clock(text: str) -> object:
    from pcmedge_emulator.clock import Clock

    return Clock.parse(text)


def _profile(text: str) -> object:
    from pcmedge.image.profiles import get_profile

    return get_profile(text)


def _faults(text: str) -> Any:
    from pcmedge.device.given_faults import given_faults

    return given_faults(text)


StoreOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep the device's state here. Without it: in memory.", show_default=False),
]
Physics = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", callback=checked(_technology), help=PHYSICS_HELP, show_default="the store's, or pcm-90nm"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="With the serial, decides every random draw.", show_default="the store's, or 0"),
]
Serial = Annotated[str | None, typer.Option(help="Serial number.", show_default="the store's, or emulator-0")]
ClockOption = Annotated[
    str | None,
    typer.Option(
        metavar="real|manual|RATE",
        callback=checked(_clock),
        help="Device time; RATE in seconds per second.",
        show_default="the store's, or real",
    ),
]
Lab = Annotated[bool, typer.Option("--lab", help="Serve LabService: time, snapshots, noise.")]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(_profile), help="Chip profile. Default: that of the first image.", show_default=False
    ),
]
ConvertersOption = Annotated[Converters, typer.Option("--converters", help="ideal: no DAC and ADC rounding.")]
ReadNoiseOption = Annotated[ReadNoise, typer.Option("--read-noise", metavar="KIND", help=READ_NOISE_HELP)]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of one inference.", show_default="half of the processors, at most 8"),
]
FaultsOption = Annotated[
    str | None,
    typer.Option(
        "--faults",
        metavar="SPEC|FILE",
        callback=checked(_faults),
        help="Faults a new chip comes with: KIND=RATE,... such as dead-column=0.1 (per tile), stuck-at-random=0.001 "
        "(share), none, or a .json file.",
        show_default="what the chip profile expects",
    ),
]


def emulated_chip(
    *,
    clock: str | None,
    faults: str | None,
    journal_max_events: int,
    journal_max_bytes: int,
    allow_rollback: bool | None,
    trusted_keys: Sequence[Path] | None,
    store: Path | None,
    **settings: Any,
) -> Any:
    """The chip of these options. Raises MissingExtraError, and what a Chip raises.

    With a store, compiled code is kept there, too: a service writes to no other place.
    """
    try:
        from pcmedge_emulator.chip import Chip
        from pcmedge_emulator.clock import Clock
        from pcmedge_emulator.engine.native.folder import CACHE
        from pcmedge_emulator.journal import JournalBounds
    except ModuleNotFoundError as problem:
        raise MissingExtraError.for_extra("emulator", "Emulating a device") from problem
    if store is not None and not os.environ.get(CACHE):
        os.environ[CACHE] = str(store.absolute() / "native")
    return Chip(
        store=store,
        clock=None if clock is None else Clock.parse(clock),
        faults=None if faults is None else _faults(faults),
        journal=JournalBounds(max_events=journal_max_events, max_bytes=journal_max_bytes),
        trusted_keys=trusted_keys or (),
        refuse_rollback=None if allow_rollback is None else not allow_rollback,
        **settings,
    )
