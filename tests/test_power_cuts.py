"""Power cuts: whatever of the writes not yet synced is on the disk, the device starts in the old or the new state."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lost_power import MODELS, Operation, Recorder, cuts, lay_out
from pcmedge.errors import StoreCorruptError
from pcmedge_emulator.durable import COUNT
from pcmedge_emulator.store import DATABASE, Store
from power_cuts import STORE, Examination, interrupted_start, record, throwaway
from power_histories import HISTORIES, STEPS

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.mark.parametrize("title", HISTORIES)
def test_every_call_is_there_as_a_whole_or_not_at_all(title: str, tmp_path: Path) -> None:
    recorded = record(HISTORIES[title], tmp_path / "live")
    (tmp_path / "disks").mkdir()
    # Every operation, but a quarter of them under all models: `python -m tests.soak.cuts` takes all.
    examined = range(random.Random(title).randrange(4), len(recorded.operations) + 1, 4)
    findings = Examination(recorded, tmp_path / "disks").run(examined)
    assert findings.wrong == []
    assert findings.cuts["everything"] == len(recorded.operations) + 1
    assert min(findings.cuts[model] for model in MODELS) > 75
    assert findings.states > len(HISTORIES[title])
    # The cuts do hit calls that are under way, and come out on both sides.
    assert min(findings.old, findings.new) > 20


@settings(max_examples=3, phases=UNSHRUNK, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(STEPS)), min_size=3, max_size=8), seed=st.integers(0, 2**32))
def test_any_history(names: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("history")
    recorded = record(["program a v1", *names], folder / "live")
    (folder / "disks").mkdir()
    examined = random.Random(seed).sample(range(len(recorded.operations)), 20)
    assert Examination(recorded, folder / "disks").run(examined, seed).wrong == []


def test_a_cut_while_the_device_starts_after_a_cut(tmp_path: Path) -> None:
    recorded = record(["program a v1", "recalibrate gdc", "set policy"], tmp_path / "live")
    (tmp_path / "disks").mkdir()
    with_log = [
        cut
        for cut in cuts(recorded.operations)
        if cut.model == "garbled" and any(path.name == f"{DATABASE}-wal" and data for path, data in cut.tree.items())
    ]
    for cut in (with_log[len(with_log) // 2], with_log[-1]):
        findings = interrupted_start(cut.tree, tmp_path / "disks")
        assert findings.wrong == []
        assert sum(findings.cuts.values()) > 100


# ------------------------------------------------------------------------------------------ can the harness see a fault


def written(folder: Path, number: int) -> list[Operation]:
    """A store without fault: two transactions."""
    folder.mkdir()
    recorder = Recorder(folder)
    with recorder.recording():
        store = Store(folder / STORE)
        for value in (b"1", b"2"):
            with store.transaction() as transaction:
                transaction.put("models", "a", value)
            recorder.mark(number)
        store.close()
    return recorder.operations


def lost(operations: list[Operation], folder: Path) -> set[str]:
    """The models under which an acknowledged transaction is not there."""
    found = set()
    for number, cut in enumerate(cuts(operations)):
        # Without the count of commits, which would say so.
        lay_out({path: data for path, data in cut.tree.items() if path.name != COUNT}, folder / str(number))
        value = b""
        if STORE in cut.tree:
            try:
                with throwaway(), closing(Store(folder / str(number) / STORE)) as store:
                    value = store.get("models", "a") or b""
            except StoreCorruptError:
                found.add(cut.model)
        if value < (b"", b"1", b"2")[cut.marks]:
            found.add(cut.model)
    return found


def test_a_store_that_syncs_loses_nothing(tmp_path: Path) -> None:
    operations = written(tmp_path / "live", 0)
    (tmp_path / "disks").mkdir()
    assert lost(operations, tmp_path / "disks") == set()


@pytest.mark.parametrize(
    ("left_out", "seen_by"),
    [
        ("sync", {"synced", "names-first", "torn", "shuffled", "garbled"}),
        ("sync-directory", {"synced", "bytes-first", "shuffled"}),
    ],
)
def test_a_store_that_does_not_sync_is_caught(left_out: str, seen_by: set[str], tmp_path: Path) -> None:
    operations = [each for each in written(tmp_path / "live", 0) if each.kind != left_out]
    (tmp_path / "disks").mkdir()
    assert lost(operations, tmp_path / "disks") >= seen_by
