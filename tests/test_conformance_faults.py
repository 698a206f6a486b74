"""Devices that diagnose, retire or break wrongly are caught by the checks of rules 43 to 45."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from conformance_devices import ended
from pcmedge.conformance import Outcome, run_conformance
from pcmedge.image.profiles import profile
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.injected import Fault
from pcmedge_emulator.outcomes import Diagnosis, Event, ProgramOutcome, Telemetry
from pcmedge_emulator.service import serve

TWELVE = profile(tiles=12)


class Whitewashes(Chip):
    """Finds nothing, ever."""

    def diagnose(self, name: str, **asked: Any) -> Diagnosis:
        found = super().diagnose(name, **asked)
        return replace(found, tiles=tuple(replace(tile, findings=(), retired=False) for tile in found.tiles))


class BlamesTheNeighbour(Chip):
    """Its findings are those of another tile."""

    def diagnose(self, name: str, **asked: Any) -> Diagnosis:
        found = super().diagnose(name, **asked)
        names = [tile.tile for tile in found.tiles]
        moved = zip(found.tiles, [*names[1:], *names[:1]], strict=True)
        return replace(found, tiles=tuple(replace(tile, tile=number) for tile, number in moved))


class CountsColumnsFromOne(Chip):
    def diagnose(self, name: str, **asked: Any) -> Diagnosis:
        found = super().diagnose(name, **asked)
        return replace(
            found,
            tiles=tuple(
                replace(
                    tile,
                    findings=tuple(
                        each if each.column is None else replace(each, column=each.column + 1) for each in tile.findings
                    ),
                )
                for tile in found.tiles
            ),
        )


class NeverForgives(Chip):
    """A tile stays retired whatever a later diagnosis says."""

    def diagnose(self, name: str, **asked: Any) -> Diagnosis:
        before = set(self.retired_tiles)
        found = super().diagnose(name, **asked)
        return replace(
            found,
            tiles=tuple(replace(tile, retired=tile.retired or tile.tile in before) for tile in found.tiles),
            retired_tiles=tuple(sorted(before | set(found.retired_tiles))),
        )


class SaysNothingInItsJournal(Chip):
    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]:
        return tuple(event for event in super().events(after, limit) if event.kind != "fault-detected")


class HidesFindings(Chip):
    def telemetry(self, **asked: Any) -> Telemetry:
        found = super().telemetry(**asked)
        models = tuple(
            replace(model, tiles=tuple(replace(tile, findings=()) for tile in model.tiles)) for model in found.models
        )
        return replace(found, models=models)


class UsesRetiredTiles(Chip):
    def program(self, image: Any, **asked: Any) -> ProgramOutcome:
        return super().program(image, **(asked | {"use_retired": True}))


class ProgrammingMends(Chip):
    def program(self, image: Any, **asked: Any) -> ProgramOutcome:
        self.clear_faults()
        return super().program(image, **asked)


class BreaksWhatItCan(Chip):
    """Injects the possible ones of a list with an impossible one."""

    def inject_faults(self, found: Sequence[Fault], **asked: Any) -> tuple[Fault, ...]:
        fits = [fault for fault in found if fault.tile < TWELVE.tiles]
        all_of_them = super().inject_faults(fits, **asked)
        return super().inject_faults(found) if len(fits) < len(found) else all_of_them


class MendsTooMuch(Chip):
    def clear_faults(self, tiles: Sequence[int] = (), **asked: Any) -> tuple[Fault, ...]:
        return super().clear_faults((), **asked)


CAUGHT: dict[Callable[..., Chip], set[str]] = {
    Whitewashes: {"R43.3", "R43.4"},
    BlamesTheNeighbour: {"R43.1", "R43.3", "R43.4"},
    CountsColumnsFromOne: {"R43.4", "R43.7"},
    NeverForgives: {"R43.5"},
    SaysNothingInItsJournal: {"R43.3"},
    HidesFindings: {"R43.7"},
    UsesRetiredTiles: {"R44.1"},
    ProgrammingMends: {"R45.3"},
    BreaksWhatItCan: {"R45.2"},
    MendsTooMuch: {"R45.4"},
}


@pytest.mark.parametrize("wrong", CAUGHT, ids=lambda wrong: wrong.__name__)
def test_a_device_that_is_wrong_about_faults_is_caught(wrong: Callable[..., Chip]) -> None:
    with wrong(profile=TWELVE, clock=Clock.manual()) as chip, serve(chip, "127.0.0.1:0", lab=True) as server:
        report = run_conformance(server.address, rules=sorted(CAUGHT[wrong]))
    assert set(ended(report, Outcome.FAILED)) & CAUGHT[wrong]


def test_one_that_is_right_is_not() -> None:
    with Chip(profile=TWELVE, clock=Clock.manual()) as chip, serve(chip, "127.0.0.1:0", lab=True) as server:
        report = run_conformance(server.address, rules=["R43", "R44", "R45"])
    assert ended(report, Outcome.FAILED) == {}
    assert set(ended(report, Outcome.SKIPPED)) == {"R44.3"}
    assert ended(report, Outcome.NOT_APPLICABLE) == {}
