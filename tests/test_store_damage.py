"""Damaged, incomplete and future stores: refused by name and left as they are, or read right; never read wrong."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from pcmedge.errors import StoreCorruptError
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.durable import COUNT
from pcmedge_emulator.store import DATABASE
from pcmedge_emulator.store_tables import SCHEMA_VERSION
from power_cuts import throwaway
from power_histories import View, image, start, view

WAL = f"{DATABASE}-wal"
FLIPS = 100


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], View]:
    """The stores of the same device shut down, and killed so that its last changes are in sqlite's log alone; and what
    it showed last."""
    folder = tmp_path_factory.mktemp("stores")
    with start(folder / "live") as chip:
        chip.program(image("a"))
        chip.recalibrate("a", "gdc", force=True)
        chip.snapshot("kept")
        chip.set_policy("a", chip.policy("a")[0])
        before = view(chip)
        shutil.copytree(folder / "live", folder / "killed")
    return {"shut down": folder / "live", "killed": folder / "killed"}, before


@pytest.fixture
def stores(device: tuple[dict[str, Path], View]) -> dict[str, Path]:
    return device[0]


@pytest.fixture
def before(device: tuple[dict[str, Path], View]) -> View:
    return device[1]


def looked_at(store: Path) -> View | str:
    """What a device started there shows, or what it is refused at."""
    at = "start"
    try:
        with throwaway(), start(store) as chip:
            at = "use"
            found = view(chip)
            chip.restore("kept")
            return found
    except StoreCorruptError:
        return at


def contents(store: Path) -> dict[str, bytes]:
    """Without the lock and the index of the log, which is made anew. No log is as good as an empty one."""
    found = {path.name: path.read_bytes() for path in store.iterdir() if path.name in (DATABASE, WAL, COUNT)}
    return {name: data for name, data in found.items() if data}


@pytest.mark.parametrize(("how", "file"), [("shut down", DATABASE), ("killed", WAL)])
def test_a_flipped_bit_is_found_or_does_no_harm(
    how: str, file: str, stores: dict[str, Path], before: View, tmp_path: Path
) -> None:
    draw, found = random.Random(file + how), Counter[str]()
    intact = (stores[how] / file).read_bytes()
    # Every byte of the file's header, and some of everything.
    for place in (*range(100), *(draw.randrange(len(intact)) for _ in range(FLIPS))):
        store = tmp_path / str(sum(found.values()))
        shutil.copytree(stores[how], store)
        (store / file).write_bytes(
            intact[:place] + bytes([intact[place] ^ 1 << draw.randrange(8)]) + intact[place + 1 :]
        )
        damaged = contents(store)
        after = looked_at(store)
        if isinstance(after, View):
            assert before.changed_in(after) == [], place
        elif after == "start":
            # As it was, for whoever can save something.
            assert contents(store) == damaged, place
        found[after if isinstance(after, str) else "harmless"] += 1
        shutil.rmtree(store)
    # A database has free pages and bytes that nobody reads. A log is summed up whole.
    assert found["start"] > 50
    assert found["harmless"] > (30 if file == DATABASE else 0)


@pytest.mark.parametrize("how", ["shut down", "killed"])
@pytest.mark.parametrize("file", [DATABASE, WAL, COUNT])
def test_a_missing_or_short_file_loses_nothing_silently(
    how: str, file: str, stores: dict[str, Path], before: View, tmp_path: Path
) -> None:
    size = (stores[how] / file).stat().st_size if (stores[how] / file).exists() else 0
    refused = 0
    for keep in {0, 1, size // 3, max(0, size - 4096), max(0, size - 1)} if size else ():
        for missing in (True, False):
            store = tmp_path / f"{keep}-{missing}"
            shutil.copytree(stores[how], store)
            (store / file).write_bytes((store / file).read_bytes()[:keep])
            if missing:
                (store / file).unlink()
            after = looked_at(store)
            assert after == "start" or (isinstance(after, View) and before.changed_in(after) == [])
            refused += after == "start"
    # The count is a second opinion: without it there is the first. A device that was shut down has no log.
    assert (refused > 0) == (file == DATABASE or (file, how) == (WAL, "killed"))


def test_a_log_that_lost_its_end_says_how_much_and_how_to_go_on(stores: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stores["killed"], store)
    (store / WAL).write_bytes((store / WAL).read_bytes()[:-20000])
    with pytest.raises(StoreCorruptError, match=r"lost its last \d+ changes: .* delete device.count") as refused:
        start(store)
    lost = int(refused.value.metadata["acknowledged"]) - int(refused.value.metadata["found"])
    assert lost in (1, 2)
    (store / COUNT).unlink()
    with start(store) as chip:
        assert [model.name for model in chip.models()] == ["a"]


def test_the_store_of_a_newer_release_is_left_alone(stores: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stores["shut down"], store)
    with sqlite3.connect(store / DATABASE) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    newer = contents(store)
    with pytest.raises(StoreCorruptError, match=f"format {SCHEMA_VERSION + 1}, this emulator knows up to"):
        start(store)
    assert contents(store) == newer


def test_a_wall_clock_set_back_makes_nothing_younger_and_numbers_nothing_twice(tmp_path: Path) -> None:
    """Before and after a kill, as on a board without a battery that wakes up in the past."""
    now_s = 2e9
    store = tmp_path / "store"
    with Chip(store=store, clock=Clock.real(wall=lambda: now_s)) as chip:
        chip.program(image("a"))
        now_s += 1000.0
        chip.deactivate("a")
        now_s -= 86400.0
        chip.activate("a")
        age_s = chip.models()[0].age_s
        assert age_s == 1000.0
        events = chip.events()
        shutil.copytree(store, tmp_path / "killed")
    now_s -= 86400.0
    with Chip(store=tmp_path / "killed", clock=Clock.real(wall=lambda: now_s)) as chip:
        assert chip.models()[0].age_s == age_s
        now_s += 10.0
        assert chip.models()[0].age_s == age_s + 10.0
        later = chip.events()
    assert later[: len(events)] == events
    assert [event.sequence for event in later] == list(range(1, len(later) + 1))
    times = [event.device_time_s for event in later]
    assert times == sorted(times)
