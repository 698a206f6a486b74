"""What survives a power cut: one sqlite3 file with one owner.

Write-ahead log, synchronous FULL, every mutation one transaction: after a kill or a power cut the file holds the state
before or after it. Disks are not trusted to spare the bytes beside a write that the cut interrupts: ``psow=0`` has
sqlite pad each commit to the end of its sector, so that the next one writes into no sector that was acknowledged.
What is written in it is in ``store_tables.py``, whether it is intact when it is opened in ``store_integrity.py``.

A directory holds the file ``device.sqlite3``, sqlite's log beside it, ``device.count`` and ``device.lock``, which the
owner keeps locked (``durable.py``); no directory: memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pcmedge.errors import StoreUnwritableError
from pcmedge.forks import in_children, leak

from pcmedge_emulator.durable import CountFile, OpenFiles, own
from pcmedge_emulator.store_errors import checked, translated
from pcmedge_emulator.store_integrity import inspect
from pcmedge_emulator.store_tables import SCHEMA, Transaction, commits

DATABASE = "device.sqlite3"
_PAGE_BYTES = 4096


class Store:
    """Thread-safe. ``directory`` None: in memory. ``max_bytes``: the file never grows beyond (as flash does not).

    Raises StoreInUseError at once if another process or object owns the directory, StoreUnwritableError if it cannot
    be written, StoreCorruptError if what lies there is not an intact store, or not all that was acknowledged.
    """

    def __init__(self, directory: Path | None, *, max_bytes: int | None = None) -> None:
        self._thread_lock = threading.RLock()
        self.max_bytes = max_bytes
        self._where = "in memory" if directory is None else str(directory)
        self._files = () if directory is None else tuple(directory / f"{DATABASE}{end}" for end in ("", "-wal"))
        lock_file = None if directory is None else own(directory)
        self._count_file = None if directory is None else CountFile(directory)
        try:
            with self._errors():
                if directory is not None:
                    inspect(directory / DATABASE, self._where, self._count_file.read() if self._count_file else 0)
                self._connection = self._open(directory, max_bytes)
                self._commits = commits(self._connection)
        except BaseException:
            if lock_file is not None:
                lock_file.close()
            raise
        self._open_files = OpenFiles(self._files)
        # Also runs when a store is dropped without being closed, so that its directory is free again.
        self._lock_file = lock_file
        self._give_up = weakref.finalize(self, _close, self._connection, self._count_file, lock_file)
        in_children(self, Store._disown)

    def _open(self, directory: Path | None, max_bytes: int | None) -> sqlite3.Connection:
        database = ":memory:" if directory is None else f"{(directory / DATABASE).absolute().as_uri()}?psow=0"
        # The model is in it, and the folder may be one that others may look into. sqlite gives its log the mode of the
        # database. (A process has one umask: others' new files are a moment more private, too.)
        mask = os.umask(0o077)
        try:
            connection = sqlite3.connect(database, uri=True, check_same_thread=False, isolation_level=None, timeout=5.0)
        finally:
            os.umask(mask)
        try:
            if directory is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                # A log found after a power cut may end within a sector, where the padding was lost: it is folded in
                # before anything is written behind it, or the next cut could take the end of it, too.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if max_bytes is not None:
                connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // _PAGE_BYTES)}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN;{SCHEMA}COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _disown(self) -> None:
        """In a forked child: the store is the parent's. SQLite forbids even closing an inherited connection."""
        self._give_up.detach()
        leak(self._connection)
        if self._lock_file is not None:
            # This process's descriptor only: the parent's still holds the lock, and no child does when that is gone.
            self._lock_file.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self._where) from error

    def close(self) -> None:
        """Gives the store up. What was committed is on disk already."""
        with self._thread_lock:
            self._give_up()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All changes in the block, durably, or none if it raises or the disk is full.

        StoreUnwritableError if nothing was changed; its metadata has ``in_doubt`` if a restart may find the change done
        all the same, because the disk failed when all of it was written and before it said that it has it.
        """
        with self._thread_lock, self._errors():
            self._begin()
            try:
                yield Transaction(self._connection)
                self._count()
            except BaseException:
                self._roll_back()
                raise
            self._commit()

    def _begin(self) -> None:
        gone = self._open_files.missing()
        if gone is not None:
            raise StoreUnwritableError(
                f"The store {self._where} cannot be written: {gone.name} was deleted or replaced while the device "
                "runs. It answers on, but cannot change any more. Put the directory back as it was, or start the "
                "device again.",
                store=self._where,
            )
        self._connection.execute("BEGIN IMMEDIATE")

    def _count(self) -> None:
        Transaction(self._connection).put("store", "commits", str(self._commits + 1).encode())

    def _roll_back(self) -> None:
        # sqlite has rolled back already after some errors (a full disk among them).
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if self._overwritten():
                raise
            raise StoreUnwritableError(
                f"The store {self._where} cannot be written ({error}). Free space or mend the disk, then repeat the "
                "call with its request id. The state before it stands; but all of the change may have reached the disk "
                "before this, and then a restart finds it done.",
                store=self._where,
                in_doubt="true",
            ) from error
        self._commits += 1
        if self._count_file is not None:
            self._count_file.write(self._commits)

    def _overwritten(self) -> bool:
        """Takes the place of a commit that failed in sqlite's log, which else is good after a restart if all of it
        reached the disk. False if that fails, too."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._count()
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            return False
        self._commits += 1
        return True

    def get(self, collection: str, key: str, *, space: str = "") -> bytes | None:
        with self._thread_lock, self._errors():
            row = self._connection.execute(
                "SELECT crc, value FROM records WHERE space = ? AND collection = ? AND key = ?",
                (space, collection, key),
            ).fetchone()
        return None if row is None else checked(self._where, f"{collection}/{key}", *row)

    def items(self, collection: str, *, space: str = "") -> dict[str, bytes]:
        """Key to value, in the order of the keys."""
        with self._thread_lock, self._errors():
            rows = self._connection.execute(
                "SELECT key, crc, value FROM records WHERE space = ? AND collection = ? ORDER BY key",
                (space, collection),
            ).fetchall()
        return {key: checked(self._where, f"{collection}/{key}", crc, value) for key, crc, value in rows}

    def spaces(self) -> tuple[str, ...]:
        """The names of the spaces that hold any record, without the live one."""
        with self._thread_lock, self._errors():
            rows = self._connection.execute("SELECT DISTINCT space FROM records WHERE space != '' ORDER BY space")
            return tuple(name for (name,) in rows.fetchall())

    def contents(self, owner: int) -> dict[str, bytes]:
        """Part name to bytes of everything one owner has."""
        with self._thread_lock, self._errors():
            rows = self._connection.execute(
                "SELECT part, crc, value FROM contents WHERE owner = ? ORDER BY part", (owner,)
            ).fetchall()
        return {part: checked(self._where, f"{owner}/{part}", crc, value) for part, crc, value in rows}

    def size_bytes(self) -> int:
        """What the files take now; 0 in memory. Waits for no transaction."""
        return sum(_size(file) for file in self._files)

    def contents_bytes(self, owner: int) -> int:
        with self._thread_lock, self._errors():
            (size,) = self._connection.execute(
                "SELECT COALESCE(SUM(LENGTH(value)), 0) FROM contents WHERE owner = ?", (owner,)
            ).fetchone()
        return int(size)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        # The log is there only while something was written since it was last folded in.
        return 0


def _close(connection: sqlite3.Connection, count_file: CountFile | None, lock_file: IO[str] | None) -> None:
    connection.close()
    if count_file is not None:
        count_file.close()
    if lock_file is not None:
        lock_file.close()
