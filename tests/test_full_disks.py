"""Disks that are full, fail, vanish or may not be written: the state before stands, the device goes on and says so."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from cli_process import served
from pcmedge.errors import StoreUnwritableError
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.store import DATABASE, Store
from power_cuts import throwaway
from power_histories import STEPS, View, image, samples, start, view
from sqlite_files import FULL, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_WRITE, OK, Unwatched, watched

CHANGES = ("program a v2", "recalibrate gdc", "set policy", "advance")


class Failing(Unwatched):
    """A disk on which operation number ``first`` from :meth:`begin` on fails, and all later ones until ``well``."""

    def __init__(self, kinds: dict[str, int]) -> None:
        self._kinds = kinds
        self._first = self._seen = 0
        self.well = True
        self.failed = 0

    def begin(self, first: int) -> None:
        self._first, self._seen, self.failed, self.well = first, 0, 0, False

    def _answer(self, kind: str) -> int:
        if self.well or kind not in self._kinds:
            return OK
        self._seen += 1
        if self._seen <= self._first:
            return OK
        self.failed += 1
        return self._kinds[kind]

    def write(self, path: Path, offset: int, data: bytes) -> int:
        return self._answer("write")

    def truncate(self, path: Path, size: int) -> int:
        return self._answer("truncate")

    def sync(self, path: Path) -> int:
        return self._answer("sync")


DISKS = {
    "full": {"write": FULL},
    "failing": {"write": IOERR_WRITE, "sync": IOERR_FSYNC, "truncate": IOERR_TRUNCATE},
    "failing to sync": {"sync": IOERR_FSYNC},
}


def survived(store: Path, copy: Path) -> View:
    """The device as it would be after kill -9 at this moment, on a disk that is well again."""
    shutil.copytree(store, copy)
    with throwaway(), start(copy) as chip:
        found = view(chip)
    shutil.rmtree(copy)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one recalibrated model."""
    store = tmp_path_factory.mktemp("prepared") / "store"
    with start(store) as chip:
        chip.program(image("a"))
        chip.recalibrate("a", "gdc", force=True)
    return store


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_on_a_disk_that_fails_at_any_operation(name: str, disk: str, prepared: Path, tmp_path: Path) -> None:
    first, refused = 0, 0
    while True:
        store = tmp_path / str(first)
        shutil.copytree(prepared, store)
        failing = Failing(DISKS[disk])
        with watched(failing), start(store) as chip:
            before = view(chip)
            failing.begin(first)
            try:
                answer = STEPS[name].do(chip, Mutation(request_id="once"))
            except StoreUnwritableError as error:
                refused += 1
                # What is shown is the old state, and it is what a restart finds.
                assert before.changed_in(view(chip)) == []
                reading = chip.telemetry()
                assert (reading.health, len(reading.degraded_reasons)) == ("degraded", 1)
                after_kill = survived(store, tmp_path / "copy")
                in_doubt = error.metadata.get("in_doubt") == "true"
                assert in_doubt or before.changed_in(after_kill) == []
                failing.well = True
                answer = STEPS[name].do(chip, Mutation(request_id="once"))
                if in_doubt and before.changed_in(after_kill):
                    assert told(after_kill) == told(view(chip))
            failing.well = True
            chip.snapshot("afterwards")
            assert chip.telemetry().degraded_reasons == ()
            changed = view(chip)
            sequences = list(changed.events)
            assert sequences == list(range(sequences[0], sequences[-1] + 1))
        with throwaway(), start(store) as chip:
            assert changed.changed_in(view(chip)) == []
            assert STEPS[name].do(chip, Mutation(request_id="once")) == answer
            assert changed.changed_in(view(chip)) == []
        if failing.failed == 0:
            # The change was over before the disk failed.
            assert refused > (0 if disk == "failing to sync" else 1)
            return
        first += 1 if disk == "failing to sync" else 5


def told(found: View) -> tuple[object, ...]:
    """What of a view does not depend on when, or how often, a change was tried."""
    models = [(m.name, m.version, m.active, m.statistics_generation) for m in found.models]
    return models, found.policies, [b.samples for b in found.buffers], len(found.snapshots), len(found.faults)


