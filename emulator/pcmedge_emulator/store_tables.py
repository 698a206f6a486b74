"""The two tables of a store, and what a transaction writes into them.

* *records*, small and changing, in collections by key; named snapshots are copies of some collections;
* *contents*, large and never changed after they were written (an image, the conductances of one programming), under an
  owner (the program generation); they go when no record and no snapshot needs the owner any more.

Every value carries a CRC-32, so that a rotten sector is an error when it is read and not a wrong conductance.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable

SCHEMA_VERSION = 1

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records (
    space TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL,
    UNIQUE (space, collection, key));
CREATE TABLE IF NOT EXISTS contents (
    owner INTEGER NOT NULL, part TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (owner, part));
PRAGMA user_version = {SCHEMA_VERSION};
"""


def commits(connection: sqlite3.Connection) -> int:
    """How many transactions a database holds."""
    row = connection.execute("SELECT value FROM records WHERE collection = 'store' AND key = 'commits'").fetchone()
    return 0 if row is None else int(row[0])


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
