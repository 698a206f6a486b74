"""The journal is bounded by count and bytes; what left is told, and numbers go on over rotation and restarts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pcmedge
import pytest
from chip_models import digits_image
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.device import Device
from pcmedge.errors import InputTypeError, InputValueError, StoreUnwritableError
from pcmedge_emulator import codec
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.journal import Journal, JournalBounds
from pcmedge_emulator.outcomes import Event
from pcmedge_emulator.service.server import serve
from pcmedge_emulator.store import DATABASE, Store


def event(message: str = "", sequence: int = 0) -> Event:
    return Event(sequence=sequence, time_unix_s=0.0, device_time_s=0.0, kind="failed", message=message)


def append(store: Store, journal: Journal, message: str) -> None:
    with store.transaction() as transaction:
        numbered = journal.write(transaction, [event(message)])
    journal.publish(numbered)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 400), min_size=1, max_size=30),
    most=st.integers(1, 8),
    most_bytes=st.integers(1, 1500),
    after=st.integers(0, 35),
)
def test_what_is_kept_is_the_newest_within_both_bounds_and_the_rest_is_told(
    lengths: list[int], most: int, most_bytes: int, after: int
) -> None:
    bounds = JournalBounds(max_events=most, max_bytes=most_bytes)
    store = Store(None)
    journal = Journal(store, bounds)
    for length in lengths:
        append(store, journal, "x" * length)
    stored = store.items("journal")
    kept = journal.after(0)
    assert [each.sequence for each in kept] == list(range(len(lengths) - len(kept) + 1, len(lengths) + 1))
    assert len(kept) == 1 or (len(kept) <= most and sum(map(len, stored.values())) <= most_bytes)
    # As many as fit: one more would be too many.
    if len(kept) < len(lengths):
        sizes = [len(codec.encode(event("x" * length, n + 1))) for n, length in enumerate(lengths)]
        assert len(kept) == most or sum(sizes[-len(kept) - 1 :]) > most_bytes
    assert [codec.decode(value, Event).sequence for value in stored.values()] == [each.sequence for each in kept]
    found = journal.after(after)
    assert after + sum(1 + each.lost_before for each in found) == max(after, len(lengths))
    again = Journal(store, bounds)
    assert (again.after(0), again.last) == (kept, len(lengths))


@pytest.mark.parametrize("wrong", [{"max_events": 0}, {"max_bytes": 0}, {"max_events": 2**21}])
def test_bounds_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputValueError, match="journal_max"):
        JournalBounds(**wrong)
    with pytest.raises(InputTypeError, match="whole number"):
        JournalBounds(max_events=1.5)  # type: ignore[arg-type]


def fill(device: Device) -> None:
    for _ in range(500):
        device.lab.advance("1s")


def test_a_client_far_away_learns_what_it_missed(tmp_path: Path) -> None:
    bounds = JournalBounds(max_events=3)
    with Chip(clock=Clock.manual(), store=tmp_path / "store", journal=bounds) as chip:
        for _ in range(4):
            chip.advance(10.0)
    with (
        Chip(clock=Clock.manual(), store=tmp_path / "store", journal=bounds) as chip,
        serve(chip) as server,
        pcmedge.connect(server.address) as device,
    ):
        first, *rest = device.events()
        assert (first.sequence, first.lost_before, first.kind) == (4, 3, "time-advanced")
        assert [(each.sequence, each.lost_before) for each in rest] == [(5, 0), (6, 0)]
        assert rest[-1].kind == "started"
        assert device.events(after=3)[0].lost_before == 0
        assert device.events(after=1)[0].lost_before == 2
        watched = next(iter(device.watch_events(after=2)))
        assert (watched.sequence, watched.lost_before) == (4, 1)


def test_smaller_bounds_take_hold_of_a_journal_that_is_there(tmp_path: Path) -> None:
    with Chip(clock=Clock.manual(), store=tmp_path / "store") as chip:
        for _ in range(5):
            chip.advance(10.0)
    with Chip(clock=Clock.manual(), store=tmp_path / "store", journal=JournalBounds(max_events=2)) as chip:
        assert [each.sequence for each in chip.events()] == [6, 7]
    with sqlite3.connect(tmp_path / "store" / DATABASE) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM records WHERE collection = 'journal'").fetchone()
    database.close()
    assert count == 2


def test_a_store_that_cannot_be_written_degrades_health_until_it_can(tmp_path: Path) -> None:
    with Chip(clock=Clock.manual(), store=tmp_path / "store") as chip:
        chip.program(digits_image())
    almost_full = (tmp_path / "store" / DATABASE).stat().st_size + 8192
    with (
        Chip(clock=Clock.manual(), store=tmp_path / "store", store_max_bytes=almost_full) as chip,
        serve(chip, lab=True) as server,
        pcmedge.connect(server.address) as device,
    ):
        reading = device.telemetry()
        assert (reading.health, reading.degraded_reasons) == ("ready", ())
        assert reading.store_bytes > 100_000
        with pytest.raises(StoreUnwritableError):
            fill(device)
        reading = device.telemetry()
        assert reading.health == "degraded"
        assert "cannot be written" in reading.degraded_reasons[0]
        with pytest.raises(StoreUnwritableError):
            device.deactivate(digits_image().name)
        assert device.telemetry().health == "degraded"
        device.erase(digits_image().name)
        assert device.telemetry().health == "alive"
        sequences = [each.sequence for each in device.events()]
        assert sequences == list(range(1, len(sequences) + 1))
    with Chip(clock=Clock.manual(), store=tmp_path / "store") as chip:
        assert [each.sequence for each in chip.events()] == [*sequences, len(sequences) + 1]