def test_an_event_that_cannot_be_stored_is_shown_when_it_can(prepared: Path, tmp_path: Path) -> None:
    """Shown earlier it would have a number that a restart gives to another event."""
    store = tmp_path / "store"
    shutil.copytree(prepared, store)
    failing = Failing(DISKS["full"])
    with watched(failing), start(store) as chip:
        newest = chip.events()[-1].sequence
        failing.begin(0)
        with pytest.raises(StoreUnwritableError):
            chip.program(image("a", 2))
        assert chip.events()[-1].sequence == newest
        assert "1 events of the journal wait" in chip.telemetry().degraded_reasons[0]
        killed = survived(store, tmp_path / "copy")
        assert killed.events[newest + 1].kind == "started"
        failing.well = True
        chip.deactivate("a")
        assert [(e.sequence, e.kind) for e in chip.events(newest)] == [
            (newest + 1, "failed"),
            (newest + 2, "deactivated"),
        ]


def test_a_store_that_was_deleted_under_the_device_is_not_written_into_the_void(prepared: Path, tmp_path: Path) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    shutil.copytree(prepared, store)
    with start(store) as chip:
        store.rename(away)
        before = view(chip)
        with pytest.raises(StoreUnwritableError, match="deleted or replaced"):
            chip.deactivate("a")
        with pytest.raises(StoreUnwritableError, match="deleted or replaced"):
            chip.advance(1000.0)
        assert before.changed_in(view(chip)) == []
        assert chip.telemetry().health == "degraded"
        away.rename(store)
        chip.set_policy("a", chip.policy("a")[0])
        assert chip.telemetry().health == "ready"
        (store / f"{DATABASE}-wal").unlink()
        with pytest.raises(StoreUnwritableError, match=r"device\.sqlite3-wal was deleted"):
            chip.deactivate("a")


def test_a_directory_that_may_not_be_written_is_named(prepared: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(prepared, store)
    for path in (*store.iterdir(), store):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    tmp_path.chmod(0o755)
    assert as_nobody(lambda: Store(store)) == "StoreUnwritableError"
    assert as_nobody(lambda: Store(tmp_path / "new")) == "StoreUnwritableError"
    for path in (store, *store.iterdir()):
        path.chmod(0o755)
    with start(store) as chip:
        assert [model.name for model in chip.models()] == ["a"]


def as_nobody(do: Callable[[], object]) -> str:
    """The name of what ``do`` raises in a process that may write only what everybody may, "" for nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        name = ""
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            do()
        except BaseException as error:
            name = type(error).__name__
        os.write(writer, name.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


# ----------------------------------------------------------------------------------------------- as a service, for real


@contextmanager
def no_space(process: subprocess.Popen[str], size: int) -> Iterator[None]:
    """Until the block ends no file of the process grows beyond ``size``: the system refuses the write."""
    everything = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, everything[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, everything)


def test_a_service_without_space_answers_and_recovers_by_itself(tmp_path: Path) -> None:
    image("a").save(tmp_path / "a.pcmi")
    store = tmp_path / "store"
    with served(tmp_path / "a.pcmi", "--store", store, "--read-noise", "off") as (address, process):
        with pcmedge.connect(address) as device:
            answer = device.infer_detailed({"x": samples(4)}, model="a")
            with no_space(process, (store / f"{DATABASE}-wal").stat().st_size):
                with pytest.raises(StoreUnwritableError, match="Free space"):
                    device.program(image("a", 2))
                again = device.infer_detailed({"x": samples(4)}, model="a")
                assert again.program_generation == answer.program_generation
                reading = device.telemetry()
                assert reading.health == "degraded"
                assert "could not be stored" in reading.degraded_reasons[0]
            device.deactivate("a")
            device.activate("a")
            assert device.telemetry().health == "ready"
            device.program(image("a", 2))
            sequences = [event.sequence for event in device.events()]
            assert sequences == list(range(1, len(sequences) + 1))
        process.kill()
        process.wait()
    with Chip(store=store) as chip:
        assert [model.version for model in chip.models()] == [2]
        assert [event.sequence for event in chip.events()][: len(sequences)] == sequences
        assert np.isfinite(chip.infer("a", {"x": samples(4)}).outputs["y"]).all()
