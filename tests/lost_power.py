"""A disk that loses power: what a store did to its files, and every state in which a cut may leave them.

:class:`Recorder` notes the operations of a store: sqlite's through :mod:`sqlite_files`, the store's own by standing in
for the functions of ``os``. :func:`cuts` replays every prefix of them under each of :data:`MODELS`, which say what of
the operations that were not synced yet is on the disk when power comes back. POSIX promises no more than the first:

* ``synced``: synced bytes, under names that were synced with their directory; nothing else;
* ``names-first``: creations, deletions and directories are all there, bytes only if synced;
* ``bytes-first``: the other way round;
* ``torn``: everything but a part of the last write, cut between two sectors of 512 bytes;
* ``shuffled``: any of the sectors written and of the names changed since the last sync, the others not; holes are 0;
* ``garbled``: sectors of 4096 bytes under a write are old, new, or anything, *with the bytes beside the write*;
* ``everything``: as after kill -9.

After ALICE (Pillai et al. 2014, doi:10.5555/2685048.2685082), CrashMonkey (Mohan et al. 2018) and sqlite's crash tests.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from sqlite_files import OK, watched

Kind = Literal["mkdir", "create", "write", "truncate", "sync", "unlink", "sync-directory", "mark"]
SECTOR, LARGEST_SECTOR = 512, 4096
Tree = dict[Path, bytes | None]
"""Path below the recorder's folder -> contents; None for a directory."""


@dataclass(frozen=True)
class Operation:
    kind: Kind
    path: Path
    offset: int = 0
    data: bytes = b""
    size: int = 0


class Recorder:
    """Notes what happens to files below ``folder``, and the marks a test sets in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operations: list[Operation] = []

    def mark(self, number: int) -> None:
        self._note("mark", self.folder, size=number)

    def _note(self, kind: Kind, path: Path, **facts: Any) -> int:
        if path.is_relative_to(self.folder):
            self.operations.append(Operation(kind, path.relative_to(self.folder), **facts))
        return OK

    def create(self, path: Path) -> int:
        return self._note("create", path)

    def write(self, path: Path, offset: int, data: bytes) -> int:
        return self._note("write", path, offset=offset, data=data)

    def truncate(self, path: Path, size: int) -> int:
        return self._note("truncate", path, size=size)

    def sync(self, path: Path) -> int:
        return self._note("sync", path)

    def unlink(self, path: Path) -> int:
        return self._note("unlink", path)

    def sync_directory(self, path: Path) -> int:
        return self._note("sync-directory", path)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Also the functions of ``os`` that a store calls itself."""

        def told(name: str, tell: Callable[..., Any]) -> Any:
            real = getattr(os, name)

            def stand_in(*arguments: Any, **named: Any) -> Any:
                tell(*arguments)
                return real(*arguments, **named)

            return patch.object(os, name, stand_in)

        def opened(path: Any, flags: int, *_: Any) -> None:
            if flags & os.O_CREAT and not Path(path).exists():
                self.create(Path(path))

        def synced(descriptor: int) -> None:
            path = _path(descriptor)
            (self.sync_directory if path.is_dir() else self.sync)(path)

        with ExitStack() as stack:
            for each in (
                told("mkdir", lambda path, *_: None if Path(path).exists() else self._note("mkdir", Path(path))),
                told("open", opened),
                told("fsync", synced),
                told("fdatasync", synced),
                told("pwrite", lambda descriptor, data, at: self.write(_path(descriptor), at, bytes(data))),
                told("ftruncate", lambda descriptor, size: self.truncate(_path(descriptor), size)),
                told("unlink", lambda path, *_: self.unlink(Path(path))),
                watched(self),
            ):
                stack.enter_context(each)
            yield


