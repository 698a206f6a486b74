"""Files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from os import PathLike
from pathlib import Path

from pcmedge.errors import FileUnwritableError
from pcmedge.image.format import Bytes


def write_atomically(path: str | PathLike[str], data: Bytes, *, mode: int = 0o666) -> None:
    """Write ``data`` to ``path``: temporary file beside it, fsync, rename, fsync of the folder.

    Whoever reads ``path`` sees the old file or the new one. A power cut during the call leaves one of the two, and at
    worst a stray ``.name.*.tmp``. Permissions are ``mode`` less the process's umask, or those of the file replaced.
    Raises FileUnwritableError (full disk, no permission, no such folder); nothing is left behind then.
    """
    target = Path(path)
    try:
        _write(target, data, mode)
    except OSError as error:
        raise FileUnwritableError(
            f"could not write {target}: {error.strerror or error}. No half-written file is left. "
            "Free space or choose a writable folder and try again",
            path=target,
            errno=error.errno,
        ) from error


def _write(target: Path, data: Bytes, mode: int) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
