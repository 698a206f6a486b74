"""What survives a power cut: one sqlite3 file with one owner.

Write-ahead log, synchronous FULL, every mutation one transaction: after a kill or a power cut the file holds the state
before or after it. Two kinds of rows:

* *records*, small and changing, in collections by key; named snapshots are copies of some collections;
* *contents*, large and never changed after they were written (an image, the conductances of one programming), under an
  owner (the program generation); they go when no record and no snapshot needs the owner any more.

Every value carries a CRC-32, so that a rotten sector is an error when it is read and not a wrong conductance.
A directory holds the file ``device.sqlite3`` and ``device.lock``, which the owner keeps locked; no directory: memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from pcmedge.errors import Error, StoreCorruptError, StoreError, StoreInUseError, StoreUnwritableError, UnavailableError
from pcmedge.forks import in_children, leak

SCHEMA_VERSION = 1
DATABASE = "device.sqlite3"
LOCK = "device.lock"
_PAGE_BYTES = 4096

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records (
    space TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL,
    UNIQUE (space, collection, key));
CREATE TABLE IF NOT EXISTS contents (
    owner INTEGER NOT NULL, part TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (owner, part));
PRAGMA user_version = {SCHEMA_VERSION};
"""

_UNWRITABLE = ("readonly", "read-only", "unable to open", "disk is full", "disk i/o", "permission")
_CORRUPT = ("not a database", "malformed", "corrupt", "encrypted")


def _translated(error: sqlite3.Error, where: str) -> Error:
    text = str(error)
    if "closed database" in text:
        return UnavailableError("The device was closed. Open it again.", store=where)
    if any(hint in text.lower() for hint in _CORRUPT):
        return StoreCorruptError(
            f"The store {where} is damaged ({text}). Move it away to start with an empty device, or restore a copy.",
            store=where,
        )
    if any(hint in text.lower() for hint in _UNWRITABLE):
        return StoreUnwritableError(
            f"The store {where} cannot be written ({text}); the state before this call stands. Free space or fix the "
            "permissions, then repeat the call.",
            store=where,
        )
    return StoreError(f"The store {where} failed: {text}. The state before this call stands.", store=where)


def _checked(where: str, name: str, crc: int, value: bytes) -> bytes:
    if zlib.crc32(value) != crc:
        raise StoreCorruptError(
            f"The store {where} is damaged: the checksum of '{name}' does not match its {len(value)} bytes. Move the "
            "store away to start with an empty device, or restore a copy.",
            store=where,
            record=name,
        )
    return value


