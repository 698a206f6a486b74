"""What a store asks of its directory beside sqlite: that it is there after a power cut, has one owner, and is the same.

sqlite syncs the files it writes and the directory they lie in. It does not make that directory, does not know how much
was acknowledged before a part of its log went bad, and does not see when its files are deleted under it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from pcmedge.errors import StoreInUseError, StoreUnwritableError

LOCK = "device.lock"
COUNT = "device.count"
_COUNT = struct.Struct("<Q4s")

# Not every file system lets a directory be opened or synced (a parent without read permission, network mounts).
_CANNOT_SYNC = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)


def make_directory(directory: Path) -> None:
    """Makes a directory and those above it so that a power cut takes none of them away again. OSError."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
    # The nearest one that was there may have been made by a start that was cut short, before it got here.
    for each in [*missing, directory]:
        sync_directory(each.absolute().parent)


def sync_directory(directory: Path) -> None:
    """The names in it are on the disk afterwards. OSError, but not for what does not let itself be synced."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _CANNOT_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def own(directory: Path) -> IO[str]:
    """Makes the directory if needed and locks it for this object; the lock ends with the process, however it ends."""
    try:
        make_directory(directory)
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
    # Who owns it is a courtesy to the next one; the lock holds without it, also on a full disk.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return lock_file


class CountFile:
    """How many transactions were committed, beside the database: at most as many as it holds, unless it lost some.

    Written after each commit and never synced, so it costs nothing and may be old after a power cut, but is never ahead
    of what was synced. It is ahead of a database whose log was damaged, deleted, or left behind by whoever copied it:
    sqlite takes the end of an intact part of its log for the end.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / COUNT
        self._descriptor: int | None = None

    def read(self) -> int:
        """0 if there is none that can be trusted."""
        try:
            count, check = _COUNT.unpack(self.path.read_bytes()[: _COUNT.size])
        except (OSError, struct.error):
            return 0
        return int(count) if check == _check(count) else 0

    def write(self, count: int) -> None:
        # A count that could not be written is old, which is allowed.
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._descriptor, _COUNT.pack(count, _check(count)), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _check(count: int) -> bytes:
    return zlib.crc32(count.to_bytes(8, "little") + b"commits").to_bytes(4, "little")


class OpenFiles:
    """Which files a database has open: what is written to a file that was deleted or replaced is lost at the end."""

    def __init__(self, files: Iterable[Path]) -> None:
        found = {file: _identity(file) for file in files}
        self._files = {file: identity for file, identity in found.items() if identity is not None}

    def missing(self) -> Path | None:
        """One that is not there any more under its name, or is another."""
        return next((file for file, identity in self._files.items() if _identity(file) != identity), None)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
