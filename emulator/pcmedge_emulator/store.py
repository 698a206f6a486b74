"""What survives a power cut: one sqlite3 file with one owner.

Write-ahead log, synchronous FULL, every mutation one transaction: after a kill or a power cut the file holds the state
before or after it. Disks are not trusted to spare the bytes beside a write that the cut interrupts: ``psow=0`` has
sqlite pad each commit to the end of its sector, so that the next one writes into no sector that was acknowledged.
Two kinds of rows:

* *records*, small and changing, in collections by key; named snapshots are copies of some collections;
* *contents*, large and never changed after they were written (an image, the conductances of one programming), under an
  owner (the program generation); they go when no record and no snapshot needs the owner any more.

Every value carries a CRC-32, so that a rotten sector is an error when it is read and not a wrong conductance.
A directory holds the file ``device.sqlite3``, sqlite's log beside it, ``device.count`` and ``device.lock``, which the
owner keeps locked (``durable.py``); no directory: memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from pcmedge.errors import StoreCorruptError, StoreUnwritableError
from pcmedge.forks import in_children, leak

from pcmedge_emulator.durable import COUNT, CountFile, OpenFiles, own
from pcmedge_emulator.store_errors import checked, translated

SCHEMA_VERSION = 1
DATABASE = "device.sqlite3"
_PAGE_BYTES = 4096
_FIRST_PAGE = 1

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records (
    space TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL,
    UNIQUE (space, collection, key));
CREATE TABLE IF NOT EXISTS contents (
    owner INTEGER NOT NULL, part TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (owner, part));
PRAGMA user_version = {SCHEMA_VERSION};
"""


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
                    self._inspect(directory / DATABASE)
                self._connection = self._open(directory, max_bytes)
                self._commits = _commits(self._connection)
        except BaseException:
            if lock_file is not None:
                lock_file.close()
            raise
        self._open_files = OpenFiles(self._files)
        # Also runs when a store is dropped without being closed, so that its directory is free again.
        self._lock_file = lock_file
        self._give_up = weakref.finalize(self, _close, self._connection, self._count_file, lock_file)
        in_children(self, Store._disown)

    def _inspect(self, database: Path) -> None:
        """Refuses what is not an intact and complete store before anything can change it.

        Closing a connection that may write folds sqlite's log into the database, also one whose rest was damaged.
        """
        acknowledged = 0 if self._count_file is None else self._count_file.read()
        if not database.exists():
            self._refuse_older(0, acknowledged)
            return
        with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            try:
                # Not the quick one: a row whose key rotted in the table or the index is not found, and not missed.
                (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            except sqlite3.OperationalError:
                if database.with_name(f"{DATABASE}-journal").exists():
                    # Cut off while it was made: there is nothing yet, and the next connection takes the rest back.
                    return
                raise
            if verdict == "ok" and not _writable_format(database):
                verdict = "a format that sqlite may only read"
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StoreCorruptError(
                    f"The store {self._where} has format {version}, this emulator knows up to {SCHEMA_VERSION}. "
                    "Use the release that wrote it, or start with another directory.",
                    store=self._where,
                )
            self._refuse_older(_commits(connection) if version else 0, acknowledged)

    def _refuse_older(self, found: int, acknowledged: int) -> None:
        if found < acknowledged:
            raise StoreCorruptError(
                f"The store {self._where} has lost its last {acknowledged - found} changes: it holds {found}, and "
                f"{acknowledged} were acknowledged. {DATABASE}-wal was damaged, deleted or not copied along, or "
                f"{DATABASE} is an older one. Restore a copy of the whole directory, or delete {COUNT} in it to go on "
                "with the older state.",
                store=self._where,
                found=found,
                acknowledged=acknowledged,
            )

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


def _writable_format(database: Path) -> bool:
    """Whether sqlite's header says who may write the file: by rollback (1) or by a log (2).

    A power cut while the log is folded in may spoil the header; the log, which is still there, brings it back.
    """
    with database.open("rb") as file:
        header = file.read(19)
    log = database.with_name(f"{DATABASE}-wal")
    return len(header) < 19 or header[18] in (1, 2) or _FIRST_PAGE in _pages_in(log)


def _pages_in(log: Path) -> set[int]:
    """Numbers of the pages in sqlite's log: a header of 32 bytes, then frames of 24 bytes and a page (Write-Ahead Log
    Format, sqlite.org/fileformat2.html section 4).
    """
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return set()
    page_bytes = int.from_bytes(data[8:12], "big")
    return {int.from_bytes(data[start : start + 4], "big") for start in range(32, len(data), 24 + page_bytes)}


def _commits(connection: sqlite3.Connection) -> int:
    """How many transactions a database holds."""
    row = connection.execute("SELECT value FROM records WHERE collection = 'store' AND key = 'commits'").fetchone()
    return 0 if row is None else int(row[0])


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