def _path(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


# ------------------------------------------------------------------------------------------------------------ the disk


@dataclass
class _File:
    """``synced`` is on the disk, ``pending`` perhaps."""

    synced: bytes = b""
    pending: list[Operation] = field(default_factory=list)


@dataclass
class _Disk:
    """``names`` are on the disk (None: a directory), ``changes`` of names perhaps: (path, what it is then, if any)."""

    names: dict[Path, _File | None] = field(default_factory=lambda: {Path(): None})
    changes: list[tuple[Path, bool, _File | None]] = field(default_factory=list)

    def present(self) -> dict[Path, _File | None]:
        return _renamed(self.names, self.changes)

    def do(self, operation: Operation) -> None:
        path = operation.path
        if operation.kind in ("mkdir", "create"):
            self.changes.append((path, True, None if operation.kind == "mkdir" else _File()))
        elif operation.kind == "unlink":
            self.changes.append((path, False, None))
        elif operation.kind == "sync-directory":
            mine = [change for change in self.changes if change[0].parent == path]
            self.names = _renamed(self.names, mine)
            self.changes = [change for change in self.changes if change[0].parent != path]
        elif operation.kind != "mark":
            file = self.present()[path]
            assert file is not None
            file.pending.append(operation)
            if operation.kind == "sync":
                file.synced, file.pending = _applied(file.synced, file.pending), []


def _renamed(names: dict[Path, _File | None], changes: Sequence[tuple[Path, bool, _File | None]]) -> Any:
    found = dict(names)
    for path, there, what in changes:
        if there:
            found[path] = what
        else:
            found.pop(path, None)
    return found


def _applied(data: bytes, operations: Sequence[Operation]) -> bytes:
    found = bytearray(data)
    for each in operations:
        if each.kind == "truncate":
            found[each.size :] = bytes(max(0, each.size - len(found)))
        elif each.kind == "write":
            found.extend(bytes(max(0, each.offset - len(found))))
            found[each.offset : each.offset + len(each.data)] = each.data
    return bytes(found)


def _sectors(operation: Operation, size: int) -> Iterator[Operation]:
    """A write as one per sector it touches."""
    at, end = operation.offset, operation.offset + len(operation.data)
    while at < end:
        upto = min(end, (at // size + 1) * size)
        yield Operation("write", operation.path, at, operation.data[at - operation.offset : upto - operation.offset])
        at = upto


# ---------------------------------------------------------------------------------------------------------- the models

Bytes = Callable[[_File, random.Random], bytes]
Names = Callable[[_Disk, random.Random], dict[Path, _File | None]]


def _synced(file: _File, _: random.Random) -> bytes:
    return file.synced


def _all(file: _File, _: random.Random) -> bytes:
    return _applied(file.synced, file.pending)


def _torn(file: _File, draw: random.Random) -> bytes:
    if not file.pending:
        return file.synced
    *before, last = file.pending
    parts = list(_sectors(last, SECTOR)) if last.kind == "write" else [last]
    return _applied(file.synced, before + parts[: draw.randrange(len(parts))])


def _shuffled(file: _File, draw: random.Random) -> bytes:
    parts = [part for each in file.pending for part in (_sectors(each, SECTOR) if each.kind == "write" else (each,))]
    return _applied(file.synced, [part for part in parts if draw.random() < 0.5])


def _garbled(file: _File, draw: random.Random) -> bytes:
    old, new = file.synced, _all(file, draw)
    touched = {
        part.offset // LARGEST_SECTOR
        for each in file.pending
        if each.kind == "write"
        for part in _sectors(each, LARGEST_SECTOR)
    }
    found = bytearray(new)
    for sector in sorted(touched):
        at = slice(sector * LARGEST_SECTOR, min(len(new), (sector + 1) * LARGEST_SECTOR))
        size = at.stop - at.start
        choice = draw.randrange(3)
        if choice < 2:
            found[at] = draw.randbytes(size) if choice else old[at].ljust(size, b"\0")
    return bytes(found)


def _names_synced(disk: _Disk, _: random.Random) -> dict[Path, _File | None]:
    return disk.names


def _names_all(disk: _Disk, _: random.Random) -> dict[Path, _File | None]:
    return disk.present()


def _names_some(disk: _Disk, draw: random.Random) -> dict[Path, _File | None]:
    return _renamed(disk.names, [change for change in disk.changes if draw.random() < 0.5])


MODELS: dict[str, tuple[Bytes, Names]] = {
    "synced": (_synced, _names_synced),
    "names-first": (_synced, _names_all),
    "bytes-first": (_all, _names_synced),
    "torn": (_torn, _names_all),
    "shuffled": (_shuffled, _names_some),
    "garbled": (_garbled, _names_all),
    "everything": (_all, _names_all),
}


@dataclass(frozen=True)
class Cut:
    """What is found after power went before operation number ``before``. ``marks``: how many marks had been set."""

    before: int
    model: str
    marks: int
    tree: Tree


def cuts(operations: Sequence[Operation], start: Tree | None = None, seed: int = 0) -> Iterator[Cut]:
    """Every prefix under every model, in order, "everything" first of each. ``start``: what was on the disk before."""
    disk = _Disk({Path(): None} | {path: None if data is None else _File(data) for path, data in (start or {}).items()})
    marks = 0
    for number in range(len(operations) + 1):
        for name in sorted(MODELS, key=lambda model: model != "everything"):
            contents, names = MODELS[name]
            draw = random.Random(f"{seed} {number} {name}")
            yield Cut(number, name, marks, _tree(names(disk, draw), lambda file, d=draw, c=contents: c(file, d)))
        if number < len(operations):
            disk.do(operations[number])
            marks += operations[number].kind == "mark"


def _tree(names: dict[Path, _File | None], contents: Callable[[_File], bytes]) -> Tree:
    """Without what lies in a directory that is not there."""
    return {
        path: None if file is None else contents(file)
        for path, file in sorted(names.items())
        if path != Path() and all(parent in names for parent in path.parents)
    }


def lay_out(tree: Tree, folder: Path) -> None:
    folder.mkdir()
    for path, data in tree.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
