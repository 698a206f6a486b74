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
    try:
        target = writable_place(path)
        _write(target, data, mode)
    except OSError as error:
        raise FileUnwritableError(
            f"could not write {path}: {error.strerror or error}. No half-written file is left. "
            "Free space or choose a writable folder and try again",
            path=path,
            errno=error.errno,
        ) from error


def writable_place(path: str | PathLike[str]) -> Path:
    """Where a file of this name is to be written: behind a symbolic link, what it points to.

    Raises FileUnwritableError for what is there and is no file (a device, a pipe, a socket, a folder): renaming a
    finished file there would take its place.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileUnwritableError(
            f"could not write {target}: it is a folder, a device, a pipe or a socket, expected a file or nothing "
            "there. Nothing was changed; choose the name of a file",
            path=target,
        )
    return target


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
