"""The store: one owner, whole transactions, and named errors for everything that can be wrong with a directory."""

from __future__ import annotations

import gc
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.errors import StoreCorruptError, StoreInUseError, StoreUnwritableError
from pcmedge_emulator.store import DATABASE, Store


def filled(directory: Path) -> None:
    store = Store(directory)
    with store.transaction() as transaction:
        transaction.put("models", "a", b"old")
        transaction.put_content(1, "tile", b"x" * 10000)
    store.close()


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "store")
    store = Store(tmp_path / "new" / "store")
    assert store.items("models") == {"a": b"old"}
    assert store.contents(1) == {"tile": b"x" * 10000}
    store.close()


def test_nobody_else_reads_the_files_of_a_store_in_a_folder_that_was_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        store = Store(tmp_path)
        with store.transaction() as transaction:
            transaction.put("models", "a", b"weights")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert f"{DATABASE}-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_transaction_that_raises_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store(tmp_path)

    def change() -> None:
        with store.transaction() as transaction:
            transaction.put("models", "a", b"new")
            raise KeyError

    with pytest.raises(KeyError):
        change()
    assert store.get("models", "a") == b"old"
    store.close()


def test_a_second_owner_is_refused_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreInUseError, match="in use by process"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnwritableError, match="file/store"):
        Store(tmp_path / "file" / "store")


@pytest.mark.parametrize("garbage", [b"this is no database " * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_garbage_is_refused(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(garbage)
    with pytest.raises(StoreCorruptError):
        Store(tmp_path)


def test_a_rotten_value_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path)
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("UPDATE contents SET value = ?", (b"x" * 9999 + b"y",))
    connection.commit()
    connection.close()
    store = Store(tmp_path)
    with pytest.raises(StoreCorruptError, match="checksum"):
        store.contents(1)
    store.close()


def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store(tmp_path, max_bytes=256 * 1024)

    def change() -> None:
        with store.transaction() as transaction:
            transaction.put("models", "a", b"new")
            transaction.put_content(2, "tile", b"y" * 2**20)

    with pytest.raises(StoreUnwritableError, match="state before this call stands"):
        change()
    assert store.get("models", "a") == b"old"
    with store.transaction() as transaction:
        transaction.put("models", "a", b"newer")
    assert store.get("models", "a") == b"newer"
    store.close()


def test_spaces_are_copies_and_contents_go_when_nobody_needs_them() -> None:
    store = Store(None)
    with store.transaction() as transaction:
        transaction.put("models", "a", b"1")
        transaction.put_content(1, "tile", b"one")
        transaction.put_content(2, "tile", b"two")
        transaction.copy_space("", "kept", ["models"])
        transaction.put("models", "a", b"2")
        transaction.keep_contents([2])
    assert (store.get("models", "a"), store.get("models", "a", space="kept")) == (b"2", b"1")
    assert store.spaces() == ("kept",)
    assert (store.contents(1), store.contents(2)) == ({}, {"tile": b"two"})
    store.close()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=100), max_size=20))
def test_any_keys_and_values_come_back(records: dict[str, bytes]) -> None:
    store = Store(None)
    with store.transaction() as transaction:
        for key, value in records.items():
            transaction.put("c", key, value)
    assert store.items("c") == records
    store.close()


def test_a_store_that_is_dropped_gives_its_directory_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.transaction() as transaction:
        transaction.put("models", "a", b"1")
    del store
    gc.collect()
    again = Store(tmp_path)
    assert again.get("models", "a") == b"1"
    again.close()
