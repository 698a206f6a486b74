"""sqlite's own file operations, seen and failed from outside: a VFS around the one of the operating system.

The store's file operations are sqlite's, made in C, where no Python hook sees them. Within :func:`watched` every
database is opened through a copy of sqlite's default VFS whose write, truncate, sync, open and delete tell a watcher
first, who may answer with an error; sqlite then gets that error instead. What the system does is not changed otherwise,
and the product neither knows nor has a switch for it. The technique is that of sqlite's own crash and fault tests.

``ctypes`` finds the functions in the very library the module ``sqlite3`` uses, so it has to be a dynamic one, as in
every Linux distribution and in the builds of python.org's images.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Protocol

OK, FULL, CANTOPEN = 0, 13, 14
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE, IOERR_DELETE = 778, 1034, 1546, 2570
SKIP = -1
"""A watcher's answer to a sync that it does not want done."""

_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
# Names are passed on as the pointers they are: the system's VFS keeps them.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_OpenDirectory = CFUNCTYPE(c_int, c_void_p, c_void_p)
_SetCall = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p)
_GetCall = CFUNCTYPE(c_void_p, c_void_p, c_char_p)


class _Methods(Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = (
        ("version", c_int),
        *((name, c_void_p) for name in ("close", "read", "write", "truncate", "sync")),
        *((f"other{number}", c_void_p) for number in range(13)),
    )


class _File(Structure):
    _fields_ = (("methods", POINTER(_Methods)),)


class _Vfs(Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_bytes", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        *((f"other{number}", c_void_p) for number in range(11)),
        ("set_call", c_void_p),
        ("get_call", c_void_p),
        ("next_call", c_void_p),
    )


class Watcher(Protocol):
    """Is told of every operation before it happens; an answer other than 0 is sqlite's error code for it."""

    def create(self, path: Path) -> int: ...
    def write(self, path: Path, offset: int, data: bytes) -> int: ...
    def truncate(self, path: Path, size: int) -> int: ...
    def sync(self, path: Path) -> int: ...
    def unlink(self, path: Path) -> int: ...
    def sync_directory(self, path: Path) -> int: ...


def _path(name: int) -> Path:
    return Path(os.fsdecode(ctypes.string_at(name)))


class Unwatched:
    """A watcher that lets everything pass."""

    def create(self, path: Path) -> int:
        return OK

    def write(self, path: Path, offset: int, data: bytes) -> int:
        return OK

    def truncate(self, path: Path, size: int) -> int:
        return OK

    def sync(self, path: Path) -> int:
        return OK

    def unlink(self, path: Path) -> int:
        return OK

    def sync_directory(self, path: Path) -> int:
        return OK


class Unsynced(Unwatched):
    """For disks that are thrown away."""

    def sync(self, path: Path) -> int:
        return SKIP


class _Layer:
    """The VFS, registered once and for good: a connection may outlive whoever watched it."""

    def __init__(self) -> None:
        # The library of the module sqlite3: dlopen of what is loaded already, dlsym in it and what it is linked with.
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._register = library.sqlite3_vfs_register
        self._register.argtypes = [POINTER(_Vfs), c_int]
        self.watcher: Watcher | None = None
        self._system = library.sqlite3_vfs_find(None)
        self._paths: dict[int, Path] = {}
        self._watched: dict[int, Watcher] = {}
        self._methods: dict[int, tuple[_Methods, _Methods]] = {}
        self._vfs = _Vfs.from_buffer_copy(self._system.contents)
        self._vfs.name = b"watched"
        self._vfs.next = None
        self._open, self._delete = _Open(self._vfs.open), _Delete(self._vfs.delete)
        self._kept = [_Open(self._on_open), _Delete(self._on_delete), _OpenDirectory(self._on_open_directory)]
        self._vfs.open, self._vfs.delete = (ctypes.cast(each, c_void_p).value for each in self._kept[:2])
        get_call, set_call = _GetCall(self._vfs.get_call), _SetCall(self._vfs.set_call)
        system = ctypes.cast(self._system, c_void_p)
        self._open_directory = _OpenDirectory(get_call(system, b"openDirectory"))
        assert set_call(system, b"openDirectory", ctypes.cast(self._kept[2], c_void_p)) == OK
        self.default(False)

    def default(self, ours: bool) -> None:
        self._register(ctypes.byref(self._vfs), int(ours))
        if not ours:
            self._register(self._system, 1)

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        path = None if name is None else _path(name)
        watcher = self.watcher
        if path is not None and watcher is not None and not path.exists() and (code := watcher.create(path)):
            ctypes.cast(file, POINTER(_File)).contents.methods = None
            return code
        code = self._open(ctypes.cast(self._system, c_void_p), name, file, flags, out)
        handle = ctypes.cast(file, POINTER(_File)).contents
        if code == OK and path is not None and watcher is not None and handle.methods:
            self._paths[file], self._watched[file] = path, watcher
            handle.methods = ctypes.pointer(self._around(handle.methods))
        return code

    def _around(self, system: POINTER(_Methods)) -> _Methods:
        """A copy of a file's methods that tells; one per kind of file the system's VFS has."""
        key = ctypes.addressof(system.contents)
        if key not in self._methods:
            ours = _Methods.from_buffer_copy(system.contents)
            close, write = _Close(ours.close), _Write(ours.write)
            truncate, sync = _Truncate(ours.truncate), _Sync(ours.sync)

            def on_close(file: int) -> int:
                self._paths.pop(file, None)
                self._watched.pop(file, None)
                return close(file)

            def on_write(file: int, data: int, size: int, offset: int) -> int:
                code = self._watched[file].write(self._paths[file], offset, ctypes.string_at(data, size))
                # A disk that fills takes the first part.
                return write(file, data, size, offset) if code == OK else write(file, data, size // 2, offset) or code

            def on_truncate(file: int, size: int) -> int:
                return self._watched[file].truncate(self._paths[file], size) or truncate(file, size)

            def on_sync(file: int, flags: int) -> int:
                code = self._watched[file].sync(self._paths[file])
                return OK if code == SKIP else code or sync(file, flags)

            callbacks = [_Close(on_close), _Write(on_write), _Truncate(on_truncate), _Sync(on_sync)]
            ours.close, ours.write, ours.truncate, ours.sync = (ctypes.cast(c, c_void_p).value for c in callbacks)
            self._kept += callbacks
            self._methods[key] = (ours, system.contents)
        return self._methods[key][0]

    def _on_delete(self, vfs: int, name: int, sync: int) -> int:
        path = _path(name)
        code = self.watcher.unlink(path) if self.watcher is not None and path.exists() else OK
        return code or self._delete(ctypes.cast(self._system, c_void_p), name, sync)

    def _on_open_directory(self, name: int, out: int) -> int:
        # sqlite opens a directory to sync it, and for nothing else; it is given a path of something in it.
        if self.watcher is not None:
            self.watcher.sync_directory(_path(name).parent)
        return self._open_directory(name, out)


_layer: list[_Layer] = []


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Databases opened within tell ``watcher`` of what they do to files, until they are closed."""
    if not _layer:
        _layer.append(_Layer())
    layer = _layer[0]
    layer.watcher = watcher
    layer.default(True)
    try:
        yield
    finally:
        layer.default(False)
        layer.watcher = None