class Transaction:
    """Changes that happen together or not at all; made by :meth:`Store.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put(self, collection: str, key: str, value: bytes, *, space: str = "") -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (space, collection, key, zlib.crc32(value), value)
        )

    def delete(self, collection: str, key: str) -> None:
        self._connection.execute(
            "DELETE FROM records WHERE space = '' AND collection = ? AND key = ?", (collection, key)
        )

    def delete_before(self, collection: str, key: str) -> None:
        """Deletes the records of a collection with smaller keys."""
        self._connection.execute(
            "DELETE FROM records WHERE space = '' AND collection = ? AND key < ?", (collection, key)
        )

    def put_content(self, owner: int, part: str, value: bytes | memoryview) -> None:
        self._connection.execute("INSERT INTO contents VALUES (?, ?, ?, ?)", (owner, part, zlib.crc32(value), value))

    def keep_contents(self, owners: Iterable[int]) -> None:
        """Deletes the contents of every other owner."""
        kept = sorted(set(owners))
        self._connection.execute(f"DELETE FROM contents WHERE owner NOT IN ({','.join('?' * len(kept))})", kept)

    def copy_space(self, source: str, target: str, collections: Iterable[str]) -> None:
        """Replaces the named collections of one space by those of another; the space "" is the live state."""
        for collection in collections:
            self._connection.execute("DELETE FROM records WHERE space = ? AND collection = ?", (target, collection))
            self._connection.execute(
                "INSERT INTO records SELECT ?, collection, key, crc, value FROM records "
                "WHERE space = ? AND collection = ?",
                (target, source, collection),
            )

    def delete_space(self, space: str) -> None:
        self._connection.execute("DELETE FROM records WHERE space = ?", (space,))


class Store:
    """Thread-safe. ``directory`` None: in memory. ``max_bytes``: the file never grows beyond (as flash does not).

    Raises StoreInUseError at once if another process or object owns the directory, StoreUnwritableError if it cannot
    be written, StoreCorruptError if what lies there is not an intact store.
    """

    def __init__(self, directory: Path | None, *, max_bytes: int | None = None) -> None:
        self._thread_lock = threading.RLock()
        self.max_bytes = max_bytes
        self._where = "in memory" if directory is None else str(directory)
        self._files = () if directory is None else tuple(directory / f"{DATABASE}{end}" for end in ("", "-wal"))
        lock_file = None if directory is None else _own(directory)
        try:
            with self._errors():
                self._connection = self._open(directory, max_bytes)
        except BaseException:
            if lock_file is not None:
                lock_file.close()
            raise
        # Also runs when a store is dropped without being closed, so that its directory is free again.
        self._lock_file = lock_file
        self._give_up = weakref.finalize(self, _close, self._connection, lock_file)
        in_children(self, Store._disown)

    def _open(self, directory: Path | None, max_bytes: int | None) -> sqlite3.Connection:
        database = ":memory:" if directory is None else str(directory / DATABASE)
        connection = sqlite3.connect(database, check_same_thread=False, isolation_level=None, timeout=5.0)
        try:
            if directory is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"malformed: {verdict}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StoreCorruptError(
                    f"The store {self._where} has format {version}, this emulator knows up to {SCHEMA_VERSION}. "
                    "Use the release that wrote it, or start with another directory.",
                    store=self._where,
                )
            if max_bytes is not None:
                connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // _PAGE_BYTES)}")
            if version == 0:
                connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
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
            raise _translated(error, self._where) from error

    def close(self) -> None:
        """Gives the store up. What was committed is on disk already."""
        with self._thread_lock:
            self._give_up()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All changes in the block, durably, or none if it raises or the disk is full."""
        with self._thread_lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                # sqlite has rolled back already after some errors (a full disk among them).
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def get(self, collection: str, key: str, *, space: str = "") -> bytes | None:
        with self._thread_lock, self._errors():
            row = self._connection.execute(
                "SELECT crc, value FROM records WHERE space = ? AND collection = ? AND key = ?",
                (space, collection, key),
            ).fetchone()
        return None if row is None else _checked(self._where, f"{collection}/{key}", *row)

    def items(self, collection: str, *, space: str = "") -> dict[str, bytes]:
        """Key to value, in the order of the keys."""
        with self._thread_lock, self._errors():
            rows = self._connection.execute(
                "SELECT key, crc, value FROM records WHERE space = ? AND collection = ? ORDER BY key",
                (space, collection),
            ).fetchall()
        return {key: _checked(self._where, f"{collection}/{key}", crc, value) for key, crc, value in rows}

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
        return {part: _checked(self._where, f"{owner}/{part}", crc, value) for part, crc, value in rows}

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


def _close(connection: sqlite3.Connection, lock_file: IO[str] | None) -> None:
    connection.close()
    if lock_file is not None:
        lock_file.close()


def _own(directory: Path) -> IO[str]:
    """Makes the directory if needed and locks it for this object; the lock ends with the process, however it ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnwritableError(
            f"The store {directory} cannot be made or written ({error.strerror}). Name one this user may write.",
            store=directory,
        ) from error
    lock_file = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = lock_file.read(64).strip() or "unknown"
        lock_file.close()
        raise StoreInUseError(
            f"The store {directory} is in use by process {owner}: one emulator owns a store at a time. Stop that one "
            "or name another directory.",
            store=directory,
            owner=owner,
        ) from None
    try:
        lock_file.truncate(0)
        lock_file.write(str(os.getpid()))
        lock_file.flush()
    except OSError as error:
        lock_file.close()
        raise StoreUnwritableError(
            f"The store {directory} cannot be written ({error.strerror}). Free space or name another directory.",
            store=directory,
        ) from error
    return lock_file
