"""Whether what lies in a store's directory is intact and complete, asked before anything can change it.

Closing a connection that may write folds sqlite's log into the database, also one whose rest was damaged.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from pcmedge.errors import StoreCorruptError

from pcmedge_emulator.durable import COUNT
from pcmedge_emulator.store_tables import SCHEMA_VERSION, commits

_FIRST_PAGE = 1


def inspect(database: Path, where: str, acknowledged: int) -> None:
    """Refuses what is not an intact store that holds at least as many transactions as were ``acknowledged``.

    ``where``: the store, for errors. StoreCorruptError, sqlite3.Error.
    """
    if not database.exists():
        _refuse_older(database, where, 0, acknowledged)
        return
    with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            # Not the quick one: a row whose key rotted in the table or the index is not found, and not missed.
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.OperationalError:
            if database.with_name(f"{database.name}-journal").exists():
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
                f"The store {where} has format {version}, this emulator knows up to {SCHEMA_VERSION}. "
                "Use the release that wrote it, or start with another directory.",
                store=where,
            )
        _refuse_older(database, where, commits(connection) if version else 0, acknowledged)


def _refuse_older(database: Path, where: str, found: int, acknowledged: int) -> None:
    if found < acknowledged:
        raise StoreCorruptError(
            f"The store {where} has lost its last {acknowledged - found} changes: it holds {found}, and "
            f"{acknowledged} were acknowledged. {database.name}-wal was damaged, deleted or not copied along, or "
            f"{database.name} is an older one. Restore a copy of the whole directory, or delete {COUNT} in it to go on "
            "with the older state.",
            store=where,
            found=found,
            acknowledged=acknowledged,
        )


def _writable_format(database: Path) -> bool:
    """Whether sqlite's header says who may write the file: by rollback (1) or by a log (2).

    A power cut while the log is folded in may spoil the header; the log, which is still there, brings it back.
    """
    with database.open("rb") as file:
        header = file.read(19)
    log = database.with_name(f"{database.name}-wal")
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
