"""Result files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pcmedge.errors import FileUnwritableError
from pcmedge.image.files import writable_place


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """``write`` a temporary file beside ``path``, then rename it there; removed if anything, Ctrl-C too, comes between.

    Raises FileUnwritableError. Folders on the way are made.
    """
    temporary = None
    try:
        path = writable_place(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise FileUnwritableError(
            f"Cannot write {path}: {error.strerror or error}. Choose another place, or make room.", path=path
        ) from error
    finally:
        with contextlib.suppress(OSError):
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Make a folder before the long work, so that one that cannot be is known at once; gone if nothing came of it.

    Raises FileUnwritableError.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnwritableError(
            f"Cannot write into {folder}: {error.strerror or error}. Choose another folder.", path=folder
        ) from error
    try:
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
