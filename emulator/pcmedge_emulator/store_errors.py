"""What can be wrong with a store, in words: sqlite's errors as typed ones, and values unlike their checksum."""

from __future__ import annotations

import sqlite3
import zlib

from pcmedge.errors import Error, StoreCorruptError, StoreError, StoreUnwritableError, UnavailableError

_UNWRITABLE = ("readonly", "read-only", "unable to open", "disk is full", "disk i/o", "permission")
_CORRUPT = ("not a database", "malformed", "corrupt", "encrypted")


def translated(error: sqlite3.Error, where: str) -> Error:
    """sqlite's error as the product's, told by its text: the module has no codes for all of them before Python 3.12."""
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


def checked(where: str, name: str, crc: int, value: bytes) -> bytes:
    if zlib.crc32(value) != crc:
        raise StoreCorruptError(
            f"The store {where} is damaged: the checksum of '{name}' does not match its {len(value)} bytes. Move the "
            "store away to start with an empty device, or restore a copy.",
            store=where,
            record=name,
        )
    return value
